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
    /// A user linked a further application. Delivered at least once, in any order.
    pub struct NewApplicationLinkNotification {
        required {
            /// For receivers that deduplicate.
            notification_id: NotificationId,
            /// The user.
            user_id: UserId,
            /// The application.
            application: ConnectedApplication,
            /// When the user linked it.
            occurred_at: Timestamp,
        }
        lists {
            /// The accounts that it may see; empty where Plaid does not say.
            account_ids: AccountId,
        }
    }
}
