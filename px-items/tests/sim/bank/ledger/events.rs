//! Daily events of a user's accounts and transactions.

use super::{Ledger, Listing, Missing, OLDEST, amount};
use crate::{
    bank::{Habit, Style},
    dice::Dice,
};
use chrono::{DateTime, TimeDelta, Utc};
use px_types::{
    AccountId, Date, TransactionId,
    model::{account::AccountStatus, transaction::Transaction},
};

/// Number of rows of a thousand that get another text when all get another id.
const EDITED: u64 = 150;

impl Ledger {
    /// Makes a random event happen. Returns its description, or `None` if it had no object.
    pub(in crate::bank) fn live(
        &mut self,
        today: Date,
        now: DateTime<Utc>,
        style: &Style,
        dice: &mut Dice,
    ) -> Option<String> {
        if let Some(what) = self.habit(now, style, dice) {
            self.version += 1;
            return Some(what);
        }
        let what = match dice.below(100) {
            0..=27 => {
                let back = dice.below(3);
                let pending = dice.chance(700);
                let id = self.add(today.minus_days(back), today, pending, style, dice)?;
                format!("{id} is new")
            }
            28..=52 => self.post(today, now, style, dice)?,
            53..=57 => self.change_pending(now, style, dice)?,
            58..=62 => self.change_posted(dice)?,
            63..=69 => self.delete(dice.chance(700), now, dice)?,
            70..=72 => self.restore(now)?,
            73..=77 => {
                let back = dice.between(8, OLDEST);
                let pending = dice.chance(150);
                let id = self.add(today.minus_days(back), today, pending, style, dice)?;
                format!("{id} is new, {back} days back")
            }
            78..=82 => self.twin(dice)?,
            83..=90 => self.change_balance(dice)?,
            91..=92 => {
                if self.accounts.len() >= 6 {
                    return None;
                }
                format!("account {} is opened", self.open_account(now, style, dice))
            }
            93..=94 => self.close_account(dice)?,
            95..=96 => self.reopen_account(now, dice)?,
            97 => {
                self.name = format!("Name of {} no. {}", self.user, dice.below(1000));
                "the holder has another name".into()
            }
            98 => self.change_price(dice)?,
            _ => self.rename_account(dice)?,
        };
        self.version += 1;
        Some(what)
    }

    /// Makes an event of the bank's habits happen.
    fn habit(&mut self, now: DateTime<Utc>, style: &Style, dice: &mut Dice) -> Option<String> {
        let edits = style.has(Habit::RenumbersWithEdits);
        if (edits || style.has(Habit::Renumbers)) && self.renumbered < 2 && dice.chance(40) {
            return self.renumber(now, edits, dice);
        }
        if style.has(Habit::MissesAccounts) && dice.chance(100) {
            return self.miss_account(now, dice);
        }
        None
    }

    /// Gives all posted transactions of listed accounts other ids.
    fn renumber(&mut self, now: DateTime<Utc>, edits: bool, dice: &mut Dice) -> Option<String> {
        let posted = self.shown().filter(|row| !row.is_pending());
        let ids: Vec<_> = posted.map(|row| row.id.clone()).collect();
        if ids.is_empty() {
            return None;
        }
        self.renumbered += 1;
        let (count, mut edited) = (ids.len(), 0);
        for id in ids {
            let mut row = self.rows.remove(&id)?;
            self.next += 1;
            row.id = TransactionId::new(format!("{}-r{}", self.user, self.next)).unwrap();
            if edits && dice.chance(EDITED) {
                row.description = Some(format!("Purchase {} rebooked", dice.below(1000)));
                edited += 1;
            }
            self.moved.insert(id, now);
            self.moved.insert(row.id.clone(), now);
            self.rows.insert(row.id.clone(), row);
        }
        Some(format!("{count} transactions have other ids, {edited} of them another text"))
    }

    /// Makes responses lack an account for a while, at most once a day.
    fn miss_account(&mut self, now: DateTime<Utc>, dice: &mut Dice) -> Option<String> {
        let day = TimeDelta::hours(30);
        if self.missing.as_ref().is_some_and(|missing| now - missing.until < day) {
            return None;
        }
        let account = self.some_account(dice, |listing| listing.listed)?;
        let minutes = dice.between(1, 120);
        let responses = if dice.chance(500) { dice.between(1, 2) } else { u64::MAX };
        let text = format!("responses lack account {account} for {minutes} minutes at most");
        let until = now + TimeDelta::minutes(minutes.cast_signed());
        self.missing = Some(Missing { account, until, responses });
        Some(text)
    }

    pub(super) fn add(
        &mut self,
        made: Date,
        today: Date,
        pending: bool,
        style: &Style,
        dice: &mut Dice,
    ) -> Option<TransactionId> {
        let account = self.some_account(dice, |listing| listing.listed)?;
        self.next += 1;
        let id = TransactionId::new(format!("{}-t{}", self.user, self.next)).unwrap();
        let of = &self.accounts.get(&account)?.account;
        let mut row = Transaction::new(
            id.clone(),
            account,
            amount(dice.between(100, 20_000)),
            style.written(made, dice),
            of.account_type(),
            of.unit.clone(),
        );
        row.description = Some(format!("Purchase {}", dice.below(8)));
        if !pending {
            let settled = made.plus_days(dice.below(4)).min(today);
            row.settled_at = Some(style.written(settled, dice));
        }
        self.invest(&mut row, dice);
        self.rows.insert(id.clone(), row);
        Some(id)
    }

    /// A pending row posts: sometimes with a tip, at some banks under another id.
    fn post(
        &mut self,
        today: Date,
        now: DateTime<Utc>,
        style: &Style,
        dice: &mut Dice,
    ) -> Option<String> {
        let id = self.some_row(dice, Transaction::is_pending)?;
        let mut row = self.rows.remove(&id)?;
        row.settled_at = Some(style.written(today.max(row.transacted_at.date()), dice));
        let mut how = String::new();
        if dice.chance(200) {
            row.amount = amount(dice.between(100, 20_000));
            how.push_str(", with another amount");
        }
        if dice.chance(style.new_id_on_posting) {
            self.next += 1;
            row.id = TransactionId::new(format!("{}-p{}", self.user, self.next)).unwrap();
            how.push_str(&format!(", as {}", row.id));
        }
        self.moved.insert(id.clone(), now);
        self.moved.insert(row.id.clone(), now);
        self.rows.insert(row.id.clone(), row);
        Some(format!("{id} posts{how}"))
    }

    /// If its id changes with every response, nothing shows that it is still the same.
    fn change_pending(
        &mut self,
        now: DateTime<Utc>,
        style: &Style,
        dice: &mut Dice,
    ) -> Option<String> {
        let id = self.some_row(dice, Transaction::is_pending)?;
        if style.has(Habit::UnstablePendingIds) {
            self.moved.insert(id.clone(), now);
        }
        self.rows.get_mut(&id)?.amount = amount(dice.between(100, 20_000));
        Some(format!("{id} is pending with another amount"))
    }

    /// A posted row keeps its date, otherwise it could not be distinguished from another one under
    /// its id.
    fn change_posted(&mut self, dice: &mut Dice) -> Option<String> {
        let id = self.some_row(dice, |row| !row.is_pending())?;
        let row = self.rows.get_mut(&id)?;
        if dice.chance(500) {
            row.description = Some(format!("Purchase {} corrected", dice.below(1000)));
            return Some(format!("{id} has another text"));
        }
        row.amount = amount(dice.between(100, 20_000));
        Some(format!("{id} has another amount"))
    }

    fn delete(&mut self, pending: bool, now: DateTime<Utc>, dice: &mut Dice) -> Option<String> {
        let id = self.some_row(dice, |row| row.is_pending() == pending)?;
        let row = self.rows.remove(&id)?;
        self.moved.insert(id.clone(), now);
        self.deleted.push(row);
        Some(format!("{id} vanishes"))
    }

    fn restore(&mut self, now: DateTime<Utc>) -> Option<String> {
        let row = self.deleted.pop()?;
        let id = row.id.clone();
        self.moved.insert(id.clone(), now);
        self.rows.insert(id.clone(), row);
        Some(format!("{id} is back"))
    }

    /// Adds a second purchase that is equal in everything but the id.
    fn twin(&mut self, dice: &mut Dice) -> Option<String> {
        let id = self.some_row(dice, |_| true)?;
        let mut row = self.rows.get(&id)?.clone();
        self.next += 1;
        row.id = TransactionId::new(format!("{}-t{}", self.user, self.next)).unwrap();
        let text = format!("{} is new, equal to {id}", row.id);
        self.twins.extend([id, row.id.clone()]);
        self.rows.insert(row.id.clone(), row);
        Some(text)
    }

    fn change_balance(&mut self, dice: &mut Dice) -> Option<String> {
        let id = self.some_account(dice, |listing| listing.listed)?;
        self.accounts.get_mut(&id)?.account.current_balance = amount(dice.below(100_000));
        Some(format!("account {id} has another balance"))
    }

    fn rename_account(&mut self, dice: &mut Dice) -> Option<String> {
        let id = self.some_account(dice, |listing| listing.listed)?;
        self.accounts.get_mut(&id)?.account.official_name =
            Some(format!("Official {}", dice.below(1000)));
        Some(format!("account {id} has another official name"))
    }

    /// Closes an account by its status, or by no longer listing it. One account stays.
    fn close_account(&mut self, dice: &mut Dice) -> Option<String> {
        if self.accounts.values().filter(|listing| listing.listed).count() < 2 {
            return None;
        }
        let id = self.some_account(dice, |listing| listing.listed)?;
        let listing = self.accounts.get_mut(&id)?;
        if dice.chance(400) {
            listing.account.status = AccountStatus::Closed;
            return Some(format!("account {id} is closed, and still listed"));
        }
        listing.listed = false;
        Some(format!("account {id} is no longer listed"))
    }

    fn reopen_account(&mut self, now: DateTime<Utc>, dice: &mut Dice) -> Option<String> {
        let id = self.some_account(dice, |listing| !listing.listed)?;
        let listing = self.accounts.get_mut(&id)?;
        (listing.listed, listing.since) = (true, now);
        Some(format!("account {id} is listed again"))
    }

    fn some_account(&self, dice: &mut Dice, which: impl Fn(&Listing) -> bool) -> Option<AccountId> {
        let ids: Vec<_> =
            self.accounts.iter().filter(|(_, listing)| which(listing)).map(|(id, _)| id).collect();
        dice.pick(&ids).map(|id| (*id).clone())
    }

    /// Returns a random transaction of a listed account.
    fn some_row(
        &self,
        dice: &mut Dice,
        which: impl Fn(&Transaction) -> bool,
    ) -> Option<TransactionId> {
        let ids: Vec<_> = self.shown().filter(|row| which(row)).map(|row| &row.id).collect();
        dice.pick(&ids).map(|id| (*id).clone())
    }
}
