//! Data on hold, and decisions about it.

use super::{
    SqliteStore,
    row::{self, Result, rows_of},
};
use crate::{
    review::Evidence,
    store::{
        Commit, Moves, Review, Ruling, UpdateCount,
        review::{HOURS_OF_A_DAY, UPDATE_HOURS},
    },
};
use chrono::{DateTime, Utc};
use px_types::{InstitutionId, ItemId};
use sqlx::{Row as _, SqliteConnection};

const PUT: &str = "
INSERT INTO reviews (item_id, number, institution_id, is_evidence, body)
SELECT ?1, key, ?2, value ->> 0, value ->> 1 FROM json_each(?3)";

const MOVED: &str = "
INSERT INTO moved (item_id, transaction_id, partner_id)
SELECT ?1, value ->> 0, value ->> 1 FROM json_each(?2) WHERE true
ON CONFLICT (item_id, transaction_id) DO NOTHING";

const RESTORE: &str = "
UPDATE transactions SET partner_id = moved.partner_id FROM moved
WHERE moved.item_id = ?1 AND transactions.item_id = ?1
    AND transactions.transaction_id = moved.transaction_id";

const ADD_ACTIVITY: &str = "
INSERT INTO activities (item_id, number, activity_id, body)
SELECT ?1, ifnull(max(number), 0) + 1, ?2, ?3 FROM activities WHERE item_id = ?1";

pub(super) const REVIEWS: &str = "
SELECT body FROM reviews WHERE item_id IN (
    SELECT DISTINCT item_id FROM reviews WHERE item_id > ?2 ORDER BY item_id LIMIT ?3
) AND ?1 IS NULL ORDER BY item_id, number";

pub(super) const REVIEWS_OF_BANK: &str = "
SELECT body FROM reviews WHERE item_id IN (
    SELECT DISTINCT item_id FROM reviews WHERE institution_id = ?1 AND item_id > ?2
    ORDER BY item_id LIMIT ?3
) ORDER BY item_id, number";

const EVIDENCE: &str = "
SELECT
    (SELECT count(DISTINCT item_id) FROM reviews WHERE institution_id = ?1 AND is_evidence)
        AS items_on_hold,
    (SELECT ifnull(sum(updates), 0) FROM updates WHERE institution_id = ?1 AND hour > ?2) AS reads_since,
    (SELECT ifnull(sum(updates), 0) FROM updates
        WHERE institution_id = ?1 AND hour > ?2 - ?3 AND hour <= ?2) AS reads_before";

const COUNT: &str = "
INSERT INTO updates (institution_id, hour, updates) VALUES (?1, ?2, ?3)
ON CONFLICT (institution_id, hour) DO UPDATE SET updates = updates + excluded.updates";

/// Writes the changes of a commit to data on hold.
pub(super) async fn write(tx: &mut SqliteConnection, commit: &Commit) -> Result<()> {
    let item = commit.item_id.as_str();
    if let Some(reviews) = &commit.reviews {
        sqlx::query("DELETE FROM reviews WHERE item_id = ?1").bind(item).execute(&mut *tx).await?;
        if let Some(first) = reviews.first() {
            let rows = reviews.iter().map(|review| Ok((review.is_evidence(), row::text(review)?)));
            let rows = row::text(&rows.collect::<Result<Vec<_>>>()?)?;
            let query = sqlx::query(PUT).bind(item).bind(first.institution_id.as_str());
            query.bind(rows).execute(&mut *tx).await?;
        }
    }
    if commit.moves == Moves::Restore {
        sqlx::query(RESTORE).bind(item).execute(&mut *tx).await?;
    }
    if commit.moves != Moves::Keep {
        sqlx::query("DELETE FROM moved WHERE item_id = ?1").bind(item).execute(&mut *tx).await?;
    }
    if !commit.moved.is_empty() {
        let rows = row::text(&commit.moved)?;
        sqlx::query(MOVED).bind(item).bind(rows).execute(&mut *tx).await?;
    }
    for activity in &commit.activities {
        let query = sqlx::query(ADD_ACTIVITY).bind(item).bind(activity.id.as_str());
        query.bind(row::text(activity)?).execute(&mut *tx).await?;
    }
    Ok(())
}

impl SqliteStore {
    pub(super) async fn read_reviews(
        &self,
        institution: Option<&InstitutionId>,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<Review>> {
        let sql = if institution.is_some() { REVIEWS_OF_BANK } else { REVIEWS };
        let query = sqlx::query(sql).bind(institution.map(InstitutionId::as_str));
        let query = query.bind(after.map_or("", ItemId::as_str)).bind(rows_of(limit));
        let rows = query.fetch_all(&self.readers).await?;
        rows.iter().map(|row| row::json(row, "body")).collect()
    }

    pub(super) async fn read_evidence(
        &self,
        institution: &InstitutionId,
        since: DateTime<Utc>,
    ) -> Result<Evidence> {
        let query = sqlx::query(EVIDENCE).bind(institution.as_str());
        let query = query.bind(UpdateCount::hour_of(since)).bind(HOURS_OF_A_DAY);
        let row = query.fetch_one(&self.readers).await?;
        let count = |column| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)?.unsigned_abs());
        Ok(Evidence::new(count("items_on_hold")?, count("reads_since")?, count("reads_before")?))
    }

    pub(super) async fn add_updates(&self, counts: &[UpdateCount]) -> Result<()> {
        let mut tx = self.begin_transient().await?;
        for count in counts {
            let bank = count.institution_id.as_str();
            let updates = i64::try_from(count.updates).unwrap_or(i64::MAX);
            let query = sqlx::query(COUNT).bind(bank).bind(count.hour).bind(updates);
            query.execute(&mut *tx).await?;
            let sql = "DELETE FROM updates WHERE institution_id = ?1 AND hour < ?2";
            let query = sqlx::query(sql).bind(bank).bind(count.hour - UPDATE_HOURS);
            query.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn write_ruling(&self, ruling: &Ruling) -> Result<()> {
        let mut tx = self.begin().await?;
        let sql = "INSERT INTO rulings (institution_id, body) VALUES (?1, ?2) \
                   ON CONFLICT (institution_id) DO UPDATE SET body = excluded.body";
        let query = sqlx::query(sql).bind(ruling.institution_id.as_str());
        query.bind(row::text(ruling)?).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn read_ruling(&self, institution: &InstitutionId) -> Result<Option<Ruling>> {
        let sql = "SELECT body FROM rulings WHERE institution_id = ?1";
        let query = sqlx::query(sql).bind(institution.as_str());
        let row = query.fetch_optional(&self.readers).await?;
        row.map(|row| row::json(&row, "body")).transpose()
    }

    pub(super) async fn delete_ruling(&self, institution: &InstitutionId) -> Result<bool> {
        let mut tx = self.begin().await?;
        let query = sqlx::query("DELETE FROM rulings WHERE institution_id = ?1");
        let ended = query.bind(institution.as_str()).execute(&mut *tx).await?.rows_affected() > 0;
        tx.commit().await?;
        Ok(ended)
    }
}
