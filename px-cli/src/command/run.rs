//! `px run`: the engine and the sender of webhooks, until they are stopped.

mod idle;

use crate::{
    cli::{Cli, Run},
    context::Context,
    database::{self, Make},
    display,
    events::Feed,
    failure::{Failure, Result},
    metrics::Metrics,
    output::{complain, count, say, seconds},
    partners::Listed,
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

/// Why it stops.
enum Why {
    /// There is nothing left to do.
    Idle,
    /// It was asked to.
    Asked,
    /// Nobody reads what it prints.
    Unread(Result<()>),
}

pub(crate) async fn run(cli: &Cli, options: &Run) -> Result<()> {
    // First of all: whoever asks it to end while it begins is heard too.
    let mut signals = Signals::listen().map_err(|e| Failure::because("no signals", &e))?;
    let partners = Listed::read(&cli.common)?;
    let context = Context::open(&cli.common, Make::IfMissing).await?;
    let sender = sender(cli, options, &context)?;
    let figures = figures(options, &context).await?;
    let (feed, events) = Feed::new(context.clock.clone());
    let engine = engine(options, &context, partners, Arc::new(feed));
    say(format_args!("px: running with {}; Ctrl-C ends it", count(options.workers, "worker")));
    if let Some(interval) = options.after_restore {
        say(format_args!(
            "px: after a restore: stored access tokens come first, and one refresh every {}",
            seconds(interval)
        ));
    }
    let mut display = tokio::spawn(display::show(context.clone(), events));

    let workers = usize::from(options.workers);
    let (stop, stopped) = watch::channel(false);
    let why = {
        let mut work = pin!(async {
            tokio::join!(engine.run(workers, until(&stopped)), sender.run(until(&stopped)))
        });
        let why = tokio::select! {
            _ = &mut work => Why::Asked,
            _ = signals.next() => Why::Asked,
            idle = idle::wait(&context), if options.until_idle => { idle?; Why::Idle }
            shown = &mut display => Why::Unread(joined(shown)),
        };
        stop.send_replace(true);
        if matches!(why, Why::Asked) {
            say(
                "px: stopping; what is under way is finished or handed back. Again ends it at once",
            );
        }
        tokio::select! {
            _ = &mut work => {}
            code = signals.next() => at_once(code),
        }
        why
    };
    if let Some(figures) = figures {
        figures.abort();
    }
    if let Why::Unread(shown) = why {
        return shown;
    }
    if matches!(why, Why::Idle) {
        // Tokens that wait to be revoked, and what there is to tell, are tried before the end.
        engine.work_off().await;
        while sender.deliver_due().await > 0 {}
    }
    // The engine has the other end of the events: the display ends with it.
    drop(engine);
    joined(display.await)?;
    match why {
        Why::Idle => idle::verdict(&context).await,
        _ => Ok(()),
    }
}

fn engine(
    options: &Run,
    context: &Context,
    partners: Listed,
    observer: Arc<dyn Observer>,
) -> Engine {
    let mut settings = Settings::default();
    settings.lease = options.lease;
    if options.until_idle {
        // Whoever waits for the end waits for each of these.
        settings.poll = settings.poll.min(options.lease / 2);
        settings.max_deferral_awaited = idle::PUT_OFF;
        // Nor does it wait for Items that a stopped program held again and again.
        settings.max_lost_leases = u32::MAX;
    }
    settings.after_restore = options.after_restore.map(|refresh_interval| {
        let mut restore = RestoreSettings::default();
        restore.refresh_interval = refresh_interval;
        restore
    });
    if options.metrics.is_none() {
        // Nobody asks for the figures.
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
    let make = database::makes_keys(&cli.common);
    let key = webhook_key::open(&cli.common, file, make, context.now())?;
    let transport = ReqwestTransport::builder();
    // Applications chose the addresses: they must not lead into this network.
    let transport = match options.allow_private_webhooks {
        true => transport.allow_plain_http(),
        false => transport.public_addresses_only(),
    };
    let transport: Arc<dyn HttpTransport> =
        Arc::new(transport.build().map_err(|e| Failure::because("cannot set up the network", &e))?);
    let signer = Arc::new(Signer::new(key));
    // Institutions are told which applications are connected; one that answers 404 is left alone.
    let told = Listed::signing(&cli.common, &signer, &context.clock)?;
    Ok(Sender::builder(context.store.clone(), transport, signer)
        .partners(Arc::new(told))
        .clock(context.clock.clone())
        .build())
}

async fn figures(options: &Run, context: &Context) -> Result<Option<JoinHandle<()>>> {
    let Some(address) = options.metrics else { return Ok(None) };
    let metrics = Metrics::open(address).await?;
    say(format_args!("px: figures at http://{}/metrics", metrics.address().unwrap_or(address)));
    Ok(Some(tokio::spawn(metrics.serve(context.clock.clone()))))
}

/// Ends when the word is given.
fn until(stopped: &watch::Receiver<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stopped = stopped.clone();
    async move {
        // Without a sender there is nobody who could still want it to go on.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

fn joined(shown: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    shown.unwrap_or_else(|e| Err(Failure::because("the display ended", &e)))
}

/// The second signal: nothing is waited for.
fn at_once(code: u8) {
    complain("ended at once; nothing is lost: what it held is free when its lease runs out");
    std::process::exit(i32::from(code));
}
