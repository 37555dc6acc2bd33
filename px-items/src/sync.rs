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

mod gathered;
mod lengths;

pub use gathered::Counts;
pub use lengths::{Lengths, PartnerLengths};

use crate::{
    faults::FaultTally,
    health::{HealthIssueKind, Issue},
    item::{Event, Impossible, State, step},
    items,
    life::{
        FailureKind, FailureNote, Freshness, History, Life, Miscount, RefusedRefresh, Suspicion,
        TokenTrouble, Walk, WalkNotes,
    },
    merge::{
        Absences, AccountIds, AccountStanding, AccountWrite, DATE_SLACK_DAYS, Digest, KnownAccount,
        KnownTransaction, Question, ReadWindow, Resemblance, RowRule, UnreadRows, UnreadUser,
        Withheld, Withholding, merge_accounts_on_hold, merge_transactions, updated,
    },
    news::Milestone,
    plan::{self, PlanSettings},
    review::{AccountOnHold, CustomerInQuestion, Decision, PROGRAM, RowsOnHold, Subject, entries},
    schedule::Retry,
    store::{AccountsWrite, Commit, ItemRecord, Moves, Then, Verdict},
};
use chrono::{DateTime, TimeDelta, Utc};
use gathered::Gathered;
use px_client::Window;
use px_types::{
    AccountId, Date, TransactionId,
    model::{
        identity::Identity,
        plaid_error::{PlaidError, PlaidErrorType},
        security::Security,
        transaction::Transaction,
    },
    partner::UserAccountInfoResponse,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Time after which an Item whose failures may pass by themselves counts as one that cannot finish.
const LONG_UNFINISHED: TimeDelta = TimeDelta::hours(24);

/// How old accounts may be when only the history is fetched for an application that joins.
const CURRENT: TimeDelta = TimeDelta::hours(24);

/// A window that fails may be too heavy at once if it is longer than this; an update's is not.
const LONG_WINDOW_DAYS: u64 = 14;

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

    /// Whether the signed-in identity and every account are others than before at once.
    fn is_another_customers(&self, answer: &UserAccountInfoResponse) -> bool {
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
    fn user_accepted(&mut self, user: &px_types::IdentityId) {
        let review = &mut self.life.review;
        review.user_identity_id = Some(user.clone());
        review.trusts_next = false;
        if review.customer.as_ref().is_some_and(|customer| customer.rows == 0) {
            review.customer = None;
        }
    }

    /// Takes nothing of what may be another customer's, and reads no further.
    fn hold_all(&mut self, rows: u64, began_at: DateTime<Utc>) {
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
    fn resemblances(&mut self, now: DateTime<Utc>) -> Vec<Resemblance> {
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
    fn hold_accounts(&mut self, on_hold: &[Resemblance], now: DateTime<Utc>) {
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
    fn compare_held(&mut self, read: &ReadWindow, known: &[KnownTransaction]) {
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
    fn rule(&self) -> RowRule {
        match (&self.life.review.rule, self.stage) {
            (RowRule::Rebooked { .. }, Stage::Deep) => RowRule::Follow,
            (rule, _) => rule.clone(),
        }
    }

    /// Notes rows on hold.
    fn hold_rows(&mut self, question: Question, window: Window, began_at: DateTime<Utc>) {
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
    fn walked_since(&mut self, start: Date) {
        let review = &mut self.life.review;
        if self.on_hold.take().is_none() {
            review.rows.take_if(|rows| rows.start >= start);
        }
        review.customer = None;
    }

    /// Takes in a window that was read whole, with the securities that came with it. `known` is
    /// what the store has of it, see [`known_query`](Self::known_query).
    pub fn window_read(
        &mut self,
        read: ReadWindow,
        securities: Vec<Security>,
        known: &[KnownTransaction],
    ) {
        self.merge_window(read, securities, known);
    }

    /// Takes in a window whose rows are not as many as its `total`, after
    /// [`miscounted`](Self::miscounted) said so.
    pub fn miscounted_window_read(
        &mut self,
        read: ReadWindow,
        securities: Vec<Security>,
        known: &[KnownTransaction],
        total: u64,
    ) {
        let lacks = total.saturating_sub(read.rows_sent);
        self.miscounted = true;
        match self.stage {
            Stage::Recent(..) => self.update_lacks += lacks,
            _ => self.life.history_lacks += lacks,
        }
        if let Some(split) = &mut self.split {
            split.parts += lacks;
        }
        self.merge_window(read.lacking(true), securities, known);
    }

    fn merge_window(
        &mut self,
        mut read: ReadWindow,
        mut securities: Vec<Security>,
        known: &[KnownTransaction],
    ) {
        let (window, began_at) = (read.window, read.began_at);
        if read.lacks_rows {
            self.lengths.accepted(window, u64::MAX);
        } else {
            self.lengths.accepted(window, read.rows.len() as u64);
        }
        self.counts.windows += 1;
        self.counts.rows_read += read.rows.len() as u64;
        if let Some((rows, more)) = self.ahead_rows.take() {
            let ids: BTreeSet<_> = read.rows.iter().map(|row| row.id.clone()).collect();
            read.rows.extend(rows.into_iter().filter(|row| !ids.contains(&row.id)));
            securities.extend(more);
            read.unread.extend(std::mem::take(&mut self.ahead_unread));
        }
        self.note_faults(&read);
        let ids = AccountIds::of(&self.accounts);
        read.unread = read.unread.translated(&ids);
        self.compare_held(&read, known);
        read.rows = ids.translate(read.rows);
        if let Some(walk) = self.walk() {
            read = read.of_walk(walk, self.notes().clone());
        }
        let mut read = read.withholding(Some(self.withholding(window))).rule(self.rule());
        read = read.carrying(std::mem::take(&mut self.carried));
        read.oldest_pending = self.record.oldest_pending;
        let open = self.life.review.rows.as_ref();
        read.open = open.map_or_else(BTreeSet::new, |rows| rows.accounts.clone());
        (read.last_good, read.recognized) = (self.last_good, self.recognized);
        let mut merged = merge_transactions(known, read, ids.silent());
        self.life.ambiguous += merged.ambiguous;
        self.life.id_collisions += merged.collisions;
        self.store = true;
        match merged.question.take() {
            Some(question) if question.another_customer => {
                self.hold_all(question.rows, began_at);
                return;
            }
            Some(question) => self.hold_rows(question, window, began_at),
            None => {}
        }
        self.recognized |= merged.recognized;
        self.moved.append(&mut merged.moved);
        self.counts.take(&merged);
        let next = self.next_walk(window, merged.withheld);
        let next_end = next.map(|walk| walk.next_end);
        self.notes_mut().add(&merged, window, next_end);
        if matches!(self.stage, Stage::Recent(..) | Stage::Deep) {
            self.carry(std::mem::take(&mut merged.withheld_rows), window);
        }
        if matches!(self.stage, Stage::Recent(..)) {
            // A row that has another date by now is not absent, whichever walk lacked it.
            merged.read.iter().for_each(|(id, _)| self.life.walk_notes.found(id));
        }
        if let Some(split) = self.split
            && window.start() <= split.start
        {
            self.split = None;
            if let Some(miscount) = &mut self.life.miscount {
                miscount.shorter_is_no_better = split.parts >= split.whole;
                if miscount.shorter_is_no_better {
                    self.lengths.not_dense();
                }
            }
        }
        self.gathered.take(merged, securities);
        self.advance(window, next, began_at);
    }

    /// Keeps rows for the next windows of the walk.
    fn carry(&mut self, rows: Vec<Transaction>, window: Window) {
        let before = std::mem::take(&mut self.carried_from);
        let from = |row: &Transaction| before.get(&row.id).copied().unwrap_or(window.end());
        self.carried_from = rows.iter().map(|row| (row.id.clone(), from(row))).collect();
        self.carried = rows;
    }

    /// Where another worker would go on with a deep resync: rows that are carried are only here, so
    /// the windows that had them are read again.
    fn resumable_deep(&self) -> Option<Walk> {
        let walk = self.life.deep?;
        let is_deep = matches!(self.stage, Stage::Deep);
        let carried_from = self.carried_from.values().copied().filter(|_| is_deep);
        Some(Walk { next_end: carried_from.fold(walk.next_end, Date::max), ..walk })
    }

    /// Notes the faults of a window.
    fn note_faults(&mut self, read: &ReadWindow) {
        self.counts.faults += read.faults.count;
        // The next update begins that much earlier, with this window.
        let since = read.window.start().plus_days(DATE_SLACK_DAYS);
        let since = Some(since).filter(|_| !read.unread.is_empty());
        let (tally, first) = match self.stage {
            Stage::Recent(..) => (&mut self.recent_faults, &mut self.recent_rows_since),
            _ => (&mut self.life.faults.walk, &mut self.life.faults.walk_rows_since),
        };
        tally.merge(read.faults.clone());
        *first = [*first, since].into_iter().flatten().min();
    }

    /// An update was read whole back to a date: its faults replace those of the last one.
    fn recent_faults_read(&mut self, start: Date) {
        let faults = &mut self.life.faults;
        let recent = std::mem::replace(&mut faults.recent, std::mem::take(&mut self.recent_faults));
        // What the partner mended is right in the history, too.
        self.is_mended =
            !recent.is_empty() && faults.recent.is_empty() && !faults.history.is_empty();
        let before = faults.rows_since.filter(|since| *since < start);
        faults.rows_since = [before, self.recent_rows_since.take()].into_iter().flatten().min();
    }

    /// The whole history was read: the faults of its walk replace those of the last one.
    fn history_faults_read(&mut self) {
        let faults = &mut self.life.faults;
        faults.history = std::mem::take(&mut faults.walk);
        faults.rows_since = faults.walk_rows_since.take();
    }

    /// The first date that updates look at again because rows could not be read, as far back as one
    /// looks for pending rows. What is older waits for the deep resync.
    fn unread_since(&self, now: DateTime<Utc>) -> Option<Date> {
        let reach = plan::today(now).0.minus_days(self.plan.pending_days);
        self.life.faults.rows_since.filter(|since| *since >= reach)
    }

    /// What the store has to be asked for before a window is merged: stored rows of these dates,
    /// and those that have one of these ids.
    #[must_use]
    pub fn known_query(
        &self,
        window: Window,
        rows: &[Transaction],
    ) -> (Window, Vec<TransactionId>) {
        let ahead = self.ahead_rows.iter().flat_map(|(rows, _)| rows);
        let ids = rows.iter().chain(ahead).chain(&self.carried).map(|row| row.id.clone());
        let unread = self.ahead_unread.ids.iter().cloned();
        let ids = ids.chain(unread);
        let notes = self.notes();
        let absent = notes.absent.keys().chain(notes.absent_where_lacking.keys()).cloned();
        (ReadWindow::reach(window), ids.chain(absent).collect())
    }

    fn notes(&self) -> &WalkNotes {
        match self.stage {
            Stage::Recent(..) => &self.notes,
            _ => &self.life.walk_notes,
        }
    }

    fn notes_mut(&mut self) -> &mut WalkNotes {
        match self.stage {
            Stage::Recent(..) => &mut self.notes,
            _ => &mut self.life.walk_notes,
        }
    }

    /// Who decides on rows that this window cannot decide on. Updates and deep resyncs carry them on;
    /// what waits after an update waits for the deep resync. While the history is fetched, one later
    /// window decides. No window decides on rows of the first dates of the history: what is stored of
    /// them stays as it is.
    fn withholding(&self, window: Window) -> Withholding {
        let is_last = self.walk().is_none_or(|walk| window.start() <= walk.start);
        match self.stage {
            Stage::Recent(Recent { walk, .. }) => {
                let history_start = plan::history(&self.plan, walk.began_at).start;
                Withholding::Carried { history_start }
            }
            _ if is_last => Withholding::OneWindow(u64::MAX),
            Stage::Deep => {
                let history_start = self.walk().map_or(window.start(), |walk| walk.start);
                Withholding::Carried { history_start }
            }
            _ => Withholding::OneWindow(self.lengths.longest()),
        }
    }

    /// Where the walk under way is once a window of it is stored.
    fn next_walk(&self, window: Window, withheld: Option<Withheld>) -> Option<Walk> {
        let walk = self.walk()?;
        let Some(withheld) = withheld else { return plan::after(walk, window) };
        match self.stage {
            Stage::Recent(Recent { extended: false, .. }) if window.start() <= walk.start => {
                // Further back once, for rows at the start that wait to be decided.
                plan::after(Walk { start: withheld.from.min(walk.start), ..walk }, window)
            }
            Stage::Recent(..) | Stage::Deep => plan::after(walk, window),
            _ => plan::after_with_overlap(walk, window, withheld),
        }
    }

    /// Takes in the rows of the dates after today. They belong to the update's first window: they
    /// add and join, and nothing is gone because it is not among them.
    pub fn ahead_read(&mut self, rows: Vec<Transaction>, securities: Vec<Security>) {
        self.ahead = None;
        self.life.ahead_until = rows.iter().map(Transaction::date).max();
        self.ahead_rows = Some((rows, securities));
    }

    /// Takes in rows of the dates after today that were set aside.
    pub fn ahead_unread(&mut self, unread: UnreadRows) {
        self.ahead_unread = unread;
    }

    /// The partner refuses the dates after today, or failed. That is remembered for a day.
    pub fn ahead_failed(&mut self, now: DateTime<Utc>) {
        self.ahead = None;
        self.lengths.ahead_failed(now);
    }

    /// Decides on a window of which two readings had the same number of rows, which is not its
    /// `total`. The rows are handed to [`miscounted_window_read`](Self::miscounted_window_read) if
    /// they are to be taken.
    #[must_use]
    pub fn miscounted(
        &mut self,
        window: Window,
        rows: u64,
        total: u64,
        now: DateTime<Utc>,
    ) -> Miscounted {
        let rows_lack = rows < total;
        let miscount = self.life.miscount.take().filter(|found| found.rows_lack == rows_lack);
        let mut miscount = miscount.unwrap_or_else(|| Miscount::new(rows_lack, now));
        let is_established = miscount.is_established(now);
        if !is_established {
            miscount.attempts = miscount.attempts.saturating_add(1);
        }
        let splits = rows_lack && window.days() > 1 && !miscount.shorter_is_no_better;
        // The third attempt may be the one that establishes it.
        let is_established = is_established || miscount.is_established(now);
        self.life.miscount = Some(miscount);
        if !is_established {
            return Miscounted::Fail;
        }
        if !splits {
            return Miscounted::Take;
        }
        let split = Split { start: window.start(), whole: total - rows, parts: 0 };
        self.split.get_or_insert(split);
        self.lengths.lacking(window);
        Miscounted::Split
    }

    /// Whether the partner was found to give a `total` that is smaller than the number of rows.
    #[must_use]
    pub fn total_is_too_small(&self) -> bool {
        self.life.miscount.as_ref().is_some_and(|found| !found.rows_lack)
    }

    /// The window has more transactions than are read at once: it is split.
    pub fn too_many(&mut self, window: Window, total: u64, at_most: u64) {
        self.lengths.too_many(window, total, at_most);
    }

    /// Returns whether a window that failed may be too heavy: a long one, one that is as short as it is
    /// because of that, or one of an Item that failed at a window before. A failure alone is no sign
    /// of it.
    #[must_use]
    pub fn may_be_too_heavy(&self, window: Window) -> bool {
        let before = self.record.life.last_failure.as_ref();
        let failed_before = before.is_some_and(|note| {
            matches!(note.kind, FailureKind::Network | FailureKind::Unavailable)
                && note.what.starts_with("transactions:")
        });
        let is_long = window.days() > LONG_WINDOW_DAYS;
        window.days() > 1 && (is_long || failed_before || self.lengths.is_shortening())
    }

    /// The partner fails at the window while it serves what is smaller: a much shorter one is read.
    pub fn too_heavy(&mut self, window: Window) {
        self.lengths.too_heavy(window);
    }

    /// The partner refuses the window for its length. `false`: it cannot be split any more.
    #[must_use]
    pub fn too_long(&mut self, window: Window) -> bool {
        self.lengths.too_long(window)
    }

    /// What is to be stored now; the run goes on as if it were.
    ///
    /// # Errors
    /// When the Item cannot make that move, which is a fault of this program.
    pub fn commit(&mut self, moment: Moment) -> Result<Commit, Impossible> {
        let over = self.window().is_none() && !matches!(self.stage, Stage::User);
        let halted = matches!(self.stage, Stage::Halted);
        let event = match (halted, over) {
            (true, _) => Event::Failed,
            (false, true) => Event::Finished,
            (false, false) => Event::PartStored,
        };
        let (state, _) = step(self.record.state, event)?;
        self.life.review.report(&mut self.life.issues);
        self.life.suspicion = Suspicion::of(&self.life.review);
        self.life.issues.clear(&HealthIssueKind::UpdateFailed);
        self.life.issues.clear(&HealthIssueKind::LoginRequired);
        self.life.issues.clear(&HealthIssueKind::TokensApart);
        self.life.refused_refresh = None;
        if halted {
            // It was not read, and the store forgets what it was asked for.
            self.life.owed_since = owed(&self.record);
        }
        if over && !halted {
            self.finished();
        }
        self.report_lacking(moment.now);
        self.report_faults(moment.now);
        self.life.failures = 0;
        self.life.wait_secs = 0;
        self.life.last_failure = None;
        let then = match (halted, over) {
            (false, false) => Then::Keep { lease_until: moment.lease_until },
            (false, true) => Then::Release {
                due_at: Some(self.due_at(moment)),
                not_before: None,
                seen: self.life.done_for,
            },
            // To ask again at once would not make it right.
            (true, _) => Then::Release {
                due_at: Some(moment.now + moment.timeout),
                not_before: None,
                seen: self.record.notified,
            },
        };
        let mut commit = Commit::new(&self.record, state, moment.now, then);
        commit.life = self.life.clone();
        commit.life.deep = self.resumable_deep();
        std::mem::take(&mut self.gathered).put(&mut commit, &self.life.history);
        if self.life.review != self.record.life.review {
            commit.reviews = Some(entries(&self.record, &self.life.review));
        }
        commit.moved = std::mem::take(&mut self.moved);
        if std::mem::take(&mut self.is_final) {
            commit.moves = Moves::Forget;
        }
        self.stored.clone_from(&self.accounts);
        self.record.life = commit.life.clone();
        self.record.state = state;
        self.store = false;
        if over {
            self.stage = Stage::Done;
        }
        Ok(commit)
    }

    /// Everything was read.
    fn finished(&mut self) {
        self.life.unfinished_since = None;
        self.life.stall_notified = false;
        self.life.issues.clear(&HealthIssueKind::CannotFinish);
        if !self.miscounted && self.counts.windows > 0 {
            self.life.miscount = None;
        }
    }

    /// Reports in the Item's health how many rows are lacking by the partner's `total`.
    fn report_lacking(&mut self, now: DateTime<Utc>) {
        let life = &mut self.life;
        let counts_wrongly = life.miscount.as_ref().is_some_and(|found| found.is_established(now));
        let lacks = life.history_lacks.max(life.update_lacks);
        let issue = (counts_wrongly || lacks > 0).then(|| Issue::new(now).count(lacks));
        life.issues.set(HealthIssueKind::RowsLacking, issue);
    }

    /// Reports in the Item's health what is wrong with the partner's responses.
    fn report_faults(&mut self, now: DateTime<Utc>) {
        let own: HashMap<_, _> =
            self.accounts.iter().map(|known| (&known.partner_id, &known.account.id)).collect();
        let issue = self.life.faults.issue(now, |id| own.get(id).map(|id| (*id).clone()));
        self.life.issues.set(HealthIssueKind::FaultyElements, issue);
    }

    /// What is to be stored if an attempt failed: the accounts, if they were read. Windows that
    /// were read and not stored are lost.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn failed(
        mut self,
        note: FailureNote,
        retry: Retry,
        stall_notice_after: TimeDelta,
    ) -> Result<Commit, Impossible> {
        if self.refreshed {
            self.record.life.refused_refresh = None;
        }
        let mut commit = failed(&self.record, note, retry, stall_notice_after)?;
        self.life.miscount.clone_into(&mut commit.life.miscount);
        if self.gathered.accounts.is_none() {
            return Ok(commit);
        }
        let (faults, now) = (self.life.faults.user.clone(), commit.now);
        self.life.faults.clone_from(&self.record.life.faults);
        self.life.faults.user = faults;
        self.report_faults(now);
        let issue = self.life.issues.get(&HealthIssueKind::FaultyElements).cloned();
        commit.life.issues.set(HealthIssueKind::FaultyElements, issue);
        commit.life.faults = self.life.faults.clone();
        let deep = self.resumable_deep();
        let from = self.life;
        let life = &mut commit.life;
        life.fresh = Freshness { transactions: life.fresh.transactions, ..from.fresh };
        life.identities_digest = from.identities_digest;
        life.securities_digest = from.securities_digest;
        life.missing_since = from.missing_since;
        life.deep = deep;
        life.walk_notes = from.walk_notes;
        life.review = from.review;
        life.review.report(&mut life.issues);
        life.suspicion = Suspicion::of(&life.review);
        if life.review != self.record.life.review {
            commit.reviews = Some(entries(&self.record, &life.review));
        }
        commit.accounts = self.gathered.accounts.take();
        commit.news.new_accounts = std::mem::take(&mut self.gathered.news.new_accounts);
        Ok(commit)
    }

    /// The tokens were refreshed well.
    pub fn tokens_refreshed(&mut self) {
        self.refreshed = true;
    }

    /// Returns whether the user has to authorize again because refreshes are refused for good.
    /// `others_at` is when another Item of the partner was last refreshed well.
    #[must_use]
    pub fn tokens_are_useless(&self, others_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        let before = self.record.life.refused_refresh.filter(|_| !self.refreshed);
        RefusedRefresh::one_more(before, now).is_for_good(others_at, now)
    }

    /// What is to be stored when the partner refuses the tokens of that version for good.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn refused(&self, version: Option<u64>, now: DateTime<Utc>) -> Result<Commit, Impossible> {
        let (state, _) = step(self.record.state, Event::Refused)?;
        let then =
            Then::Release { due_at: None, not_before: None, seen: self.record.life.done_for };
        let mut commit = Commit::new(&self.record, state, now, then);
        commit.life.owed_since = owed(&self.record);
        commit.life.refused_refresh = None;
        commit.life.issues.clear(&HealthIssueKind::UpdateFailed);
        commit.life.issues.clear(&HealthIssueKind::TokensApart);
        commit.life.issues.report(HealthIssueKind::LoginRequired, Issue::new(now));
        commit.refused_tokens = version;
        commit.news.fault = Some(login_required());
        Ok(commit)
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

    /// When the Item is due after everything was read: a timeout after the oldest of its data.
    fn due_at(&self, moment: Moment) -> DateTime<Utc> {
        let fresh = self.life.fresh;
        let transactions = fresh.transactions.filter(|_| self.record.needs_transactions);
        let oldest = [fresh.accounts, transactions].into_iter().flatten().min();
        (oldest.unwrap_or(moment.now).min(moment.now) + moment.timeout).max(moment.now)
    }
}

/// What is to be stored if work on an Item failed.
///
/// Applications are notified once if nothing has finished for `stall_notice_after`.
///
/// # Errors
/// If the Item is not being worked on, which is a fault of this program.
pub fn failed(
    record: &ItemRecord,
    note: FailureNote,
    retry: Retry,
    stall_notice_after: TimeDelta,
) -> Result<Commit, Impossible> {
    let (state, _) = step(record.state, Event::Failed)?;
    // What was asked for stays owed; the retry comes when it is time, not at once.
    let then = Then::Release {
        due_at: Some(retry.due_at),
        not_before: Some(retry.not_before),
        seen: record.notified,
    };
    let mut commit = Commit::new(record, state, note.at, then);
    let life = &mut commit.life;
    life.owed_since = owed(record);
    life.failures = record.life.failures.saturating_add(1);
    let issue = Issue::new(note.at).count(life.failures.into());
    life.issues.report(HealthIssueKind::UpdateFailed, issue);
    life.wait_secs = retry.wait_secs;
    if note.tokens.is_some() {
        let refused = RefusedRefresh::one_more(life.refused_refresh, note.at);
        life.refused_refresh = Some(refused);
        if note.tokens == Some(TokenTrouble::KeptApart) {
            let issue = Issue::new(note.at).count(refused.attempts.into());
            life.issues.report(HealthIssueKind::TokensApart, issue);
        }
    }
    let since = *life.unfinished_since.get_or_insert(note.at);
    if !note.kind.may_pass() || note.at - since >= LONG_UNFINISHED {
        life.issues.report(HealthIssueKind::CannotFinish, Issue::new(since));
    }
    if note.at - since >= stall_notice_after && !life.stall_notified {
        life.stall_notified = true;
        commit.news.fault = Some(items::cannot_finish());
    }
    life.last_failure = Some(note);
    Ok(commit)
}

/// The earliest date that was asked for and not read yet.
fn owed(record: &ItemRecord) -> Option<Date> {
    let asked = record.notified_since.filter(|_| record.notified > record.life.done_for);
    [asked, record.life.owed_since].into_iter().flatten().min()
}

/// What applications are told when the authorization is lost.
fn login_required() -> PlaidError {
    let mut error = PlaidError::new(
        PlaidErrorType::ItemError,
        "ITEM_LOGIN_REQUIRED",
        "the institution no longer accepts this authorization; have the user authorize again",
    );
    error.display_message =
        Some("Your institution asks you to sign in again to keep your accounts up to date.".into());
    error
}

/// A digest of a value, as text.
fn digest(value: &impl serde::Serialize) -> String {
    Digest::of_json(value).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
