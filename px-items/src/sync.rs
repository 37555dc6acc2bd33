//! Work on one Item as a step function: returns what to read next, and what to store. Pure.
//!
//! The engine calls [`Run::next`], performs the read, and passes the result in. This module does
//! not wait, call or use a clock, so every order of events can be tested. [`crate::merge`] decides
//! what a response changes, [`crate::plan`] which windows exist, and [`crate::schedule`] when an
//! Item is due again.
//!
//! - Created: the user, then the last 30 days, then older windows, each stored on its own.
//! - Updating: the user and the recent transactions, stored together; then the rest of an
//!   unfinished history, or a deep resync that is due, window by window.
//! - An Item that is current and only lacks its history reads nothing else.
//!
//! This file contains the stages of a run. `windows` applies windows, `on_hold` handles data on
//! hold, `commits` builds commits.

mod commits;
mod gathered;
mod lengths;
mod on_hold;
mod windows;

pub use commits::failed;
pub use gathered::Counts;
pub use lengths::{Lengths, PartnerLengths};

use crate::{
    changes::Milestone,
    faults::FaultTally,
    item::State,
    merge::{
        Absences, AccountStanding, AccountWrite, Digest, KnownAccount, UnreadRows, UnreadUser,
        merge_accounts_on_hold, updated,
    },
    plan::{self, PlanSettings},
    review::{Decision, RowsOnHold},
    store::{AccountsWrite, ItemRecord},
    sync_state::{Freshness, History, HistoryScan, ScanNotes, Suspicion, SyncState},
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

/// Maximum age of accounts if only the history is fetched for an application that joins.
const MAX_ACCOUNTS_AGE: TimeDelta = TimeDelta::hours(24);

/// Next step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read accounts, identities and securities.
    ReadUser,
    /// Read the transactions of a window.
    ReadWindow(Window),
    /// Read the transactions after today. Pass them to [`Run::ahead_read`], or report with
    /// [`Run::ahead_failed`] that the partner does not serve them.
    ReadAhead(Window),
    /// Store the result of [`Run::commit`].
    Store,
    /// Nothing is left: the last commit released the Item.
    Done,
}

/// Treatment of a window if its number of rows differs from its `total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miscounted {
    /// The attempt fails: the window may have changed while it was read.
    Fail,
    /// The window is read again in shorter ones.
    Split,
    /// The rows are imported, and no row is removed.
    Import,
}

/// Times of a commit.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Current time.
    pub now: DateTime<Utc>,
    /// End of the lease if there is more to do.
    pub lease_until: DateTime<Utc>,
    /// Time to the next update if there is not.
    pub timeout: TimeDelta,
}

/// Work on one Item, from its claim to its end.
#[derive(Debug)]
pub struct Run {
    plan: PlanSettings,
    /// The stored record. Its state is the one that the last commit wrote.
    record: ItemRecord,
    /// The state of the Item once the read data is stored.
    sync_state: SyncState,
    accounts: Vec<KnownAccount>,
    lengths: Lengths,
    stage: Stage,
    /// Like [`SyncState::scan_notes`], for the windows of an update.
    notes: ScanNotes,
    /// Window of the dates after today that is to be read; then its rows, which are merged with the
    /// update's first window.
    ahead: Option<Window>,
    ahead_rows: Option<(Vec<Transaction>, Vec<Security>)>,
    /// Rows that older windows of the scan decide, and the end of the window that had each of them.
    carried: Vec<Transaction>,
    carried_from: BTreeMap<TransactionId, Date>,
    /// Rows of these dates that were set aside.
    ahead_unread: UnreadRows,
    /// Faults of an update's windows, and the start of the earliest window with rows that were set
    /// aside.
    recent_faults: FaultTally,
    recent_rows_since: Option<Date>,
    /// The stored identities, if some of the response could not be read.
    stored_identities: Vec<Identity>,
    /// Whether an update had no fault for the first time, while the history has some.
    is_mended: bool,
    /// Window that is read in shorter ones because it lacks rows.
    split: Option<Split>,
    /// Number of rows that the update lacked so far, and whether any window of the run was
    /// miscounted.
    update_lacks: u64,
    miscounted: bool,
    gathered: Gathered,
    /// Whether the gathered data is to be stored before the next read.
    store: bool,
    counts: Counts,
    /// The stored accounts.
    stored: Vec<KnownAccount>,
    /// Date of the last good read before this work.
    last_good: Option<Date>,
    /// Whether rows of this work came under known ids.
    recognized: bool,
    /// Rows on hold that the current scan found.
    on_hold: Option<RowsOnHold>,
    /// Rows that continue under another id of the partner by a decision, to be stored.
    moved: Vec<(TransactionId, TransactionId)>,
    /// Whether decisions are final, so that they cannot be taken back any more.
    is_final: bool,
    /// Decisions of the program that are to be stored.
    decided: Vec<Decision>,
    /// Whether the tokens were refreshed successfully.
    refreshed: bool,
}

/// Stage of a run.
#[derive(Clone, Copy, Debug)]
enum Stage {
    User,
    /// The windows of an update.
    Recent(Recent),
    /// The history. Its progress is in [`SyncState::history`].
    History,
    /// A deep resync. Its progress is in [`SyncState::deep`].
    Deep,
    /// The response may be another customer's: nothing more is read.
    Halted,
    Over,
    Done,
}

/// Windows of an update.
#[derive(Clone, Copy, Debug)]
struct Recent {
    scan: HistoryScan,
    /// Time at which the reading of the newest window began.
    newest: Option<DateTime<Utc>>,
    /// Whether the rows at the start were read once more.
    extended: bool,
}

/// Window that is read in shorter ones.
#[derive(Clone, Copy, Debug)]
struct Split {
    start: Date,
    /// Number of rows that the window lacked as a whole, and in the parts that were read.
    whole: u64,
    parts: u64,
}

impl Run {
    /// Begins the work on a claimed Item. `accounts` are the stored ones.
    #[must_use]
    pub fn begin(
        record: ItemRecord,
        accounts: Vec<KnownAccount>,
        plan: PlanSettings,
        partner: PartnerLengths,
        now: DateTime<Utc>,
    ) -> Self {
        let mut run = Self {
            sync_state: record.sync_state.clone(),
            lengths: Lengths::new(plan.window_days, partner),
            plan,
            last_good: record.sync_state.fresh.transactions.map(|at| plan::today(at).0),
            record,
            stored: accounts.clone(),
            accounts,
            stage: Stage::User,
            notes: ScanNotes::default(),
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
            if run.sync_state.history == History::Missing {
                run.notifications_done();
            }
            run.begin_scan(now);
        }
        run
    }

    /// Returns the next step.
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

    /// Sets the stored identities. They are needed if identities of the response were set aside
    /// ([`UnreadUser::lacks_identities`]), before the response is passed in.
    pub fn keep_identities(&mut self, stored: Vec<Identity>) {
        self.stored_identities = stored;
    }

    /// Applies the response about the user.
    pub fn user_read(&mut self, response: UserAccountInfoResponse, began_at: DateTime<Utc>) {
        // A response without any account counts as well: later accounts are new.
        let first = self.sync_state.fresh.accounts.is_none();
        if self.is_another_customers(&response) {
            self.put_all_on_hold(0, began_at);
            return;
        }
        let on_hold = self.resemblances(began_at);
        let absences = Absences::new(
            self.sync_state.missing_since.clone(),
            began_at,
            self.plan.close_confirmed_after,
        );
        let faults = response.faults.clone();
        let mut merged = merge_accounts_on_hold(&self.accounts, &on_hold, response, &absences);
        let unread = UnreadUser::of(&faults);
        merged.identities = unread.with_stored(merged.identities, &self.stored_identities);
        self.sync_state.faults.user = FaultTally::of(faults.iter());
        self.counts.faults += self.sync_state.faults.user.count;
        self.user_accepted(&merged.user_identity_id);
        self.hold_accounts(&merged.on_hold, began_at);
        let mut write = AccountsWrite { first, ..AccountsWrite::default() };
        let digest = digest(&(&merged.user_identity_id, &merged.identities));
        if self.sync_state.identities_digest != digest {
            self.sync_state.identities_digest = digest;
            write.identities = Some((merged.user_identity_id, merged.identities));
        }
        let digest = self::digest(&merged.securities);
        if self.sync_state.securities_digest != digest {
            self.sync_state.securities_digest = digest;
            write.securities = merged.securities;
        }
        for account in &merged.writes {
            if account.new && !first {
                self.gathered.changes.new_accounts.push(account.known.account.id.clone());
            }
        }
        // Its transactions were not imported or judged so far, and may lie far back.
        if merged.writes.iter().any(|write| self.is_to_be_read_whole(write, first))
            && self.sync_state.history != History::Missing
        {
            self.sync_state.deep = Some(plan::history(&self.plan, began_at));
            if self.sync_state.history == History::Complete {
                self.sync_state.scan_notes.clear();
            }
        }
        self.accounts = updated(std::mem::take(&mut self.accounts), &merged.writes);
        self.sync_state.missing_since = absences.of(&self.accounts);
        self.counts.accounts_changed += merged.writes.len() as u64;
        write.accounts = merged.writes;
        self.gathered.accounts = Some(write);
        let at = Some(began_at);
        let transactions = self.sync_state.fresh.transactions;
        self.sync_state.fresh =
            Freshness { accounts: at, identities: at, holdings: at, transactions };
        // The suspected accounts are on hold; the others are unaffected.
        self.after_user(began_at);
    }

    /// Returns the record as it was last stored.
    #[must_use]
    pub fn record(&self) -> &ItemRecord {
        &self.record
    }

    /// Returns the numbers of rows that were read and changed.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns what the run learned about the window lengths that the partner serves.
    #[must_use]
    pub fn partner_lengths(&self) -> PartnerLengths {
        self.lengths.partner()
    }

    /// Returns the suspicion about the partner's data, if any.
    #[must_use]
    pub fn suspicion(&self) -> Option<Suspicion> {
        Suspicion::of(&self.sync_state.review)
    }

    /// Takes the decisions that the program made since the last call, for the audit log of the next
    /// commit.
    pub fn take_decided(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decided)
    }

    /// Returns the current scan, for observers.
    #[must_use]
    pub fn scan(&self) -> Option<HistoryScan> {
        match self.stage {
            Stage::Recent(recent) => Some(recent.scan),
            Stage::History => match &self.sync_state.history {
                History::Fetching { scan, .. } => Some(*scan),
                History::Missing | History::Complete => None,
            },
            Stage::Deep => self.sync_state.deep,
            Stage::User | Stage::Halted | Stage::Over | Stage::Done => None,
        }
    }

    /// Returns whether the user's data is current and need not be read for the pending work.
    fn user_is_current(&self, now: DateTime<Utc>) -> bool {
        let current = self.sync_state.fresh.accounts.is_some_and(|at| now - at < MAX_ACCOUNTS_AGE);
        // The application that joined and needs the history counts as one notification.
        let joined = i64::from(self.sync_state.history == History::Missing);
        let notified = self.record.notified - joined > self.sync_state.done_for;
        match self.record.state {
            State::Created => current,
            _ => {
                current && !notified && self.sync_state.owed_since.is_none() && self.needs_history()
            }
        }
    }

    fn needs_history(&self) -> bool {
        self.record.needs_transactions && self.sync_state.history != History::Complete
    }

    /// Returns whether an account is new to an Item that had some, or open again.
    fn is_to_be_read_whole(&self, write: &AccountWrite, first: bool) -> bool {
        let closed = |known: &&KnownAccount| known.standing == AccountStanding::Closed;
        let mut closed = self.accounts.iter().filter(closed);
        let listed = write.known.standing == AccountStanding::Listed;
        let reopened = listed && closed.any(|known| known.account.id == write.known.account.id);
        reopened || (write.new && !first)
    }

    /// Continues after the user's response was applied.
    fn after_user(&mut self, now: DateTime<Utc>) {
        let updating = self.record.state != State::Created;
        let needs = self.record.needs_transactions;
        match &self.sync_state.history {
            // The window of the update comes first, and is stored together with the user.
            History::Complete | History::Fetching { recent: true, .. } if needs && updating => {
                let window = plan::update_window(
                    &self.plan,
                    now,
                    self.sync_state.fresh.transactions,
                    self.record.oldest_pending,
                    owed(&self.record),
                );
                if let Some(window) = window {
                    let scan = HistoryScan::new(window.end(), window.start(), now);
                    self.stage = Stage::Recent(Recent { scan, newest: None, extended: false });
                    self.notes.clear();
                    self.update_lacks = 0;
                    self.ahead = self.ahead_window(window, now);
                    return;
                }
            }
            // The remaining history does not cover the notifications, so one more update follows.
            History::Fetching { .. } if needs => {}
            History::Missing | History::Fetching { .. } | History::Complete => {
                self.notifications_done()
            }
        }
        self.store = true;
        self.begin_scan(now);
    }

    /// Returns the window of the dates after today, if it may have rows: if a row is pending, or
    /// the window had rows before.
    fn ahead_window(&self, recent: Window, now: DateTime<Utc>) -> Option<Window> {
        let was_there = self.sync_state.ahead_until.is_some_and(|until| until > recent.end());
        let may_be_there = was_there || self.record.oldest_pending.is_some();
        plan::ahead_window(&self.plan, now)
            .filter(|_| may_be_there && self.lengths.may_read_ahead(now))
    }

    /// Marks all notifications before the claim as handled.
    fn notifications_done(&mut self) {
        self.sync_state.done_for = self.record.notified;
        self.sync_state.owed_since = None;
    }

    /// Continues with the history or with a deep resync that is due, or ends the run.
    fn begin_scan(&mut self, now: DateTime<Utc>) {
        self.stage = Stage::Over;
        if !self.record.needs_transactions {
            return;
        }
        // If nothing was read yet, the scan begins today, not at the date of its planning.
        if self.sync_state.history != History::Complete
            && self.sync_state.fresh.transactions.is_none()
        {
            self.sync_state.history = History::Missing;
        }
        match self.sync_state.history {
            History::Missing => {
                let scan = plan::history(&self.plan, now);
                self.sync_state.history = History::Fetching { scan, recent: false };
                self.sync_state.fetched.clear();
                self.sync_state.scan_notes.clear();
                self.sync_state.history_lacks = 0;
                self.sync_state.faults.scan = FaultTally::default();
                self.sync_state.faults.scan_rows_since = None;
                self.stage = Stage::History;
            }
            History::Fetching { .. } => self.stage = Stage::History,
            History::Complete => {
                let mut plan = self.plan.clone();
                let faults = &self.sync_state.faults;
                if faults.rows_since.is_some() || faults.history.set_aside > 0 {
                    plan.deep_every = plan.deep_every.min(plan.deep_every_with_faults);
                }
                let is_mended = std::mem::take(&mut self.is_mended);
                let due = is_mended || plan::deep_due(&plan, self.sync_state.deep_at, now);
                if due && self.sync_state.deep.is_none() {
                    self.sync_state.deep = Some(plan::history(&self.plan, now));
                    self.sync_state.scan_notes.clear();
                }
                if self.sync_state.deep.is_some_and(|scan| scan.next_end == scan.end) {
                    self.sync_state.history_lacks = 0;
                    self.sync_state.faults.scan = FaultTally::default();
                    self.sync_state.faults.scan_rows_since = None;
                }
                if self.sync_state.deep.is_some() && self.record.state != State::Created {
                    self.stage = Stage::Deep;
                }
            }
        }
    }

    /// Returns the next window, or `None` if none is left.
    fn window(&self) -> Option<Window> {
        let mut scan = self.scan()?;
        if let Some(recent) = self.recent_start()
            && scan.next_end >= recent
        {
            scan.start = scan.start.max(recent);
        }
        plan::next_window(scan, self.lengths.longest())
    }

    /// Returns the first of the last 30 days, while the history is fetched and they are incomplete.
    fn recent_start(&self) -> Option<Date> {
        match (&self.stage, &self.sync_state.history) {
            (Stage::History, History::Fetching { scan, recent: false }) => {
                let older = self.plan.history_days.saturating_sub(self.plan.recent_days);
                Some(scan.start.plus_days(older))
            }
            _ => None,
        }
    }

    /// Moves to the next stage after a window. `next` is the rest of the scan.
    fn advance(&mut self, window: Window, next: Option<HistoryScan>, began_at: DateTime<Utc>) {
        if next.is_none() {
            self.carry(Vec::new(), window);
        }
        match self.stage {
            Stage::Recent(recent) => {
                let newest = recent.newest.unwrap_or(began_at);
                match next {
                    Some(scan) => {
                        let extended = recent.extended || scan.start < recent.scan.start;
                        let newest = Some(newest);
                        self.stage = Stage::Recent(Recent { scan, newest, extended });
                    }
                    None => {
                        self.sync_state.fresh.transactions = Some(newest);
                        self.sync_state.update_lacks = self.update_lacks;
                        self.notifications_done();
                        self.scan_ended(window.start());
                        // Each update reads rows on hold again until they are decided.
                        let on_hold = self.sync_state.review.rows.as_ref();
                        let on_hold =
                            on_hold.map(|rows| rows.start).filter(|start| *start >= window.start());
                        self.recent_faults_read(window.start());
                        let unread = self.unread_since(began_at);
                        self.sync_state.owed_since = [on_hold, unread].into_iter().flatten().min();
                        self.begin_scan(began_at);
                    }
                }
            }
            Stage::History => self.advance_history(window, next, began_at),
            Stage::Deep => {
                self.sync_state.deep = next;
                if self.sync_state.deep.is_none() {
                    self.sync_state.scan_notes.clear();
                    self.scan_ended(window.start());
                    self.history_faults_read();
                    self.is_final |= self.sync_state.review.resynced();
                    let holds = self.sync_state.review.accounts.values_mut();
                    holds.for_each(|hold| hold.compared = true);
                    self.sync_state.deep_at = Some(began_at);
                    self.stage = Stage::Over;
                }
            }
            Stage::User | Stage::Halted | Stage::Over | Stage::Done => {}
        }
    }

    fn advance_history(
        &mut self,
        window: Window,
        left: Option<HistoryScan>,
        began_at: DateTime<Utc>,
    ) {
        let recent_start = self.recent_start();
        let History::Fetching { scan, recent } = &mut self.sync_state.history else {
            self.stage = Stage::Over;
            return;
        };
        // The newest window is read first.
        self.sync_state.fresh.transactions.get_or_insert(began_at);
        let was_recent = *recent;
        *recent = recent_start.is_none_or(|start| window.start() <= start) || left.is_none();
        let is_recent = *recent;
        if let Some(left) = left {
            *scan = left;
        }
        for (account, count) in &self.gathered.changes.added {
            *self.sync_state.fetched.entry(account.clone()).or_default() += count;
        }
        if left.is_none() {
            self.sync_state.history = History::Complete;
            self.sync_state.deep_at = Some(began_at);
            self.sync_state.scan_notes.clear();
            self.scan_ended(window.start());
            self.history_faults_read();
            // A deep resync that was scheduled meanwhile remains scheduled: its account appeared
            // after the first windows were read.
            self.stage = Stage::Over;
        }
        let reached = (is_recent && !was_recent, left.is_none());
        if reached != (false, false) {
            let counts = std::mem::take(&mut self.sync_state.fetched);
            self.gathered.changes.milestone = Some(match reached {
                (true, true) => Milestone::Both(counts),
                (true, false) => Milestone::Initial(counts),
                (false, _) => Milestone::Historical(counts),
            });
        }
    }
}

/// Returns the digest of a value as text.
fn digest(value: &impl serde::Serialize) -> String {
    Digest::of_json(value).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
