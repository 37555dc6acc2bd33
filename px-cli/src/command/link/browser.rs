//! The user's consent in a browser, which is sent to the institution and redirected to this machine.

use crate::{
    cli::Link,
    context::Context,
    failure::{Failure, Result},
    http::{HttpResponse, serve, text},
    output::say,
    partners::Institution,
};
use http::StatusCode;
use px_client::oauth::{
    AcceptedCallback, AuthorizationRequest, CallbackErrorKind, PendingAuthorization, TokenSet,
};
use std::{sync::Mutex, time::Duration};
use tokio::{net::TcpListener, sync::mpsc};
use url::Url;

/// Maximum time for the user's sign-in.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(600);

type CallbackOutcome = Result<AcceptedCallback, String>;

/// Sends the user to the institution, waits for the callback, and exchanges its code for tokens.
pub(super) async fn authorize(
    institution: &Institution,
    link: &Link,
    redirect: &Url,
    context: &Context,
) -> Result<TokenSet> {
    let listener = listen(redirect).await?;
    let mut request = AuthorizationRequest::new(redirect.as_str());
    request.issuer.clone_from(&institution.issuer);
    request.scope.clone_from(&institution.scope);
    request.application_id = Some(link.application.clone());
    request.application_name.clone_from(&link.application_name);
    let client = &institution.partner.client;
    // The endpoints may have to be discovered before the user can be sent to them.
    client.endpoints().await?;
    let (url, pending) = client.begin_authorization(request)?;
    say(format_args!("Open this address in a browser on this machine and sign in:\n\n  {url}\n"));
    let callback = tokio::select! {
        callback = wait(listener, redirect, pending) => callback?,
        () = context.clock.sleep(SIGN_IN_TIMEOUT) => {
            let what = "the user did not return from the institution within 10 minutes; try again";
            return Err(Failure::new(what));
        }
    };
    Ok(client.exchange_code(callback).await?)
}

async fn listen(redirect: &Url) -> Result<TcpListener> {
    let port = redirect.port().unwrap_or_default();
    // By address, because the name `localhost` may resolve to another one.
    let host = if redirect.host_str() == Some("[::1]") { "::1" } else { "127.0.0.1" };
    TcpListener::bind((host, port)).await.map_err(|e| {
        Failure::because(
            format!("cannot listen at {host} port {port}; another px link may be waiting there"),
            &e,
        )
    })
}

/// Returns the first callback that belongs to this request. Other programs on this machine may send anything.
async fn wait(
    listener: TcpListener,
    redirect: &Url,
    pending: PendingAuthorization,
) -> Result<AcceptedCallback> {
    let (sender, mut outcomes) = mpsc::channel::<CallbackOutcome>(1);
    let path = redirect.path().to_owned();
    let pending = Mutex::new(Some(pending));
    let respond = move |requested: &str, query: Option<&str>| match query {
        Some(query) if requested == path => accept(&pending, query, &sender),
        _ => text(StatusCode::NOT_FOUND, "not found\n"),
    };
    tokio::select! {
        outcome = outcomes.recv() => match outcome {
            Some(Ok(callback)) => Ok(callback),
            Some(Err(what)) => Err(Failure::new(format!("{what}; nothing was linked"))),
            None => Err(Failure::new("the redirect could not be received; try again")),
        },
        () = serve(listener, respond) => Err(Failure::new("the redirect could not be received; try again")),
    }
}

fn accept(
    pending: &Mutex<Option<PendingAuthorization>>,
    query: &str,
    sender: &mpsc::Sender<CallbackOutcome>,
) -> HttpResponse {
    let mut pending = pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(waiting) = pending.clone() else {
        return text(StatusCode::GONE, "This sign-in was already completed.\n");
    };
    let checked = waiting.check_callback(query);
    if let Err(error) = &checked
        && matches!(error.kind(), CallbackErrorKind::State | CallbackErrorKind::Malformed)
    {
        // It belongs to another request, so it must not end this one.
        return text(StatusCode::BAD_REQUEST, "This is not the callback that px waits for.\n");
    }
    *pending = None;
    let (status, message) = match &checked {
        Ok(_) => (StatusCode::OK, "Done. You can close this window and return to px.\n"),
        Err(_) => (
            StatusCode::OK,
            "Nothing was linked. You can close this window; px shows the reason.\n",
        ),
    };
    let _ = sender.try_send(checked.map_err(|error| error.to_string()));
    text(status, message)
}
