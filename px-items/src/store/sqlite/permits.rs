//! Permits of partners.

use super::{
    SqliteStore,
    row::{Result, micros},
};
use crate::store::{PermitLease, PermitShare};

impl SqliteStore {
    pub(super) async fn lease(&self, lease: &PermitLease) -> Result<PermitShare> {
        let institution = lease.institution_id.as_str();
        let mut tx = self.begin_passing().await?;
        let sql = "DELETE FROM partner_permits WHERE institution_id = ?1 AND leased_until <= ?2";
        sqlx::query(sql).bind(institution).bind(micros(lease.now)).execute(&mut *tx).await?;
        let sql = "SELECT coalesce(sum(permits), 0) FROM partner_permits \
                   WHERE institution_id = ?1 AND holder <> ?2";
        let query = sqlx::query_scalar::<_, i64>(sql).bind(institution).bind(&lease.holder);
        let others = query.fetch_one(&mut *tx).await?;
        let share = lease.granted(u32::try_from(others).unwrap_or(u32::MAX));
        if share.granted == 0 {
            let sql = "DELETE FROM partner_permits WHERE institution_id = ?1 AND holder = ?2";
            let query = sqlx::query(sql).bind(institution).bind(&lease.holder);
            query.execute(&mut *tx).await?;
        } else {
            let sql = "INSERT INTO partner_permits (institution_id, holder, permits, leased_until) \
                       VALUES (?1, ?2, ?3, ?4) ON CONFLICT (institution_id, holder) DO UPDATE \
                       SET permits = excluded.permits, leased_until = excluded.leased_until";
            let query = sqlx::query(sql).bind(institution).bind(&lease.holder);
            let query = query.bind(share.granted).bind(micros(lease.until));
            query.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(share)
    }
}
