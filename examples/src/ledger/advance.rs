//! Advancing the bank's clock: new transactions appear, pending ones post or vanish.
//!
//! Everything follows from the seed and the dates, so advancing by 7 days twice gives the same data
//! as advancing by 14.

use super::{
    Ledger, LedgerError, Result, meta, next_change, notifications, set_meta, today, write,
};
use crate::seed::{
    Day, MAX_PENDING_DAYS,
    account::{Sums, moved},
    date_of, day_of, drift,
    event::{Event, State},
    household::{Household, Plan},
    money, transaction,
};
use px_types::{
    Date,
    model::{
        account::{Account, AccountType},
        transaction::Transaction,
    },
    wire::decode,
};
use sqlx::SqliteConnection;
use std::collections::BTreeSet;

/// Maximum number of days that the clock advances at a time.
pub const MAX_ADVANCE_DAYS: i64 = 3650;

/// The result of advancing the clock.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AdvanceReport {
    /// The bank's date before.
    pub from: Date,
    /// The bank's date now.
    pub to: Date,
    /// The number of new transactions.
    pub new: u64,
    /// The number of pending transactions that posted or changed.
    pub changed: u64,
    /// The number of transactions that vanished.
    pub gone: u64,
}

/// Changes of the ledger that are not yet written.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) put: Vec<write::Row>,
    gone: Vec<String>,
    pub(super) touched: BTreeSet<(i64, Day)>,
    new: u64,
    changed: u64,
}

impl Ledger {
    /// Advances the bank's clock by a number of days.
    ///
    /// # Errors
    /// If the number of days is out of range or the database fails.
    pub async fn advance(&self, days: i64) -> Result<AdvanceReport> {
        if !(1..=MAX_ADVANCE_DAYS).contains(&days) {
            return Err(LedgerError::Days(MAX_ADVANCE_DAYS));
        }
        let mut tx = self.write().await?;
        let from = today(&mut tx).await?;
        let to = from + days;
        let start = meta(&mut tx, "clock start").await?.and_then(|text| text.parse::<Date>().ok());
        let start = start.ok_or(LedgerError::NotABank)?;
        set_meta(&mut tx, "days advanced", &(to - day_of(start)).to_string()).await?;
        let seed = meta(&mut tx, "seed").await?.and_then(|text| text.parse().ok());
        let filled = meta(&mut tx, "filled on").await?.and_then(|text| text.parse().ok());
        let mut changes = Changes::default();
        if let (Some(seed), Some(filled)) = (seed, filled) {
            households(&mut tx, seed, filled, from, to, &mut changes).await?;
            for security in Household::securities(to) {
                let sql = "UPDATE securities SET body = ? WHERE security_id = ? AND made_up = 1";
                let query =
                    sqlx::query(sql).bind(write::text(&security)).bind(security.id.as_str());
                query.execute(&mut *tx).await?;
            }
        }
        imported(&mut tx, seed.unwrap_or(1), from, to, &mut changes).await?;
        let gone = changes.gone.len() as u64;
        write::delete(&mut tx, &changes.gone).await?;
        write::put(&mut tx, &changes.put).await?;
        notifications::record_booked(&mut tx, &changes).await?;
        let change = next_change(&mut tx).await?;
        write::touch(&mut tx, change, changes.touched).await?;
        tx.commit().await?;
        Ok(AdvanceReport {
            from: date_of(from),
            to: date_of(to),
            new: changes.new,
            changed: changes.changed,
            gone,
        })
    }
}

impl Changes {
    /// Records the change of an event between two days. Returns the amounts that it adds to the
    /// sums.
    fn record(
        &mut self,
        account_n: i64,
        event: &Event,
        (from, to): (Day, Day),
        show: impl FnOnce(State) -> Option<Transaction>,
    ) -> Sums {
        let (was, is) = (event.state(from), event.state(to));
        if was == is {
            return Sums::default();
        }
        match (was, is) {
            (State::Absent, _) => self.new += 1,
            (_, State::Absent) => self.gone.push(event.id.clone()),
            _ => self.changed += 1,
        }
        for state in [was, is] {
            match state {
                State::Absent => {}
                State::Pending(_) => _ = self.touched.insert((account_n, -event.made)),
                State::Posted(day, _) => _ = self.touched.insert((account_n, -day)),
            }
        }
        if let Some(transaction) = show(is) {
            self.put.push(write::Row::new(account_n, &transaction));
        }
        let posted = |state| if let State::Posted(_, minor) = state { minor } else { 0 };
        let held = |state| if let State::Pending(minor) = state { minor.max(0) } else { 0 };
        Sums { opening: 0, posted: posted(is) - posted(was), held: held(is) - held(was) }
    }
}

/// Returns the latest day with a transaction, after the changes.
fn latest(stored: Option<Date>, changes: &Changes, account_n: i64) -> Option<Date> {
    let changed = changes.put.iter().filter(|row| row.account_n == account_n);
    changed.map(|row| date_of(-row.before)).max().max(stored)
}

async fn households(
    connection: &mut SqliteConnection,
    seed: u64,
    filled: Day,
    from: Day,
    to: Day,
    changes: &mut Changes,
) -> Result<()> {
    let sql = "SELECT n, plan, number FROM users WHERE plan IS NOT NULL ORDER BY n";
    let users: Vec<(i64, String, i64)> = sqlx::query_as(sql).fetch_all(&mut *connection).await?;
    for (user_n, plan, number) in users {
        let Some(plan) = Plan::from_name(&plan) else { continue };
        let household = Household::new(seed, number.unsigned_abs(), plan, filled);
        let sql = "SELECT n, place, opening, posted, held, body FROM accounts WHERE user_n = ? ORDER BY place";
        let accounts: Vec<(i64, i64, i64, i64, i64, String)> =
            sqlx::query_as(sql).bind(user_n).fetch_all(&mut *connection).await?;
        let mut sums = vec![Sums::default(); accounts.len()];
        for day in (from - MAX_PENDING_DAYS).max(household.first)..=to {
            for event in household.events(day) {
                let Some((account_n, ..)) = accounts.get(event.account) else { continue };
                let show = |state| household.transaction(&event, state);
                let added = changes.record(*account_n, &event, (from, to), show);
                sums[event.account].posted += added.posted;
                sums[event.account].held += added.held;
            }
        }
        for ((account_n, place, opening, posted, held, body), added) in accounts.iter().zip(sums) {
            let now =
                Sums { opening: *opening, posted: posted + added.posted, held: held + added.held };
            let Some(mut account) = household.account(*place as usize, to, now) else { continue };
            let before: Account = read(body)?;
            let stored = before.last_activity_at.map(|at| at.date());
            account.last_activity_at = latest(stored, changes, *account_n).map(Into::into);
            let body = write::text(&account);
            write::set_account(connection, *account_n, &body, now.posted, now.held).await?;
        }
    }
    Ok(())
}

fn read(body: &str) -> Result<Account> {
    decode(body.as_bytes()).map_err(|source| LedgerError::Damaged { what: "account", source })
}

async fn imported(
    connection: &mut SqliteConnection,
    seed: u64,
    from: Day,
    to: Day,
    changes: &mut Changes,
) -> Result<()> {
    let sql = "SELECT n, account_id, body, since, opening, posted, held FROM accounts WHERE user_n IS NULL ORDER BY n";
    let accounts: Vec<(i64, String, String, Day, i64, i64, i64)> =
        sqlx::query_as(sql).fetch_all(&mut *connection).await?;
    for (account_n, account_id, body, since, opening, posted, held) in accounts {
        let mut account = read(&body)?;
        let kind = account.account_type();
        let scale = money::scale_of(&account.unit);
        let mut added = Sums::default();
        if matches!(kind, AccountType::Depository | AccountType::Credit) {
            for day in (from - MAX_PENDING_DAYS).max(since + 1)..=to {
                for event in drift::events(seed, &account_id, opening, day) {
                    let show = |state| {
                        let unit = &account.unit;
                        transaction::message(
                            &event,
                            state,
                            &account.id,
                            kind.clone(),
                            unit,
                            scale,
                            None,
                        )
                    };
                    let sums = changes.record(account_n, &event, (from, to), show);
                    added.posted += sums.posted;
                    added.held += sums.held;
                }
            }
        }
        let settled = settle(connection, seed, (account_n, since), (from, to), changes).await?;
        let posted_amount = money::amount(added.posted, scale);
        let balance = moved(account.current_balance, &kind, posted_amount);
        account.current_balance = balance.unwrap_or(account.current_balance);
        if let Some(available) = account.available_balance {
            let spent = money::amount(added.posted + added.held, scale);
            account.available_balance = available.checked_sub(spent).or(Some(available));
        }
        if added.posted != 0 || added.held != 0 || settled {
            let stored = account.last_activity_at.map(|at| at.date());
            account.last_activity_at = latest(stored, changes, account_n).map(Into::into);
        }
        let body = write::text(&account);
        let (posted, held) = (posted + added.posted, held + added.held);
        write::set_account(connection, account_n, &body, posted, held).await?;
    }
    Ok(())
}

/// Posts the pending transactions of the import. The imported balance is assumed to include them.
async fn settle(
    connection: &mut SqliteConnection,
    seed: u64,
    (account_n, since): (i64, Day),
    (from, to): (Day, Day),
    changes: &mut Changes,
) -> Result<bool> {
    let sql = "SELECT before, body FROM transactions WHERE account_n = ? AND pending = 1 AND id NOT LIKE 'new-%'";
    let pending: Vec<(Day, String)> =
        sqlx::query_as(sql).bind(account_n).fetch_all(connection).await?;
    let mut any = false;
    for (before, body) in pending {
        let read = decode::<Transaction>(body.as_bytes());
        let what = "transaction";
        let mut transaction = read.map_err(|source| LedgerError::Damaged { what, source })?;
        // Never before it was made. A ledger may date that in the bank's future.
        let posts = since.max(-before) + drift::posts_after(seed, transaction.id.as_str());
        if (from + 1..=to).contains(&posts) {
            transaction.settled_at = Some(date_of(posts).into());
            changes.touched.extend([(account_n, before), (account_n, -posts)]);
            changes.changed += 1;
            changes.put.push(write::Row::new(account_n, &transaction));
            any = true;
        }
    }
    Ok(any)
}
