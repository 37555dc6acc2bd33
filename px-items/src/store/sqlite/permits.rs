//! Shared state of partners, and permits.

use super::{
    SqliteStore,
    row::{self, Result, micros},
};
use crate::{
    partners::{PartnerState, PartnerUpdate, PartnerUpdated},
    store::{PermitLease, PermitShare},
};
use sqlx::SqliteConnection;

impl SqliteStore {
    pub(super) async fn lease(&self, lease: &PermitLease) -> Result<PermitShare> {
        let institution = lease.institution_id.as_str();
        let mut tx = self.begin_transient().await?;
        let state = state(&mut tx, institution).await?;
        let sql = "DELETE FROM partner_permits WHERE institution_id = ?1 AND leased_until <= ?2";
        sqlx::query(sql).bind(institution).bind(micros(lease.now)).execute(&mut *tx).await?;
        let sql = "SELECT coalesce(sum(permits), 0) FROM partner_permits \
                   WHERE institution_id = ?1 AND holder <> ?2";
        let query = sqlx::query_scalar::<_, i64>(sql).bind(institution).bind(&lease.holder);
        let others = query.fetch_one(&mut *tx).await?;
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        let granted = lease.granted(others);
        if granted == 0 {
            let sql = "DELETE FROM partner_permits WHERE institution_id = ?1 AND holder = ?2";
            let query = sqlx::query(sql).bind(institution).bind(&lease.holder);
            query.execute(&mut *tx).await?;
        } else {
            let sql = "INSERT INTO partner_permits (institution_id, holder, permits, leased_until) \
                       VALUES (?1, ?2, ?3, ?4) ON CONFLICT (institution_id, holder) DO UPDATE \
                       SET permits = excluded.permits, leased_until = excluded.leased_until";
            let query = sqlx::query(sql).bind(institution).bind(&lease.holder);
            let query = query.bind(granted).bind(micros(lease.until));
            query.execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(PermitShare { granted, others, state })
    }

    pub(super) async fn write_partner(&self, update: &PartnerUpdate) -> Result<PartnerUpdated> {
        let institution = update.institution_id.as_str();
        let mut tx = self.begin_transient().await?;
        let mut state = state(&mut tx, institution).await?;
        let may_probe = state.apply(update);
        let sql = "INSERT INTO partners (institution_id, state) VALUES (?1, ?2) \
                   ON CONFLICT (institution_id) DO UPDATE SET state = excluded.state";
        let query = sqlx::query(sql).bind(institution).bind(row::text(&state)?);
        query.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(PartnerUpdated { state, may_probe })
    }
}

async fn state(tx: &mut SqliteConnection, institution: &str) -> Result<PartnerState> {
    let sql = "SELECT state FROM partners WHERE institution_id = ?1";
    let row = sqlx::query(sql).bind(institution).fetch_optional(tx).await?;
    let state = row.as_ref().map(|row| row::json(row, "state")).transpose();
    Ok(state
        .unwrap_or_else(|why| {
            row::unreadable("partner", institution, why);
            None
        })
        .unwrap_or_default())
}
