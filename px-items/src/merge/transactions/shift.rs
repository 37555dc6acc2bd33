//! Ids that are positions, such as `2024-01-05-2`: a row that is put in before others gives its
//! neighbours' ids to other transactions.

use super::{Digest, Fate, KnownTransaction, ReadRow, Stock};
use std::collections::{HashMap, HashSet, VecDeque};

/// Follows posted rows whose contents came back under another id of the same answer, while
/// their own id came with something else.
///
/// They keep the Item's own id, whatever the partner's is now; what has their id now is not
/// written over them. Nothing distinguishes rows with the same contents, so any of them
/// will do.
pub(super) fn follow(stock: &Stock<'_>, rows: &[ReadRow], fates: &mut [Fate]) {
    let displaced = displaced(stock, rows, fates);
    if displaced.is_empty() {
        return;
    }
    let mut homeless = homeless(stock, fates, &displaced);
    let mut moved = HashSet::new();
    for (row, fate) in rows.iter().zip(fates.iter_mut()) {
        let displaces = match *fate {
            Fate::Changed(place) if displaced.contains(&place) => true,
            // The id of a row that is gone is free again.
            Fate::Changed(place) if stock.known[place].removed_at.is_some() => false,
            Fate::New { collides } => collides,
            Fate::Changed(_)
            | Fate::Same(_)
            | Fate::Moved { .. }
            | Fate::Withheld
            | Fate::Unjudged
            | Fate::Stale
            | Fate::Held => {
                continue;
            }
        };
        let Some(waiting) = homeless.get_mut(&row.digest) else { continue };
        // Under an id that nothing was displaced from it can be one that was, but not just any
        // that was not read: that is one gone and one new.
        if waiting.front().is_some_and(|place| displaces || displaced.contains(place)) {
            let Some(to) = waiting.pop_front() else { continue };
            moved.insert(to);
            *fate = Fate::Moved { to, collides: displaces };
        }
    }
    for fate in fates {
        if matches!(fate, Fate::Changed(place) if moved.contains(place)) {
            *fate = Fate::New { collides: true };
        }
    }
}

/// The posted rows whose id came with other contents.
fn displaced(stock: &Stock<'_>, rows: &[ReadRow], fates: &[Fate]) -> HashSet<usize> {
    let mut displaced = HashSet::new();
    for (row, fate) in rows.iter().zip(fates) {
        match *fate {
            Fate::Changed(place) => displaced.extend([place]),
            Fate::New { collides: true } => displaced.extend(stock.under(&row.row.id)),
            Fate::New { .. }
            | Fate::Same(_)
            | Fate::Moved { .. }
            | Fate::Withheld
            | Fate::Unjudged
            | Fate::Stale
            | Fate::Held => {}
        }
    }
    displaced.retain(|place| {
        let known = &stock.known[*place];
        known.settled.is_some() && stock.is_judged(known)
    });
    displaced
}

/// By contents: the displaced, then the posted ones that were not read and should have been.
fn homeless<'a>(
    stock: &Stock<'a>,
    fates: &[Fate],
    displaced: &HashSet<usize>,
) -> HashMap<Digest, VecDeque<usize>> {
    let read = stock.were_read(fates);
    let unread = |(place, known): &(usize, &'a KnownTransaction)| {
        !read[*place]
            && !displaced.contains(place)
            && known.settled.is_some()
            && stock.is_expected(known)
    };
    let places = || stock.known.iter().enumerate();
    let mut homeless = HashMap::<_, VecDeque<_>>::new();
    let first = places().filter(|(place, _)| displaced.contains(place));
    for (place, known) in first.chain(places().filter(unread)) {
        homeless.entry(known.digest).or_default().push_back(place);
    }
    homeless
}
