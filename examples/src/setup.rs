//! A bank, a Plaid and two applications on this machine, each at its own address, over HTTP.
//!
//! Used by `demo --serve`, browser tests and end-to-end benchmarks. The two sides are in
//! [`crate::bank`] and [`crate::plaid`]; this module connects them.

use crate::{
    bank::{Bank, BankConfig},
    plaid::{Config, DemoPlaid, Parts, ops::Metrics},
    plaid_side::{Offer, PlaidSide},
};
use px_core::ReqwestTransport;
use px_server::hyper::Server;
use std::sync::Arc;
use tokio::{net::TcpListener, sync::watch};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A bank, a Plaid and two applications with open ports. [`serve`](Self::serve) serves them.
#[derive(Debug)]
pub struct DemoSetup {
    /// The bank.
    pub bank: Bank,
    /// Plaid.
    pub plaid: DemoPlaid,
    /// The addresses.
    pub addresses: Addresses,
    listeners: Listeners,
}

/// The base URLs of all parts, without a slash at the end.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The bank: its site and its API.
    pub bank: String,
    /// Plaid: the Link page and its API.
    pub plaid: String,
    /// Plaid's health and metrics endpoints.
    pub ops: String,
    /// The example applications.
    pub applications: String,
}

#[derive(Debug)]
struct Listeners {
    bank: TcpListener,
    plaid: TcpListener,
    ops: TcpListener,
    applications: TcpListener,
}

impl DemoSetup {
    /// Opens all parts on free ports of this machine. `change` can change the settings of both
    /// sides first.
    ///
    /// # Errors
    /// If no port is free, or a setting is invalid.
    pub async fn open(
        metrics: Option<Metrics>,
        change: impl FnOnce(&mut BankConfig, &mut Config) + Send,
    ) -> Result<Self, Failure> {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let listeners = Listeners {
            bank: bind().await?,
            plaid: bind().await?,
            ops: bind().await?,
            applications: bind().await?,
        };
        let at =
            |listener: &TcpListener| Ok::<_, Failure>(format!("http://{}", listener.local_addr()?));
        let addresses = Addresses {
            bank: at(&listeners.bank)?,
            plaid: at(&listeners.plaid)?,
            ops: at(&listeners.ops)?,
            applications: at(&listeners.applications)?,
        };
        let Addresses { bank, plaid, applications, .. } = &addresses;
        let mut plaid_config = Config::demo_at(bank, plaid, applications)?;
        let institution = plaid_config.institutions.first().ok_or("the demo knows no bank")?;
        let mut bank_config = BankConfig::new(
            bank.clone(),
            institution.own_client_id.clone(),
            institution.own_secret.clone(),
            [format!("{plaid}/link/oauth")],
        );
        let (id, secret) = (institution.client_id.clone(), institution.secret.clone());
        let transport = Arc::new(ReqwestTransport::new()?);
        let mut side = PlaidSide::new(plaid.clone(), id, secret, transport);
        side.institution_id = Some(institution.id.clone());
        for target in &institution.targets {
            let application = plaid_config.application(&target.application_id);
            side.offers.push(Offer {
                name: application.map_or_else(String::new, |one| one.name.clone()),
                application_id: Some(target.application_id.clone()),
                target: target.token.clone(),
            });
        }
        bank_config.plaid = Some(side);
        change(&mut bank_config, &mut plaid_config);
        let mut parts = Parts::system(&plaid_config)?;
        parts.metrics = metrics;
        let bank = Bank::open(bank_config).await?;
        let plaid = DemoPlaid::open(plaid_config, parts).await?;
        Ok(Self { bank, plaid, addresses, listeners })
    }

    /// Serves all parts until `stop` completes. Then finishes the requests in progress.
    ///
    /// # Errors
    /// If a server fails, or an address of the example applications is invalid.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send) -> Result<(), Failure> {
        let Self { bank, plaid, listeners, .. } = self;
        let (stopping, stopped) = watch::channel(false);
        let until = || {
            let mut stopped = stopped.clone();
            async move {
                // The sender lives as long as this call.
                let _ = stopped.wait_for(|stop| *stop).await;
            }
        };
        let signal = async {
            stop.await;
            stopping.send_replace(true);
        };
        let server = Server::new();
        let (bank, api, ops, applications, (), ()) = tokio::join!(
            server.serve_until(listeners.bank, bank.router(), until()),
            server.serve_until(listeners.plaid, plaid.router(), until()),
            server.serve_until(listeners.ops, plaid.ops_router(), until()),
            server.serve_until(listeners.applications, plaid.app_router()?, until()),
            plaid.work(until()),
            signal,
        );
        for ended in [bank, api, ops, applications] {
            ended?;
        }
        Ok(())
    }
}
