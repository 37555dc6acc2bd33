//! Transaction ids that are positions, such as `2024-01-05-2`: a row that is inserted before others
//! shifts the ids of its neighbours to other transactions.

use super::{Digest, IncomingRow, KnownTransaction, MergeContext, RowOutcome};
use std::collections::{HashMap, HashSet, VecDeque};

/// Matches displaced posted rows: their contents returned under another id of the same response, while
/// their former id carries other contents.
///
/// They keep the Item's own id. The row that has their former id does not overwrite them. Rows with
/// the same contents are interchangeable.
pub(super) fn follow(
    context: &MergeContext<'_>,
    rows: &[IncomingRow],
    outcomes: &mut [RowOutcome],
) {
    let displaced = displaced(context, rows, outcomes);
    if displaced.is_empty() {
        return;
    }
    let mut unplaced = unplaced(context, outcomes, &displaced);
    let mut moved = HashSet::new();
    for (row, outcome) in rows.iter().zip(outcomes.iter_mut()) {
        let takes_over_id = match *outcome {
            RowOutcome::Changed(index) if displaced.contains(&index) => true,
            // The id of a removed row is free again.
            RowOutcome::Changed(index) if context.known[index].removed_at.is_some() => false,
            RowOutcome::New { collides } => collides,
            RowOutcome::Changed(_)
            | RowOutcome::Unchanged(_)
            | RowOutcome::Matched { .. }
            | RowOutcome::Withheld
            | RowOutcome::Deferred
            | RowOutcome::Stale
            | RowOutcome::OnHold => {
                continue;
            }
        };
        let Some(candidates) = unplaced.get_mut(&row.digest) else { continue };
        // If the incoming row does not take over the id of another row, it is matched only with a
        // displaced row. A stored row that merely was not read is not a match: then one row was
        // removed and one is new.
        if candidates.front().is_some_and(|index| takes_over_id || displaced.contains(index)) {
            let Some(to) = candidates.pop_front() else { continue };
            moved.insert(to);
            *outcome = RowOutcome::Matched { to, collides: takes_over_id };
        }
    }
    for outcome in outcomes {
        if matches!(outcome, RowOutcome::Changed(index) if moved.contains(index)) {
            *outcome = RowOutcome::New { collides: true };
        }
    }
}

/// Returns the posted rows with ids that now carry other contents.
fn displaced(
    context: &MergeContext<'_>,
    rows: &[IncomingRow],
    outcomes: &[RowOutcome],
) -> HashSet<usize> {
    let mut displaced = HashSet::new();
    for (row, outcome) in rows.iter().zip(outcomes) {
        match *outcome {
            RowOutcome::Changed(index) => displaced.extend([index]),
            RowOutcome::New { collides: true } => displaced.extend(context.under(&row.row.id)),
            RowOutcome::New { .. }
            | RowOutcome::Unchanged(_)
            | RowOutcome::Matched { .. }
            | RowOutcome::Withheld
            | RowOutcome::Deferred
            | RowOutcome::Stale
            | RowOutcome::OnHold => {}
        }
    }
    displaced.retain(|index| {
        let known = &context.known[*index];
        known.settled.is_some() && context.is_judged(known)
    });
    displaced
}

/// Returns the rows to match by contents: displaced rows first, then expected posted rows that were
/// not read.
fn unplaced<'a>(
    context: &MergeContext<'a>,
    outcomes: &[RowOutcome],
    displaced: &HashSet<usize>,
) -> HashMap<Digest, VecDeque<usize>> {
    let read = context.were_read(outcomes);
    let unread = |(index, known): &(usize, &'a KnownTransaction)| {
        !read[*index]
            && !displaced.contains(index)
            && known.settled.is_some()
            && context.is_expected(known)
    };
    let indexes = || context.known.iter().enumerate();
    let mut unplaced = HashMap::<_, VecDeque<_>>::new();
    let first = indexes().filter(|(index, _)| displaced.contains(index));
    for (index, known) in first.chain(indexes().filter(unread)) {
        unplaced.entry(known.digest).or_default().push_back(index);
    }
    unplaced
}
