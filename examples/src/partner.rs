//! The bank's implementation of `px-server`'s [`Partner`] trait: accounts, and pages of
//! transactions.

use crate::{
    clock::pause,
    cursor::{Cursor, CursorContext, CursorKey},
    ledger::{
        Ledger, LedgerError,
        read::{PageStart, User, Window},
    },
    plaid_side::PlaidGateway,
    scenario::{self, Behaviour},
};
use async_trait::async_trait;
use chrono::TimeDelta;
use px_core::Clock;
use px_server::{Caller, Error, Partner, oauth::OAuth};
use px_types::{
    AccountId, Timestamp, UserId,
    partner::{
        GetUser, ListTransactions, NewApplicationLinkNotification, Position, TransactionsResponse,
        UserAccountInfoResponse,
    },
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The response time of `user_slow`.
const SLOW_RESPONSE_DELAY: Duration = Duration::from_secs(3);
/// The time until the `retry_at` of `user_down`.
const DOWN_RETRY_AFTER: TimeDelta = TimeDelta::minutes(10);

/// The bank's own code behind the partner API.
#[derive(Debug)]
pub struct DemoPartner {
    ledger: Ledger,
    oauth: OAuth,
    cursors: CursorKey,
    clock: Arc<dyn Clock>,
    gateway: Option<PlaidGateway>,
    /// The number of data requests of each flaky user.
    calls: Mutex<HashMap<UserId, u64>>,
}

impl DemoPartner {
    /// Creates the partner of a ledger. `oauth` revokes the tokens of `user_revoked`.
    #[must_use]
    pub fn new(ledger: Ledger, oauth: OAuth, cursors: CursorKey, clock: Arc<dyn Clock>) -> Self {
        Self { ledger, oauth, cursors, clock, gateway: None, calls: Mutex::default() }
    }

    /// Sets the gateway to the Plaid that sends link notifications.
    #[must_use]
    pub(crate) fn gateway(mut self, gateway: Option<PlaidGateway>) -> Self {
        self.gateway = gateway;
        self
    }

    /// Returns the user of a request, after the delay or failure of that user's scenario.
    async fn start_request(&self, caller: &Caller) -> Result<User, Error> {
        let found = self.ledger.user(caller.principal()).await.map_err(failed)?;
        let user =
            found.ok_or_else(|| Error::internal("a token names a user that does not exist"))?;
        match scenario::behaviour(&user.username) {
            Behaviour::Slow => pause(SLOW_RESPONSE_DELAY).await,
            Behaviour::Down => {
                let at = Timestamp::from(self.clock.now() + DOWN_RETRY_AFTER);
                return Err(Error::unavailable().retry_at(at));
            }
            Behaviour::Flaky => {
                let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
                let count = calls.entry(user.user_id.clone()).or_default();
                *count += 1;
                if count.is_multiple_of(3) {
                    return Err(Error::internal("user_flaky fails on every third call"));
                }
            }
            Behaviour::Good | Behaviour::Revoked => {}
        }
        Ok(user)
    }

    /// Revokes the tokens of `user_revoked` once a response is ready.
    async fn finish_request(&self, caller: &Caller, user: &User) -> Result<(), Error> {
        if scenario::behaviour(&user.username) == Behaviour::Revoked {
            match &caller.grant.grant_id {
                Some(grant) => self.oauth.revoke_grant(grant).await?,
                None => self.oauth.revoke_principal(caller.principal()).await?,
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Partner for DemoPartner {
    async fn user(&self, caller: &Caller, _: GetUser) -> Result<UserAccountInfoResponse, Error> {
        let user = self.start_request(caller).await?;
        let data = self.ledger.holdings(&user, permits(caller)).await.map_err(failed)?;
        let identity_id = user.identity_id.clone();
        let response = UserAccountInfoResponse::new(
            identity_id,
            data.identities,
            data.securities,
            data.accounts,
        );
        self.finish_request(caller, &user).await?;
        Ok(response)
    }

    async fn transactions(
        &self,
        caller: &Caller,
        request: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        let user = self.start_request(caller).await?;
        let query = request.query;
        let window = Window { start: query.start_date, end: query.end_date };
        let context = CursorContext {
            user: user.user_id.as_str(),
            grant: caller.grant.grant_id.as_deref().unwrap_or_default(),
            window,
            limit: query.limit,
        };
        let (start, first_total) = match &query.position {
            Position::Offset(offset) => (PageStart::Offset(*offset), None),
            Position::Cursor(text) => {
                let cursor = self.cursors.read(context, text).ok_or_else(|| {
                    Error::invalid_request("`cursor`: not issued for this window, limit and grant")
                })?;
                let (after, change) = (cursor.position, cursor.change);
                (PageStart::After { position: after, change }, Some(cursor.total))
            }
        };
        let page = self.ledger.page(&user, permits(caller), window, start, query.limit).await;
        let page = page.map_err(failed)?.ok_or_else(Error::cursor_expired)?;
        let total = page.total.or(first_total).unwrap_or_default();
        let mut response = TransactionsResponse::new(total, page.transactions);
        response.securities = page.securities;
        response.next_cursor = page.next.map(|position| {
            let change = page.change;
            self.cursors.write(context, &Cursor { position, change, total })
        });
        self.finish_request(caller, &user).await?;
        Ok(response)
    }

    async fn application_linked(
        &self,
        notification: NewApplicationLinkNotification,
    ) -> Result<(), Error> {
        let gateway = self.gateway.as_ref().ok_or_else(Error::not_offered)?;
        let stored = gateway.portal().application_linked(&notification).await;
        let noted = stored.map_err(|error| Error::unavailable().with_source(error))?;
        // A customer who connects an application shares data, so from now on the bank notifies
        // Plaid of bookings. A late notification may concern an application that the customer has
        // disconnected since; it starts no import.
        if !notification.is_unlink() && noted.is_latest {
            gateway.import_soon(notification.user_id);
        }
        Ok(())
    }

    fn filters_accounts(&self) -> bool {
        true
    }
}

fn permits(caller: &Caller) -> impl Fn(&str) -> bool {
    |id| AccountId::new(id).is_ok_and(|id| caller.accounts().allows(&id))
}

fn failed(error: LedgerError) -> Error {
    match error {
        // If the database is busy or unreachable, the institution is down.
        LedgerError::Database(error) => Error::unavailable().with_source(error),
        error => Error::internal(error),
    }
}
