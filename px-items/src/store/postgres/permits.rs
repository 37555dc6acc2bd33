//! Shared state of partners, and permits.

use super::{PostgresStore, failure::Result, row, time::Moment};
use crate::{
    partners::{PartnerState, PartnerUpdate, PartnerUpdated},
    store::{PermitLease, PermitShare},
};
use sqlx::{Connection as _, PgConnection, Row as _};

const LOCK: &str = "SELECT state FROM partners WHERE institution_id = $1 FOR UPDATE";

/// Leases permits. `$1` is the partner, `$2` the process, `$3` the present time, `$4` the end of
/// the lease, `$5` the number of permits requested, and `$6` their total number. No row is changed
/// twice.
const LEASE: &str = "
WITH others AS (
    SELECT coalesce(sum(permits), 0)::bigint AS held FROM partner_permits
    WHERE institution_id = $1 AND holder <> $2 AND leased_until > $3::timestamptz
),
share AS (SELECT held, least($5::bigint, greatest($6::bigint - held, 0)) AS granted FROM others),
ended AS (
    DELETE FROM partner_permits USING share
    WHERE institution_id = $1
        AND ((holder <> $2 AND leased_until <= $3) OR (holder = $2 AND granted = 0))
),
leased AS (
    INSERT INTO partner_permits (institution_id, holder, permits, leased_until)
    SELECT $1::text, $2::text, granted, $4::timestamptz FROM share WHERE granted > 0
    ON CONFLICT (institution_id, holder)
    DO UPDATE SET permits = excluded.permits, leased_until = excluded.leased_until
)
SELECT held, granted FROM share";

impl PostgresStore {
    pub(super) async fn lease(
        &self,
        db: &mut PgConnection,
        lease: &PermitLease,
    ) -> Result<PermitShare> {
        let institution = lease.institution_id.as_str();
        let mut tx = db.begin().await?;
        // Processes that lease permits of the same partner wait here, and then count the permits in
        // use.
        let state = lock(&mut tx, institution).await?;
        let query = sqlx::query(LEASE).bind(institution).bind(&lease.holder);
        let query = query.bind(Moment(lease.now)).bind(Moment(lease.until));
        let query = query.bind(i64::from(lease.wanted)).bind(i64::from(lease.at_once));
        let row = query.fetch_one(&mut *tx).await?;
        tx.commit().await?;
        let count = |column| -> Result<u32> {
            Ok(u32::try_from(row.try_get::<i64, _>(column)?).unwrap_or(u32::MAX))
        };
        Ok(PermitShare { granted: count("granted")?, others: count("held")?, state })
    }

    pub(super) async fn write_partner(
        &self,
        db: &mut PgConnection,
        update: &PartnerUpdate,
    ) -> Result<PartnerUpdated> {
        let institution = update.institution_id.as_str();
        let mut tx = db.begin().await?;
        let mut state = lock(&mut tx, institution).await?;
        let may_probe = state.apply(update);
        let sql = "UPDATE partners SET state = $2 WHERE institution_id = $1";
        let query = sqlx::query(sql).bind(institution).bind(row::text(&state)?);
        query.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(PartnerUpdated { state, may_probe })
    }
}

/// Locks the row of a partner. Creates it if it does not exist.
async fn lock(tx: &mut PgConnection, institution: &str) -> Result<PartnerState> {
    let mut locked = sqlx::query(LOCK).bind(institution).fetch_optional(&mut *tx).await?;
    if locked.is_none() {
        let insert = "INSERT INTO partners (institution_id) VALUES ($1) ON CONFLICT DO NOTHING";
        sqlx::query(insert).bind(institution).execute(&mut *tx).await?;
        locked = sqlx::query(LOCK).bind(institution).fetch_optional(&mut *tx).await?;
    }
    let Some(row) = locked else { return Ok(PartnerState::default()) };
    if row.try_get::<Option<&str>, _>("state")?.is_none() {
        return Ok(PartnerState::default());
    }
    Ok(row::json(&row, "state").unwrap_or_else(|why| {
        row::unreadable("partner", institution, why);
        PartnerState::default()
    }))
}
