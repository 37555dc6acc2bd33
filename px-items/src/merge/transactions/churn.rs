//! A partner that gives all its transactions new ids.

use super::{ReadRow, Stock};
use std::collections::{HashMap, HashSet};

/// So many stored rows must come back under new ids: fewer may be a coincidence.
const FEWEST: usize = 3;

/// Whether the answer is what is stored, under other ids.
///
/// Posted rows that it must have are not in it under their ids, and each of them is in it under an
/// id that is unknown, to tombstones too. It may have more: what was made since. And it may have
/// some under ids that are known, which were too few to tell when they changed; but not as many.
pub(super) fn ids_changed(stock: &Stock<'_>, rows: &[ReadRow]) -> bool {
    let mut unknown = HashMap::<_, usize>::new();
    let mut kept = 0;
    for row in rows {
        match stock.under(&row.row.id).next() {
            Some(_) => kept += 1,
            None => *unknown.entry(row.digest).or_default() += 1,
        }
    }
    let read: HashSet<_> = rows.iter().map(|row| &row.row.id).collect();
    let mut moved = 0;
    let posted = stock.known.iter().filter(|known| known.settled.is_some());
    let missing = posted.filter(|known| !read.contains(&known.partner_id));
    for known in missing.filter(|known| stock.must_be_read(known)) {
        match unknown.get_mut(&known.digest) {
            Some(left @ 1..) => *left -= 1,
            _ => return false,
        }
        moved += 1;
    }
    moved >= FEWEST && moved > kept
}
