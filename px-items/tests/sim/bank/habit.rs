//! Habits of banks that are difficult for the merge.

use crate::dice::Dice;
use std::collections::BTreeSet;

/// Habit of a bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Habit {
    /// Times are written with the bank's offset; windows are filtered by the date that is written.
    Offsets,
    /// Times are written with the bank's offset; windows are filtered by their date in UTC.
    DatesInUtc,
    /// Windows are filtered by the date on which a transaction was made, after it posted too.
    DatesByPurchase,
    /// Some accounts are filtered by one date and some by the other.
    DatesPerAccount,
    /// Pending transactions have other ids every ten minutes.
    UnstablePendingIds,
    /// All posted transactions of a user get other ids at once, and keep their contents.
    Renumbers,
    /// As [`Renumbers`](Self::Renumbers), and some of them get another text as well.
    RenumbersWithEdits,
    /// A response about the user lacks an account now and then.
    MissesAccounts,
    /// The total of a window is off by one, always in the same direction.
    WrongTotal,
    /// After some time no transaction can be read; accounts can.
    NoTransactions,
    /// A user who returns may get the token that was issued before.
    ReusesTokens,
    /// Accounts of several types and currencies, holdings and securities.
    Wide,
}

impl Habit {
    /// All habits.
    pub(crate) const ALL: [Self; 12] = [
        Self::Offsets,
        Self::DatesInUtc,
        Self::DatesByPurchase,
        Self::DatesPerAccount,
        Self::UnstablePendingIds,
        Self::Renumbers,
        Self::RenumbersWithEdits,
        Self::MissesAccounts,
        Self::WrongTotal,
        Self::NoTransactions,
        Self::ReusesTokens,
        Self::Wide,
    ];

    /// Returns its name in the arguments.
    pub(crate) fn name(self) -> String {
        let words = format!("{self:?}");
        words.char_indices().fold(String::new(), |mut name, (place, letter)| {
            if letter.is_ascii_uppercase() && place > 0 {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
            name
        })
    }

    /// Returns the habits of a bank: none, one or a few, and `wanted` in any case.
    pub(crate) fn random(wanted: Option<Self>, dice: &mut Dice) -> BTreeSet<Self> {
        let count = dice.pick(&[0, 0, 1, 1, 1, 2, 2, 3]).copied().unwrap_or_default();
        let mut habits = BTreeSet::new();
        for _ in 0..count {
            habits.extend(dice.pick(&Self::ALL).copied());
        }
        habits.extend(wanted);
        habits
    }
}
