//! One piece of work on an Item, as a step function: what to read next, and what to store. Pure.
//!
//! The engine asks [`Run::next`], reads what it says, and hands the answer in. Nothing here
//! waits, calls or knows a clock, so every order of events can be tested. What an answer
//! changes is [`crate::merge`]'s; which windows there are is [`crate::plan`]'s; when an Item is
//! due again is [`crate::schedule`]'s.
//!
//! - Created: the user, then the last 30 days, then older windows, each stored on its own.
//! - Updating: the user and the recent transactions, stored at once; then the rest of a history
//!   that is under way, or a deep resync that is due, window by window.
//! - An Item that is current and only lacks its history reads that and nothing else.
//!
//! Here stands where the work is. What a window changes is in `windows`, what waits for a decision in
//! `on_hold`, what is stored in `commits`.

mod commits;
mod gathered;
mod lengths;
mod on_hold;
mod windows;

pub use commits::failed;
pub use gathered::Counts;
pub use lengths::{Lengths, PartnerLengths};

use crate::{
    faults::FaultTally,
    item::State,
    life::{Freshness, History, Life, Suspicion, Walk, WalkNotes},
    merge::{
        Absences, AccountStanding, AccountWrite, Digest, KnownAccount, UnreadRows, UnreadUser,
        merge_accounts_on_hold, updated,
    },
    news::Milestone,
    plan::{self, PlanSettings},
    review::{Decision, RowsOnHold},
    store::{AccountsWrite, ItemRecord},
};
use chrono::{DateTime, TimeDelta, Utc};
use commits::owed;
use gathered::Gathered;
use px_client::Window;
use px_types::{
    Date, TransactionId,
    model::{identity::Identity, security::Security, transaction::Transaction},
    partner::UserAccountInfoResponse,
};
use std::collections::BTreeMap;

/// How old accounts may be when only the history is fetched for an application that joins.
const CURRENT: TimeDelta = TimeDelta::hours(24);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read accounts, identities and securities.
    ReadUser,
    /// Read the transactions of a window.
    ReadWindow(Window),
    /// Read the transactions after today: hand them to [`Run::ahead_read`], or report with
    /// [`Run::ahead_failed`] that the partner does not serve them.
    ReadAhead(Window),
    /// Store what [`Run::commit`] gives.
    Store,
    /// Nothing: the last commit gave the Item back.
    Done,
}

/// What becomes of a window whose rows are not as many as its `total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miscounted {
    /// The attempt fails: the window may have changed while it was read.
    Fail,
    /// The window is read again in shorter ones.
    Split,
    /// The rows are taken, and nothing is gone.
    Take,
}

/// What a commit has to know of the present.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now.
    pub now: DateTime<Utc>,
    /// Until when the Item is kept if there is more to do.
    pub lease_until: DateTime<Utc>,
    /// The time to the next update if there is not.
    pub timeout: TimeDelta,
}

/// Work on one Item from its claim to its end.
#[derive(Debug)]
pub struct Run {
    plan: PlanSettings,
    /// As stored: its life is what the last commit wrote.
    record: ItemRecord,
    /// What the Item remembers once what was read is stored.
    life: Life,
    accounts: Vec<KnownAccount>,
    lengths: Lengths,
    stage: Stage,
    /// As [`Life::walk_notes`], of the windows of an update.
    notes: WalkNotes,
    /// The dates after today, if they are to be read; then their rows, for the update's first
    /// window.
    ahead: Option<Window>,
    ahead_rows: Option<(Vec<Transaction>, Vec<Security>)>,
    /// Rows that older windows of the walk decide, and by their ids the ends of the windows that had
    /// them.
    carried: Vec<Transaction>,
    carried_from: BTreeMap<TransactionId, Date>,
    /// Rows of these dates that were set aside.
    ahead_unread: UnreadRows,
    /// The faults of an update's windows, and the start of the earliest one with rows that were
    /// set aside.
    recent_faults: FaultTally,
    recent_rows_since: Option<Date>,
    /// The identities as stored, if some of the response could not be read.
    stored_identities: Vec<Identity>,
    /// Whether an update had no fault for the first time, while the history has some.
    is_mended: bool,
    /// A window that is read in shorter ones because it lacks rows.
    split: Option<Split>,
    /// Number of rows that the update lacked so far, and whether any window of the run was
    /// miscounted.
    update_lacks: u64,
    miscounted: bool,
    gathered: Gathered,
    /// Whether what was gathered is to be stored before anything else is read.
    store: bool,
    counts: Counts,
    /// The accounts as they are stored.
    stored: Vec<KnownAccount>,
    /// The date of the last good read before this work.
    last_good: Option<Date>,
    /// Whether rows of this work came under known ids.
    recognized: bool,
    /// Rows on hold that the walk under way found.
    on_hold: Option<RowsOnHold>,
    /// Rows that go on under another id of the partner's by a decision, to be stored.
    moved: Vec<(TransactionId, TransactionId)>,
    /// Whether decisions are final, so that they cannot be taken back any more.
    is_final: bool,
    /// Decisions of the program that are to be stored.
    decided: Vec<Decision>,
    /// Whether the tokens were refreshed well.
    refreshed: bool,
}

/// Where the work is.
#[derive(Clone, Copy, Debug)]
enum Stage {
    User,
    /// The windows of an update.
    Recent(Recent),
    /// The walk is in the Item's life.
    History,
    /// The walk is in the Item's life.
    Deep,
    /// The partner's ids changed: nothing more is read.
    Halted,
    Over,
    Done,
}

/// The windows of an update.
#[derive(Clone, Copy, Debug)]
struct Recent {
    walk: Walk,
    /// The time at which the reading of the newest window began.
    newest: Option<DateTime<Utc>>,
    /// Whether the rows at the start were read once more.
    extended: bool,
}

/// A window that is read in shorter ones.
#[derive(Clone, Copy, Debug)]
struct Split {
    start: Date,
    /// Number of rows that the window lacked as a whole, and in the parts that were read.
    whole: u64,
    parts: u64,
}

impl Run {
    /// Begins work on an Item that was just claimed. `accounts` are those that are stored.
    #[must_use]
    pub fn begin(
        record: ItemRecord,
        accounts: Vec<KnownAccount>,
        plan: PlanSettings,
        partner: PartnerLengths,
        now: DateTime<Utc>,
    ) -> Self {
        let mut run = Self {
            life: record.life.clone(),
            lengths: Lengths::new(plan.window_days, partner),
            plan,
            last_good: record.life.fresh.transactions.map(|at| plan::today(at).0),
            record,
            stored: accounts.clone(),
            accounts,
            stage: Stage::User,
            notes: WalkNotes::default(),
            ahead: None,
            ahead_rows: None,
            carried: Vec::new(),
            carried_from: BTreeMap::new(),
            ahead_unread: UnreadRows::default(),
            recent_faults: FaultTally::default(),
            recent_rows_since: None,
            stored_identities: Vec::new(),
            is_mended: false,
            split: None,
            update_lacks: 0,
            miscounted: false,
            gathered: Gathered::default(),
            store: false,
            counts: Counts::default(),
            recognized: false,
            on_hold: None,
            moved: Vec::new(),
            is_final: false,
            decided: Vec::new(),
            refreshed: false,
        };
        if run.user_is_current(now) {
            if run.life.history == History::Missing {
                run.asked_done();
            }
            run.begin_walk(now);
        }
        run
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> Step {
        if self.store {
            return Step::Store;
        }
        match self.stage {
            Stage::User => Step::ReadUser,
            Stage::Halted | Stage::Over => Step::Store,
            Stage::Done => Step::Done,
            Stage::Recent(..) | Stage::History | Stage::Deep => match self.ahead {
                Some(window) => Step::ReadAhead(window),
                None => self.window().map_or(Step::Store, Step::ReadWindow),
            },
        }
    }

    /// Sets the identities as stored. They are needed if identities of the response were set aside
    /// ([`UnreadUser::lacks_identities`]), before it is taken in.
    pub fn keep_identities(&mut self, stored: Vec<Identity>) {
        self.stored_identities = stored;
    }

    /// Takes in the answer about the user.
    pub fn user_read(&mut self, answer: UserAccountInfoResponse, began_at: DateTime<Utc>) {
        // An answer without any account is an answer: what comes after it is new.
        let first = self.life.fresh.accounts.is_none();
        if self.is_another_customers(&answer) {
            self.hold_all(0, began_at);
            return;
        }
        let on_hold = self.resemblances(began_at);
        let absences = Absences::new(
            self.life.missing_since.clone(),
            began_at,
            self.plan.close_confirmed_after,
        );
        let faults = answer.faults.clone();
        let mut merged = merge_accounts_on_hold(&self.accounts, &on_hold, answer, &absences);
        let unread = UnreadUser::of(&faults);
        merged.identities = unread.with_stored(merged.identities, &self.stored_identities);
        self.life.faults.user = FaultTally::of(faults.iter());
        self.counts.faults += self.life.faults.user.count;
        self.user_accepted(&merged.user_identity_id);
        self.hold_accounts(&merged.on_hold, began_at);
        let mut write = AccountsWrite { first, ..AccountsWrite::default() };
        let digest = digest(&(&merged.user_identity_id, &merged.identities));
        if self.life.identities_digest != digest {
            self.life.identities_digest = digest;
            write.identities = Some((merged.user_identity_id, merged.identities));
        }
        let digest = self::digest(&merged.securities);
        if self.life.securities_digest != digest {
            self.life.securities_digest = digest;
            write.securities = merged.securities;
        }
        for account in &merged.writes {
            if account.new && !first {
                self.gathered.news.new_accounts.push(account.known.account.id.clone());
            }
        }
        // Its transactions were left out until now, or not judged; they may lie far back.
        if merged.writes.iter().any(|write| self.is_to_be_read_whole(write, first))
            && self.life.history != History::Missing
        {
            self.life.deep = Some(plan::history(&self.plan, began_at));
            if self.life.history == History::Complete {
                self.life.walk_notes.clear();
            }
        }
        self.accounts = updated(std::mem::take(&mut self.accounts), &merged.writes);
        self.life.missing_since = absences.of(&self.accounts);
        self.counts.accounts_changed += merged.writes.len() as u64;
        write.accounts = merged.writes;
        self.gathered.accounts = Some(write);
        let at = Some(began_at);
        let transactions = self.life.fresh.transactions;
        self.life.fresh = Freshness { accounts: at, identities: at, holdings: at, transactions };
        // The accounts in question are on hold; the others are as good as ever.
        self.after_user(began_at);
    }

    /// The Item as it was last stored.
    #[must_use]
    pub fn record(&self) -> &ItemRecord {
        &self.record
    }

    /// What was read and what it changed.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What was learned of the windows that the partner answers.
    #[must_use]
    pub fn partner_lengths(&self) -> PartnerLengths {
        self.lengths.partner()
    }

    /// What is wrong with the partner's data, once something was found to be.
    #[must_use]
    pub fn suspicion(&self) -> Option<Suspicion> {
        Suspicion::of(&self.life.review)
    }

    /// Takes the decisions that the program made since the last call, for the audit log of the
    /// next commit.
    pub fn take_decided(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decided)
    }

    /// The walk that is under way, for those who watch.
    #[must_use]
    pub fn walk(&self) -> Option<Walk> {
        match self.stage {
            Stage::Recent(recent) => Some(recent.walk),
            Stage::History => match &self.life.history {
                History::Fetching { walk, .. } => Some(*walk),
                History::Missing | History::Complete => None,
            },
            Stage::Deep => self.life.deep,
            Stage::User | Stage::Halted | Stage::Over | Stage::Done => None,
        }
    }

    /// Whether the user's data are there and need not be read for what is to be done.
    fn user_is_current(&self, now: DateTime<Utc>) -> bool {
        let current = self.life.fresh.accounts.is_some_and(|at| now - at < CURRENT);
        // The application that joined and needs the history counts as one who asked.
        let joined = i64::from(self.life.history == History::Missing);
        let asked = self.record.notified - joined > self.life.done_for;
        match self.record.state {
            State::Created => current,
            _ => current && !asked && self.life.owed_since.is_none() && self.needs_history(),
        }
    }

    fn needs_history(&self) -> bool {
        self.record.needs_transactions && self.life.history != History::Complete
    }

    /// Whether an account is new to an Item that had some, or open again.
    fn is_to_be_read_whole(&self, write: &AccountWrite, first: bool) -> bool {
        let closed = |known: &&KnownAccount| known.standing == AccountStanding::Closed;
        let mut closed = self.accounts.iter().filter(closed);
        let listed = write.known.standing == AccountStanding::Listed;
        let reopened = listed && closed.any(|known| known.account.id == write.known.account.id);
        reopened || (write.new && !first)
    }

    /// The user's answer was taken in.
    fn after_user(&mut self, now: DateTime<Utc>) {
        let updating = self.record.state != State::Created;
        let needs = self.record.needs_transactions;
        match &self.life.history {
            // The window of the update comes first, and is stored together with the user.
            History::Complete | History::Fetching { recent: true, .. } if needs && updating => {
                let window = plan::update_window(
                    &self.plan,
                    now,
                    self.life.fresh.transactions,
                    self.record.oldest_pending,
                    owed(&self.record),
                );
                if let Some(window) = window {
                    let walk = Walk::new(window.end(), window.start(), now);
                    self.stage = Stage::Recent(Recent { walk, newest: None, extended: false });
                    self.notes.clear();
                    self.update_lacks = 0;
                    self.ahead = self.ahead_window(window, now);
                    return;
                }
            }
            // What was asked for is not in what is still to be read: one more update follows.
            History::Fetching { .. } if needs => {}
            History::Missing | History::Fetching { .. } | History::Complete => self.asked_done(),
        }
        self.store = true;
        self.begin_walk(now);
    }

    /// The dates after today, if a row may be there: if something is pending, or was there before.
    fn ahead_window(&self, recent: Window, now: DateTime<Utc>) -> Option<Window> {
        let was_there = self.life.ahead_until.is_some_and(|until| until > recent.end());
        let may_be_there = was_there || self.record.oldest_pending.is_some();
        plan::ahead_window(&self.plan, now)
            .filter(|_| may_be_there && self.lengths.may_read_ahead(now))
    }

    /// Everything that notifications asked for before the claim was done.
    fn asked_done(&mut self) {
        self.life.done_for = self.record.notified;
        self.life.owed_since = None;
    }

    /// Goes on with the history, or with a deep resync that is due, or ends.
    fn begin_walk(&mut self, now: DateTime<Utc>) {
        self.stage = Stage::Over;
        if !self.record.needs_transactions {
            return;
        }
        // Where nothing was read yet, the walk begins today, not when it was planned.
        if self.life.history != History::Complete && self.life.fresh.transactions.is_none() {
            self.life.history = History::Missing;
        }
        match self.life.history {
            History::Missing => {
                let walk = plan::history(&self.plan, now);
                self.life.history = History::Fetching { walk, recent: false };
                self.life.fetched.clear();
                self.life.walk_notes.clear();
                self.life.history_lacks = 0;
                self.life.faults.walk = FaultTally::default();
                self.life.faults.walk_rows_since = None;
                self.stage = Stage::History;
            }
            History::Fetching { .. } => self.stage = Stage::History,
            History::Complete => {
                let mut plan = self.plan.clone();
                let faults = &self.life.faults;
                if faults.rows_since.is_some() || faults.history.set_aside > 0 {
                    plan.deep_every = plan.deep_every.min(plan.deep_every_with_faults);
                }
                let is_mended = std::mem::take(&mut self.is_mended);
                let due = is_mended || plan::deep_due(&plan, self.life.deep_at, now);
                if due && self.life.deep.is_none() {
                    self.life.deep = Some(plan::history(&self.plan, now));
                    self.life.walk_notes.clear();
                }
                if self.life.deep.is_some_and(|walk| walk.next_end == walk.end) {
                    self.life.history_lacks = 0;
                    self.life.faults.walk = FaultTally::default();
                    self.life.faults.walk_rows_since = None;
                }
                if self.life.deep.is_some() && self.record.state != State::Created {
                    self.stage = Stage::Deep;
                }
            }
        }
    }

    /// The next window; `None` when none is left to be read.
    fn window(&self) -> Option<Window> {
        let mut walk = self.walk()?;
        if let Some(recent) = self.recent_start()
            && walk.next_end >= recent
        {
            walk.start = walk.start.max(recent);
        }
        plan::next_window(walk, self.lengths.longest())
    }

    /// The first of the last 30 days, while the history is fetched and they are not in.
    fn recent_start(&self) -> Option<Date> {
        match (&self.stage, &self.life.history) {
            (Stage::History, History::Fetching { walk, recent: false }) => {
                let older = self.plan.history_days.saturating_sub(self.plan.recent_days);
                Some(walk.start.plus_days(older))
            }
            _ => None,
        }
    }

    /// A window was read: where the work is then. `next` is the rest of the walk.
    fn advance(&mut self, window: Window, next: Option<Walk>, began_at: DateTime<Utc>) {
        if next.is_none() {
            self.carry(Vec::new(), window);
        }
        match self.stage {
            Stage::Recent(recent) => {
                let newest = recent.newest.unwrap_or(began_at);
                match next {
                    Some(walk) => {
                        let extended = recent.extended || walk.start < recent.walk.start;
                        let newest = Some(newest);
                        self.stage = Stage::Recent(Recent { walk, newest, extended });
                    }
                    None => {
                        self.life.fresh.transactions = Some(newest);
                        self.life.update_lacks = self.update_lacks;
                        self.asked_done();
                        self.walked_since(window.start());
                        // They are looked at again by each update, until they are decided on.
                        let on_hold = self.life.review.rows.as_ref();
                        let on_hold =
                            on_hold.map(|rows| rows.start).filter(|start| *start >= window.start());
                        self.recent_faults_read(window.start());
                        let unread = self.unread_since(began_at);
                        self.life.owed_since = [on_hold, unread].into_iter().flatten().min();
                        self.begin_walk(began_at);
                    }
                }
            }
            Stage::History => self.advance_history(window, next, began_at),
            Stage::Deep => {
                self.life.deep = next;
                if self.life.deep.is_none() {
                    self.life.walk_notes.clear();
                    self.walked_since(window.start());
                    self.history_faults_read();
                    self.is_final |= self.life.review.resynced();
                    let holds = self.life.review.accounts.values_mut();
                    holds.for_each(|hold| hold.compared = true);
                    self.life.deep_at = Some(began_at);
                    self.stage = Stage::Over;
                }
            }
            Stage::User | Stage::Halted | Stage::Over | Stage::Done => {}
        }
    }

    fn advance_history(&mut self, window: Window, left: Option<Walk>, began_at: DateTime<Utc>) {
        let recent_start = self.recent_start();
        let History::Fetching { walk, recent } = &mut self.life.history else {
            self.stage = Stage::Over;
            return;
        };
        // The newest window is the first one that is read.
        self.life.fresh.transactions.get_or_insert(began_at);
        let was_recent = *recent;
        *recent = recent_start.is_none_or(|start| window.start() <= start) || left.is_none();
        let is_recent = *recent;
        if let Some(left) = left {
            *walk = left;
        }
        for (account, count) in &self.gathered.news.added {
            *self.life.fetched.entry(account.clone()).or_default() += count;
        }
        if left.is_none() {
            self.life.history = History::Complete;
            self.life.deep_at = Some(began_at);
            self.life.walk_notes.clear();
            self.walked_since(window.start());
            self.history_faults_read();
            // A deep resync that was asked for meanwhile stays asked for: the account for which it
            // was came after the first windows were read.
            self.stage = Stage::Over;
        }
        let reached = (is_recent && !was_recent, left.is_none());
        if reached != (false, false) {
            let counts = std::mem::take(&mut self.life.fetched);
            self.gathered.news.milestone = Some(match reached {
                (true, true) => Milestone::Both(counts),
                (true, false) => Milestone::Initial(counts),
                (false, _) => Milestone::Historical(counts),
            });
        }
    }
}

/// A digest of a value, as text.
fn digest(value: &impl serde::Serialize) -> String {
    Digest::of_json(value).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
