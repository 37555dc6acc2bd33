//! Reads: data, pages, changes, and the overview.

use super::{
    PostgresStore,
    failure::{Failure, Result},
    row::{self, item_columns},
    time::{Day, Moment},
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
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, postgres::PgRow};

/// Reads rows and count in one statement, so that both show the same state.
const PAGE: &str = "
WITH total AS (
    SELECT count(*) AS total FROM transactions
    WHERE $8 AND item_id = $1 AND removed_at IS NULL AND date BETWEEN $2 AND $3
        AND ($4::text[] IS NULL OR account_id = ANY ($4))
), page AS (
    SELECT date, transaction_id, body FROM transactions
    WHERE item_id = $1 AND removed_at IS NULL AND date BETWEEN $2 AND least($3, $5)
        AND ($4::text[] IS NULL OR account_id = ANY ($4))
        AND ($5::date IS NULL OR date < $5 OR transaction_id > $6)
    ORDER BY date DESC, transaction_id LIMIT $7
)
SELECT total.total, page.body FROM total LEFT JOIN page ON true
ORDER BY page.date DESC, page.transaction_id";

const CHANGES: &str = "
SELECT i.change_seq, t.transaction_id, t.account_id, t.first_seq, t.added_seq, t.changed_seq, t.body
FROM items i LEFT JOIN LATERAL (
    SELECT * FROM transactions
    WHERE item_id = i.item_id AND (changed_seq, transaction_id) > ($2, $3)
        AND ($4::text[] IS NULL OR account_id = ANY ($4))
        -- A reader does not need rows that were added and removed since the base.
        AND (removed_at IS NULL OR first_seq <= $6)
    ORDER BY changed_seq, transaction_id LIMIT $5
) t ON true
WHERE i.item_id = $1
ORDER BY t.changed_seq, t.transaction_id";

/// A separate statement, because the minimum alone is the first entry of an index. Together with a
/// count it would be a scan of all entries.
const OLDEST_WEBHOOK: &str = "SELECT min(created_at) AS since FROM outbox";

impl PostgresStore {
    pub(super) async fn read_access(
        &self,
        db: &mut PgConnection,
        token: &AccessDigest,
    ) -> Result<Option<Access>> {
        let sql = "SELECT item_id, institution_id, application_id FROM access WHERE digest = $1";
        let row = sqlx::query(sql).bind(&token.0[..]).fetch_optional(&mut *db).await?;
        row.as_ref().map(access).transpose()
    }

    pub(super) async fn read_item(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
    ) -> Result<Option<ItemRecord>> {
        let sql = concat!("SELECT ", item_columns!(), " FROM items i WHERE i.item_id = $1");
        let row = sqlx::query(sql).bind(item.as_str()).fetch_optional(&mut *db).await?;
        row.as_ref().map(row::item).transpose()
    }

    pub(super) async fn read_list(
        &self,
        db: &mut PgConnection,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<ListedItem>> {
        // No id is empty, so all ids are greater.
        let sql = concat!(
            "SELECT ",
            item_columns!(),
            " FROM items i WHERE i.item_id > $1 ORDER BY i.item_id LIMIT $2"
        );
        let after = after.map_or("", ItemId::as_str);
        let rows = sqlx::query(sql).bind(after).bind(rows_of(limit)).fetch_all(&mut *db).await?;
        rows.iter().map(row::listed).collect()
    }

    pub(super) async fn read_find(
        &self,
        db: &mut PgConnection,
        institution: &InstitutionId,
        user: &UserId,
    ) -> Result<Option<ItemId>> {
        let sql = "SELECT item_id FROM item_keys WHERE institution_id = $1 AND user_id = $2";
        let query = sqlx::query(sql).bind(institution.as_str()).bind(user.as_str());
        let row = query.fetch_optional(&mut *db).await?;
        row.as_ref().map(|row| row::parsed(row, "item_id")).transpose()
    }

    pub(super) async fn read_accounts(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
    ) -> Result<Vec<KnownAccount>> {
        let sql = "SELECT partner_id, standing, body FROM accounts WHERE item_id = $1 \
                   ORDER BY account_id";
        let rows = sqlx::query(sql).bind(item.as_str()).fetch_all(&mut *db).await?;
        rows.iter().map(row::account).collect()
    }

    pub(super) async fn read_identities(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
    ) -> Result<Option<(IdentityId, Vec<Identity>)>> {
        let sql = "SELECT user_identity_id, body FROM identities WHERE item_id = $1";
        let row = sqlx::query(sql).bind(item.as_str()).fetch_optional(&mut *db).await?;
        row.map(|row| Ok((row::parsed(&row, "user_identity_id")?, row::json(&row, "body")?)))
            .transpose()
    }

    pub(super) async fn read_securities(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
    ) -> Result<Vec<Security>> {
        let sql = "SELECT body FROM securities WHERE item_id = $1 ORDER BY security_id";
        let rows = sqlx::query(sql).bind(item.as_str()).fetch_all(&mut *db).await?;
        rows.iter().map(|row| row::json(row, "body")).collect()
    }

    pub(super) async fn read_transactions(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
        query: &TransactionQuery,
    ) -> Result<TransactionPage> {
        let after = query.after.as_ref();
        let rows = sqlx::query(PAGE)
            .bind(item.as_str())
            .bind(Day(query.window.start()))
            .bind(Day(query.window.end()))
            .bind(account_ids(query.accounts.as_deref()))
            .bind(after.map(|(date, _)| Day(*date)))
            .bind(after.map(|(_, id)| id.as_str()))
            .bind(rows_of(query.limit))
            .bind(query.counted)
            .fetch_all(&mut *db)
            .await?;
        let total = rows.first().filter(|_| query.counted);
        let total = total.map(|row| count(row, "total")).transpose()?;
        let mut page = Vec::with_capacity(rows.len());
        for row in &rows {
            if row.try_get::<Option<&str>, _>("body")?.is_some() {
                page.push(row::json(row, "body")?);
            }
        }
        Ok(TransactionPage::new(page, total))
    }

    pub(super) async fn read_changes(
        &self,
        db: &mut PgConnection,
        item: &ItemId,
        query: &ChangeQuery,
    ) -> Result<ChangePage> {
        // "After all changes of number n" equals "after an empty id of number n + 1", because no id
        // is empty.
        let (seq, id) = match &query.after {
            (seq, Some(id)) => (*seq, id.as_str()),
            (seq, None) => (seq.saturating_add(1), ""),
        };
        let rows = sqlx::query(CHANGES)
            .bind(item.as_str())
            .bind(seq)
            .bind(id)
            .bind(account_ids(query.accounts.as_deref()))
            .bind(rows_of(query.limit.saturating_add(1)))
            .bind(query.base)
            .fetch_all(&mut *db)
            .await?;
        let head = rows.first().map_or(Ok(0), |row| row.try_get("change_seq"))?;
        let mut last = query.after.clone();
        let mut changes = Vec::with_capacity(rows.len());
        for row in rows.iter().take(query.limit) {
            // If an Item has no later change, the result is one row of nulls.
            let Some(seq) = row.try_get::<Option<i64>, _>("changed_seq")? else { break };
            last = (seq, Some(row::parsed(row, "transaction_id")?));
            changes.extend(change(row, query.base)?);
        }
        Ok(ChangePage::new(changes, last, rows.len() > query.limit, head))
    }

    pub(super) async fn read_overview(
        &self,
        db: &mut PgConnection,
        now: DateTime<Utc>,
    ) -> Result<Overview> {
        let mut tx = db.begin().await?;
        // It counts rows, so it may take longer than other calls.
        let limit = self.options.bulk_timeout.as_millis();
        let sql = AssertSqlSafe(format!("SET LOCAL statement_timeout = {limit}"));
        sqlx::query(sql).execute(&mut *tx).await?;
        let mut overview = Overview::default();
        let sql = "SELECT state, count(*) AS items FROM items GROUP BY state";
        for row in sqlx::query(sql).fetch_all(&mut *tx).await? {
            let items = count(&row, "items")?;
            match State::from_name(row.try_get("state")?) {
                Some(state) => drop(overview.states.insert(state, items)),
                None => overview.unknown_states += items,
            }
        }
        let sql = "SELECT count(*) AS items, min(wake_at) AS since FROM items WHERE wake_at <= $1";
        let row = sqlx::query(sql).bind(Moment(now)).fetch_one(&mut *tx).await?;
        overview.due = count(&row, "items")?;
        overview.due_since = row::moment_if_any(&row, "since")?;
        let sql = "SELECT count(*) AS webhooks FROM outbox";
        let row = sqlx::query(sql).fetch_one(&mut *tx).await?;
        overview.webhooks = count(&row, "webhooks")?;
        let row = sqlx::query(OLDEST_WEBHOOK).fetch_one(&mut *tx).await?;
        overview.webhooks_since = row::moment_if_any(&row, "since")?;
        Ok(overview)
    }
}

fn access(row: &PgRow) -> Result<Access> {
    let application = row.try_get::<Option<&str>, _>("application_id")?;
    let application = application.map(|_| row::parsed(row, "application_id")).transpose()?;
    Ok(Access::new(row::parsed(row, "item_id")?, row::parsed(row, "institution_id")?, application))
}

/// Returns the change for a reader with the state of `base`, or `None` if such a reader never had
/// the transaction.
fn change(row: &PgRow, base: i64) -> Result<Option<ChangeRow>> {
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

fn account_ids(accounts: Option<&[AccountId]>) -> Option<Vec<&str>> {
    accounts.map(|accounts| accounts.iter().map(AccountId::as_str).collect())
}

fn count(row: &PgRow, column: &'static str) -> Result<u64> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| Failure::corrupt(column))
}

/// Converts a limit to SQL.
pub(super) fn rows_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
