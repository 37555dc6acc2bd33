//! Changed transaction ids, after a decision that the partner changed them.

use super::{IncomingRow, MergeContext, RowOutcome, RowRule};
use std::collections::{HashMap, VecDeque};

/// Matches stored rows that were not read with rows of unknown ids that have the same contents.
/// Returns the indexes of the matched stored rows.
///
/// The stored rows keep the Item's own ids. Rows with the same contents are interchangeable: any of
/// them is used, and as many rows stay as the partner has.
pub(super) fn follow(
    context: &MergeContext<'_>,
    rows: &[IncomingRow],
    outcomes: &mut [RowOutcome],
    rule: &RowRule,
) -> Vec<usize> {
    let is_followed = |account| match rule {
        RowRule::Judge | RowRule::AsGiven => false,
        RowRule::Follow => true,
        RowRule::Rebooked { accounts, .. } => accounts.contains(account),
    };
    let read = context.were_read(outcomes);
    let mut unread = HashMap::<_, VecDeque<_>>::new();
    for (index, known) in context.known.iter().enumerate() {
        if !read[index]
            && context.is_judged(known)
            && !context.was_read_before(known)
            && is_followed(&known.account_id)
        {
            unread.entry(known.digest).or_default().push_back(index);
        }
    }
    let mut followed = Vec::new();
    for (row, outcome) in rows.iter().zip(outcomes) {
        if *outcome == (RowOutcome::New { collides: false })
            && let Some(to) = unread.get_mut(&row.digest).and_then(VecDeque::pop_front)
        {
            *outcome = RowOutcome::Matched { to, collides: false };
            followed.push(to);
        }
    }
    followed
}
