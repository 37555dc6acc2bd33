//! A bank, a Plaid and two applications on this machine, each at an address of its own, over HTTP.
//!
//! For `demo --serve`, for browser tests, and for measuring from end to end. Which side does what
//! is in [`crate::bank`] and [`crate::plaid`]; here they only get to know each other.

use crate::{
    bank::{Bank, BankConfig},
    plaid::{Config, DemoPlaid, Parts, ops::Figures},
    plaid_side::{Offer, PlaidSide},
};
use px_core::ReqwestTransport;
use px_server::hyper::Server;
use std::sync::Arc;
use tokio::{net::TcpListener, sync::watch};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Everything, open; [`serve`](Self::serve) has it listen.
#[derive(Debug)]
pub struct Town {
    /// The bank.
    pub bank: Bank,
    /// Plaid.
    pub plaid: DemoPlaid,
    /// Where they are.
    pub addresses: Addresses,
    listeners: Listeners,
}

/// Where everything is, without slashes at the end.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The bank: its site and its API.
    pub bank: String,
    /// Plaid: the Link page and its API.
    pub plaid: String,
    /// Plaid's health and figures.
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

impl Town {
    /// Opens everything on free ports of this machine. Both sides' settings can be changed before.
    ///
    /// # Errors
    /// When there is no port, or a setting is not sound.
    pub async fn open(
        figures: Option<Figures>,
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
        parts.figures = figures;
        let bank = Bank::open(bank_config).await?;
        let plaid = DemoPlaid::open(plaid_config, parts).await?;
        Ok(Self { bank, plaid, addresses, listeners })
    }

    /// Listens and works until a signal; then ends what is under way.
    ///
    /// # Errors
    /// When an address of the example applications is none.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send) -> Result<(), Failure> {
        let Self { bank, plaid, listeners, .. } = self;
        let (stopping, stopped) = watch::channel(false);
        let until = || {
            let mut stopped = stopped.clone();
            async move {
                // Its sender lives as long as this call.
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
