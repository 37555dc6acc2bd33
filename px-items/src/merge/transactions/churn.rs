//! A partner that gives all its transactions new ids.

use super::{ReadRow, Stock};
use std::collections::HashMap;

/// So many stored rows must come back under new ids: fewer may be a coincidence.
const FEWEST: usize = 3;

/// Whether the answer is what is stored, under other ids throughout.
///
/// Every id of it is unknown, to tombstones too, and every posted row that it must have is in it,
/// as often as it is stored. It may have more: what was made since.
pub(super) fn ids_changed(stock: &Stock<'_>, rows: &[ReadRow]) -> bool {
    if rows.len() < FEWEST || rows.iter().any(|row| stock.under(&row.row.id).next().is_some()) {
        return false;
    }
    let mut contents = HashMap::<_, usize>::with_capacity(rows.len());
    for row in rows {
        *contents.entry(row.digest).or_default() += 1;
    }
    let mut found = 0;
    let posted = stock.known.iter().filter(|known| known.settled.is_some());
    for known in posted.filter(|known| stock.must_be_read(known)) {
        match contents.get_mut(&known.digest) {
            Some(left @ 1..) => *left -= 1,
            _ => return false,
        }
        found += 1;
    }
    found >= FEWEST
}
