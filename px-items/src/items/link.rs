//! Connecting and disconnecting applications: links, joins, token exchanges and unlinks.

use super::{Items, ItemsError, ItemsErrorKind, TokenOwner, token};
use crate::{
    connection::Connection,
    store::{
        AccessDigest, ActivityAuthor, ApplicationUser, AuditRecord, ChangeTo, Changed,
        ConnectionChange, Disconnection, Linked, LostTokens, NewHolder, NewLink, NewPublicToken,
        PartnerNotification, StoreErrorKind, Unlinked, UnlinkedTokens,
    },
    tickets,
};
use chrono::{DateTime, Utc};
use px_client::oauth::{TokenDefect, TokenSet};
use px_types::{
    AccountId, ApplicationId, InstitutionId, ItemAccessToken, ItemId, PublicToken, UserId,
    model::{activity::ActivityType, application_details::Application},
};
use std::{collections::BTreeSet, time::Duration};

/// Time that a link waits while the institution revokes the tokens that it brings.
const MAX_REVOCATION_WAIT: Duration = Duration::from_secs(10);
const REVOCATION_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Initiator in the activity log if it was neither an application nor a partner.
const PLAID: &str = "plaid";

/// Result of linking an application or a partner to an Item.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkedApplication {
    /// The Item.
    pub item_id: ItemId,
    /// Access token of the application. Only its digest is stored.
    pub access_token: ItemAccessToken,
    /// Whether the Item was created, which starts the initial fetch. Otherwise the user returned,
    /// or connected a further application.
    pub created: bool,
    /// Whether the Item's authorization had ended and is valid again.
    pub repaired: bool,
}

/// Authorization of a user: tokens, and the accounts that they give access to.
///
/// Tokens alone convert to an authorization for all accounts of the user.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Authorization {
    /// The tokens.
    pub tokens: TokenSet,
    /// Accounts that the user shared, by the partner's ids; `None` for all.
    pub accounts: Option<BTreeSet<AccountId>>,
}

impl Authorization {
    /// Creates an authorization for some accounts.
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

/// Result of connecting an application that does not have an access token yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JoinedApplication {
    /// The Item.
    pub item_id: ItemId,
    /// Public token that the application exchanges, once and within 30 minutes.
    pub public_token: PublicToken,
    /// Whether the Item was created.
    pub created: bool,
    /// Whether the Item's authorization had ended and is valid again.
    pub repaired: bool,
}

/// User of a queued revocation while the user is not known.
const UNKNOWN_USER: &str = "unknown";

impl Items {
    /// Stores the tokens of a new authorization, before anything is done with them.
    ///
    /// They are sealed like the tokens of Items. A [`link`](Self::link) that brings them takes them
    /// over. Tokens that no link has brought by `until` are revoked at the institution, so that an
    /// authorization does not outlive the sign-in that it was given for, even if this process ends.
    ///
    /// Pass the user as soon as it is known. Without it, do not call this for a partner with
    /// [`revocation_ends_grant`](crate::partners::Partner::revocation_ends_grant): the revocation
    /// would end the tokens that the user's Item has.
    ///
    /// # Errors
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn hold_tokens(
        &self,
        institution: &InstitutionId,
        user: Option<&UserId>,
        tokens: &TokenSet,
        until: DateTime<Utc>,
    ) -> Result<(), ItemsError> {
        let no_item = token::id(&*self.random).ok_or_else(ItemsError::id_generation_failed)?;
        let user = match user {
            Some(user) => user.clone(),
            None => UserId::new(UNKNOWN_USER).map_err(|_| ItemsError::id_generation_failed())?,
        };
        let owner = (no_item, institution.clone(), user);
        let held = LostTokens::new(owner, 0, tokens.clone(), until);
        self.store.revoke_lost(&held).await?;
        Ok(())
    }

    /// Connects an application to a user's Item. Creates the Item if it does not exist.
    ///
    /// If the Item's authorization had ended, a new authorization of the user repairs it, for this
    /// or another application. Otherwise the Item keeps the authorization that covers more: name
    /// the accounts of the new one ([`Authorization::over`]), or a user who shares less with one
    /// application takes accounts from another. An earlier access token of the same application
    /// ends.
    ///
    /// # Errors
    /// - [`InvalidField`](super::ItemsErrorKind::InvalidField) if the webhook URL is not accepted,
    ///   if the application is not the caller, or if the tokens name another user or are no bearer
    ///   tokens. Such tokens are stored apart, sealed ([`UnlinkedTokens`]).
    /// - [`Busy`](super::ItemsErrorKind::Busy) if the institution is revoking these tokens;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn link(
        &self,
        institution: &InstitutionId,
        user: &UserId,
        authorization: impl Into<Authorization> + Send,
        connection: Connection,
    ) -> Result<LinkedApplication, ItemsError> {
        let holder = self.new_holder(connection)?;
        let access_token = token::mint(&*self.random, self.store.environment());
        let digest = token::digest(&access_token);
        let new = self.new_link((institution, user), authorization.into(), holder, digest).await?;
        let linked = self.store_link(new).await?;
        Ok(LinkedApplication::of(linked, access_token))
    }

    /// Like [`link`](Self::link), but creates a public token, which the application
    /// [exchanges](Self::exchange_public_token) for its access token. An earlier access token is
    /// valid until then.
    ///
    /// If the page cannot hand over the public token, pass `application_user`, the ids by which the
    /// application knows its user. Then the public token is sent to the webhook URL of the
    /// connection, if it has one, by `LINK: ITEM_ADD_RESULT`, in the same transaction.
    ///
    /// # Errors
    /// See [`link`](Self::link).
    pub async fn link_for_exchange(
        &self,
        institution: &InstitutionId,
        user: &UserId,
        authorization: impl Into<Authorization> + Send,
        connection: Connection,
        application_user: Option<ApplicationUser>,
    ) -> Result<JoinedApplication, ItemsError> {
        let holder = self.new_holder(connection)?;
        let mut new =
            self.new_link((institution, user), authorization.into(), holder, None).await?;
        let mut public = self.public_token();
        let public_token = public.token.clone();
        public.tell = application_user;
        new.public_token = Some(public);
        let linked = self.store_link(new).await?;
        Ok(JoinedApplication::of(linked, public_token))
    }

    /// Connects an application to an existing Item without a new sign-in (`px.md` section 10), by
    /// the same rules as [`link`](Self::link).
    ///
    /// If the connection has a webhook URL, the public token is sent there as well by
    /// `LINK: ITEM_ADD_RESULT`, in the same transaction, with `application_user`: the ids by which
    /// the application knows its user.
    ///
    /// # Errors
    /// - [`ItemNotFound`](super::ItemsErrorKind::ItemNotFound) if the Item was removed, or the
    ///   caller is neither the application nor the Item's partner;
    /// - [`InvalidField`](super::ItemsErrorKind::InvalidField) if the webhook URL is not accepted;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn join(
        &self,
        item: &ItemId,
        connection: Connection,
        application_user: ApplicationUser,
    ) -> Result<JoinedApplication, ItemsError> {
        let holder = self.checked(connection)?;
        let record = self.store.item(item).await?.ok_or_else(ItemsError::item_not_found)?;
        let application = &holder.application_id;
        let as_application = self.is_caller(&TokenOwner::Application(application.clone()));
        if !as_application && !self.is_caller(&TokenOwner::Partner(record.institution_id.clone())) {
            return Err(ItemsError::item_not_found());
        }
        let audit = self.audit(record.institution_id.as_str(), Some(application)).await?;
        let mut public = self.public_token();
        let public_token = public.token.clone();
        public.tell = Some(application_user);
        let mut new = NewLink::new(
            (record.institution_id, record.user_id),
            record.id,
            None,
            NewHolder::Application(holder),
            None,
            self.clock.now(),
        );
        (new.public_token, new.audit) = (Some(public), audit);
        let linked = self.store_link(new).await?;
        Ok(JoinedApplication::of(linked, public_token))
    }

    /// Exchanges a public token for the access token of the application that it was made for. An
    /// earlier access token of the application ends.
    ///
    /// # Errors
    /// - [`InvalidPublicToken`](super::ItemsErrorKind::InvalidPublicToken) if the token was used,
    ///   has expired or belongs to another application, which does not use it up;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn exchange_public_token(
        &self,
        application: &ApplicationId,
        public_token: &PublicToken,
    ) -> Result<LinkedApplication, ItemsError> {
        if !self.is_caller(&TokenOwner::Application(application.clone())) {
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

    /// Creates an Item from a token that the partner issued itself, or finds the user's Item.
    ///
    /// The partner's access token identifies the Item in notifications. It cannot read data and
    /// does not keep the Item. While no application is connected, accounts are fetched and
    /// transactions are not, whatever products the partner requests: no user has allowed them for
    /// an application.
    ///
    /// # Errors
    /// - [`InvalidAccessToken`](super::ItemsErrorKind::InvalidAccessToken) if the caller is not
    ///   this partner;
    /// - [`InvalidField`](super::ItemsErrorKind::InvalidField) if the tokens name another user or
    ///   are no bearer tokens;
    /// - [`Busy`](super::ItemsErrorKind::Busy) if the institution is revoking these tokens;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn import(
        &self,
        institution: &InstitutionId,
        user: &UserId,
        tokens: TokenSet,
    ) -> Result<LinkedApplication, ItemsError> {
        if !self.is_caller(&TokenOwner::Partner(institution.clone())) {
            return Err(ItemsError::invalid_access_token());
        }
        let access_token = token::mint(&*self.random, self.store.environment());
        let digest = token::digest(&access_token);
        let new =
            self.new_link((institution, user), tokens.into(), NewHolder::Partner, digest).await?;
        let linked = self.store_link(new).await?;
        Ok(LinkedApplication::of(linked, access_token))
    }

    /// Issues a new access token for an Item to an application or a partner. An earlier one ends.
    ///
    /// # Errors
    /// - [`ItemNotFound`](super::ItemsErrorKind::ItemNotFound) if the Item does not exist, the
    ///   owner is not connected to it, or the caller is another one;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn issue_access(
        &self,
        item: &ItemId,
        holder: &TokenOwner,
    ) -> Result<ItemAccessToken, ItemsError> {
        if !self.is_caller(holder) {
            return Err(ItemsError::item_not_found());
        }
        let application = match holder {
            TokenOwner::Application(application) => Some(application),
            TokenOwner::Partner(institution) => {
                let record = self.store.item(item).await?;
                record
                    .filter(|record| record.institution_id == *institution)
                    .ok_or_else(ItemsError::item_not_found)?;
                None
            }
        };
        let new = token::mint(&*self.random, self.store.environment());
        let given = self.store.set_access(item, application, &token::digest(&new)).await?;
        given.then_some(new).ok_or_else(ItemsError::item_not_found)
    }

    /// Replaces an access token by a new one. The old one ends at once.
    ///
    /// # Errors
    /// - [`InvalidAccessToken`](super::ItemsErrorKind::InvalidAccessToken) if the token is unknown;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
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

    /// Ends the access of the owner of a token. The Item is removed with its last application.
    ///
    /// A partner's token removes an Item without a connected application. When an application
    /// leaves, the partner is notified.
    ///
    /// # Errors
    /// - [`InvalidAccessToken`](super::ItemsErrorKind::InvalidAccessToken) if the token is unknown;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn unlink(&self, token: &ItemAccessToken) -> Result<Unlinked, ItemsError> {
        let access = self.access(token).await?;
        let (initiator, notify_about) = match &access.application_id {
            Some(application) => (application.as_str(), Some(application)),
            None => (access.institution_id.as_str(), None),
        };
        let audit = self.audit(initiator, notify_about).await?;
        let place = (&access.item_id, access.application_id.as_ref());
        match self.disconnect(place, ActivityType::ItemRemove, audit).await? {
            Unlinked::NotConnected => Err(ItemsError::invalid_access_token()),
            unlinked => Ok(unlinked),
        }
    }

    /// Disconnects an application from an Item on behalf of Plaid. Its access ends at once, other
    /// applications are not affected, and the partner is notified.
    ///
    /// # Errors
    /// [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    /// [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn remove_application(
        &self,
        item: &ItemId,
        application: &ApplicationId,
    ) -> Result<Unlinked, ItemsError> {
        let audit = self.audit(PLAID, Some(application)).await?;
        self.disconnect((item, Some(application)), ActivityType::ItemUnlink, audit).await
    }

    pub(super) async fn disconnect(
        &self,
        (item, application): (&ItemId, Option<&ApplicationId>),
        activity: ActivityType,
        audit: AuditRecord,
    ) -> Result<Unlinked, ItemsError> {
        let mut leave = Disconnection::new(item.clone(), application.cloned(), self.clock.now());
        (leave.activity, leave.audit) = (activity, audit);
        let unlinked = self.store.leave(&leave).await?;
        tracing::info!(%item, ?unlinked, "unlinked");
        Ok(unlinked)
    }

    /// Sets the products, accounts and webhook URL of an application. Returns `false` if it is not
    /// connected to the Item, or is not the caller.
    ///
    /// If the application may see other data than before, its sync cursors are no longer valid.
    ///
    /// # Errors
    /// - [`InvalidField`](super::ItemsErrorKind::InvalidField) if the webhook URL is not accepted;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn update_connection(
        &self,
        item: &ItemId,
        connection: Connection,
    ) -> Result<bool, ItemsError> {
        let connection = self.checked(connection)?;
        let application = connection.application_id.clone();
        if !self.is_caller(&TokenOwner::Application(application.clone())) {
            return Ok(false);
        }
        let act = self.act(application.as_str())?;
        let to = ChangeTo::Connection(connection);
        let changed = self.change(item, &application, to, AuditRecord::of(act)).await?;
        Ok(changed == Changed::Done)
    }

    pub(super) async fn change(
        &self,
        item: &ItemId,
        application: &ApplicationId,
        to: ChangeTo,
        audit: AuditRecord,
    ) -> Result<Changed, ItemsError> {
        let now = self.clock.now();
        let mut change = ConnectionChange::new(item.clone(), application.clone(), to, now);
        change.audit = audit;
        Ok(self.store.change(&change).await?)
    }

    /// Returns the connection with a key for its cursors, if it may be stored.
    fn checked(&self, mut connection: Connection) -> Result<Connection, ItemsError> {
        self.check_webhook(&connection)?;
        connection.cursor_key = self.cursor_key();
        Ok(connection)
    }

    fn new_holder(&self, connection: Connection) -> Result<NewHolder, ItemsError> {
        if !self.is_caller(&TokenOwner::Application(connection.application_id.clone())) {
            return Err(ItemsError::invalid_field("application_id", "belongs to another client"));
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
        let item_id = token::id(&*self.random).ok_or_else(ItemsError::id_generation_failed)?;
        let key = (institution.clone(), user.clone());
        let (tokens, now) = (authorization.tokens, self.clock.now());
        if let Some(defect) = tokens.defect(Some(user)) {
            return Err(self.store_apart(key, tokens, defect).await?);
        }
        let mut new = NewLink::new(key, item_id, tokens, holder, access, now);
        new.covers = authorization.accounts;
        new.audit = match new.application() {
            Some(application) => self.audit(application.as_str(), Some(application)).await?,
            None => AuditRecord::of(self.act(institution.as_str())?),
        };
        Ok(new)
    }

    /// Stores tokens that must not be used apart, and returns the error of the link.
    async fn store_apart(
        &self,
        (institution, user): (InstitutionId, UserId),
        tokens: TokenSet,
        defect: TokenDefect,
    ) -> Result<ItemsError, ItemsError> {
        let mut unusable = UnlinkedTokens::new(institution.clone(), tokens, self.clock.now());
        (unusable.user_id, unusable.defect) = (Some(user), Some(defect));
        let encoding_error = |_| {
            ItemsError::new(ItemsErrorKind::Internal, "the tokens could not be encoded as JSON")
        };
        self.store.put_ticket(&unusable.apart().map_err(encoding_error)?).await?;
        tracing::error!(%institution, "{defect}: they are stored apart, sealed; nothing was linked");
        crate::metrics::tokens_apart(&institution);
        Ok(ItemsError::new(ItemsErrorKind::InvalidField, format!("{defect}; nothing was linked")))
    }

    async fn store_link(&self, mut new: NewLink) -> Result<Linked, ItemsError> {
        let begun_at = self.clock.elapsed();
        let linked = loop {
            match self.store.link(new.clone()).await {
                Ok(linked) => break linked,
                // The partner is revoking these tokens. The outcome is known soon.
                Err(error)
                    if error.kind() == StoreErrorKind::RevocationUnderWay
                        && self.clock.elapsed() < begun_at + MAX_REVOCATION_WAIT =>
                {
                    self.clock.sleep(REVOCATION_POLL_INTERVAL).await;
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
        NewPublicToken::new(token, digest, self.clock.now() + tickets::PUBLIC_TOKEN_LIFETIME)
    }

    /// Returns the audit entry of a change, with the notification of the partner about an
    /// application.
    pub(super) async fn audit(
        &self,
        initiator: &str,
        notify_about: Option<&ApplicationId>,
    ) -> Result<AuditRecord, ItemsError> {
        let mut audit = AuditRecord::of(self.act(initiator)?);
        if let (Some(registered), Some(id)) = (&self.applications, notify_about) {
            let application = registered.application(id).await;
            // An application that is no longer registered is named by its id.
            let application =
                application.unwrap_or_else(|| Application::new(id.clone(), id.as_str()));
            let notification =
                token::id(&*self.random).ok_or_else(ItemsError::id_generation_failed)?;
            audit.notice = Some(PartnerNotification::new(notification, application));
        }
        Ok(audit)
    }

    pub(super) fn act(&self, initiator: &str) -> Result<ActivityAuthor, ItemsError> {
        let id = token::id(&*self.random).ok_or_else(ItemsError::id_generation_failed)?;
        Ok(ActivityAuthor::new(id, initiator))
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
