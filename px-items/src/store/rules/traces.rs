//! What a link, a change or a leaving leaves behind, beside the change itself. Pure.

use super::{Joined, Waiting, written};
use crate::{
    connection::Connection,
    merge::KnownAccount,
    store::{
        ChangeTo, ConnectionChange, Destination, Leave, NewLink, Notice, PublicGrant, Result,
        StoreError, StoreErrorKind, Ticket, TicketKind, Trail,
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

/// What is stored beside a change.
#[derive(Default)]
pub(in crate::store) struct Traces {
    /// For the activity log.
    pub(in crate::store) activity: Option<Activity>,
    /// For the outbox.
    pub(in crate::store) waiting: Vec<Waiting>,
    /// A public token.
    pub(in crate::store) ticket: Option<Ticket>,
}

/// The Item that something happens to.
#[derive(Clone, Copy)]
pub(in crate::store) struct Place<'a> {
    pub(in crate::store) item: &'a ItemId,
    pub(in crate::store) institution: &'a InstitutionId,
    pub(in crate::store) user: &'a UserId,
    pub(in crate::store) known: &'a [KnownAccount],
    pub(in crate::store) environment: &'a Environment,
}

/// An application as its partner is told of it: what it registered as, and what it may see.
pub(crate) fn connected(
    application: &Application,
    connection: &Connection,
    known: &[KnownAccount],
) -> ConnectedApplication {
    let mut told = ConnectedApplication::new(
        application.application_id.clone(),
        application.name.clone(),
        Timestamp::from(connection.created_at),
    );
    told.display_name.clone_from(&application.display_name);
    told.logo_url.clone_from(&application.logo_url);
    told.application_url.clone_from(&application.application_url);
    told.reason_for_access.clone_from(&application.reason_for_access);
    told.scopes = Some(connection.scopes(known));
    told
}

/// Of a link, when it is stored. `connection` is as stored; `fresh`: it was not there before.
pub(in crate::store) fn of_link(
    new: &NewLink,
    place: Place<'_>,
    (connection, fresh): (Option<&Connection>, bool),
) -> Result<Traces> {
    let kind = match (connection, fresh) {
        (None, _) => ActivityType::ItemImport,
        (Some(_), true) => ActivityType::ItemCreate,
        (Some(_), false) => ActivityType::ItemUpdate,
    };
    let activity = activity(&new.trail, kind, connection, place, new.now);
    let mut traces = Traces { activity, ..Traces::default() };
    let Some(connection) = connection else { return Ok(traces) };
    if let Some(notice) = new.trail.notice.as_ref().filter(|_| fresh) {
        let told = connected(&notice.application, connection, place.known);
        let mut notification =
            notification(notice, place, told, (ApplicationLinkEvent::Linked, new.now));
        notification.account_ids = connection.partner_accounts(place.known);
        traces.waiting.push(for_partner(&notification, connection, place)?);
    }
    if let Some(public) = &new.public_token {
        let grant = PublicGrant::new(place.item.clone(), connection.application_id.clone());
        let payload = serde_json::to_vec(&grant).map(Zeroizing::new).map_err(|_| unwritten())?;
        traces.ticket =
            Some(Ticket::new(public.digest, TicketKind::Public, payload, public.expires_at));
        if let (Some(url), Some(whose)) = (&connection.webhook, &public.tell) {
            let mut added = AddedItem::new(public.token.clone());
            added.foreign_id.clone_from(&whose.foreign_id);
            added.client_user_id.clone_from(&whose.client_user_id);
            let event = WebhookEvent::ItemAddResult(added);
            let waiting = for_application(event, url, connection, place)?;
            traces.waiting.push(Waiting { secret: true, ..waiting });
        }
    }
    Ok(traces)
}

/// Of a change of a connection.
pub(in crate::store) fn of_change(
    change: &ConnectionChange,
    place: Place<'_>,
    (old, joined): (&Connection, &Joined),
) -> Result<Traces> {
    let mut traces = Traces::default();
    let Some(connection) = &joined.connection else { return Ok(traces) };
    let sees_other = connection.epoch != old.epoch;
    if sees_other || matches!(change.to, ChangeTo::Scopes(..)) {
        let kind = ActivityType::ScopesUpdate;
        traces.activity = activity(&change.trail, kind, Some(connection), place, change.now);
    }
    if let ChangeTo::Webhook(Some(url)) = &change.to {
        let mut new = NewWebhook::new(url.clone());
        if joined.state.login_required() {
            new.error = super::revoked().fault;
        }
        let event = WebhookEvent::WebhookUpdateAcknowledged(new);
        traces.waiting.push(for_application(event, url, connection, place)?);
    }
    Ok(traces)
}

/// Of a holder that leaves; `connection` is what an application had.
pub(in crate::store) fn of_leave(
    leave: &Leave,
    place: Place<'_>,
    connection: Option<&Connection>,
) -> Result<Traces> {
    let mut left = activity(&leave.trail, leave.activity.clone(), connection, place, leave.now);
    if let Some(activity) = &mut left {
        activity.scopes = None;
    }
    let mut traces = Traces { activity: left, ..Traces::default() };
    if let (Some(notice), Some(connection)) = (&leave.trail.notice, connection) {
        let mut told = connected(&notice.application, connection, place.known);
        told.scopes = None;
        let notification =
            notification(notice, place, told, (ApplicationLinkEvent::Unlinked, leave.now));
        traces.waiting.push(for_partner(&notification, connection, place)?);
    }
    Ok(traces)
}

fn activity(
    trail: &Trail,
    kind: ActivityType,
    connection: Option<&Connection>,
    place: Place<'_>,
    now: DateTime<Utc>,
) -> Option<Activity> {
    let act = trail.act.as_ref()?;
    let (id, who) = (act.id.clone(), act.initiator.clone());
    let mut entry =
        Activity::new(kind, Iso8601::Timestamp(now.into()), id, who, ActivityState::Success);
    entry.target_application_id = connection.map(|one| one.application_id.clone());
    entry.scopes = connection.map(|one| one.scopes(place.known));
    Some(entry)
}

fn notification(
    notice: &Notice,
    place: Place<'_>,
    told: ConnectedApplication,
    (event, now): (ApplicationLinkEvent, DateTime<Utc>),
) -> NewApplicationLinkNotification {
    let (id, user) = (notice.id.clone(), place.user.clone());
    let mut notification =
        NewApplicationLinkNotification::new(id, user, told, Timestamp::from(now));
    notification.event = Some(event);
    notification
}

fn for_partner(
    notification: &NewApplicationLinkNotification,
    connection: &Connection,
    place: Place<'_>,
) -> Result<Waiting> {
    Ok(Waiting {
        application_id: connection.application_id.clone(),
        to: Destination::Partner(place.institution.clone()),
        body: written(notification)?,
        secret: false,
    })
}

fn for_application(
    event: WebhookEvent,
    url: &str,
    connection: &Connection,
    place: Place<'_>,
) -> Result<Waiting> {
    let webhook = Webhook::new(place.item.clone(), place.environment.clone(), event);
    Ok(Waiting {
        application_id: connection.application_id.clone(),
        to: Destination::Url(url.to_owned()),
        body: written(&webhook)?,
        secret: false,
    })
}

fn unwritten() -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, "a ticket cannot be written as JSON")
}
