//! Reading accounts, balances, identities and holdings.

use super::{Items, ItemsError, error, reads, view};
use crate::{
    connection::Connection,
    item::State,
    life::History,
    store::{DataKind, ItemRecord},
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

/// What was read, and what it is worth.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answer<T> {
    /// The Item.
    pub item_id: ItemId,
    /// What was read.
    pub data: T,
    /// When this kind of data was last known to be what the institution has. An Item whose
    /// updates fail keeps its last good data, and this stands still.
    pub fresh_as_of: Option<DateTime<Utc>>,
    /// Why the Item cannot be updated until the user acts; `None` while all is well.
    pub error: Option<PlaidError>,
}

/// The balances of one account.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Balance {
    /// The account.
    pub account_id: AccountId,
    /// depository: what the account holds; credit and loan: what is owed, positive; investment:
    /// its market value.
    pub current: Amount,
    /// depository: current less holds; credit: what can still be spent.
    pub available: Option<Amount>,
    /// The most that may be owed, on a credit account.
    pub limit: Option<Amount>,
    /// What they are counted in.
    pub unit: Unit,
}

/// Who holds the accounts that the application sees.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Identities {
    /// The signed-in user, when one of these accounts refers to it.
    pub user_identity_id: Option<IdentityId>,
    /// Every identity that one of these accounts refers to.
    pub identities: Vec<Identity>,
}

/// What is held on the investment accounts that the application sees.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Holdings {
    /// The investment accounts, with their holdings.
    pub accounts: Vec<Account>,
    /// The securities that these refer to.
    pub securities: Vec<Security>,
}

impl Items {
    /// The accounts that the application sees, with their balances.
    ///
    /// Without [`Product::Auth`] they have no transfer codes, without [`Product::Investments`] no
    /// holdings, and without [`Product::Liabilities`] nothing of a liability but its balances. An
    /// account that the institution lists no more stays, closed.
    ///
    /// # Errors
    /// When the token is none of an application, or nothing is there yet.
    pub async fn accounts(
        &self,
        token: &ItemAccessToken,
    ) -> Result<Answer<Vec<Account>>, ItemsError> {
        let session = self.readable_session(token).await?;
        let accounts = self.visible_accounts(&session).await?;
        let uses_liabilities = session.connection.uses(&Product::Liabilities);
        let read = reads::kinds(&accounts);
        let read =
            read.into_iter().filter(|kind| *kind != DataKind::Liabilities || uses_liabilities);
        self.note(&session, read);
        let fresh_as_of = session.record.life.fresh.accounts;
        Ok(session.answer(accounts, fresh_as_of))
    }

    /// The balances of the accounts that the application sees.
    ///
    /// # Errors
    /// As [`accounts`](Self::accounts).
    pub async fn balances(
        &self,
        token: &ItemAccessToken,
    ) -> Result<Answer<Vec<Balance>>, ItemsError> {
        let session = self.readable_session(token).await?;
        let accounts = self.visible_accounts(&session).await?;
        self.note(&session, [DataKind::Balances]);
        let fresh_as_of = session.record.life.fresh.accounts;
        Ok(session.answer(accounts.into_iter().map(Balance::of).collect(), fresh_as_of))
    }

    /// Who holds the accounts that the application sees. Needs [`Product::Identity`].
    ///
    /// # Errors
    /// As [`accounts`](Self::accounts), and when the application does not use the product.
    pub async fn identities(
        &self,
        token: &ItemAccessToken,
    ) -> Result<Answer<Identities>, ItemsError> {
        let session = self.session(token).await?;
        session.must_use(Product::Identity)?;
        session.must_be_readable()?;
        let accounts = self.visible_accounts(&session).await?;
        let stored = self.store.identities(&session.record.id).await?;
        let (user, all) = stored.ok_or_else(ItemsError::not_ready)?;
        let identities = view::identities(all, &accounts);
        let user_identity_id =
            identities.iter().any(|identity| identity.id == user).then_some(user);
        self.note(&session, [DataKind::Contacts]);
        let fresh_as_of = session.record.life.fresh.identities;
        Ok(session.answer(Identities { user_identity_id, identities }, fresh_as_of))
    }

    /// What is held on the investment accounts that the application sees. Needs
    /// [`Product::Investments`].
    ///
    /// # Errors
    /// As [`accounts`](Self::accounts), and when the application does not use the product.
    pub async fn holdings(&self, token: &ItemAccessToken) -> Result<Answer<Holdings>, ItemsError> {
        let session = self.session(token).await?;
        session.must_use(Product::Investments)?;
        session.must_be_readable()?;
        let mut accounts = self.visible_accounts(&session).await?;
        accounts.retain(|account| matches!(account.kind, AccountKind::Investment(_)));
        let securities = self.store.securities(&session.record.id).await?;
        let securities = view::held(securities, &accounts);
        self.note(&session, [DataKind::Investments]);
        let fresh_as_of = session.record.life.fresh.holdings;
        Ok(session.answer(Holdings { accounts, securities }, fresh_as_of))
    }

    /// The Item and the connection behind a token.
    pub(super) async fn session(&self, token: &ItemAccessToken) -> Result<Session, ItemsError> {
        let access = self.access(token).await?;
        let Some(application) = access.application_id else {
            return Err(ItemsError::new(
                super::ItemsErrorKind::NotForPartners,
                "this token is a partner's: it names an Item and reads nothing of it",
            ));
        };
        // The connection first: a change of what it may see holds for what is read after it.
        let mut connection = self.connection(&access.item_id, &application).await?;
        let record = self.store.item(&access.item_id).await?;
        let record = record.ok_or_else(ItemsError::invalid_access_token)?;
        // The first answer, which came between these reads, made a list of "all, but not later
        // ones". Who went on without the list would see the later ones too.
        if connection.is_unsettled() && record.life.fresh.accounts.is_some() {
            connection = self.connection(&access.item_id, &application).await?;
        }
        Ok(Session { record, connection })
    }

    /// A connection that was there when its token was looked up.
    async fn connection(
        &self,
        item: &ItemId,
        application: &ApplicationId,
    ) -> Result<Connection, ItemsError> {
        let connections = self.store.connections(item).await?;
        let mut connections = connections.into_iter();
        let connection = connections.find(|one| one.application_id == *application);
        // It was taken off since.
        connection.ok_or_else(ItemsError::invalid_access_token)
    }

    /// Notes for the partner what an application read.
    pub(super) fn note(&self, session: &Session, kinds: impl IntoIterator<Item = DataKind>) {
        self.reads.note(session, kinds, self.clock.now());
    }

    async fn readable_session(&self, token: &ItemAccessToken) -> Result<Session, ItemsError> {
        let session = self.session(token).await?;
        session.must_be_readable()?;
        Ok(session)
    }

    async fn visible_accounts(&self, session: &Session) -> Result<Vec<Account>, ItemsError> {
        let known = self.store.accounts(&session.record.id).await?;
        Ok(view::accounts(known, &session.connection))
    }
}

/// An Item as one application meets it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) record: ItemRecord,
    pub(super) connection: Connection,
}

impl Session {
    pub(super) fn must_use(&self, product: Product) -> Result<(), ItemsError> {
        if self.connection.uses(&product) {
            return Ok(());
        }
        Err(ItemsError::consent_required(&product))
    }

    /// Accounts and what comes with them are there once the initial fetch was through, or the last
    /// 30 days of it.
    fn must_be_readable(&self) -> Result<(), ItemsError> {
        match self.record.state {
            State::Idle | State::IdleLoginRequired | State::Updating => Ok(()),
            State::Created | State::CreatedLoginRequired => self.must_have_recent(),
            State::Removed => Err(ItemsError::invalid_access_token()),
        }
    }

    /// Transactions are there once the last 30 days are.
    pub(super) fn must_have_recent(&self) -> Result<(), ItemsError> {
        match self.record.life.history {
            History::Complete | History::Fetching { recent: true, .. } => Ok(()),
            History::Missing | History::Fetching { recent: false, .. } => {
                Err(match self.record.state.login_required() {
                    true => ItemsError::login_required(),
                    false if self.record.life.stall_notified => ItemsError::cannot_finish(),
                    false => ItemsError::not_ready(),
                })
            }
        }
    }

    pub(super) fn error(&self) -> Option<PlaidError> {
        error::of(&self.record)
    }

    pub(super) fn answer<T>(self, data: T, fresh_as_of: Option<DateTime<Utc>>) -> Answer<T> {
        Answer { error: self.error(), item_id: self.record.id, data, fresh_as_of }
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
