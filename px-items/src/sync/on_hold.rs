//! Data on hold: rows and accounts under other ids, and responses that may be another customer's.

use super::{Run, Stage, gathered::Gathered};
use crate::{
    merge::{
        AccountIds, AccountStanding, Digest, KnownAccount, KnownTransaction, ReadWindow,
        Resemblance, RowRule, SuspectRows, UnreadUser,
    },
    plan,
    review::{AccountOnHold, CustomerInQuestion, Decision, PROGRAM, RowsOnHold, Subject},
    store::DecisionOutcome,
    sync_state::History,
};
use chrono::{DateTime, Utc};
use px_client::Window;
use px_types::{AccountId, Date, partner::UserAccountInfoResponse};
use std::collections::{HashMap, HashSet};

impl Run {
    /// Returns whether the signed-in identity and every account changed at once.
    pub(super) fn is_another_customers(&self, response: &UserAccountInfoResponse) -> bool {
        let review = &self.sync_state.review;
        let known = review.user_identity_id.as_ref();
        let other = known.is_some_and(|known| *known != response.user_identity_id);
        let unread = UnreadUser::of(&response.faults);
        let read = response.accounts.iter().map(|account| &account.id);
        let ids: HashSet<_> = read.chain(&unread.accounts).collect();
        let mut present = self.accounts.iter().filter(|known| known.is_present()).peekable();
        let had_some = present.peek().is_some();
        let none_came = present.all(|known| !ids.contains(&known.partner_id));
        other && !review.trusts_next && had_some && none_came && !unread.any_account
    }

    /// Records that the response is the customer's.
    pub(super) fn user_accepted(&mut self, user: &px_types::IdentityId) {
        let review = &mut self.sync_state.review;
        review.user_identity_id = Some(user.clone());
        review.trusts_next = false;
        if review.customer.as_ref().is_some_and(|customer| customer.rows == 0) {
            review.customer = None;
        }
    }

    /// Discards the data of a response that may be another customer's, and stops reading.
    pub(super) fn put_all_on_hold(&mut self, rows: u64, began_at: DateTime<Utc>) {
        self.sync_state = self.record.sync_state.clone();
        self.accounts = self.stored.clone();
        self.gathered = Gathered::default();
        (self.moved, self.decided) = (Vec::new(), Vec::new());
        let review = &mut self.sync_state.review;
        let since = review.customer.as_ref().map_or(began_at, |customer| customer.since);
        review.customer = Some(CustomerInQuestion::new(since, rows));
        self.store = true;
        self.stage = Stage::Halted;
    }

    /// Returns the accounts on hold, without those that are released: accounts that are alike by
    /// name only, on hold for long enough, with no row that was there before, and resembling a
    /// closed account.
    pub(super) fn resemblances(&mut self, now: DateTime<Utc>) -> Vec<Resemblance> {
        let closed: HashSet<_> = self
            .accounts
            .iter()
            .filter(|known| known.standing == AccountStanding::Closed)
            .map(|known| &known.account.id)
            .collect();
        let is_released = |hold: &AccountOnHold| {
            hold.by_name
                && hold.compared
                && !hold.has_twin
                && now - hold.since >= self.plan.release_after
                && closed.contains(&hold.like)
                && !self.sync_state.review.operator_only
        };
        let all = self.sync_state.review.accounts.iter();
        let remaining = all.filter(|(_, hold)| !is_released(hold));
        remaining
            .map(|(held, hold)| Resemblance::new(held.clone(), hold.like.clone(), hold.by_name))
            .collect()
    }

    /// Records which accounts are on hold, and which were released.
    pub(super) fn hold_accounts(&mut self, on_hold: &[Resemblance], now: DateTime<Utc>) {
        let mut before = std::mem::take(&mut self.sync_state.review.accounts);
        let mut compares = false;
        for resemblance in on_hold {
            let hold = before.remove(&resemblance.held).unwrap_or_else(|| {
                compares |= resemblance.by_name;
                AccountOnHold::new(now, resemblance.like.clone(), resemblance.by_name)
            });
            self.sync_state.review.accounts.insert(resemblance.held.clone(), hold);
        }
        for (held, hold) in before {
            let is_closed = |known: &KnownAccount| {
                known.account.id == hold.like && known.standing == AccountStanding::Closed
            };
            // An account that is listed beside the one that it resembled needed no decision.
            if !hold.by_name || !self.accounts.iter().any(is_closed) {
                continue;
            }
            let accounts = [hold.like.clone()].into();
            let subject = Subject::Account { held, like: hold.like };
            let mut decision = Decision::new(subject, DecisionOutcome::Accepted, PROGRAM, now);
            (decision.accounts, decision.is_scanning) = (accounts, true);
            self.sync_state.review.record(decision.clone());
            self.decided.push(decision);
        }
        if self.sync_state.history == History::Missing {
            self.sync_state.review.accounts.values_mut().for_each(|hold| hold.compared = true);
        } else if compares {
            // A row that was there before may lie far back.
            self.sync_state.deep = Some(plan::history(&self.plan, now));
            if self.sync_state.history == History::Complete {
                self.sync_state.scan_notes.clear();
            }
        }
    }

    /// Compares rows of accounts on hold with those of the accounts that they resemble.
    pub(super) fn compare_on_hold(&mut self, read: &ReadWindow, known: &[KnownTransaction]) {
        if self.sync_state.review.accounts.is_empty() {
            return;
        }
        let held = |known: &&KnownAccount| known.standing == AccountStanding::Held;
        let own: HashMap<_, _> = self
            .accounts
            .iter()
            .filter(held)
            .map(|known| (&known.partner_id, &known.account.id))
            .collect();
        let mut stored = HashMap::<&AccountId, HashSet<Digest>>::new();
        for row in known.iter().filter(|row| row.removed_at.is_none()) {
            stored.entry(&row.account_id).or_default().insert(row.digest);
        }
        for row in &read.rows {
            let Some(held) = own.get(&row.account_id) else { continue };
            let Some(hold) = self.sync_state.review.accounts.get_mut(*held) else { continue };
            if let Some(stored) = stored.get(&hold.like) {
                hold.has_twin |= AccountIds::has_twin(row, &hold.like, stored);
            }
        }
    }

    /// Returns the treatment of rows under other ids in a window. A deep resync judges the rows
    /// that wait for it.
    pub(super) fn rule(&self) -> RowRule {
        match (&self.sync_state.review.rule, self.stage) {
            (RowRule::Rebooked { .. }, Stage::Deep) => RowRule::Follow,
            (rule, _) => rule.clone(),
        }
    }

    /// Records rows on hold.
    pub(super) fn hold_rows(
        &mut self,
        suspect: SuspectRows,
        window: Window,
        began_at: DateTime<Utc>,
    ) {
        let on_hold = self.on_hold.get_or_insert_with(|| RowsOnHold::new(began_at, window.start()));
        on_hold.accounts.extend(suspect.accounts);
        on_hold.rows += suspect.rows;
        on_hold.start = on_hold.start.min(window.start());
        let mut on_hold = on_hold.clone();
        if let Some(before) = &self.sync_state.review.rows {
            on_hold.since = on_hold.since.min(before.since);
            on_hold.start = on_hold.start.min(before.start);
        }
        self.sync_state.review.rows = Some(on_hold);
    }

    /// Records the end of a scan from a date to today. Rows that it did not find on hold are
    /// released.
    pub(super) fn scan_ended(&mut self, start: Date) {
        let review = &mut self.sync_state.review;
        if self.on_hold.take().is_none() {
            review.rows.take_if(|rows| rows.start >= start);
        }
        review.customer = None;
    }
}
