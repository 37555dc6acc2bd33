//! Reads of accounts, balances, identities and holdings.

use super::{Items, ItemsError, access_log, error, view};
use crate::{
    connection::Connection,
    item::State,
    store::{DataKind, ItemRecord},
    sync_state::History,
};
use chrono::{DateTime, Utc};
use px_types::{
    AccountId, Amount, ApplicationId, IdentityId, ItemAccessToken, ItemId,
    model::{
        account::{Account, AccountKind},
        identity::Identity,
        plaid_error::PlaidError,
        product::Product,
        security::Security,
    },
    primitive::currency::Unit,
};

/// Data that was read, with its freshness.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ItemResponse<T> {
    /// The Item.
    pub item_id: ItemId,
    /// Data that was read.
    pub data: T,
    /// Time at which this kind of data was last known to match the institution. If updates
    /// fail, the Item keeps its last good data, and this time does not advance.
    pub fresh_as_of: Option<DateTime<Utc>>,
    /// Reason why the Item cannot be updated, if any.
    pub error: Option<PlaidError>,
}

/// Balances of one account.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Balance {
    /// The account.
    pub account_id: AccountId,
    /// Current balance. depository: the balance of the account; credit and loan: the debt,
    /// positive; investment: the market value.
    pub current: Amount,
    /// Available balance. depository: current less holds; credit: the unused part of the limit.
    pub available: Option<Amount>,
    /// Credit limit of a credit account.
    pub limit: Option<Amount>,
    /// Unit of the amounts.
    pub unit: Unit,
}

/// Identities of the accounts that the application may see.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Identities {
    /// Signed-in user, if one of these accounts refers to it.
    pub user_identity_id: Option<IdentityId>,
    /// All identities that one of these accounts refers to.
    pub identities: Vec<Identity>,
}

/// Holdings on the investment accounts that the application may see.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Holdings {
    /// Investment accounts with their holdings.
    pub accounts: Vec<Account>,
    /// Securities that the holdings refer to.
    pub securities: Vec<Security>,
}

impl Items {
    /// Returns the accounts that the application may see, with their balances.
    ///
    /// Without [`Product::Auth`] they have no transfer codes, without [`Product::Investments`] no
    /// holdings, and without [`Product::Liabilities`] no details of a liability except its
    /// balances. An account that the institution no longer lists remains, with the status closed.
    ///
    /// # Errors
    /// - [`InvalidAccessToken`](super::ItemsErrorKind::InvalidAccessToken) if the token is unknown;
    /// - [`NotForPartners`](super::ItemsErrorKind::NotForPartners) if the token belongs to a
    ///   partner;
    /// - [`ProductNotReady`](super::ItemsErrorKind::ProductNotReady),
    ///   [`LoginRequired`](super::ItemsErrorKind::LoginRequired) or
    ///   [`CannotFinish`](super::ItemsErrorKind::CannotFinish) if no data is available yet;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn accounts(
        &self,
        token: &ItemAccessToken,
    ) -> Result<ItemResponse<Vec<Account>>, ItemsError> {
        let session = self.readable_session(token).await?;
        let accounts = self.visible_accounts(&session).await?;
        let uses_liabilities = session.connection.uses(&Product::Liabilities);
        let read = access_log::kinds(&accounts);
        let read =
            read.into_iter().filter(|kind| *kind != DataKind::Liabilities || uses_liabilities);
        self.record_access(&session, read);
        let fresh_as_of = session.record.sync_state.fresh.accounts;
        Ok(session.respond(accounts, fresh_as_of))
    }

    /// Returns the balances of the accounts that the application may see.
    ///
    /// # Errors
    /// See [`accounts`](Self::accounts).
    pub async fn balances(
        &self,
        token: &ItemAccessToken,
    ) -> Result<ItemResponse<Vec<Balance>>, ItemsError> {
        let session = self.readable_session(token).await?;
        let accounts = self.visible_accounts(&session).await?;
        self.record_access(&session, [DataKind::Balances]);
        let fresh_as_of = session.record.sync_state.fresh.accounts;
        Ok(session.respond(accounts.into_iter().map(Balance::of).collect(), fresh_as_of))
    }

    /// Returns the identities of the accounts that the application may see. Requires
    /// [`Product::Identity`].
    ///
    /// # Errors
    /// See [`accounts`](Self::accounts). Additionally
    /// [`ConsentRequired`](super::ItemsErrorKind::ConsentRequired) if the application does not use
    /// the product.
    pub async fn identities(
        &self,
        token: &ItemAccessToken,
    ) -> Result<ItemResponse<Identities>, ItemsError> {
        let session = self.session(token).await?;
        session.require_product(Product::Identity)?;
        session.require_readable()?;
        let accounts = self.visible_accounts(&session).await?;
        let stored = self.store.identities(&session.record.id).await?;
        let (user, all) = stored.ok_or_else(ItemsError::not_ready)?;
        let identities = view::identities(all, &accounts);
        let user_identity_id =
            identities.iter().any(|identity| identity.id == user).then_some(user);
        self.record_access(&session, [DataKind::Contacts]);
        let fresh_as_of = session.record.sync_state.fresh.identities;
        Ok(session.respond(Identities { user_identity_id, identities }, fresh_as_of))
    }

    /// Returns the holdings on the investment accounts that the application may see. Requires
    /// [`Product::Investments`].
    ///
    /// # Errors
    /// See [`identities`](Self::identities).
    pub async fn holdings(
        &self,
        token: &ItemAccessToken,
    ) -> Result<ItemResponse<Holdings>, ItemsError> {
        let session = self.session(token).await?;
        session.require_product(Product::Investments)?;
        session.require_readable()?;
        let mut accounts = self.visible_accounts(&session).await?;
        accounts.retain(|account| matches!(account.kind, AccountKind::Investment(_)));
        let securities = self.store.securities(&session.record.id).await?;
        let securities = view::of_holdings(securities, &accounts);
        self.record_access(&session, [DataKind::Investments]);
        let fresh_as_of = session.record.sync_state.fresh.holdings;
        Ok(session.respond(Holdings { accounts, securities }, fresh_as_of))
    }

    /// Returns the Item and the connection of a token.
    pub(super) async fn session(&self, token: &ItemAccessToken) -> Result<Session, ItemsError> {
        let access = self.access(token).await?;
        let Some(application) = access.application_id else {
            return Err(ItemsError::new(
                super::ItemsErrorKind::NotForPartners,
                "this token belongs to a partner: it identifies an Item and cannot read its data",
            ));
        };
        // The connection is read first, so that a change of its scopes applies to what is read
        // after it.
        let mut connection = self.connection(&access.item_id, &application).await?;
        let record = self.store.item(&access.item_id).await?;
        let record = record.ok_or_else(ItemsError::invalid_access_token)?;
        // The first response about accounts arrived between these reads, and turned "all, but not
        // later ones" into a list. Without the list, later accounts would be visible too.
        if connection.is_unsettled() && record.sync_state.fresh.accounts.is_some() {
            connection = self.connection(&access.item_id, &application).await?;
        }
        Ok(Session { record, connection })
    }

    /// Returns the connection that existed when its token was looked up.
    async fn connection(
        &self,
        item: &ItemId,
        application: &ApplicationId,
    ) -> Result<Connection, ItemsError> {
        let connections = self.store.connections(item).await?;
        let mut connections = connections.into_iter();
        let connection = connections.find(|one| one.application_id == *application);
        // It was disconnected meanwhile.
        connection.ok_or_else(ItemsError::invalid_access_token)
    }

    /// Records for the partner that an application read data.
    pub(super) fn record_access(
        &self,
        session: &Session,
        kinds: impl IntoIterator<Item = DataKind>,
    ) {
        self.access_log.record(session, kinds, self.clock.now());
    }

    async fn readable_session(&self, token: &ItemAccessToken) -> Result<Session, ItemsError> {
        let session = self.session(token).await?;
        session.require_readable()?;
        Ok(session)
    }

    async fn visible_accounts(&self, session: &Session) -> Result<Vec<Account>, ItemsError> {
        let known = self.store.accounts(&session.record.id).await?;
        Ok(view::accounts(known, &session.connection))
    }
}

/// An Item as one application sees it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) record: ItemRecord,
    pub(super) connection: Connection,
}

impl Session {
    pub(super) fn require_product(&self, product: Product) -> Result<(), ItemsError> {
        if self.connection.uses(&product) {
            return Ok(());
        }
        Err(ItemsError::consent_required(&product))
    }

    /// Fails unless the initial fetch, or its last 30 days, has completed: then accounts are
    /// available.
    fn require_readable(&self) -> Result<(), ItemsError> {
        match self.record.state {
            State::Idle | State::IdleLoginRequired | State::Updating => Ok(()),
            State::Created | State::CreatedLoginRequired => self.require_recent(),
            State::Removed => Err(ItemsError::invalid_access_token()),
        }
    }

    /// Fails unless the last 30 days of transactions are available.
    pub(super) fn require_recent(&self) -> Result<(), ItemsError> {
        match self.record.sync_state.history {
            History::Complete | History::Fetching { recent: true, .. } => Ok(()),
            History::Missing | History::Fetching { recent: false, .. } => {
                Err(match self.record.state.login_required() {
                    true => ItemsError::login_required(),
                    false if self.record.sync_state.stall_notified => ItemsError::cannot_finish(),
                    false => ItemsError::not_ready(),
                })
            }
        }
    }

    pub(super) fn error(&self) -> Option<PlaidError> {
        error::of(&self.record)
    }

    pub(super) fn respond<T>(self, data: T, fresh_as_of: Option<DateTime<Utc>>) -> ItemResponse<T> {
        ItemResponse { error: self.error(), item_id: self.record.id, data, fresh_as_of }
    }
}

impl Balance {
    fn of(account: Account) -> Self {
        let limit = match &account.kind {
            AccountKind::Credit(credit) => credit.credit_limit,
            _ => None,
        };
        Self {
            account_id: account.id,
            current: account.current_balance,
            available: account.available_balance,
            limit,
            unit: account.unit,
        }
    }
}
