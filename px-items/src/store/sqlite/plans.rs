//! Query plans: every statement of normal operation finds its rows by an index, without a scan.
//!
//! Therefore an update does not cost more for an Item with a long history, nor a claim in a store
//! with a million Items.

use super::{SqliteStore, commit, log, queues, reads, tickets, work};
use crate::{store::StoreOptions, vault::FileKeys};
use px_core::SystemRandom;
use px_types::webhook::Environment;
use sqlx::{AssertSqlSafe, Row as _};
use std::sync::Arc;

/// Each statement with the steps by which it finds rows of tables. Steps over JSON parameters are
/// left out.
const PLANS: [(&str, &[&str]); 24] = [
    (work::DUE, &["items USING INDEX items_by_wake (wake_at<?)"]),
    (work::TAKE, &["items USING COVERING INDEX sqlite_autoindex_items_1 (item_id=?)"]),
    (
        work::TAKEN,
        &[
            "i USING INDEX sqlite_autoindex_items_1 (item_id=?)",
            "t USING COVERING INDEX transactions_pending (item_id=?)",
            "a USING PRIMARY KEY (item_id=? AND account_id=?)",
        ],
    ),
    (work::FREE, &["items USING INDEX sqlite_autoindex_items_1 (item_id=?)"]),
    (work::HAND_BACK, &["items USING INDEX sqlite_autoindex_items_1 (item_id=?)"]),
    (
        work::KNOWN,
        &[
            "transactions USING INTEGER PRIMARY KEY (rowid=?)",
            "transactions USING COVERING INDEX transactions_by_date (item_id=? AND date>? AND date<?)",
            "t USING COVERING INDEX sqlite_autoindex_transactions_1 (item_id=? AND transaction_id=?)",
            "t USING COVERING INDEX transactions_by_partner (item_id=? AND partner_id=?)",
        ],
    ),
    (work::REQUEST_UPDATES, &["items USING INDEX sqlite_autoindex_items_1 (item_id=?)"]),
    (work::REVOKE, &["items USING INDEX sqlite_autoindex_items_1 (item_id=?)"]),
    (work::CONNECTIONS, &["connections USING PRIMARY KEY (item_id=?)"]),
    (commit::ITEM, &["items USING INDEX sqlite_autoindex_items_1 (item_id=?)"]),
    (commit::FORGET_ACCOUNTS, &["accounts USING PRIMARY KEY (item_id=? AND account_id=?)"]),
    (
        commit::REMOVE,
        &[
            "transactions USING INDEX sqlite_autoindex_transactions_1 (item_id=? AND transaction_id=?)",
        ],
    ),
    (
        reads::TOTAL,
        &[
            "transactions USING COVERING INDEX transactions_by_date (item_id=? AND date>? AND date<?)",
        ],
    ),
    (
        reads::PAGE,
        &["transactions USING INDEX transactions_by_date (item_id=? AND date>? AND date<?)"],
    ),
    (
        reads::CHANGES,
        &[
            "transactions USING INDEX transactions_by_change (item_id=? AND (changed_seq,transaction_id)>(?,?))",
        ],
    ),
    (reads::OLDEST_WEBHOOK, &["outbox USING COVERING INDEX outbox_by_age"]),
    (queues::UNSENT, &["o USING INDEX outbox_by_item (item_id=?)"]),
    (queues::DUE_WEBHOOKS, &["outbox USING INDEX outbox_by_due (due_at<?)"]),
    (queues::TAKE_WEBHOOKS, &["outbox USING INTEGER PRIMARY KEY (rowid=?)"]),
    (log::ACTIVITIES, &["activities USING PRIMARY KEY (item_id=? AND number<?)"]),
    (tickets::TICKET, &["tickets USING PRIMARY KEY (digest=?)"]),
    (tickets::TAKE, &["tickets USING PRIMARY KEY (digest=?)"]),
    (
        tickets::PURGE,
        &[
            "tickets USING PRIMARY KEY (digest=?)",
            "tickets USING COVERING INDEX tickets_by_end (expires_at<?)",
        ],
    ),
    (queues::DUE_REVOCATIONS, &["revocations USING INDEX revocations_by_due (due_at<?)"]),
];

#[tokio::test]
async fn every_statement_finds_its_rows_by_an_index() {
    let keys = FileKeys::generate("k", Arc::new(SystemRandom)).unwrap();
    let options = StoreOptions::new(Environment::Sandbox, Arc::new(keys));
    let store = SqliteStore::in_memory(options).await.unwrap();
    let mut faults = Vec::new();
    for (sql, expected) in PLANS {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let rows = sqlx::query(explain).fetch_all(&store.readers).await.unwrap();
        let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        let own = |step: &&String| !step.contains("VIRTUAL TABLE INDEX");
        let scans = steps.iter().filter(own).any(|step| step.starts_with("SCAN "));
        let searches = steps.iter().filter(own).filter_map(|step| step.strip_prefix("SEARCH "));
        let sorted = steps.iter().any(|step| step.starts_with("USE TEMP B-TREE FOR ORDER BY"));
        // These sort the rows that they found, which are no more than they return.
        let sorts = [work::KNOWN, work::TAKEN, work::CONNECTIONS].contains(&sql);
        if scans || !searches.eq(expected.iter().copied()) || sorted != sorts {
            faults.push(format!("{sql}\n{steps:#?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}
