//! Side effects of links, changes and disconnections: audit entries, notifications and tickets.

use super::{JoinOutcome, OutboxEntry, to_json};
use crate::{
    connection::Connection,
    merge::KnownAccount,
    store::{
        AuditRecord, ChangeTo, ConnectionChange, Destination, Disconnection, NewLink,
        PartnerNotification, PublicGrant, Result, StoreError, StoreErrorKind, Ticket, TicketKind,
    },
};
use chrono::{DateTime, Utc};
use px_types::{
    InstitutionId, ItemId, UserId,
    model::{
        activity::{Activity, ActivityState, ActivityType},
        application::ConnectedApplication,
        application_details::Application,
    },
    partner::{ApplicationLinkEvent, NewApplicationLinkNotification},
    primitive::date::{Iso8601, Timestamp},
    webhook::{AddedItem, Environment, NewWebhook, Webhook, WebhookEvent},
};
use zeroize::Zeroizing;

/// The side effects that are stored in the transaction of a change.
#[derive(Default)]
pub(in crate::store) struct SideEffects {
    /// New entry of the activity log.
    pub(in crate::store) activity: Option<Activity>,
    /// New entries of the outbox.
    pub(in crate::store) entries: Vec<OutboxEntry>,
    /// The ticket of a new public token.
    pub(in crate::store) ticket: Option<Ticket>,
}

/// The Item that a change affects.
#[derive(Clone, Copy)]
pub(in crate::store) struct ItemContext<'a> {
    pub(in crate::store) item: &'a ItemId,
    pub(in crate::store) institution: &'a InstitutionId,
    pub(in crate::store) user: &'a UserId,
    pub(in crate::store) known: &'a [KnownAccount],
    pub(in crate::store) environment: &'a Environment,
}

/// Returns an application as its partner is notified of it: its registration and its scopes.
pub(crate) fn connected(
    application: &Application,
    connection: &Connection,
    known: &[KnownAccount],
) -> ConnectedApplication {
    let mut details = ConnectedApplication::new(
        application.application_id.clone(),
        application.name.clone(),
        Timestamp::from(connection.created_at),
    );
    details.display_name.clone_from(&application.display_name);
    details.logo_url.clone_from(&application.logo_url);
    details.application_url.clone_from(&application.application_url);
    details.reason_for_access.clone_from(&application.reason_for_access);
    details.scopes = Some(connection.scopes(known));
    details
}

/// Returns the side effects of a link. `connection` is the stored connection, and `is_new` whether it
/// is new.
pub(in crate::store) fn link_effects(
    new: &NewLink,
    context: ItemContext<'_>,
    (connection, is_new): (Option<&Connection>, bool),
) -> Result<SideEffects> {
    let kind = match (connection, is_new) {
        (None, _) => ActivityType::ItemImport,
        (Some(_), true) => ActivityType::ItemCreate,
        (Some(_), false) => ActivityType::ItemUpdate,
    };
    let activity = activity(&new.audit, kind, connection, context, new.now);
    let mut effects = SideEffects { activity, ..SideEffects::default() };
    let Some(connection) = connection else { return Ok(effects) };
    if let Some(notice) = new.audit.notice.as_ref().filter(|_| is_new) {
        let details = connected(&notice.application, connection, context.known);
        let mut notification =
            notification(notice, context, details, (ApplicationLinkEvent::Linked, new.now));
        notification.account_ids = connection.partner_accounts(context.known);
        effects.entries.push(for_partner(&notification, connection, context)?);
    }
    if let Some(public) = &new.public_token {
        let grant = PublicGrant::new(context.item.clone(), connection.application_id.clone());
        let payload = serde_json::to_vec(&grant).map(Zeroizing::new).map_err(|_| ticket_error())?;
        effects.ticket =
            Some(Ticket::new(public.digest, TicketKind::Public, payload, public.expires_at));
        if let (Some(url), Some(user)) = (&connection.webhook, &public.tell) {
            let mut added = AddedItem::new(public.token.clone());
            added.foreign_id.clone_from(&user.foreign_id);
            added.client_user_id.clone_from(&user.client_user_id);
            let event = WebhookEvent::ItemAddResult(added);
            let entry = for_application(event, url, connection, context)?;
            effects.entries.push(OutboxEntry { secret: true, ..entry });
        }
    }
    Ok(effects)
}

/// Returns the side effects of a change of a connection.
pub(in crate::store) fn change_effects(
    change: &ConnectionChange,
    context: ItemContext<'_>,
    (old, joined): (&Connection, &JoinOutcome),
) -> Result<SideEffects> {
    let mut effects = SideEffects::default();
    let Some(connection) = &joined.connection else { return Ok(effects) };
    let sees_other = connection.epoch != old.epoch;
    if sees_other || matches!(change.to, ChangeTo::Scopes(..)) {
        let kind = ActivityType::ScopesUpdate;
        effects.activity = activity(&change.audit, kind, Some(connection), context, change.now);
    }
    if let ChangeTo::Webhook(Some(url)) = &change.to {
        let mut new = NewWebhook::new(url.clone());
        if joined.state.login_required() {
            new.error = super::revoked().fault;
        }
        let event = WebhookEvent::WebhookUpdateAcknowledged(new);
        effects.entries.push(for_application(event, url, connection, context)?);
    }
    Ok(effects)
}

/// Returns the side effects of a disconnection. `connection` is the deleted connection of an
/// application.
pub(in crate::store) fn leave_effects(
    leave: &Disconnection,
    context: ItemContext<'_>,
    connection: Option<&Connection>,
) -> Result<SideEffects> {
    let mut left = activity(&leave.audit, leave.activity.clone(), connection, context, leave.now);
    if let Some(activity) = &mut left {
        activity.scopes = None;
    }
    let mut effects = SideEffects { activity: left, ..SideEffects::default() };
    if let (Some(notice), Some(connection)) = (&leave.audit.notice, connection) {
        let mut details = connected(&notice.application, connection, context.known);
        details.scopes = None;
        let notification =
            notification(notice, context, details, (ApplicationLinkEvent::Unlinked, leave.now));
        effects.entries.push(for_partner(&notification, connection, context)?);
    }
    Ok(effects)
}

fn activity(
    audit: &AuditRecord,
    kind: ActivityType,
    connection: Option<&Connection>,
    context: ItemContext<'_>,
    now: DateTime<Utc>,
) -> Option<Activity> {
    let act = audit.act.as_ref()?;
    let (id, who) = (act.id.clone(), act.initiator.clone());
    let mut entry =
        Activity::new(kind, Iso8601::Timestamp(now.into()), id, who, ActivityState::Success);
    entry.target_application_id = connection.map(|one| one.application_id.clone());
    entry.scopes = connection.map(|one| one.scopes(context.known));
    Some(entry)
}

fn notification(
    notice: &PartnerNotification,
    context: ItemContext<'_>,
    details: ConnectedApplication,
    (event, now): (ApplicationLinkEvent, DateTime<Utc>),
) -> NewApplicationLinkNotification {
    let (id, user) = (notice.id.clone(), context.user.clone());
    let mut notification =
        NewApplicationLinkNotification::new(id, user, details, Timestamp::from(now));
    notification.event = Some(event);
    notification
}

fn for_partner(
    notification: &NewApplicationLinkNotification,
    connection: &Connection,
    context: ItemContext<'_>,
) -> Result<OutboxEntry> {
    Ok(OutboxEntry {
        application_id: connection.application_id.clone(),
        to: Destination::Partner(context.institution.clone()),
        body: to_json(notification)?,
        secret: false,
    })
}

fn for_application(
    event: WebhookEvent,
    url: &str,
    connection: &Connection,
    context: ItemContext<'_>,
) -> Result<OutboxEntry> {
    let webhook = Webhook::new(context.item.clone(), context.environment.clone(), event);
    Ok(OutboxEntry {
        application_id: connection.application_id.clone(),
        to: Destination::Url(url.to_owned()),
        body: to_json(&webhook)?,
        secret: false,
    })
}

fn ticket_error() -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, "a ticket cannot be serialized as JSON")
}
