//! What tells an open page that something changed: server-sent events.

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

/// How often something is sent, so that nothing on the way takes the connection for dead.
const ALIVE: Duration = Duration::from_secs(15);

/// A page that listens.
struct Listener {
    site: Site,
    session: Session,
    changes: Changes,
    signed_in: watch::Receiver<bool>,
    open: watch::Receiver<bool>,
    begun: bool,
}

impl Listener {
    /// The next event; `None` when the session is over or the bank closes.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if !self.begun {
            self.begun = true;
            // A page that hears this knows that it listens. (A browser drops events without data.)
            return Some((Ok(Event::default().event("ready").data("1")), self));
        }
        tokio::select! {
            () = self.changes.next() => {}
            _ = self.signed_in.wait_for(|signed_in| !signed_in) => return None,
            _ = self.open.wait_for(|open| !open) => return None,
        }
        if !self.site.0.sessions.goes_on(&self.session) {
            return None;
        }
        // It says that something changed and not what: the page is asked for that.
        Some((Ok(Event::default().event("change").data("1")), self))
    }
}

impl Site {
    /// `GET /apps/events`
    pub(super) fn events(&self, session: Session) -> Response {
        let Some(outward) = &self.0.outward else {
            return self.page(StatusCode::NO_CONTENT, Markup::default()).map(Into::into);
        };
        let changes = outward.portal().changes(&session.user);
        let (signed_in, open) = (session.end(), self.0.open.subscribe());
        let site = self.clone();
        let listener = Listener { site, session, changes, signed_in, open, begun: false };
        let events = stream::unfold(listener, Listener::next);
        let alive = KeepAlive::new().interval(ALIVE);
        let mut response = Sse::new(events).keep_alive(alive).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
