use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_replies,
    message::message,
    model::{activity::Activity, last_data_access_times::LastDataAccessTimes},
    primitive::{
        id::ClientId,
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/activity/list`: what was done with a user's consent, page by page.
    ///
    /// Contract: `px.md` section 6.
    pub struct ListActivity {
        required {
            /// The Item's token.
            access_token: ItemAccessToken,
        }
        optional {
            /// Where to go on; of the page before.
            cursor: String,
            /// The most activities to answer, 1–[`MAX_ACTIVITY_COUNT`], which is also the default.
            count: u64,
            /// The caller's id, when it authenticates in the body and not in headers.
            client_id: ClientId,
            /// The caller's secret, when it authenticates in the body and not in headers.
            secret: ClientSecret,
        }
    }
}

plaid_endpoint!(
    ListActivity,
    "list_activity",
    "/item/activity/list",
    "What was done with a user's consent",
    ListActivityResponse
);

message! {
    /// A page of activities.
    pub struct ListActivityResponse {
        required {
            /// The activities.
            activities: Vec<Activity>,
            /// When each application last read each kind of data.
            last_data_access_times: Vec<LastDataAccessTimes>,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
        optional {
            /// What to ask for next; `None` on the last page.
            cursor: String,
        }
    }
}

json_replies!(ListActivityResponse);

/// The most activities that a page has, and how many it has when the caller names no count.
pub const MAX_ACTIVITY_COUNT: u64 = 50;
