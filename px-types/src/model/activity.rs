//! The activity log of a user's consent.

use crate::{
    message::message,
    model::scopes::Scopes,
    primitive::{
        date::Iso8601,
        id::{ActivityId, ApplicationId},
        open_enum::open_enum,
    },
};

message! {
    /// An entry of the activity log of a user's consent.
    ///
    /// Contract: `px.md` section 6.
    pub struct Activity {
        required {
            /// The type of the activity.
            activity: ActivityType,
            /// The time at which the activity started.
            initiated_date: Iso8601,
            /// The id of the entry. It never changes.
            id: ActivityId,
            /// The initiator: the id of an application.
            initiator: String,
            /// The result.
            state: ActivityState,
        }
        optional {
            /// The application that the activity concerns.
            target_application_id: ApplicationId,
            /// The access of that application after the activity.
            scopes: Scopes,
        }
    }
}

open_enum! {
    /// The type of an activity.
    pub enum ActivityType {
        Unknown = "UNKNOWN",
        ItemCreate = "ITEM_CREATE",
        ItemImport = "ITEM_IMPORT",
        ItemUpdate = "ITEM_UPDATE",
        ItemUnlink = "ITEM_UNLINK",
        PortalUnlink = "PORTAL_UNLINK",
        PortalItemsDelete = "PORTAL_ITEMS_DELETE",
        ItemRemove = "ITEM_REMOVE",
        InvariantCheckerDeletion = "INVARIANT_CHECKER_DELETION",
        ScopesUpdate = "SCOPES_UPDATE",
        /// A decision about data on hold; see `px.md` section 7.2.
        DataReview = "DATA_REVIEW",
    }
}

open_enum! {
    /// The result of an activity.
    pub enum ActivityState {
        Unknown = "UNKNOWN",
        Attempt = "ATTEMPT",
        Success = "SUCCESS",
        Failure = "FAILURE",
        Skipped = "SKIPPED",
    }
}
