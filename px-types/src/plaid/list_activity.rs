use super::plaid_endpoint;
use crate::{
    endpoint::codec::json_responses,
    message::message,
    model::{activity::Activity, last_data_access_times::LastDataAccessTimes},
    primitive::{
        id::ClientId,
        secret::{ClientSecret, ItemAccessToken},
    },
};

message! {
    /// `POST /item/activity/list`: returns a page of the activity log of a user's consent.
    ///
    /// Contract: `px.md` section 6.
    pub struct ListActivity {
        required {
            /// The access token of the Item.
            access_token: ItemAccessToken,
        }
        optional {
            /// The cursor of the previous page; `None` for the first page.
            cursor: String,
            /// The maximum number of activities in the response, 1–[`MAX_ACTIVITY_COUNT`]. The maximum is
            /// also the default.
            count: u64,
            /// The id of the client, if it authenticates in the body instead of headers.
            client_id: ClientId,
            /// The secret of the client, if it authenticates in the body instead of headers.
            secret: ClientSecret,
        }
    }
}

plaid_endpoint!(
    ListActivity,
    "list_activity",
    "/item/activity/list",
    "Lists the activity log of a user's consent",
    ListActivityResponse
);

message! {
    /// A page of the activity log.
    pub struct ListActivityResponse {
        required {
            /// The activities.
            activities: Vec<Activity>,
            /// The times at which each application last read each kind of data.
            last_data_access_times: Vec<LastDataAccessTimes>,
            /// The id of the request, to be quoted in support.
            request_id: String,
        }
        optional {
            /// The cursor of the next page; `None` on the last page.
            cursor: String,
        }
    }
}

json_responses!(ListActivityResponse);

/// Maximum and default number of activities of a page.
pub const MAX_ACTIVITY_COUNT: u64 = 50;
