//! The user's consent: a browser goes to the institution and comes back to this machine.

use crate::{
    cli::Link,
    context::Context,
    failure::{Failure, Result},
    http::{Answer, serve, text},
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

/// How long the user may take.
const PATIENCE: Duration = Duration::from_secs(600);

type Outcome = Result<AcceptedCallback, String>;

/// Sends the user to the institution, waits for the answer, and exchanges it for tokens.
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
    // Read before the user is sent anywhere, where they have to be.
    client.endpoints().await?;
    let (url, pending) = client.begin_authorization(request)?;
    say(format_args!("Open this in a browser on this machine, and sign in:\n\n  {url}\n"));
    let callback = tokio::select! {
        callback = wait(listener, redirect, pending) => callback?,
        () = context.clock.sleep(PATIENCE) => {
            return Err(Failure::new("nobody came back from the institution within 10 minutes; try again"));
        }
    };
    Ok(client.exchange_code(callback).await?)
}

async fn listen(redirect: &Url) -> Result<TcpListener> {
    let port = redirect.port().unwrap_or_default();
    // Not by name: `localhost` may lead elsewhere.
    let host = if redirect.host_str() == Some("[::1]") { "::1" } else { "127.0.0.1" };
    TcpListener::bind((host, port)).await.map_err(|e| {
        Failure::because(
            format!("cannot listen at {host} port {port}; is another px link waiting?"),
            &e,
        )
    })
}

/// The first answer that belongs to this request. Others on this machine may send anything.
async fn wait(
    listener: TcpListener,
    redirect: &Url,
    pending: PendingAuthorization,
) -> Result<AcceptedCallback> {
    let (sender, mut outcomes) = mpsc::channel::<Outcome>(1);
    let path = redirect.path().to_owned();
    let pending = Mutex::new(Some(pending));
    let answer = move |asked: &str, query: Option<&str>| match query {
        Some(query) if asked == path => take(&pending, query, &sender),
        _ => text(StatusCode::NOT_FOUND, "nothing is here\n"),
    };
    tokio::select! {
        outcome = outcomes.recv() => match outcome {
            Some(Ok(callback)) => Ok(callback),
            Some(Err(what)) => Err(Failure::new(format!("{what}; nothing was linked"))),
            None => Err(Failure::new("the redirect could not be received; try again")),
        },
        () = serve(listener, answer) => Err(Failure::new("the redirect could not be received; try again")),
    }
}

fn take(
    pending: &Mutex<Option<PendingAuthorization>>,
    query: &str,
    sender: &mpsc::Sender<Outcome>,
) -> Answer {
    let mut pending = pending.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(waiting) = pending.clone() else {
        return text(StatusCode::GONE, "This was answered already.\n");
    };
    let checked = waiting.check_callback(query);
    if let Err(error) = &checked
        && matches!(error.kind(), CallbackErrorKind::State | CallbackErrorKind::Malformed)
    {
        // It is not the answer to this request, so it must not end it.
        return text(StatusCode::BAD_REQUEST, "This is not the answer that px waits for.\n");
    }
    *pending = None;
    let (status, said) = match &checked {
        Ok(_) => (StatusCode::OK, "Done. You can close this window and go back to px.\n"),
        Err(_) => (StatusCode::OK, "Nothing was linked. You can close this window; px says why.\n"),
    };
    let _ = sender.try_send(checked.map_err(|error| error.to_string()));
    text(status, said)
}
