//! One user's accounts and transactions, and what happens to them day by day.

use super::Style;
use crate::dice::Dice;
use chrono::{DateTime, Utc};
use px_types::{
    AccountId, Amount, Date, IdentityId, TransactionId, Unit, UserId,
    model::{
        account::{Account, AccountKind, AccountStatus, AccountType},
        account_subtype::CreditSubtype,
        credit::Credit,
        identity::Identity,
        transaction::Transaction,
    },
    partner::UserAccountInfoResponse,
};
use std::{collections::BTreeMap, fmt};

/// How far back transactions go at most, in days: with the days of a run they stay within the
/// history that the workers keep, so that in the end all of them can be compared.
const OLDEST: u64 = 45;

/// One user's accounts and transactions.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    user: UserId,
    name: String,
    pub(crate) accounts: BTreeMap<AccountId, Listing>,
    pub(crate) rows: BTreeMap<TransactionId, Transaction>,
    deleted: Vec<Transaction>,
    next: u64,
    /// Counts changes.
    pub(super) version: u64,
}

/// An account of the bank.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) account: Account,
    /// Whether the bank still lists it.
    pub(crate) listed: bool,
    /// When it was opened, or listed again.
    pub(crate) since: DateTime<Utc>,
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} accounts, {} transactions", self.accounts.len(), self.rows.len())
    }
}

impl Ledger {
    /// A user with some history.
    pub(crate) fn fill(user: &UserId, today: Date, now: DateTime<Utc>, dice: &mut Dice) -> Self {
        let mut ledger = Self {
            user: user.clone(),
            name: format!("Name of {user}"),
            accounts: BTreeMap::new(),
            rows: BTreeMap::new(),
            deleted: Vec::new(),
            next: 0,
            version: 0,
        };
        for _ in 0..dice.between(1, 3) {
            ledger.open_account(now, dice);
        }
        for _ in 0..dice.between(5, 60) {
            let back = dice.below(OLDEST);
            let pending = back < 6 && dice.chance(400);
            ledger.add(today.minus_days(back), today, pending, dice);
        }
        ledger
    }

    /// What `GET /users/{user_id}` answers.
    pub(crate) fn answer(&self) -> UserAccountInfoResponse {
        let identity = self.identity();
        UserAccountInfoResponse::new(
            identity.id.clone(),
            vec![identity],
            Vec::new(),
            self.accounts
                .values()
                .filter(|a| a.listed)
                .map(|a| a.account.clone())
                .collect::<Vec<_>>(),
        )
    }

    /// The holder.
    pub(crate) fn identity(&self) -> Identity {
        Identity::new(identity_id(&self.user), self.name.clone())
    }

    /// The transactions of accounts that are listed.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Transaction> {
        self.rows
            .values()
            .filter(|row| self.accounts.get(&row.account_id).is_some_and(|listing| listing.listed))
    }

    /// Something happens. Answers what; `None` when there was nothing it could happen to.
    pub(super) fn live(
        &mut self,
        today: Date,
        now: DateTime<Utc>,
        style: &Style,
        dice: &mut Dice,
    ) -> Option<String> {
        let what = match dice.below(100) {
            0..=27 => {
                let back = dice.below(3);
                let id = self.add(today.minus_days(back), today, dice.chance(700), dice)?;
                format!("{id} is new")
            }
            28..=52 => self.post(today, style, dice)?,
            53..=57 => self.change_pending(dice)?,
            58..=62 => self.change_posted(dice)?,
            63..=69 => self.delete(dice.chance(700), dice)?,
            70..=72 => self.restore()?,
            73..=77 => {
                let back = dice.between(8, OLDEST);
                let id = self.add(today.minus_days(back), today, dice.chance(150), dice)?;
                format!("{id} is new, {back} days back")
            }
            78..=82 => self.twin(dice)?,
            83..=90 => self.change_balance(dice)?,
            91..=92 => {
                if self.accounts.len() >= 5 {
                    return None;
                }
                format!("account {} is opened", self.open_account(now, dice))
            }
            93..=94 => self.close_account(dice)?,
            95..=96 => self.reopen_account(now, dice)?,
            97 => {
                self.name = format!("Name of {} no. {}", self.user, dice.below(1000));
                "the holder has another name".into()
            }
            _ => self.rename_account(dice)?,
        };
        self.version += 1;
        Some(what)
    }

    fn open_account(&mut self, now: DateTime<Utc>, dice: &mut Dice) -> AccountId {
        self.next += 1;
        let id = AccountId::new(format!("{}-a{}", self.user, self.next)).unwrap();
        let mut account = Account::new(
            id.clone(),
            format!("Account {}", self.next),
            AccountStatus::Active,
            vec![identity_id(&self.user)],
            amount(dice.below(100_000)),
            Unit::iso("USD").unwrap(),
            AccountKind::Credit(Credit::new(CreditSubtype::CreditCard)),
        );
        account.display_mask = Some(format!("{:04}", 1000 + self.next));
        self.accounts.insert(id.clone(), Listing { account, listed: true, since: now });
        id
    }

    fn add(
        &mut self,
        made: Date,
        today: Date,
        pending: bool,
        dice: &mut Dice,
    ) -> Option<TransactionId> {
        let account = self.some_account(dice, |listing| listing.listed)?;
        self.next += 1;
        let id = TransactionId::new(format!("{}-t{}", self.user, self.next)).unwrap();
        let mut row = Transaction::new(
            id.clone(),
            account,
            amount(dice.between(100, 20_000)),
            made,
            AccountType::Credit,
            Unit::iso("USD").unwrap(),
        );
        row.description = Some(format!("Purchase {}", dice.below(8)));
        if !pending {
            row.settled_at = Some(made.plus_days(dice.below(4)).min(today).into());
        }
        self.rows.insert(id.clone(), row);
        Some(id)
    }

    /// A pending one posts: sometimes with a tip, at some banks under another id.
    fn post(&mut self, today: Date, style: &Style, dice: &mut Dice) -> Option<String> {
        let id = self.some_row(dice, Transaction::is_pending)?;
        let mut row = self.rows.remove(&id)?;
        row.settled_at = Some(today.max(row.transacted_at.date()).into());
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
        self.rows.insert(row.id.clone(), row);
        Some(format!("{id} posts{how}"))
    }

    fn change_pending(&mut self, dice: &mut Dice) -> Option<String> {
        let id = self.some_row(dice, Transaction::is_pending)?;
        self.rows.get_mut(&id)?.amount = amount(dice.between(100, 20_000));
        Some(format!("{id} is pending with another amount"))
    }

    /// A posted one keeps its date, else it could not be told from another one under its id.
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

    fn delete(&mut self, pending: bool, dice: &mut Dice) -> Option<String> {
        let id = self.some_row(dice, |row| row.is_pending() == pending)?;
        let row = self.rows.remove(&id)?;
        self.deleted.push(row);
        Some(format!("{id} vanishes"))
    }

    fn restore(&mut self) -> Option<String> {
        let row = self.deleted.pop()?;
        let id = row.id.clone();
        self.rows.insert(id.clone(), row);
        Some(format!("{id} is back"))
    }

    /// A second purchase that is equal in everything but the id.
    fn twin(&mut self, dice: &mut Dice) -> Option<String> {
        let id = self.some_row(dice, |_| true)?;
        let mut row = self.rows.get(&id)?.clone();
        self.next += 1;
        row.id = TransactionId::new(format!("{}-t{}", self.user, self.next)).unwrap();
        let text = format!("{} is new, equal to {id}", row.id);
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

    /// Closed: by its status, or no longer listed. One stays.
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

    /// Some transaction of an account that is listed.
    fn some_row(
        &self,
        dice: &mut Dice,
        which: impl Fn(&Transaction) -> bool,
    ) -> Option<TransactionId> {
        let ids: Vec<_> = self.shown().filter(|row| which(row)).map(|row| &row.id).collect();
        dice.pick(&ids).map(|id| (*id).clone())
    }
}

fn identity_id(user: &UserId) -> IdentityId {
    IdentityId::new(format!("{user}-i")).unwrap()
}

fn amount(cents: u64) -> Amount {
    format!("{}.{:02}", cents / 100, cents % 100).parse().unwrap()
}
