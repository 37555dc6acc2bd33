//! Permits of partners.

use super::{PostgresStore, failure::Result, time::Moment};
use crate::store::{PermitLease, PermitShare};
use sqlx::{Connection as _, PgConnection, Row as _};

impl PostgresStore {
    pub(super) async fn lease(
        &self,
        db: &mut PgConnection,
        lease: &PermitLease,
    ) -> Result<PermitShare> {
        let institution = lease.institution_id.as_str();
        let mut tx = db.begin().await?;
        // Leases of one partner are serialized by this row, so each counts what the one before left.
        let sql = "SELECT 1 FROM partners WHERE institution_id = $1 FOR UPDATE";
        let locked = sqlx::query(sql).bind(institution).fetch_optional(&mut *tx).await?;
        if locked.is_none() {
            let insert = "INSERT INTO partners (institution_id) VALUES ($1) ON CONFLICT DO NOTHING";
            sqlx::query(insert).bind(institution).execute(&mut *tx).await?;
            sqlx::query(sql).bind(institution).fetch_optional(&mut *tx).await?;
        }
        let sql = "DELETE FROM partner_permits WHERE institution_id = $1 AND leased_until <= $2";
        sqlx::query(sql).bind(institution).bind(Moment(lease.now)).execute(&mut *tx).await?;
        let sql = "SELECT coalesce(sum(permits), 0)::bigint AS held FROM partner_permits \
                   WHERE institution_id = $1 AND holder <> $2";
        let query = sqlx::query(sql).bind(institution).bind(&lease.holder);
        let others: i64 = query.fetch_one(&mut *tx).await?.try_get("held")?;
        let share = lease.granted(u32::try_from(others).unwrap_or(u32::MAX));
        if share.granted == 0 {
            let sql = "DELETE FROM partner_permits WHERE institution_id = $1 AND holder = $2";
            let query = sqlx::query(sql).bind(institution).bind(&lease.holder);
            query.execute(&mut *tx).await?;
        } else {
            let sql = "INSERT INTO partner_permits (institution_id, holder, permits, leased_until) \
                       VALUES ($1, $2, $3, $4) ON CONFLICT (institution_id, holder) DO UPDATE \
                       SET permits = excluded.permits, leased_until = excluded.leased_until";
            let query = sqlx::query(sql).bind(institution).bind(&lease.holder);
            let query = query.bind(i32::try_from(share.granted).unwrap_or(i32::MAX));
            query.bind(Moment(lease.until)).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(share)
    }
}
