//! Sealing rows again under the current key.

use super::{PostgresStore, failure::Result, reads::rows_of};
use crate::{
    store::keys::{self, KeyUsage, ResealPosition, Resealed, SealedRow},
    vault::Sealed,
};
use sqlx::{PgConnection, Row as _};
use std::collections::BTreeMap;

/// The statements for a table with sealed rows.
struct Table {
    usage: &'static str,
    read: &'static str,
    write: &'static str,
}

/// Defines the statements that read rows after a position, ordered by key, and that update rows
/// that have not changed since they were read.
macro_rules! table {
    ($table:literal, $name:literal, $id:literal, $after:literal, $order:literal, $is:literal) => {
        Table {
            usage: concat!(
                "SELECT key_id, count(*) AS rows FROM ",
                $table,
                " WHERE sealed IS NOT NULL GROUP BY key_id"
            ),
            read: concat!(
                "SELECT ",
                $name,
                " AS name, ",
                $id,
                " AS id, key_id, sealed FROM ",
                $table,
                " WHERE sealed IS NOT NULL AND ",
                $after,
                " AND $2::bigint IS NOT NULL ORDER BY ",
                $order,
                " LIMIT $3"
            ),
            write: concat!(
                "UPDATE ",
                $table,
                " q SET key_id = new.key_id, sealed = new.sealed \
                 FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::text[], $5::bytea[]) \
                 AS new (name, id, old, key_id, sealed) WHERE ",
                $is,
                " AND q.sealed = new.old"
            ),
        }
    };
}

const TABLES: [Table; 5] = [
    table!("tokens", "item_id", "0::bigint", "item_id > $1", "item_id", "q.item_id = new.name"),
    table!(
        "revocations",
        "item_id",
        "id",
        "(item_id, id) > ($1, $2)",
        "item_id, id",
        "q.item_id = new.name AND q.id = new.id"
    ),
    table!(
        "outbox",
        "item_id",
        "id",
        "(item_id, id) > ($1, $2)",
        "item_id, id",
        "q.item_id = new.name AND q.id = new.id"
    ),
    table!(
        "tickets",
        "encode(digest, 'hex')",
        "0::bigint",
        "digest > decode($1, 'hex')",
        "digest",
        "q.digest = decode(new.name, 'hex')"
    ),
    table!("secrets", "name", "0::bigint", "name > $1", "name", "q.name = new.name"),
];

impl PostgresStore {
    pub(super) async fn read_key_usage(
        &self,
        db: &mut PgConnection,
    ) -> Result<BTreeMap<String, KeyUsage>> {
        let mut usage: BTreeMap<String, KeyUsage> = BTreeMap::new();
        for (number, table) in TABLES.iter().enumerate() {
            for row in sqlx::query(table.usage).fetch_all(&mut *db).await? {
                let rows: i64 = row.try_get("rows")?;
                let of_key = usage.entry(row.try_get("key_id")?).or_default();
                of_key.add(number, rows.unsigned_abs());
            }
        }
        Ok(usage)
    }

    pub(super) async fn reseal_some(
        &self,
        db: &mut PgConnection,
        position: &ResealPosition,
        limit: usize,
    ) -> Result<Resealed> {
        let Some(table) = TABLES.get(position.table) else { return Ok(Resealed::default()) };
        let query = sqlx::query(table.read).bind(&position.name).bind(position.id);
        let mut rows = Vec::new();
        for row in query.bind(rows_of(limit)).fetch_all(&mut *db).await? {
            rows.push(SealedRow {
                name: row.try_get("name")?,
                id: row.try_get("id")?,
                sealed: Sealed::new(row.try_get("key_id")?, row.try_get("sealed")?),
            });
        }
        let range = (position, TABLES.len());
        let (mut done, all) = keys::reseal(&*self.options.vault, range, rows, limit);
        if !all.is_empty() {
            let names: Vec<_> = all.iter().map(|one| one.row.name.as_str()).collect();
            let ids: Vec<_> = all.iter().map(|one| one.row.id).collect();
            let old: Vec<_> = all.iter().map(|one| one.row.sealed.bytes.as_slice()).collect();
            let keys: Vec<_> = all.iter().map(|one| one.new.key_id.as_str()).collect();
            let sealed: Vec<_> = all.iter().map(|one| one.new.bytes.as_slice()).collect();
            let query = sqlx::query(table.write).bind(names).bind(ids).bind(old).bind(keys);
            done.resealed = query.bind(sealed).execute(db).await?.rows_affected();
        }
        Ok(done)
    }
}
