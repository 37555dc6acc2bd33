//! Data on hold, and decisions about it.

use super::{PostgresStore, failure::Result, reads::rows_of, row};
use crate::{
    review::Evidence,
    store::{
        Commit, Moves, Review, Ruling, UpdateCount,
        review::{HOURS_OF_A_DAY, UPDATE_HOURS},
    },
};
use chrono::{DateTime, Utc};
use px_types::{InstitutionId, ItemId, TransactionId};
use sqlx::{Connection as _, PgConnection, Row as _};

const PUT: &str = "
INSERT INTO reviews (item_id, number, institution_id, is_evidence, body)
SELECT $1, given.number - 1, $2, given.is_evidence, given.body
FROM unnest($3::boolean[], $4::text[]) WITH ORDINALITY AS given (is_evidence, body, number)";

const MOVED: &str = "
INSERT INTO moved (item_id, transaction_id, partner_id)
SELECT $1, given.transaction_id, given.partner_id
FROM unnest($2::text[], $3::text[]) AS given (transaction_id, partner_id)
ON CONFLICT (item_id, transaction_id) DO NOTHING";

const RESTORE: &str = "
UPDATE transactions t SET partner_id = moved.partner_id FROM moved
WHERE moved.item_id = $1 AND t.item_id = $1 AND t.transaction_id = moved.transaction_id";

/// The Item is locked, so no other entry gets the same number.
const ADD_ACTIVITY: &str = "
INSERT INTO activities (item_id, number, activity_id, body)
SELECT $1, coalesce(max(number), 0) + 1, $2, $3 FROM activities WHERE item_id = $1";

const REVIEWS: &str = "
SELECT body FROM reviews WHERE item_id IN (
    SELECT DISTINCT item_id FROM reviews WHERE item_id > $1 ORDER BY item_id LIMIT $2
) ORDER BY item_id, number";

const REVIEWS_OF_BANK: &str = "
SELECT body FROM reviews WHERE item_id IN (
    SELECT DISTINCT item_id FROM reviews WHERE item_id > $1 AND institution_id = $3
    ORDER BY item_id LIMIT $2
) ORDER BY item_id, number";

const EVIDENCE: &str = "
SELECT
    (SELECT count(DISTINCT item_id) FROM reviews WHERE institution_id = $1 AND is_evidence)
        AS items_on_hold,
    (SELECT coalesce(sum(updates), 0)::bigint FROM updates WHERE institution_id = $1 AND hour > $2)
        AS reads_since,
    (SELECT coalesce(sum(updates), 0)::bigint FROM updates
        WHERE institution_id = $1 AND hour > $2 - $3 AND hour <= $2) AS reads_before";

const COUNT: &str = "
INSERT INTO updates (institution_id, hour, updates) VALUES ($1, $2, $3)
ON CONFLICT (institution_id, hour) DO UPDATE SET updates = updates.updates + excluded.updates";

/// Returns whether a commit changes data on hold.
pub(super) fn is_written(commit: &Commit) -> bool {
    commit.reviews.is_some()
        || commit.moves != Moves::Keep
        || !commit.moved.is_empty()
        || !commit.activities.is_empty()
}

/// Writes the changes of a commit to data on hold. The Item must be locked.
pub(super) async fn write(tx: &mut PgConnection, commit: &Commit) -> Result<()> {
    let item = commit.item_id.as_str();
    if let Some(reviews) = &commit.reviews {
        sqlx::query("DELETE FROM reviews WHERE item_id = $1").bind(item).execute(&mut *tx).await?;
        if let Some(first) = reviews.first() {
            let evidence: Vec<_> = reviews.iter().map(Review::is_evidence).collect();
            let bodies = reviews.iter().map(row::text).collect::<Result<Vec<_>>>()?;
            let query = sqlx::query(PUT).bind(item).bind(first.institution_id.as_str());
            query.bind(evidence).bind(bodies).execute(&mut *tx).await?;
        }
    }
    if commit.moves == Moves::Restore {
        sqlx::query(RESTORE).bind(item).execute(&mut *tx).await?;
    }
    if commit.moves != Moves::Keep {
        sqlx::query("DELETE FROM moved WHERE item_id = $1").bind(item).execute(&mut *tx).await?;
    }
    if !commit.moved.is_empty() {
        let own: Vec<_> = commit.moved.iter().map(|(own, _)| TransactionId::as_str(own)).collect();
        let partner: Vec<_> =
            commit.moved.iter().map(|(_, id)| TransactionId::as_str(id)).collect();
        sqlx::query(MOVED).bind(item).bind(own).bind(partner).execute(&mut *tx).await?;
    }
    for activity in &commit.activities {
        let query = sqlx::query(ADD_ACTIVITY).bind(item).bind(activity.id.as_str());
        query.bind(row::text(activity)?).execute(&mut *tx).await?;
    }
    Ok(())
}

impl PostgresStore {
    pub(super) async fn read_reviews(
        &self,
        db: &mut PgConnection,
        institution: Option<&InstitutionId>,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<Review>> {
        let after = after.map_or("", ItemId::as_str);
        let query = match institution {
            None => sqlx::query(REVIEWS).bind(after).bind(rows_of(limit)),
            Some(institution) => {
                let query = sqlx::query(REVIEWS_OF_BANK).bind(after).bind(rows_of(limit));
                query.bind(institution.as_str())
            }
        };
        let rows = query.fetch_all(&mut *db).await?;
        rows.iter().map(|row| row::json(row, "body")).collect()
    }

    pub(super) async fn read_evidence(
        &self,
        db: &mut PgConnection,
        institution: &InstitutionId,
        since: DateTime<Utc>,
    ) -> Result<Evidence> {
        let query = sqlx::query(EVIDENCE).bind(institution.as_str());
        let query = query.bind(UpdateCount::hour_of(since)).bind(HOURS_OF_A_DAY);
        let row = query.fetch_one(&mut *db).await?;
        let count = |column| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)?.unsigned_abs());
        Ok(Evidence::new(count("items_on_hold")?, count("reads_since")?, count("reads_before")?))
    }

    pub(super) async fn add_updates(
        &self,
        db: &mut PgConnection,
        counts: &[UpdateCount],
    ) -> Result<()> {
        let mut tx = db.begin().await?;
        for count in counts {
            let bank = count.institution_id.as_str();
            let updates = i64::try_from(count.updates).unwrap_or(i64::MAX);
            let query = sqlx::query(COUNT).bind(bank).bind(count.hour).bind(updates);
            query.execute(&mut *tx).await?;
            let sql = "DELETE FROM updates WHERE institution_id = $1 AND hour < $2";
            let query = sqlx::query(sql).bind(bank).bind(count.hour - UPDATE_HOURS);
            query.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn write_ruling(&self, db: &mut PgConnection, ruling: &Ruling) -> Result<()> {
        let sql = "INSERT INTO rulings (institution_id, body) VALUES ($1, $2) \
                   ON CONFLICT (institution_id) DO UPDATE SET body = excluded.body";
        let query = sqlx::query(sql).bind(ruling.institution_id.as_str());
        query.bind(row::text(ruling)?).execute(&mut *db).await?;
        Ok(())
    }

    pub(super) async fn read_ruling(
        &self,
        db: &mut PgConnection,
        institution: &InstitutionId,
    ) -> Result<Option<Ruling>> {
        let sql = "SELECT body FROM rulings WHERE institution_id = $1";
        let query = sqlx::query(sql).bind(institution.as_str());
        let row = query.fetch_optional(&mut *db).await?;
        row.map(|row| row::json(&row, "body")).transpose()
    }

    pub(super) async fn delete_ruling(
        &self,
        db: &mut PgConnection,
        institution: &InstitutionId,
    ) -> Result<bool> {
        let query = sqlx::query("DELETE FROM rulings WHERE institution_id = $1");
        let ended = query.bind(institution.as_str()).execute(&mut *db).await?;
        Ok(ended.rows_affected() > 0)
    }
}
