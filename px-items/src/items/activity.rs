//! What was done with a user's consent, and when data was last read.

use super::{Items, ItemsError};
use crate::store::{DataKind, DataRead};
use px_types::{
    ActivityId, ItemAccessToken, Timestamp,
    model::{activity::Activity, last_data_access_times::LastDataAccessTimes},
    plaid::MAX_ACTIVITY_COUNT,
};

/// A page of the activity log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ActivityPage {
    /// Newest first.
    pub activities: Vec<Activity>,
    /// When each application last read each kind of data, to the minute; those that left too.
    pub last_data_access_times: Vec<LastDataAccessTimes>,
    /// What to ask for next; `None` on the last page.
    pub cursor: Option<String>,
}

impl Items {
    /// What was done with the consent to an Item, newest first, for its partner. `None` and `""`
    /// begin with the newest; what is done meanwhile shifts no page. `count` is 1–50; `None` is 50.
    ///
    /// # Errors
    /// When the token is none of a partner, the cursor is none of this Item, or the count is out
    /// of range.
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
        self.reads.flush().await;
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
