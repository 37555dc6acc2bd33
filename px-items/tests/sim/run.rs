//! Run of one seed, from start to end.

use crate::{
    application::User,
    arguments::Arguments,
    backend::{Backend, StoreKind},
    bank::{Bank, Habit, NewBank},
    check,
    customer::{self, Customer},
    damage::Damage,
    dice::{Dice, SharedDice},
    life::{Life, THE_END},
    machine::{Badness, Machine, StopSignal},
    network::Rates,
    receiver::Applications,
    sabotage::Sabotage,
    store::StoreRates,
    time::SimClock,
    trace::{Trace, TraceLevel},
    witness::Stats,
    world::{Phase, World},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt as _;
use px_client::oauth::TokenSet;
use px_core::Clock as _;
use px_items::{
    connection::Connection,
    engine::{Outcome as Ended, Settings},
    items::ReviewScope,
    store::{AccessDigest, NewHolder, NewLink},
    sync_state::Suspicion,
    testing::postgres,
};
use px_types::{
    AccessToken, ApplicationId, InstitutionId, ItemId, UserId, model::product::Product,
};
use std::{
    cell::RefCell,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::task::JoinHandle;

/// Outcome of a seed.
pub(crate) struct Outcome {
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) wrong: Vec<String>,
    pub(crate) lines: Vec<String>,
    pub(crate) stats: Stats,
}

thread_local! {
    /// Panics of the seed that runs on this thread.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Records panics for their seed instead of printing them.
pub(crate) fn catch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.with_borrow_mut(|panics| panics.push(format!("a panic: {panic}")));
    }));
}

/// Returns whether this machine has a PostgreSQL for tests.
pub(crate) fn has_postgres() -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { postgres::database().await.is_some() })
}

/// Measures real time, which is not used within a run.
pub(crate) struct Stopwatch(std::time::Instant);

impl Stopwatch {
    #[allow(clippy::disallowed_methods, reason = "how long the program takes is no part of a run")]
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.0.elapsed().as_secs()
    }
}

/// Runs a seed.
pub(crate) fn seed(seed: u64, arguments: &Arguments, level: TraceLevel) -> Outcome {
    PANICS.take();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true);
    if arguments.store == StoreKind::Postgres {
        runtime.enable_io();
    }
    let runtime = runtime.build().unwrap();
    let outcome = runtime.block_on(async {
        let start: DateTime<Utc> = "2026-03-02T08:00:00Z".parse().unwrap();
        let clock = SimClock::starting_at(start);
        let trace = Arc::new(Trace::new(clock, level));
        let run = AssertUnwindSafe(async {
            let backend = Backend::open(arguments.store, arguments.sabotage, clock).await.unwrap();
            let mut run = Run::new(seed, arguments, &backend, (clock, trace.clone()));
            run.add_unreadable(&backend).await;
            let stats = run.play().await;
            backend.close().await;
            stats
        });
        let stats = run.catch_unwind().await.unwrap_or_default();
        for panic in PANICS.take() {
            trace.wrong(panic);
        }
        let (hash, events, wrong, lines) = trace.finish();
        Outcome { hash, events, wrong, lines, stats }
    });
    // The remaining tasks belong to machines that have ended.
    runtime.shutdown_background();
    outcome
}

/// Run of a seed.
struct Run {
    world: Arc<World>,
    dice: Dice,
    badness: Badness,
    settings: Settings,
}

impl Run {
    fn new(
        seed: u64,
        arguments: &Arguments,
        backend: &Backend,
        (clock, trace): (SimClock, Arc<Trace>),
    ) -> Self {
        let mut dice = Dice::new(seed, "run");
        let crowded = arguments.crowd || dice.chance(50);
        let settings = settings(crowded, &mut dice);
        let mut badness = Badness {
            network: Rates::random(&mut dice),
            damage: Damage::random(seed, arguments.sabotage == Some(Sabotage::SetAside)),
            store: StoreRates::random(&mut dice),
            kills: dice.below(1001),
            stalls: dice.below(800),
            receivers: dice.below(400),
            skew: skew(&settings, &mut dice),
            steps: dice.below(300),
            wrong_clocks: if dice.chance(300) { dice.below(400) } else { 0 },
        };
        if crowded {
            // A large number of Items is bad enough, and a killed worker makes it worse.
            (badness.network, badness.store) = Default::default();
            badness.damage = Damage::default();
            badness.kills = 1000;
        }
        trace.note("world", format_args!("seed {seed}: {badness:?}"));
        let most_banks = if crowded { 1 } else { 2 };
        let banks: Vec<_> = (1..=dice.between(1, most_banks))
            .map(|number| {
                let count = if crowded { dice.between(60, 100) } else { dice.between(1, 2) };
                let users: Vec<_> = (1..=count)
                    .map(|user| UserId::new(format!("u{number}{user:02}")).unwrap())
                    .collect();
                let name = format!("bank{number}");
                let new = NewBank { name: &name, users: &users, habit: arguments.habit, crowded };
                Bank::open(seed, new, clock, trace.clone())
            })
            .collect();
        let store = backend.store.clone();
        let of = (seed, arguments.sabotage);
        let world = World::new(of, (clock, trace), store, banks, &badness);
        let in_memory = arguments.store == StoreKind::Memory;
        world.witness.compares_shown.store(in_memory, Ordering::Relaxed);
        let world = Arc::new(world);
        Self { world, dice, badness, settings }
    }

    /// Adds Items that a later version stored to some stores. They are the first that are due.
    async fn add_unreadable(&mut self, backend: &Backend) {
        if !self.dice.chance(200) {
            return;
        }
        let Some(bank) = self.world.banks.first() else { return };
        let now = self.world.clock.now();
        let mut items = Vec::new();
        for number in 1..=self.dice.between(1, 3) {
            let name = format!("later{number}");
            let application = ApplicationId::new("later").unwrap();
            let connection = Connection::new(application, [Product::Transactions], now);
            let item = ItemId::new(name.clone()).unwrap();
            let new = NewLink::new(
                (bank.id.clone(), UserId::new(name.clone()).unwrap()),
                item.clone(),
                TokenSet::new(AccessToken::new(name), now),
                NewHolder::Application(connection),
                AccessDigest([u8::try_from(number).unwrap_or_default(); 32]),
                now,
            );
            self.world.store.link(new).await.unwrap();
            items.push(item);
        }
        self.world.trace.note("world", format_args!("{items:?} cannot be read"));
        backend.spoil(&items).await;
    }

    async fn play(mut self) -> Stats {
        let crowded = self.world.is_crowded();
        let count = if crowded { 1 } else { self.dice.between(1, 3) };
        let applications = Applications::new(count, self.world.clock);
        let machines = self.machines(&applications);
        let users = self.start_users(&applications);
        let days = if crowded { 2 } else { self.dice.between(2, 5) };
        self.sleep(TimeDelta::days(days.cast_signed())).await;
        self.world.set_phase(Phase::Calm);
        let mut all_users = Vec::new();
        for user in users {
            all_users.extend(user.await.ok());
        }
        // Work under way ends, leases run out, and requested delays pass.
        self.sleep(TimeDelta::minutes(5)).await;
        self.authorize_again(&mut all_users).await;
        // Long enough for at least one update of every Item, and all attempts of every webhook.
        self.sleep(TimeDelta::hours(49)).await;
        self.accept_ids().await;
        self.update_unused().await;
        // Some Items notice only now that their authorization has ended.
        self.authorize_again(&mut all_users).await;
        self.sleep(TimeDelta::hours(2)).await;
        self.nothing_is_stuck().await;
        self.world.set_phase(Phase::Over);
        for machine in machines {
            machine.await.ok();
        }
        self.sleep(TimeDelta::minutes(2)).await;
        self.read_everything().await;
        self.deliver_everything(&applications).await;
        check::everything(&self.world, &mut all_users).await;
        self.world.witness.stats()
    }

    async fn sleep(&self, time: TimeDelta) {
        self.world.clock.sleep(time.to_std().unwrap_or_default()).await;
    }

    fn machines(&mut self, applications: &Applications) -> Vec<JoinHandle<()>> {
        let mut machines = Vec::new();
        for number in 1..=self.dice.between(1, 3) {
            let machine = Machine::new(&self.world, format!("worker{number}"), self.badness);
            let settings = self.settings.clone();
            machines.push(tokio::spawn(async move {
                let run = |machine: &Machine, life, stop: StopSignal| {
                    let engine = machine.engine(&life, settings_now(&settings, &machine.world));
                    async move { engine.run(2, stop.wait()).await }
                };
                machine.live(run).await;
            }));
        }
        for number in 1..=self.dice.between(1, 2) {
            let machine = Machine::new(&self.world, format!("sender{number}"), self.badness);
            let applications = applications.clone();
            machines.push(tokio::spawn(async move {
                let run = |machine: &Machine, life, stop: StopSignal| {
                    let sender = machine.sender(&life, &applications);
                    async move { sender.run(stop.wait()).await }
                };
                machine.live(run).await;
            }));
        }
        machines
    }

    /// Starts the users of every bank, at the bank and at the applications.
    fn start_users(&mut self, applications: &Applications) -> Vec<JoinHandle<User>> {
        let mut users = Vec::new();
        for bank in &self.world.banks {
            let names: Vec<_> = bank.ledgers().keys().cloned().collect();
            if bank.style.crowded {
                tokio::spawn(customer::notify_crowd(self.world.clone(), bank.clone()));
            }
            for name in names {
                let customer = Customer::new(self.world.clone(), bank.clone(), name.clone());
                tokio::spawn(customer.live());
                for (id, mailbox) in &applications.mailboxes {
                    let (world, bank) = (self.world.clone(), bank.clone());
                    let user = User::new(world, bank, name.clone(), (id.clone(), mailbox.clone()));
                    users.push(tokio::spawn(user.live()));
                }
            }
        }
        users
    }

    /// Users sign in at their bank again if it is required.
    async fn authorize_again(&self, all_users: &mut [User]) {
        for user in all_users.iter_mut() {
            user.find_again().await;
        }
        for (item, institution, name) in self.world.witness.items() {
            let record = self.world.store.item(&item).await.unwrap();
            if !record.is_some_and(|record| record.state.login_required()) {
                continue;
            }
            match all_users.iter_mut().find(|user| user.item() == Some(&item)) {
                Some(user) => user.authorize_again().await,
                None => {
                    let Some(bank) = self.world.witness.bank(&institution) else { continue };
                    let dice = SharedDice::new(self.world.seed, THE_END);
                    let tokens = self.world.authorize(&bank, &name, &dice).await;
                    let linked = self.world.good_items.import(&institution, &name, tokens).await;
                    if let Err(error) = linked {
                        self.world.trace.wrong(format!("{item} cannot be repaired: {error:?}"));
                    }
                }
            }
        }
    }

    /// Checks that every Item was updated by itself since the end of the faults.
    async fn nothing_is_stuck(&self) {
        let since = self.world.clock.now() - TimeDelta::hours(51);
        let is_failing_crowd = |institution: &InstitutionId| {
            let bank = self.world.witness.bank(institution);
            bank.is_some_and(|bank| bank.style.crowded && !bank.has_transactions())
        };
        for (item, institution, user) in self.world.witness.items() {
            let Some(record) = self.world.store.item(&item).await.unwrap() else { continue };
            // An Item without a reader is updated once a month.
            if self.world.store.connections(&item).await.unwrap().is_empty() {
                continue;
            }
            // A crowd at a bank that never has transactions: each probe of the open circuit updates
            // one of its Items.
            if is_failing_crowd(&institution) {
                continue;
            }
            if record.sync_state.fresh.accounts.is_none_or(|at| at < since) {
                self.world.trace.wrong(format!(
                    "{item} of {user} is stuck: {}, due {:?}, leased until {:?}, last failure {:?}",
                    record.state,
                    record.due_at,
                    record.leased_until,
                    record.sync_state.last_failure
                ));
            }
        }
    }

    fn has_transactions(&self, institution: &InstitutionId) -> bool {
        self.world.witness.bank(institution).is_none_or(|bank| bank.has_transactions())
    }

    /// An operator accepts that an Item's transaction ids changed.
    async fn accept_ids(&self) {
        for (item, _, user) in self.world.witness.items() {
            let record = self.world.store.item(&item).await.unwrap();
            let suspicion = record.and_then(|record| record.sync_state.suspicion);
            if suspicion != Some(Suspicion::TransactionIdsChanged) {
                continue;
            }
            self.world.trace.note("operator", format_args!("accepts the ids of {item} of {user}"));
            let scope = ReviewScope::Item(item.clone());
            if let Err(error) = self.world.good_items.remap(&scope, "operator").await {
                self.world.trace.wrong(format!("the ids of {item} cannot be accepted: {error:?}"));
            }
        }
    }

    /// Delivers all webhooks. Senders that stopped handed theirs back, or their leases have ended.
    async fn deliver_everything(&self, applications: &Applications) {
        let machine = Machine::new(&self.world, THE_END.to_owned(), self.badness);
        let life = Arc::new(Life::new(
            "the last sender".to_owned(),
            self.world.clock,
            self.world.trace.clone(),
        ));
        machine.sender(&life, applications).deliver_due().await;
    }

    /// Updates the Items without a reader, which would otherwise find out in a month that their user
    /// took the consent back.
    async fn update_unused(&self) {
        let machine = Machine::new(&self.world, THE_END.to_owned(), self.badness);
        let life =
            Arc::new(Life::new(THE_END.to_owned(), self.world.clock, self.world.trace.clone()));
        let engine = machine.engine(&life, self.settings.clone());
        for (item, ..) in self.world.witness.items() {
            if self.world.store.connections(&item).await.is_ok_and(|all| all.is_empty()) {
                // Whatever the outcome, all Items are updated once more.
                let _ = engine.update(&item).await;
            }
        }
    }

    /// Makes three deep resyncs of all Items: a missing account is closed by the second one that
    /// lacks it, and changed ids are accepted in between.
    async fn read_everything(&self) {
        let machine = Machine::new(&self.world, THE_END.to_owned(), self.badness);
        let life =
            Arc::new(Life::new(THE_END.to_owned(), self.world.clock, self.world.trace.clone()));
        let mut settings = self.settings.clone();
        settings.plan.deep_every = TimeDelta::zero();
        let engine = machine.engine(&life, settings);
        // A wrong total is only established after three attempts over an hour.
        let counts_wrongly = |bank: &Arc<Bank>| bank.style.has(Habit::WrongTotal);
        let before = if self.world.banks.iter().any(counts_wrongly) { 2 } else { 0 };
        for pass in 0..before + 3 {
            for (item, institution, _) in self.world.witness.items() {
                match engine.update(&item).await {
                    Ok(report) if report.outcome == Ended::Finished => {}
                    Ok(report) if report.suspicion.is_some() && pass < before + 2 => {}
                    Ok(report) if report.outcome == Ended::Failed && pass < before => {}
                    Ok(report)
                        if report.outcome == Ended::LoginRequired
                            && !self.world.witness.has(&item) => {}
                    // Its transactions cannot be read.
                    Ok(report)
                        if report.outcome == Ended::Failed
                            && !self.has_transactions(&institution) => {}
                    Ok(report) => self.world.trace.wrong(format!(
                        "{item} cannot be updated in the end: {:?} {:?} {:?}",
                        report.outcome, report.failure, report.suspicion
                    )),
                    Err(error) => {
                        self.world
                            .trace
                            .wrong(format!("{item} cannot be updated in the end: {error}"));
                    }
                }
            }
            // An account that the first pass found missing is closed by a later one, at least 6 h
            // after it.
            let pause = if pass <= before { TimeDelta::hours(7) } else { TimeDelta::minutes(1) };
            self.sleep(pause).await;
            // Data may be put on hold only now.
            self.accept_ids().await;
        }
    }
}

/// Returns the same settings with rare polls, for a time without events.
fn settings_now(settings: &Settings, world: &World) -> Settings {
    let mut settings = settings.clone();
    if !world.is_busy() {
        settings.poll = settings.poll.max(Duration::from_secs(60));
    }
    settings
}

/// Returns the maximum error of machine clocks, in milliseconds: less than an eighth of a lease, so
/// that no two of them are a quarter of it apart.
fn skew(settings: &Settings, dice: &mut Dice) -> i64 {
    let most = u64::try_from(settings.lease.as_millis() / 8).unwrap_or_default();
    if dice.chance(500) { dice.below(most).cast_signed() } else { 0 }
}

fn settings(crowded: bool, dice: &mut Dice) -> Settings {
    let mut settings = Settings::default();
    settings.lease = Duration::from_secs(dice.between(10, 60));
    settings.poll = Duration::from_secs(dice.between(5, 120));
    if crowded {
        // So that an Item of a dead worker can be rescued in time.
        settings.lease = Duration::from_secs(dice.between(6, 15));
        settings.poll = Duration::from_secs(dice.between(1, 3));
    }
    settings.revoke_every = Duration::from_secs(dice.between(60, 600));
    settings.count_every = None;
    settings.rows_at_once = dice.between(5, 200);
    settings.plan.history_days = 60;
    settings.plan.window_days = dice.between(7, 40);
    settings.plan.deep_every = TimeDelta::hours(dice.between(20, 100).cast_signed());
    settings
}
