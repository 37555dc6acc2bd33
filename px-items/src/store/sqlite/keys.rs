//! Sealing rows again under the current key.

use super::{
    SqliteStore,
    row::{self, Result, hex, rows_of},
};
use crate::{
    store::keys::{self, KeyUsage, ResealPosition, Resealed, SealedRow},
    vault::Sealed,
};
use sqlx::Row as _;
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
                "SELECT ", $name, " AS name, ", $id, " AS id, key_id, sealed FROM ", $table,
                " WHERE sealed IS NOT NULL AND ", $after, " AND ?2 IS NOT NULL ORDER BY ", $order,
                " LIMIT ?3"
            ),
            write: concat!(
                "UPDATE ", $table, " AS q SET key_id = new.key_id, sealed = new.sealed \
                 FROM (SELECT value ->> 0 AS name, value ->> 1 AS id, unhex(value ->> 2) AS old, \
                 value ->> 3 AS key_id, unhex(value ->> 4) AS sealed FROM json_each(?1)) AS new \
                 WHERE ", $is, " AND q.sealed = new.old"
            ),
        }
    };
}

const TABLES: [Table; 5] = [
    table!("tokens", "item_id", "0", "item_id > ?1", "item_id", "q.item_id = new.name"),
    table!("revocations", "item_id", "id", "?1 IS NOT NULL AND id > ?2", "id", "q.id = new.id"),
    table!("outbox", "item_id", "id", "?1 IS NOT NULL AND id > ?2", "id", "q.id = new.id"),
    table!(
        "tickets",
        "lower(hex(digest))",
        "0",
        "digest > unhex(?1)",
        "digest",
        "q.digest = unhex(new.name)"
    ),
    table!("secrets", "name", "0", "name > ?1", "name", "q.name = new.name"),
];

impl SqliteStore {
    pub(super) async fn read_key_usage(&self) -> Result<BTreeMap<String, KeyUsage>> {
        let mut usage: BTreeMap<String, KeyUsage> = BTreeMap::new();
        for (number, table) in TABLES.iter().enumerate() {
            for row in sqlx::query(table.usage).fetch_all(&self.readers).await? {
                let rows: i64 = row.try_get("rows")?;
                let of_key = usage.entry(row.try_get("key_id")?).or_default();
                of_key.add(number, rows.unsigned_abs());
            }
        }
        Ok(usage)
    }

    pub(super) async fn reseal_some(
        &self,
        position: &ResealPosition,
        limit: usize,
    ) -> Result<Resealed> {
        let Some(table) = TABLES.get(position.table) else { return Ok(Resealed::default()) };
        let query = sqlx::query(table.read).bind(&position.name).bind(position.id);
        let mut rows = Vec::new();
        for row in query.bind(rows_of(limit)).fetch_all(&self.readers).await? {
            rows.push(SealedRow {
                name: row.try_get("name")?,
                id: row.try_get("id")?,
                sealed: Sealed::new(row.try_get("key_id")?, row.try_get("sealed")?),
            });
        }
        let range = (position, TABLES.len());
        let (mut done, all) = keys::reseal(&*self.options.vault, range, rows, limit);
        if !all.is_empty() {
            let rows = all.iter().map(|one| {
                let (old, sealed) = (hex(&one.row.sealed.bytes), hex(&one.new.bytes));
                (one.row.name.as_str(), one.row.id, old, one.new.key_id.as_str(), sealed)
            });
            let rows = row::text(&rows.collect::<Vec<_>>())?;
            let mut tx = self.begin().await?;
            let query = sqlx::query(table.write).bind(rows);
            done.resealed = query.execute(&mut *tx).await?.rows_affected();
            tx.commit().await?;
        }
        Ok(done)
    }
}
