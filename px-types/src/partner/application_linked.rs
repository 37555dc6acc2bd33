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

/// `POST /applications/notify`: notifies the partner that a user linked or unlinked an application.
///
/// Contract: `px.md` section 7; the signature is defined in section 9.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NotifyApplicationLinked {
    /// The notification.
    pub notification: NewApplicationLinkNotification,
}

impl NotifyApplicationLinked {
    /// Creates the request.
    #[must_use]
    pub fn new(notification: NewApplicationLinkNotification) -> Self {
        Self { notification }
    }
}

impl Endpoint for NotifyApplicationLinked {
    const META: Meta = Meta::post("application_linked", "/applications/notify")
        .auth(Auth::Signature)
        .summary("Notifies the partner that a user linked an application");
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
    /// The notification that a user linked an application, or that one was unlinked at Plaid.
    ///
    /// It is delivered at least once and in any order. Read the current connections from Plaid.
    ///
    /// The published name mentions only links. Using the same message for unlinks is a decision of
    /// this project.
    pub struct NewApplicationLinkNotification {
        required {
            /// The id of the notification, for deduplication.
            notification_id: NotificationId,
            /// The id of the user.
            user_id: UserId,
            /// The application.
            application: ConnectedApplication,
            /// The time of the event.
            occurred_at: Timestamp,
        }
        optional {
            /// The event; a link if missing.
            event: ApplicationLinkEvent,
        }
        lists {
            /// The accounts that the application may access; empty if Plaid does not specify them.
            account_ids: AccountId,
        }
    }
}

open_enum! {
    /// A change of an application's connection.
    pub enum ApplicationLinkEvent {
        /// The user linked the application.
        Linked = "LINKED",
        /// The application was unlinked, but not by the partner.
        Unlinked = "UNLINKED",
    }
}

impl NewApplicationLinkNotification {
    /// Returns whether the application was unlinked.
    #[must_use]
    pub fn is_unlink(&self) -> bool {
        self.event == Some(ApplicationLinkEvent::Unlinked)
    }
}
