//! `px run`: runs the engine and the sender of webhooks until they are stopped.

mod idle;

use crate::{
    cli::{Cli, Run},
    context::Context,
    database::{self, IfMissing},
    display,
    events::EventFeed,
    failure::{Failure, Result},
    metrics::Metrics,
    output::{count, print_failure, say, seconds},
    partners::FilePartners,
    signal::Signals,
    webhook_key,
};
use px_core::{HttpTransport, ReqwestTransport};
use px_items::{
    engine::{Engine, Observer, RestoreSettings, Settings},
    webhook::{Sender, Signer},
};
use std::{future::Future, pin::pin, sync::Arc};
use tokio::{sync::watch, task::JoinHandle};

/// The reason reason the program stops.
enum StopReason {
    /// No Item is due.
    Idle,
    /// A signal was received.
    Signal,
    /// Standard output was closed.
    OutputClosed(Result<()>),
}

pub(crate) async fn run(cli: &Cli, options: &Run) -> Result<()> {
    // First, so that a signal during the start is not missed.
    let mut signals =
        Signals::listen().map_err(|e| Failure::because("cannot listen for signals", &e))?;
    let partners = FilePartners::read(&cli.common)?;
    let context = Context::open(&cli.common, IfMissing::Create).await?;
    let sender = sender(cli, options, &context)?;
    let metrics = metrics(options, &context).await?;
    let (feed, events) = EventFeed::new(context.clock.clone());
    let engine = engine(options, &context, partners, Arc::new(feed));
    say(format_args!("px: running with {}; stop with Ctrl-C", count(options.workers, "worker")));
    if let Some(interval) = options.after_restore {
        say(format_args!(
            "px: after a restore: stored access tokens are used first, with one refresh every {}",
            seconds(interval)
        ));
    }
    let mut display = tokio::spawn(display::show(context.clone(), events));

    let workers = usize::from(options.workers);
    let (stop, stopped) = watch::channel(false);
    let reason = {
        let mut work = pin!(async {
            tokio::join!(
                engine.run(workers, until_stopped(&stopped)),
                sender.run(until_stopped(&stopped))
            )
        });
        let reason = tokio::select! {
            _ = &mut work => StopReason::Signal,
            _ = signals.next() => StopReason::Signal,
            idle = idle::wait(&context), if options.until_idle => { idle?; StopReason::Idle }
            shown = &mut display => StopReason::OutputClosed(display_result(shown)),
        };
        stop.send_replace(true);
        if matches!(reason, StopReason::Signal) {
            say(
                "px: stopping after running updates are finished or handed back; a second signal ends it now",
            );
        }
        tokio::select! {
            _ = &mut work => {}
            code = signals.next() => exit_now(code),
        }
        reason
    };
    if let Some(metrics) = metrics {
        metrics.abort();
    }
    if let StopReason::OutputClosed(shown) = reason {
        return shown;
    }
    if matches!(reason, StopReason::Idle) {
        // Pending revocations and webhooks are attempted before the end.
        engine.run_due().await;
        while sender.deliver_due().await > 0 {}
    }
    // The engine sends the events, so the display ends when it is dropped.
    drop(engine);
    display_result(display.await)?;
    match reason {
        StopReason::Idle => idle::check_items(&context).await,
        _ => Ok(()),
    }
}

fn engine(
    options: &Run,
    context: &Context,
    partners: FilePartners,
    observer: Arc<dyn Observer>,
) -> Engine {
    let mut settings = Settings::default();
    settings.lease = options.lease;
    if options.until_idle {
        // With `--until-idle` the end of the program depends on these delays, so they are short.
        settings.poll = settings.poll.min(options.lease / 2);
        settings.max_deferral_awaited = idle::MAX_DEFERRAL;
        // Items with repeatedly lost leases are not deferred either.
        settings.max_lost_leases = u32::MAX;
    }
    settings.after_restore = options.after_restore.map(|refresh_interval| {
        let mut restore = RestoreSettings::default();
        restore.refresh_interval = refresh_interval;
        restore
    });
    if options.metrics.is_none() {
        // Without an address for metrics, no counts are needed.
        settings.count_every = None;
    }
    Engine::builder(context.store.clone(), Arc::new(partners))
        .clock(context.clock.clone())
        .settings(settings)
        .observer(observer)
        .build()
}

fn sender(cli: &Cli, options: &Run, context: &Context) -> Result<Sender> {
    let file = options.webhook_key.webhook_key.as_deref();
    let if_missing = database::if_keys_missing(&cli.common);
    let key = webhook_key::open(&cli.common, file, if_missing, context.now())?;
    let transport = ReqwestTransport::builder();
    // Applications choose the addresses, so private ones are refused.
    let transport = match options.allow_private_webhooks {
        true => transport.allow_plain_http(),
        false => transport.public_addresses_only(),
    };
    let transport: Arc<dyn HttpTransport> =
        Arc::new(transport.build().map_err(|e| Failure::because("cannot set up the network", &e))?);
    let signer = Arc::new(Signer::new(key));
    // Institutions are notified of applications. One that responds with 404 is not notified again.
    let institutions = FilePartners::signing(&cli.common, &signer, &context.clock)?;
    Ok(Sender::builder(context.store.clone(), transport, signer)
        .partners(Arc::new(institutions))
        .clock(context.clock.clone())
        .build())
}

async fn metrics(options: &Run, context: &Context) -> Result<Option<JoinHandle<()>>> {
    let Some(address) = options.metrics else { return Ok(None) };
    let metrics = Metrics::open(address).await?;
    say(format_args!("px: metrics at http://{}/metrics", metrics.address().unwrap_or(address)));
    Ok(Some(tokio::spawn(metrics.serve(context.clock.clone()))))
}

/// Completes when shutdown is requested.
fn until_stopped(stopped: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stopped = stopped.clone();
    async move {
        // If the sender was dropped, the program is ending too.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

fn display_result(shown: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    shown.unwrap_or_else(|e| Err(Failure::because("the display ended", &e)))
}

/// Ends the program immediately, on a second signal.
fn exit_now(code: u8) {
    print_failure(
        "ended immediately; no data is lost: its Items are free when their leases expire",
    );
    std::process::exit(i32::from(code));
}
