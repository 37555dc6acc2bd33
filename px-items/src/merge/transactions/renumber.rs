//! A partner that has given its transactions new ids, once it was decided that it has.

use super::{Fate, ReadRow, RowRule, Stock};
use std::collections::{HashMap, VecDeque};

/// Follows stored rows whose id did not come to a row of an unknown id with the same contents.
/// Returns their places.
///
/// They keep the Item's own id, whatever the partner's is now. Rows with the same contents are told
/// apart by nothing, so any of them will do, and there stay as many as the partner has.
pub(super) fn follow(
    stock: &Stock<'_>,
    rows: &[ReadRow],
    fates: &mut [Fate],
    rule: &RowRule,
) -> Vec<usize> {
    let is_followed = |account| match rule {
        RowRule::Judge | RowRule::AsGiven => false,
        RowRule::Follow => true,
        RowRule::Rebooked { accounts, .. } => accounts.contains(account),
    };
    let read = stock.were_read(fates);
    let mut unread = HashMap::<_, VecDeque<_>>::new();
    for (place, known) in stock.known.iter().enumerate() {
        if !read[place]
            && stock.is_judged(known)
            && !stock.was_read_before(known)
            && is_followed(&known.account_id)
        {
            unread.entry(known.digest).or_default().push_back(place);
        }
    }
    let mut followed = Vec::new();
    for (row, fate) in rows.iter().zip(fates) {
        if *fate == (Fate::New { collides: false })
            && let Some(to) = unread.get_mut(&row.digest).and_then(VecDeque::pop_front)
        {
            *fate = Fate::Moved { to, collides: false };
            followed.push(to);
        }
    }
    followed
}
