//! Server-sent events that notify an open page of changes.

use super::{Site, session::Session};
use axum::response::{
    IntoResponse as _, Response, Sse,
    sse::{Event, KeepAlive},
};
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use maud::Markup;
use px_client::portal::Changes;
use std::{convert::Infallible, time::Duration};
use tokio::sync::watch;

/// The keep-alive interval, so that intermediaries do not close the connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The event stream of an open page.
struct PageEvents {
    site: Site,
    session: Session,
    changes: Changes,
    signed_in: watch::Receiver<bool>,
    open: watch::Receiver<bool>,
    begun: bool,
}

impl PageEvents {
    /// Returns the next event. Returns `None` if the session is over or the bank shuts down.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if !self.begun {
            self.begun = true;
            // The page learns from this event that the stream is open. (A browser drops events
            // without data.)
            return Some((Ok(Event::default().event("ready").data("1")), self));
        }
        tokio::select! {
            () = self.changes.next() => {}
            _ = self.signed_in.wait_for(|signed_in| !signed_in) => return None,
            _ = self.open.wait_for(|open| !open) => return None,
        }
        if !self.site.0.sessions.is_open(&self.session) {
            return None;
        }
        // The event has no content: the page requests the new state.
        Some((Ok(Event::default().event("change").data("1")), self))
    }
}

impl Site {
    /// `GET /apps/events`
    pub(super) fn events(&self, session: Session) -> Response {
        let Some(gateway) = &self.0.gateway else {
            return self.page(StatusCode::NO_CONTENT, Markup::default()).map(Into::into);
        };
        let changes = gateway.portal().changes(&session.user);
        let (signed_in, open) = (session.end(), self.0.open.subscribe());
        let site = self.clone();
        let listener = PageEvents { site, session, changes, signed_in, open, begun: false };
        let events = stream::unfold(listener, PageEvents::next);
        let alive = KeepAlive::new().interval(KEEP_ALIVE_INTERVAL);
        let mut response = Sse::new(events).keep_alive(alive).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
