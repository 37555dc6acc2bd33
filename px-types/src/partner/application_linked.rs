use crate::{
    endpoint::{
        Auth, Endpoint, Meta,
        codec::{Empty, Json},
    },
    message::message,
    model::application::ConnectedApplication,
    primitive::{
        date::Timestamp,
        id::{AccountId, NotificationId, UserId},
        open_enum::open_enum,
    },
};

/// `POST /applications/notify`: Plaid tells that a user linked a further application.
///
/// Contract: `px.md` section 7; signed as section 9 says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NotifyApplicationLinked {
    /// What happened.
    pub notification: NewApplicationLinkNotification,
}

impl NotifyApplicationLinked {
    /// Tells of a new link.
    #[must_use]
    pub fn new(notification: NewApplicationLinkNotification) -> Self {
        Self { notification }
    }
}

impl Endpoint for NotifyApplicationLinked {
    const META: Meta = Meta::post("application_linked", "/applications/notify")
        .auth(Auth::Signature)
        .summary("Tells that a user linked a further application");
    type Path = ();
    type Query = ();
    type Body = Json<NewApplicationLinkNotification>;
    type Response = Empty;

    fn into_parts(self) -> ((), (), Self::Body) {
        ((), (), Json(self.notification))
    }
    fn from_parts((): (), (): (), Json(notification): Self::Body) -> Self {
        Self { notification }
    }
}

message! {
    /// A user linked a further application, or one was unlinked at Plaid. Delivered at least once,
    /// in any order: what is connected now is read from Plaid.
    ///
    /// The published name speaks of links alone; that an unlink is told by the same message is
    /// this project's decision.
    pub struct NewApplicationLinkNotification {
        required {
            /// For receivers that deduplicate.
            notification_id: NotificationId,
            /// The user.
            user_id: UserId,
            /// The application.
            application: ConnectedApplication,
            /// When it happened.
            occurred_at: Timestamp,
        }
        optional {
            /// What happened; a link where Plaid does not say.
            event: ApplicationLinkEvent,
        }
        lists {
            /// The accounts that it may see; empty where Plaid does not say.
            account_ids: AccountId,
        }
    }
}

open_enum! {
    /// What happened to an application's connection.
    pub enum ApplicationLinkEvent {
        /// The user linked it.
        Linked = "LINKED",
        /// It was unlinked, and not by the partner.
        Unlinked = "UNLINKED",
    }
}

impl NewApplicationLinkNotification {
    /// Whether the application was unlinked.
    #[must_use]
    pub fn is_unlink(&self) -> bool {
        self.event == Some(ApplicationLinkEvent::Unlinked)
    }
}
