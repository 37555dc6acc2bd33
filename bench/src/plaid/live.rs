//! From a transaction that the bank books to the application's webhook: bank, Plaid and
//! application on this machine, over HTTP, without waiting for any timer.

use crate::{
    Failure,
    report::{Report, median},
};
use axum::{Router, extract::State, http::StatusCode, routing::post};
use demo_bank::{ledger::fill::Filling, password::PASSWORD, town::Town};
use px_client::{PartnerClient, oauth::TokenSet};
use px_core::{Clock as _, ReqwestTransport, SystemClock};
use px_items::connection::Connection;
use px_types::{
    ClientSecret, Date, Password, Username,
    model::{product::Product, sign_in::SignIn},
    partner::AuthTokenRequest,
    webhook::{Webhook, WebhookCode},
};
use std::time::{Duration, Instant};
use tokio::{net::TcpListener, sync::mpsc};

/// Days on each of which the bank books something.
const DAYS: usize = 40;
const WARM_UP: usize = 3;
/// What is aimed at, in milliseconds.
const AIM: f64 = 500.0;
const USER: &str = "user_good";
/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn measure(report: &mut Report) {
    let name = "plaid-live: booked at the bank → the application's webhook";
    if !report.wants(name) {
        return;
    }
    // On threads of its own: all of it is one process here.
    let measured = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2).enable_all().build()?.block_on(waits())
        });
        thread.join().map_err(|_| Failure::from("the measurement panicked"))?
    });
    match measured {
        Ok(mut times) => {
            times.sort_by(f64::total_cmp);
            let worst = times.last().copied().unwrap_or(f64::NAN);
            let middle = median(times);
            let text = format!("median {middle:.0} ms, at most {worst:.0} ms");
            report.figure(name, text, &format!("≤ {AIM} ms (median)"), middle <= AIM);
        }
        Err(error) => report.not_run(name, &error.to_string()),
    }
}

/// Milliseconds from the moment at which the bank begins to book a day to the webhook.
async fn waits() -> Result<Vec<f64>, Failure> {
    let (arrived, mut inbox) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let webhook = format!("http://{}/webhooks", listener.local_addr()?);
    let router = Router::new().route("/webhooks", post(receive)).with_state(arrived);
    tokio::spawn(async move { axum::serve(listener, router).await });

    let today = Date::from(SystemClock::new().now().date_naive());
    let town = Town::open(None, |bank, _| {
        bank.filling = Some(Filling { seed: 1, users: 0, busy: true });
        // Days pass at the bank alone, and it must not get ahead of Plaid's clock.
        bank.start_date = Some(today.minus_days(DAYS as u64 + 10));
    })
    .await?;
    let (bank, plaid, addresses) = (town.bank.clone(), town.plaid.clone(), town.addresses.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(town.serve(async { drop(stopped.await) }));

    let institution = plaid.config().institutions.first().ok_or("no bank")?.clone();
    let application = plaid.config().applications.first().ok_or("no application")?.id.clone();
    let secret = ClientSecret::new(institution.own_secret.expose());
    let client = PartnerClient::builder(addresses.bank, ReqwestTransport::new()?)
        .client(institution.own_client_id.clone(), secret)
        .build()?;
    let SignIn::Token(signed_in) = client
        .auth_token(AuthTokenRequest::new(Username::new(USER), Password::new(PASSWORD)))
        .await?
    else {
        return Err("the user is asked for more than a password".into());
    };
    let now = SystemClock::new().now();
    let tokens = TokenSet::new(signed_in.auth_token, now);
    let mut connection = Connection::new(application, [Product::Transactions], now);
    connection.webhook = Some(webhook);
    let items = plaid.items().by_anyone();
    items.link(&institution.id, &signed_in.user_id, tokens, connection).await?;
    until(&mut inbox, &WebhookCode::HistoricalUpdate).await?;
    bank.portal().ok_or("the bank has no portal")?.import(&signed_in.user_id).await?;

    let mut times = Vec::new();
    for day in 0..WARM_UP + DAYS {
        while inbox.try_recv().is_ok() {}
        let begun = Instant::now();
        bank.advance(1).await?;
        // On some days nothing happens to this user.
        let told = tokio::time::timeout(Duration::from_secs(2), until_updated(&mut inbox)).await;
        if let (Ok(told), true) = (told, day >= WARM_UP) {
            told?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
    }
    let _ = stop.send(());
    serving.await??;
    if times.len() < DAYS / 4 {
        return Err(format!("only {} of {DAYS} days had news", times.len()).into());
    }
    Ok(times)
}

async fn until(
    inbox: &mut mpsc::UnboundedReceiver<Webhook>,
    code: &WebhookCode,
) -> Result<(), Failure> {
    let waiting = async {
        while let Some(webhook) = inbox.recv().await {
            if webhook.event.webhook_code() == *code {
                return Ok(());
            }
        }
        Err(Failure::from("the receiver has ended"))
    };
    tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| format!("no {code} came"))?
}

async fn until_updated(inbox: &mut mpsc::UnboundedReceiver<Webhook>) -> Result<(), Failure> {
    inbox.recv().await.map(drop).ok_or_else(|| "the receiver has ended".into())
}

async fn receive(
    State(arrived): State<mpsc::UnboundedSender<Webhook>>,
    body: String,
) -> StatusCode {
    match px_types::decode(body.as_bytes()) {
        Ok(webhook) => {
            // Nobody waits for it any more: the measurement is over.
            let _ = arrived.send(webhook);
            StatusCode::OK
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}
