//! Activity log of an Item, and the times of data access.

use super::{Items, ItemsError};
use crate::store::{DataKind, DataRead};
use px_types::{
    ActivityId, ItemAccessToken, Timestamp,
    model::{activity::Activity, last_data_access_times::LastDataAccessTimes},
    plaid::MAX_ACTIVITY_COUNT,
};

/// Page of the activity log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ActivityPage {
    /// Entries, newest first.
    pub activities: Vec<Activity>,
    /// Times at which each application last read each kind of data, to the minute. Includes
    /// applications that left.
    pub last_data_access_times: Vec<LastDataAccessTimes>,
    /// Cursor of the next page; `None` on the last page.
    pub cursor: Option<String>,
}

impl Items {
    /// Returns a page of the activity log of an Item, newest first, for its partner. Without a
    /// cursor (`None` or `""`) it begins with the newest entry. Entries that are added meanwhile do
    /// not shift pages. `count` is 1–50, by default 50.
    ///
    /// # Errors
    /// - [`InvalidAccessToken`](super::ItemsErrorKind::InvalidAccessToken) if the token does not
    ///   belong to a partner;
    /// - [`InvalidCursor`](super::ItemsErrorKind::InvalidCursor) if the cursor does not belong to
    ///   this Item;
    /// - [`InvalidField`](super::ItemsErrorKind::InvalidField) if the count is out of range;
    /// - [`Unavailable`](super::ItemsErrorKind::Unavailable) or
    ///   [`Internal`](super::ItemsErrorKind::Internal) if the store fails.
    pub async fn list_activity(
        &self,
        partner_token: &ItemAccessToken,
        cursor: Option<&str>,
        count: Option<u64>,
    ) -> Result<ActivityPage, ItemsError> {
        let access = self.partner_access(partner_token).await?;
        let count = count.unwrap_or(MAX_ACTIVITY_COUNT);
        if !(1..=MAX_ACTIVITY_COUNT).contains(&count) {
            let what = format!("must be 1 to {MAX_ACTIVITY_COUNT}");
            return Err(ItemsError::invalid_field("count", &what));
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        // The cursor is the id of the last entry that was read.
        let after = match cursor.filter(|cursor| !cursor.is_empty()) {
            None => None,
            Some(text) => Some(ActivityId::new(text).map_err(|_| ItemsError::invalid_cursor())?),
        };
        let item = &access.item_id;
        let found = self.store.activities(item, after.as_ref(), count + 1).await?;
        let mut activities = found.ok_or_else(ItemsError::invalid_cursor)?;
        let more = activities.len() > count;
        activities.truncate(count);
        let last = activities.last().filter(|_| more);
        let cursor = last.map(|activity| activity.id.as_str().to_owned());
        self.access_log.flush().await;
        let last_data_access_times = by_application(self.store.last_reads(item).await?);
        Ok(ActivityPage { activities, last_data_access_times, cursor })
    }
}

fn by_application(mut reads: Vec<DataRead>) -> Vec<LastDataAccessTimes> {
    reads.sort();
    let mut all: Vec<LastDataAccessTimes> = Vec::new();
    for read in reads {
        if all.last().is_none_or(|last| last.application_id != read.application_id) {
            all.push(LastDataAccessTimes::new(read.application_id));
        }
        let Some(times) = all.last_mut() else { continue };
        let time = match read.kind {
            DataKind::Balances => &mut times.account_balance_info,
            DataKind::Numbers => &mut times.account_routing_number,
            DataKind::Contacts => &mut times.contact_details,
            DataKind::Transactions => &mut times.transactions,
            DataKind::Liabilities => &mut times.credit_and_loans,
            DataKind::Investments => &mut times.investments,
        };
        *time = Some(Timestamp::from(read.at));
    }
    all
}
