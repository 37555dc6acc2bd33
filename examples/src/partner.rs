//! The bank as `px-server` sees it: accounts, and pages of transactions.

use crate::{
    clock::pause,
    cursor::{Cursor, CursorKey, Walk},
    ledger::{
        Ledger, LedgerError,
        read::{Begin, User, Window},
    },
    plaid_side::Outward,
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

/// How long `user_slow` takes.
const SLOW: Duration = Duration::from_secs(3);
/// How long `user_down` says to wait.
const DOWN: TimeDelta = TimeDelta::minutes(10);

/// The bank's own code behind the API.
#[derive(Debug)]
pub struct DemoPartner {
    ledger: Ledger,
    oauth: OAuth,
    cursors: CursorKey,
    clock: Arc<dyn Clock>,
    outward: Option<Outward>,
    /// The data calls of each flaky user.
    calls: Mutex<HashMap<UserId, u64>>,
}

impl DemoPartner {
    /// The partner of a ledger. `oauth` ends the tokens of `user_revoked`.
    #[must_use]
    pub fn new(ledger: Ledger, oauth: OAuth, cursors: CursorKey, clock: Arc<dyn Clock>) -> Self {
        Self { ledger, oauth, cursors, clock, outward: None, calls: Mutex::default() }
    }

    /// Hears from that Plaid what customers connect.
    #[must_use]
    pub(crate) fn outward(mut self, outward: Option<Outward>) -> Self {
        self.outward = outward;
        self
    }

    /// The user who is asked for, after what is wrong with that user's scenario.
    async fn begin(&self, caller: &Caller) -> Result<User, Error> {
        let found = self.ledger.user(caller.principal()).await.map_err(failed)?;
        let user =
            found.ok_or_else(|| Error::internal("a token names a user that the bank has not"))?;
        match scenario::behaviour(&user.username) {
            Behaviour::Slow => pause(SLOW).await,
            Behaviour::Down => {
                let at = Timestamp::from(self.clock.now() + DOWN);
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

    /// Ends the tokens of `user_revoked`, once an answer is ready.
    async fn end(&self, caller: &Caller, user: &User) -> Result<(), Error> {
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
        let user = self.begin(caller).await?;
        let has = self.ledger.holdings(&user, permits(caller)).await.map_err(failed)?;
        let identity_id = user.identity_id.clone();
        let answer =
            UserAccountInfoResponse::new(identity_id, has.identities, has.securities, has.accounts);
        self.end(caller, &user).await?;
        Ok(answer)
    }

    async fn transactions(
        &self,
        caller: &Caller,
        request: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        let user = self.begin(caller).await?;
        let query = request.query;
        let window = Window { start: query.start_date, end: query.end_date };
        let walk = Walk {
            user: user.user_id.as_str(),
            grant: caller.grant.grant_id.as_deref().unwrap_or_default(),
            window,
            limit: query.limit,
        };
        let (begin, told) = match &query.position {
            Position::Offset(offset) => (Begin::Offset(*offset), None),
            Position::Cursor(text) => {
                let cursor = self.cursors.read(walk, text).ok_or_else(|| {
                    Error::invalid_request(
                        "`cursor`: not one that this window, limit and grant were given",
                    )
                })?;
                let (place, change) = (cursor.place, cursor.change);
                (Begin::After { place, change }, Some(cursor.total))
            }
        };
        let page = self.ledger.page(&user, permits(caller), window, begin, query.limit).await;
        let page = page.map_err(failed)?.ok_or_else(Error::cursor_expired)?;
        let total = page.total.or(told).unwrap_or_default();
        let mut answer = TransactionsResponse::new(total, page.transactions);
        answer.securities = page.securities;
        answer.next_cursor = page.next.map(|place| {
            let change = page.change;
            self.cursors.write(walk, &Cursor { place, change, total })
        });
        self.end(caller, &user).await?;
        Ok(answer)
    }

    async fn application_linked(
        &self,
        notification: NewApplicationLinkNotification,
    ) -> Result<(), Error> {
        let outward = self.outward.as_ref().ok_or_else(Error::not_offered)?;
        let taken = outward.portal().application_linked(&notification).await;
        let noted = taken.map_err(|error| Error::unavailable().with_source(error))?;
        // Whoever connects something shares: from now on the bank tells Plaid what it books. One
        // that was late may tell of what its customer has ended since.
        if !notification.is_unlink() && noted.is_latest {
            outward.import_soon(notification.user_id);
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
        // A database that is busy or out of reach is the institution being down.
        LedgerError::Database(error) => Error::unavailable().with_source(error),
        error => Error::internal(error),
    }
}
