//! Connecting and disconnecting: links, joins, exchanges, and who leaves.

use super::{Holder, Items, ItemsError, ItemsErrorKind, token};
use crate::{
    connection::Connection,
    store::{
        AccessDigest, Act, ChangeTo, Changed, ConnectionChange, KeptTokens, Leave, Linked,
        NewHolder, NewLink, NewPublicToken, Notice, StoreErrorKind, Trail, Unlinked, Whose,
    },
    tickets,
};
use px_client::oauth::{TokenDefect, TokenSet};
use px_types::{
    AccountId, ApplicationId, InstitutionId, ItemAccessToken, ItemId, PublicToken, UserId,
    model::{activity::ActivityType, application_details::Application},
};
use std::{collections::BTreeSet, time::Duration};

/// How long a link waits while the institution ends the tokens that it brings.
const REVOCATION_PATIENCE: Duration = Duration::from_secs(10);
const REVOCATION_POLL: Duration = Duration::from_millis(200);

/// Who the log says began something that neither an application nor a partner began.
const PLAID: &str = "plaid";

/// What an application or a partner gets when it is linked to an Item.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkedApplication {
    /// The Item.
    pub item_id: ItemId,
    /// By which the application reads it. It is kept nowhere: only its digest is.
    pub access_token: ItemAccessToken,
    /// Whether the Item was made: the initial fetch begins. Else the user came back, or connects
    /// a further application.
    pub created: bool,
    /// Whether the Item had lost its authorization and has it again.
    pub repaired: bool,
}

/// What a user's authorization gave: tokens, and the accounts that they show.
///
/// Tokens alone become one over all accounts of the user.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Authorization {
    /// The tokens.
    pub tokens: TokenSet,
    /// The accounts that the user shared, by the partner's ids; `None` is all of them.
    pub accounts: Option<BTreeSet<AccountId>>,
}

impl Authorization {
    /// Tokens that show some accounts.
    #[must_use]
    pub fn over(tokens: TokenSet, accounts: impl IntoIterator<Item = AccountId>) -> Self {
        Self { tokens, accounts: Some(accounts.into_iter().collect()) }
    }
}

impl From<TokenSet> for Authorization {
    fn from(tokens: TokenSet) -> Self {
        Self { tokens, accounts: None }
    }
}

/// What is made for an application that is connected without a token of its own yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JoinedApplication {
    /// The Item.
    pub item_id: ItemId,
    /// To be exchanged by the application, within 30 minutes and once.
    pub public_token: PublicToken,
    /// Whether the Item was made.
    pub created: bool,
    /// Whether the Item had lost its authorization and has it again.
    pub repaired: bool,
}

impl Items {
    /// Connects an application to a user's Item, which is made if there is none.
    ///
    /// A user who authorizes again, for this or another application, repairs an Item that had
    /// lost its authorization. While it has one, it keeps the one that shows more: say which
    /// accounts the new one shows ([`Authorization::over`]), or a user who shares less with one
    /// application takes accounts from another. An earlier access token of the same application
    /// ends.
    ///
    /// # Errors
    /// When the address for webhooks is not accepted, or the store fails; and if the tokens name
    /// another user, or are no bearer tokens: they are kept apart then, sealed
    /// ([`KeptTokens`]).
    pub async fn link(
        &self,
        institution: &InstitutionId,
        user: &UserId,
        authorization: impl Into<Authorization> + Send,
        connection: Connection,
    ) -> Result<LinkedApplication, ItemsError> {
        let holder = self.joining(connection)?;
        let access_token = token::mint(&*self.random, self.store.environment());
        let digest = token::digest(&access_token);
        let new = self.new_link((institution, user), authorization.into(), holder, digest).await?;
        let linked = self.store_link(new).await?;
        Ok(LinkedApplication::of(linked, access_token))
    }

    /// As [`link`](Self::link), for a page that hands the application a public token: the
    /// application gets its access token by [exchanging](Self::exchange_public_token) it. One that
    /// it had goes on until then.
    ///
    /// A page that cannot hand it over says with `tell` whose Item it is: where the connection has
    /// an address for webhooks, the public token is sent there, by `LINK: ITEM_ADD_RESULT`, in the
    /// same transaction.
    ///
    /// # Errors
    /// As [`link`](Self::link).
    pub async fn link_for_exchange(
        &self,
        institution: &InstitutionId,
        user: &UserId,
        authorization: impl Into<Authorization> + Send,
        connection: Connection,
        tell: Option<Whose>,
    ) -> Result<JoinedApplication, ItemsError> {
        let holder = self.joining(connection)?;
        let mut new =
            self.new_link((institution, user), authorization.into(), holder, None).await?;
        let mut public = self.public_token();
        let public_token = public.token.clone();
        public.tell = tell;
        new.public_token = Some(public);
        let linked = self.store_link(new).await?;
        Ok(JoinedApplication::of(linked, public_token))
    }

    /// Connects an application to an Item that is there, without signing in anew (`px.md` section
    /// 10), by the same rules as [`link`](Self::link).
    ///
    /// Where the connection has an address for webhooks, the public token is sent there as well,
    /// by `LINK: ITEM_ADD_RESULT`, in the same transaction; and whose Item it is.
    ///
    /// # Errors
    /// [`ItemNotFound`](super::ItemsErrorKind::ItemNotFound) when the Item is gone; when the address for
    /// webhooks is not accepted, or the store fails.
    pub async fn join(
        &self,
        item: &ItemId,
        connection: Connection,
        whose: Whose,
    ) -> Result<JoinedApplication, ItemsError> {
        let holder = self.checked(connection)?;
        let record = self.store.item(item).await?.ok_or_else(ItemsError::item_not_found)?;
        let application = &holder.application_id;
        let as_application = self.is_caller(&Holder::Application(application.clone()));
        if !as_application && !self.is_caller(&Holder::Partner(record.institution_id.clone())) {
            return Err(ItemsError::item_not_found());
        }
        let trail = self.trail(record.institution_id.as_str(), Some(application)).await?;
        let mut public = self.public_token();
        let public_token = public.token.clone();
        public.tell = Some(whose);
        let mut new = NewLink::new(
            (record.institution_id, record.user_id),
            record.id,
            None,
            NewHolder::Application(holder),
            None,
            self.clock.now(),
        );
        (new.public_token, new.trail) = (Some(public), trail);
        let linked = self.store_link(new).await?;
        Ok(JoinedApplication::of(linked, public_token))
    }

    /// Exchanges a public token for the access token of the application that it was made for. An
    /// earlier access token of it ends.
    ///
    /// # Errors
    /// [`InvalidPublicToken`](super::ItemsErrorKind::InvalidPublicToken) when there is no such token: it
    /// was used, has expired or is another application's; nothing is used up then.
    pub async fn exchange_public_token(
        &self,
        application: &ApplicationId,
        public_token: &PublicToken,
    ) -> Result<LinkedApplication, ItemsError> {
        if !self.is_caller(&Holder::Application(application.clone())) {
            return Err(ItemsError::invalid_public_token());
        }
        let access_token = token::mint(&*self.random, self.store.environment());
        let digest = tickets::digest(public_token.expose());
        let access = token::digest(&access_token);
        let now = self.clock.now();
        let item = self.store.exchange(&digest, application, &access, now).await?;
        let item_id = item.ok_or_else(ItemsError::invalid_public_token)?;
        tracing::info!(item = %item_id, "a public token was exchanged");
        Ok(LinkedApplication { item_id, access_token, created: false, repaired: false })
    }

    /// Makes an Item from a token that the partner gives out itself, or finds the user's.
    ///
    /// The partner's access token names the Item in notifications. It reads no data and does not
    /// keep the Item. While no application is connected, accounts are fetched and transactions
    /// are not, whatever products the partner has in mind: no user has allowed them to anyone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn import(
        &self,
        institution: &InstitutionId,
        user: &UserId,
        tokens: TokenSet,
    ) -> Result<LinkedApplication, ItemsError> {
        if !self.is_caller(&Holder::Partner(institution.clone())) {
            return Err(ItemsError::invalid_access_token());
        }
        let access_token = token::mint(&*self.random, self.store.environment());
        let digest = token::digest(&access_token);
        let new =
            self.new_link((institution, user), tokens.into(), NewHolder::Partner, digest).await?;
        let linked = self.store_link(new).await?;
        Ok(LinkedApplication::of(linked, access_token))
    }

    /// Gives a holder of an Item a new access token; an earlier one ends.
    ///
    /// # Errors
    /// [`ItemNotFound`](super::ItemsErrorKind::ItemNotFound) when there is no such Item, or the holder is
    /// not connected to it.
    pub async fn issue_access(
        &self,
        item: &ItemId,
        holder: &Holder,
    ) -> Result<ItemAccessToken, ItemsError> {
        if !self.is_caller(holder) {
            return Err(ItemsError::item_not_found());
        }
        let application = match holder {
            Holder::Application(application) => Some(application),
            Holder::Partner(institution) => {
                let record = self.store.item(item).await?;
                record
                    .filter(|record| record.institution_id == *institution)
                    .ok_or_else(ItemsError::item_not_found)?;
                None
            }
        };
        let new = token::mint(&*self.random, self.store.environment());
        let given = self.store.give_access(item, application, &token::digest(&new)).await?;
        given.then_some(new).ok_or_else(ItemsError::item_not_found)
    }

    /// Gives out another token in the place of one, which ends at once.
    ///
    /// # Errors
    /// When there is no such token, or the store fails.
    pub async fn rotate_access(
        &self,
        token: &ItemAccessToken,
    ) -> Result<ItemAccessToken, ItemsError> {
        self.access(token).await?;
        let new = token::mint(&*self.random, self.store.environment());
        let replaced =
            self.store.replace_access(&token::digest(token), &token::digest(&new)).await?;
        replaced.then_some(new).ok_or_else(ItemsError::invalid_access_token)
    }

    /// The holder of a token gives up its access. With the last application the Item goes.
    ///
    /// A partner takes with it an Item that no application is connected to. When an application
    /// leaves, its partner is told.
    ///
    /// # Errors
    /// When there is no such token, or the store fails.
    pub async fn unlink(&self, token: &ItemAccessToken) -> Result<Unlinked, ItemsError> {
        let access = self.access(token).await?;
        let (initiator, told) = match &access.application_id {
            Some(application) => (application.as_str(), Some(application)),
            None => (access.institution_id.as_str(), None),
        };
        let trail = self.trail(initiator, told).await?;
        let place = (&access.item_id, access.application_id.as_ref());
        match self.take_off(place, ActivityType::ItemRemove, trail).await? {
            Unlinked::NotConnected => Err(ItemsError::invalid_access_token()),
            unlinked => Ok(unlinked),
        }
    }

    /// Takes an application off an Item, by Plaid's side: its access ends at once, the others keep
    /// theirs, its partner is told.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove_application(
        &self,
        item: &ItemId,
        application: &ApplicationId,
    ) -> Result<Unlinked, ItemsError> {
        let trail = self.trail(PLAID, Some(application)).await?;
        self.take_off((item, Some(application)), ActivityType::ItemUnlink, trail).await
    }

    pub(super) async fn take_off(
        &self,
        (item, application): (&ItemId, Option<&ApplicationId>),
        activity: ActivityType,
        trail: Trail,
    ) -> Result<Unlinked, ItemsError> {
        let mut leave = Leave::new(item.clone(), application.cloned(), self.clock.now());
        (leave.activity, leave.trail) = (activity, trail);
        let unlinked = self.store.leave(&leave).await?;
        tracing::info!(%item, ?unlinked, "unlinked");
        Ok(unlinked)
    }

    /// Sets what an application uses and sees, and where its webhooks go. `false`: it is not
    /// connected to that Item.
    ///
    /// When it sees something else from then on, its sync begins anew.
    ///
    /// # Errors
    /// When the address for webhooks is not accepted, or the store fails.
    pub async fn update_connection(
        &self,
        item: &ItemId,
        connection: Connection,
    ) -> Result<bool, ItemsError> {
        let connection = self.checked(connection)?;
        let application = connection.application_id.clone();
        if !self.is_caller(&Holder::Application(application.clone())) {
            return Ok(false);
        }
        let act = self.act(application.as_str())?;
        let to = ChangeTo::Connection(connection);
        let changed = self.change(item, &application, to, Trail::of(act)).await?;
        Ok(changed == Changed::Done)
    }

    pub(super) async fn change(
        &self,
        item: &ItemId,
        application: &ApplicationId,
        to: ChangeTo,
        trail: Trail,
    ) -> Result<Changed, ItemsError> {
        let now = self.clock.now();
        let mut change = ConnectionChange::new(item.clone(), application.clone(), to, now);
        change.trail = trail;
        Ok(self.store.change(&change).await?)
    }

    /// A connection that may be stored, with a key for its cursors.
    fn checked(&self, mut connection: Connection) -> Result<Connection, ItemsError> {
        self.check_webhook(&connection)?;
        connection.cursor_key = self.cursor_key();
        Ok(connection)
    }

    fn joining(&self, connection: Connection) -> Result<NewHolder, ItemsError> {
        if !self.is_caller(&Holder::Application(connection.application_id.clone())) {
            return Err(ItemsError::invalid_field("application_id", "is another client's"));
        }
        Ok(NewHolder::Application(self.checked(connection)?))
    }

    async fn new_link(
        &self,
        (institution, user): (&InstitutionId, &UserId),
        authorization: Authorization,
        holder: NewHolder,
        access: impl Into<Option<AccessDigest>>,
    ) -> Result<NewLink, ItemsError> {
        let item_id = token::id(&*self.random).ok_or_else(ItemsError::no_id)?;
        let key = (institution.clone(), user.clone());
        let (tokens, now) = (authorization.tokens, self.clock.now());
        if let Some(defect) = tokens.defect(Some(user)) {
            return Err(self.keep_apart(key, tokens, defect).await?);
        }
        let mut new = NewLink::new(key, item_id, tokens, holder, access, now);
        new.covers = authorization.accounts;
        new.trail = match new.application() {
            Some(application) => self.trail(application.as_str(), Some(application)).await?,
            None => Trail::of(self.act(institution.as_str())?),
        };
        Ok(new)
    }

    /// Stores tokens that must not be used, and says why nothing is linked.
    async fn keep_apart(
        &self,
        (institution, user): (InstitutionId, UserId),
        tokens: TokenSet,
        defect: TokenDefect,
    ) -> Result<ItemsError, ItemsError> {
        let mut kept = KeptTokens::new(institution.clone(), tokens, self.clock.now());
        (kept.user_id, kept.defect) = (Some(user), Some(defect));
        let unwritten = |_| ItemsError::new(ItemsErrorKind::Internal, "tokens are no JSON");
        self.store.put_ticket(&kept.apart().map_err(unwritten)?).await?;
        tracing::error!(%institution, "{defect}: they are kept apart, sealed; nothing is linked");
        crate::metrics::tokens_apart(&institution);
        Ok(ItemsError::new(ItemsErrorKind::InvalidField, format!("{defect}; nothing was linked")))
    }

    async fn store_link(&self, mut new: NewLink) -> Result<Linked, ItemsError> {
        let begun_at = self.clock.elapsed();
        let linked = loop {
            match self.store.link(new.clone()).await {
                Ok(linked) => break linked,
                // The partner is ending these tokens: what comes of that is known in a moment.
                Err(error)
                    if error.kind() == StoreErrorKind::RevocationUnderWay
                        && self.clock.elapsed() < begun_at + REVOCATION_PATIENCE =>
                {
                    self.clock.sleep(REVOCATION_POLL).await;
                    new.now = self.clock.now();
                }
                Err(error) if error.kind() == StoreErrorKind::NoItem => {
                    return Err(ItemsError::item_not_found());
                }
                Err(error) => return Err(error.into()),
            }
        };
        tracing::info!(item = %linked.item_id, created = linked.created, "linked");
        Ok(linked)
    }

    fn public_token(&self) -> NewPublicToken {
        let token = PublicToken::new(tickets::mint_public(&*self.random, self.store.environment()));
        let digest = tickets::digest(token.expose());
        NewPublicToken::new(token, digest, self.clock.now() + tickets::PUBLIC_LIFE)
    }

    /// What is noted of something: who began it, and the application that the partner is told of.
    pub(super) async fn trail(
        &self,
        initiator: &str,
        told: Option<&ApplicationId>,
    ) -> Result<Trail, ItemsError> {
        let mut trail = Trail::of(self.act(initiator)?);
        if let (Some(registered), Some(id)) = (&self.applications, told) {
            let application = registered.application(id).await;
            // One that is registered no more is told by its id.
            let application =
                application.unwrap_or_else(|| Application::new(id.clone(), id.as_str()));
            let notification = token::id(&*self.random).ok_or_else(ItemsError::no_id)?;
            trail.notice = Some(Notice::new(notification, application));
        }
        Ok(trail)
    }

    pub(super) fn act(&self, initiator: &str) -> Result<Act, ItemsError> {
        let id = token::id(&*self.random).ok_or_else(ItemsError::no_id)?;
        Ok(Act::new(id, initiator))
    }
}

impl LinkedApplication {
    fn of(linked: Linked, access_token: ItemAccessToken) -> Self {
        let Linked { item_id, created, repaired, .. } = linked;
        Self { item_id, access_token, created, repaired }
    }
}

impl JoinedApplication {
    fn of(linked: Linked, public_token: PublicToken) -> Self {
        let Linked { item_id, created, repaired, .. } = linked;
        Self { item_id, public_token, created, repaired }
    }
}
