//! What was done with a user's consent.

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
    /// An entry in the log of a user's consent.
    ///
    /// Contract: `px.md` section 6.
    pub struct Activity {
        required {
            /// What was done.
            activity: ActivityType,
            /// When it was begun.
            initiated_date: Iso8601,
            /// Stable for the life of the entry.
            id: ActivityId,
            /// Who began it: the id of an application.
            initiator: String,
            /// How it ended.
            state: ActivityState,
        }
        optional {
            /// The application that it was about.
            target_application_id: ApplicationId,
            /// What that application may see from then on.
            scopes: Scopes,
        }
    }
}

open_enum! {
    /// What was done.
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
        /// It was decided what data on hold is; see `px.md` section 7.2.
        DataReview = "DATA_REVIEW",
    }
}

open_enum! {
    /// How it ended.
    pub enum ActivityState {
        Unknown = "UNKNOWN",
        Attempt = "ATTEMPT",
        Success = "SUCCESS",
        Failure = "FAILURE",
        Skipped = "SKIPPED",
    }
}
