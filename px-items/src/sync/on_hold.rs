//! What waits for a decision: rows and accounts under other ids, and what may be another customer's.

use super::{Run, Stage, gathered::Gathered};
use crate::{
    life::History,
    merge::{
        AccountIds, AccountStanding, Digest, KnownAccount, KnownTransaction, Question, ReadWindow,
        Resemblance, RowRule, UnreadUser,
    },
    plan,
    review::{AccountOnHold, CustomerInQuestion, Decision, PROGRAM, RowsOnHold, Subject},
    store::Verdict,
};
use chrono::{DateTime, Utc};
use px_client::Window;
use px_types::{AccountId, Date, partner::UserAccountInfoResponse};
use std::collections::{HashMap, HashSet};

impl Run {
    /// Whether the signed-in identity and every account are others than before at once.
    pub(super) fn is_another_customers(&self, answer: &UserAccountInfoResponse) -> bool {
        let review = &self.life.review;
        let known = review.user_identity_id.as_ref();
        let other = known.is_some_and(|known| *known != answer.user_identity_id);
        let unread = UnreadUser::of(&answer.faults);
        let read = answer.accounts.iter().map(|account| &account.id);
        let ids: HashSet<_> = read.chain(&unread.accounts).collect();
        let mut present = self.accounts.iter().filter(|known| known.is_present()).peekable();
        let had_some = present.peek().is_some();
        let none_came = present.all(|known| !ids.contains(&known.partner_id));
        other && !review.trusts_next && had_some && none_came && !unread.any_account
    }

    /// The response is the customer's.
    pub(super) fn user_accepted(&mut self, user: &px_types::IdentityId) {
        let review = &mut self.life.review;
        review.user_identity_id = Some(user.clone());
        review.trusts_next = false;
        if review.customer.as_ref().is_some_and(|customer| customer.rows == 0) {
            review.customer = None;
        }
    }

    /// Takes nothing of what may be another customer's, and reads no further.
    pub(super) fn hold_all(&mut self, rows: u64, began_at: DateTime<Utc>) {
        self.life = self.record.life.clone();
        self.accounts = self.stored.clone();
        self.gathered = Gathered::default();
        (self.moved, self.decided) = (Vec::new(), Vec::new());
        let review = &mut self.life.review;
        let since = review.customer.as_ref().map_or(began_at, |customer| customer.since);
        review.customer = Some(CustomerInQuestion::new(since, rows));
        self.store = true;
        self.stage = Stage::Halted;
    }

    /// The accounts on hold, without those that are released: alike by name only, for long enough,
    /// with what they resemble closed, and no row that was there before.
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
                && !self.life.review.operator_only
        };
        let all = self.life.review.accounts.iter();
        let kept = all.filter(|(_, hold)| !is_released(hold));
        kept.map(|(held, hold)| Resemblance::new(held.clone(), hold.like.clone(), hold.by_name))
            .collect()
    }

    /// Notes which accounts are on hold, and which were released.
    pub(super) fn hold_accounts(&mut self, on_hold: &[Resemblance], now: DateTime<Utc>) {
        let mut before = std::mem::take(&mut self.life.review.accounts);
        let mut compares = false;
        for resemblance in on_hold {
            let hold = before.remove(&resemblance.held).unwrap_or_else(|| {
                compares |= resemblance.by_name;
                AccountOnHold::new(now, resemblance.like.clone(), resemblance.by_name)
            });
            self.life.review.accounts.insert(resemblance.held.clone(), hold);
        }
        for (held, hold) in before {
            let is_closed = |known: &KnownAccount| {
                known.account.id == hold.like && known.standing == AccountStanding::Closed
            };
            // Listed beside what it resembled, it needed no decision.
            if !hold.by_name || !self.accounts.iter().any(is_closed) {
                continue;
            }
            let accounts = [hold.like.clone()].into();
            let subject = Subject::Account { held, like: hold.like };
            let mut decision = Decision::new(subject, Verdict::Accepted, PROGRAM, now);
            (decision.accounts, decision.is_walking) = (accounts, true);
            self.life.review.note(decision.clone());
            self.decided.push(decision);
        }
        if self.life.history == History::Missing {
            self.life.review.accounts.values_mut().for_each(|hold| hold.compared = true);
        } else if compares {
            // Whether a row of it was there before can lie far back.
            self.life.deep = Some(plan::history(&self.plan, now));
            if self.life.history == History::Complete {
                self.life.walk_notes.clear();
            }
        }
    }

    /// Compares rows of accounts on hold with those of the accounts that they resemble.
    pub(super) fn compare_held(&mut self, read: &ReadWindow, known: &[KnownTransaction]) {
        if self.life.review.accounts.is_empty() {
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
            let Some(hold) = self.life.review.accounts.get_mut(*held) else { continue };
            if let Some(stored) = stored.get(&hold.like) {
                hold.has_twin |= AccountIds::has_twin(row, &hold.like, stored);
            }
        }
    }

    /// How a window treats rows under other ids: a deep resync judges what waits for it.
    pub(super) fn rule(&self) -> RowRule {
        match (&self.life.review.rule, self.stage) {
            (RowRule::Rebooked { .. }, Stage::Deep) => RowRule::Follow,
            (rule, _) => rule.clone(),
        }
    }

    /// Notes rows on hold.
    pub(super) fn hold_rows(
        &mut self,
        question: Question,
        window: Window,
        began_at: DateTime<Utc>,
    ) {
        let on_hold = self.on_hold.get_or_insert_with(|| RowsOnHold::new(began_at, window.start()));
        on_hold.accounts.extend(question.accounts);
        on_hold.rows += question.rows;
        on_hold.start = on_hold.start.min(window.start());
        let mut on_hold = on_hold.clone();
        if let Some(before) = &self.life.review.rows {
            on_hold.since = on_hold.since.min(before.since);
            on_hold.start = on_hold.start.min(before.start);
        }
        self.life.review.rows = Some(on_hold);
    }

    /// A walk from a date to today is over: what it did not find on hold is so no longer.
    pub(super) fn walked_since(&mut self, start: Date) {
        let review = &mut self.life.review;
        if self.on_hold.take().is_none() {
            review.rows.take_if(|rows| rows.start >= start);
        }
        review.customer = None;
    }
}
