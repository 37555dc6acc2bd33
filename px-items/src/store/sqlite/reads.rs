//! Reads: data, pages, changes, and the overview.

use super::{
    SqliteStore,
    row::{self, Result, count, days, item_columns, micros, rows_of},
};
use crate::{
    item::State,
    merge::KnownAccount,
    store::{
        Access, AccessDigest, ChangePage, ChangeQuery, ChangeRow, ItemRecord, ListedItem, Overview,
        TransactionPage, TransactionQuery,
    },
};
use chrono::{DateTime, Utc};
use px_types::{
    AccountId, IdentityId, InstitutionId, ItemId, TransactionId, UserId,
    model::{identity::Identity, security::Security},
};
use sqlx::{Row as _, sqlite::SqliteRow};

/// Counts the rows of a window. Rows and count are read in one transaction, so that both show the
/// same state.
pub(super) const TOTAL: &str = "
SELECT count(*) AS total FROM transactions
WHERE item_id = ?1 AND removed_at IS NULL AND date BETWEEN ?2 AND ?3
    AND (?4 IS NULL OR account_id IN (SELECT value FROM json_each(?4)))";

pub(super) const PAGE: &str = "
SELECT body FROM transactions
WHERE item_id = ?1 AND removed_at IS NULL AND date BETWEEN ?2 AND min(?3, ifnull(?5, ?3))
    AND (?4 IS NULL OR account_id IN (SELECT value FROM json_each(?4)))
    AND (?5 IS NULL OR date < ?5 OR transaction_id > ?6)
ORDER BY date DESC, transaction_id LIMIT ?7";

pub(super) const CHANGES: &str = "
SELECT transaction_id, account_id, first_seq, added_seq, changed_seq, body FROM transactions
WHERE item_id = ?1 AND (changed_seq, transaction_id) > (?2, ?3)
    AND (?4 IS NULL OR account_id IN (SELECT value FROM json_each(?4)))
    -- A reader does not need rows that were added and removed since the base.
    AND (removed_at IS NULL OR first_seq <= ?6)
ORDER BY changed_seq, transaction_id LIMIT ?5";

/// A separate statement, because the minimum alone is the first entry of an index. Together with a
/// count it would be a scan of all entries.
pub(super) const OLDEST_WEBHOOK: &str = "SELECT min(created_at) AS since FROM outbox";

impl SqliteStore {
    pub(super) async fn read_access(&self, token: &AccessDigest) -> Result<Option<Access>> {
        let sql = "SELECT item_id, institution_id, application_id FROM access WHERE digest = ?1";
        let row = sqlx::query(sql).bind(&token.0[..]).fetch_optional(&self.readers).await?;
        row.as_ref().map(access).transpose()
    }

    pub(super) async fn read_item(&self, item: &ItemId) -> Result<Option<ItemRecord>> {
        let sql = concat!("SELECT ", item_columns!(), " FROM items i WHERE i.item_id = ?1");
        let row = sqlx::query(sql).bind(item.as_str()).fetch_optional(&self.readers).await?;
        row.as_ref().map(row::item).transpose()
    }

    pub(super) async fn read_list(
        &self,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<ListedItem>> {
        // No id is empty, so all ids are greater.
        let sql = concat!(
            "SELECT ",
            item_columns!(),
            " FROM items i WHERE i.item_id > ?1 ORDER BY i.item_id LIMIT ?2"
        );
        let after = after.map_or("", ItemId::as_str);
        let rows =
            sqlx::query(sql).bind(after).bind(rows_of(limit)).fetch_all(&self.readers).await?;
        rows.iter().map(row::listed).collect()
    }

    pub(super) async fn read_find(
        &self,
        institution: &InstitutionId,
        user: &UserId,
    ) -> Result<Option<ItemId>> {
        let sql = "SELECT item_id FROM item_keys WHERE institution_id = ?1 AND user_id = ?2";
        let query = sqlx::query(sql).bind(institution.as_str()).bind(user.as_str());
        let row = query.fetch_optional(&self.readers).await?;
        row.as_ref().map(|row| row::parsed(row, "item_id")).transpose()
    }

    pub(super) async fn read_accounts(&self, item: &ItemId) -> Result<Vec<KnownAccount>> {
        let sql = "SELECT partner_id, standing, body FROM accounts WHERE item_id = ?1 \
                   ORDER BY account_id";
        let rows = sqlx::query(sql).bind(item.as_str()).fetch_all(&self.readers).await?;
        rows.iter().map(row::account).collect()
    }

    pub(super) async fn read_identities(
        &self,
        item: &ItemId,
    ) -> Result<Option<(IdentityId, Vec<Identity>)>> {
        let sql = "SELECT user_identity_id, body FROM identities WHERE item_id = ?1";
        let row = sqlx::query(sql).bind(item.as_str()).fetch_optional(&self.readers).await?;
        row.map(|row| Ok((row::parsed(&row, "user_identity_id")?, row::json(&row, "body")?)))
            .transpose()
    }

    pub(super) async fn read_securities(&self, item: &ItemId) -> Result<Vec<Security>> {
        let sql = "SELECT body FROM securities WHERE item_id = ?1 ORDER BY security_id";
        let rows = sqlx::query(sql).bind(item.as_str()).fetch_all(&self.readers).await?;
        rows.iter().map(|row| row::json(row, "body")).collect()
    }

    pub(super) async fn read_transactions(
        &self,
        item: &ItemId,
        query: &TransactionQuery,
    ) -> Result<TransactionPage> {
        let accounts = account_ids(query.accounts.as_deref())?;
        let (start, end) = (days(query.window.start()), days(query.window.end()));
        let mut tx = self.readers.begin().await?;
        let mut total = None;
        if query.counted {
            let counting = sqlx::query(TOTAL).bind(item.as_str()).bind(start).bind(end);
            let row = counting.bind(&accounts).fetch_one(&mut *tx).await?;
            total = Some(count(&row, "total")?);
        }
        let after = query.after.as_ref();
        let rows = sqlx::query(PAGE)
            .bind(item.as_str())
            .bind(start)
            .bind(end)
            .bind(&accounts)
            .bind(after.map(|(date, _)| days(*date)))
            .bind(after.map(|(_, id)| id.as_str()))
            .bind(rows_of(query.limit))
            .fetch_all(&mut *tx)
            .await?;
        let page = rows.iter().map(|row| row::json(row, "body")).collect::<Result<_>>()?;
        Ok(TransactionPage::new(page, total))
    }

    pub(super) async fn read_changes(
        &self,
        item: &ItemId,
        query: &ChangeQuery,
    ) -> Result<ChangePage> {
        // "After all changes of number n" equals "after an empty id of number n + 1", because no id
        // is empty.
        let (seq, id) = match &query.after {
            (seq, Some(id)) => (*seq, id.as_str()),
            (seq, None) => (seq.saturating_add(1), ""),
        };
        let mut tx = self.readers.begin().await?;
        let sql = "SELECT change_seq FROM items WHERE item_id = ?1";
        let head = sqlx::query(sql).bind(item.as_str()).fetch_optional(&mut *tx).await?;
        let head = head.map_or(Ok(0), |row| row.try_get("change_seq"))?;
        let rows = sqlx::query(CHANGES)
            .bind(item.as_str())
            .bind(seq)
            .bind(id)
            .bind(account_ids(query.accounts.as_deref())?)
            .bind(rows_of(query.limit.saturating_add(1)))
            .bind(query.base)
            .fetch_all(&mut *tx)
            .await?;
        let mut last = query.after.clone();
        let mut changes = Vec::with_capacity(rows.len());
        for row in rows.iter().take(query.limit) {
            last = (row.try_get("changed_seq")?, Some(row::parsed(row, "transaction_id")?));
            changes.extend(change(row, query.base)?);
        }
        Ok(ChangePage::new(changes, last, rows.len() > query.limit, head))
    }

    pub(super) async fn read_overview(&self, now: DateTime<Utc>) -> Result<Overview> {
        let mut overview = Overview::default();
        let sql = "SELECT state, count(*) AS items FROM items GROUP BY state";
        for row in sqlx::query(sql).fetch_all(&self.readers).await? {
            let items = count(&row, "items")?;
            match State::from_name(row.try_get("state")?) {
                Some(state) => drop(overview.states.insert(state, items)),
                None => overview.unknown_states += items,
            }
        }
        let sql = "SELECT count(*) AS items, min(wake_at) AS since FROM items WHERE wake_at <= ?1";
        let row = sqlx::query(sql).bind(micros(now)).fetch_one(&self.readers).await?;
        overview.due = count(&row, "items")?;
        overview.due_since = row::moment_if_any(&row, "since")?;
        let sql = "SELECT count(*) AS webhooks FROM outbox";
        let row = sqlx::query(sql).fetch_one(&self.readers).await?;
        overview.webhooks = count(&row, "webhooks")?;
        let row = sqlx::query(OLDEST_WEBHOOK).fetch_one(&self.readers).await?;
        overview.webhooks_since = row::moment_if_any(&row, "since")?;
        Ok(overview)
    }
}

fn access(row: &SqliteRow) -> Result<Access> {
    let application = row.try_get::<Option<&str>, _>("application_id")?;
    let application = application.map(|_| row::parsed(row, "application_id")).transpose()?;
    Ok(Access::new(row::parsed(row, "item_id")?, row::parsed(row, "institution_id")?, application))
}

/// Returns the change for a reader with the state of `base`, or `None` if such a reader never had
/// the transaction.
fn change(row: &SqliteRow, base: i64) -> Result<Option<ChangeRow>> {
    let is_after = |column| row.try_get::<i64, _>(column).map(|seq| seq > base);
    let there = row.try_get::<Option<&str>, _>("body")?.is_some();
    if there {
        let text = row::json(row, "body")?;
        let added = is_after("added_seq")?;
        return Ok(Some(if added { ChangeRow::Added(text) } else { ChangeRow::Modified(text) }));
    }
    if is_after("first_seq")? {
        return Ok(None);
    }
    let account: AccountId = row::parsed(row, "account_id")?;
    let id: TransactionId = row::parsed(row, "transaction_id")?;
    Ok(Some(ChangeRow::Removed(account, id)))
}

/// Returns the accounts as a JSON array.
fn account_ids(accounts: Option<&[AccountId]>) -> Result<Option<String>> {
    accounts.map(|accounts| row::text(&accounts)).transpose()
}
