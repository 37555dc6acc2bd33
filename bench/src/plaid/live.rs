//! The time from a booking at the bank to the application's webhook: bank, Plaid and application on
//! this machine, over HTTP, without any timers.

use crate::{
    Failure,
    report::{Report, median},
};
use axum::{Router, extract::State, http::StatusCode, routing::post};
use demo_bank::{ledger::fill::FillOptions, password::PASSWORD, setup::DemoSetup};
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

/// The number of days on which the bank books transactions.
const DAYS: usize = 40;
const WARM_UP: usize = 3;
/// The aim, in milliseconds.
const AIM_MS: f64 = 500.0;
const USER: &str = "user_good";
/// Time limit of each step of the measurement.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn measure(report: &mut Report) {
    let name = "plaid-live: booked at the bank → the application's webhook";
    if !report.wants(name) {
        return;
    }
    // On separate threads, because bank, Plaid and application share this process.
    let measured = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2).enable_all().build()?.block_on(webhook_delays())
        });
        thread.join().map_err(|_| Failure::from("the measurement panicked"))?
    });
    match measured {
        Ok(mut times) => {
            times.sort_by(f64::total_cmp);
            let worst = times.last().copied().unwrap_or(f64::NAN);
            let middle = median(times);
            let text = format!("median {middle:.0} ms, at most {worst:.0} ms");
            report.value(name, text, &format!("≤ {AIM_MS} ms (median)"), middle <= AIM_MS);
        }
        Err(error) => report.not_run(name, &error.to_string()),
    }
}

/// Returns the milliseconds from the start of each booking to the webhook.
async fn webhook_delays() -> Result<Vec<f64>, Failure> {
    let (arrived, mut inbox) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let webhook = format!("http://{}/webhooks", listener.local_addr()?);
    let router = Router::new().route("/webhooks", post(receive)).with_state(arrived);
    tokio::spawn(async move { axum::serve(listener, router).await });

    let today = Date::from(SystemClock::new().now().date_naive());
    let setup = DemoSetup::open(None, |bank, _| {
        bank.fill_options = Some(FillOptions { seed: 1, users: 0, busy: true });
        // Only the bank's clock advances, and it must not get ahead of Plaid's.
        bank.start_date = Some(today.minus_days(DAYS as u64 + 10));
    })
    .await?;
    let (bank, plaid, addresses) =
        (setup.bank.clone(), setup.plaid.clone(), setup.addresses.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(setup.serve(async { drop(stopped.await) }));

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
        return Err("the user needs more than a password".into());
    };
    let now = SystemClock::new().now();
    let tokens = TokenSet::new(signed_in.auth_token, now);
    let mut connection = Connection::new(application, [Product::Transactions], now);
    connection.webhook = Some(webhook);
    let items = plaid.items().for_any_owner();
    items.link(&institution.id, &signed_in.user_id, tokens, connection).await?;
    until(&mut inbox, &WebhookCode::HistoricalUpdate).await?;
    bank.portal().ok_or("the bank has no portal")?.import(&signed_in.user_id).await?;

    let mut times = Vec::new();
    for day in 0..WARM_UP + DAYS {
        while inbox.try_recv().is_ok() {}
        let begun = Instant::now();
        bank.advance(1).await?;
        // On some days this user has no transactions.
        let updated = tokio::time::timeout(Duration::from_secs(2), until_updated(&mut inbox)).await;
        if let (Ok(updated), true) = (updated, day >= WARM_UP) {
            updated?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
    }
    let _ = stop.send(());
    serving.await??;
    if times.len() < DAYS / 4 {
        return Err(format!("only {} of {DAYS} days had new transactions", times.len()).into());
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
    tokio::time::timeout(STEP_TIMEOUT, waiting)
        .await
        .map_err(|_| format!("no webhook {code} within 60 seconds"))?
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
            // This fails only if the measurement has ended.
            let _ = arrived.send(webhook);
            StatusCode::OK
        }
        Err(_) => StatusCode::BAD_REQUEST,
    }
}
