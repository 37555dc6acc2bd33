//! Machines of workers and senders: they are killed at any step, stand still, lose their network,
//! shut down, and start again.

use crate::{
    bank,
    damage::Damage,
    dice::{Dice, SharedDice},
    life::Life,
    network::{Network, Rates},
    receiver::{Applications, Receivers},
    sabotage::Sabotage,
    store::{StoreRates, WatchedStore},
    time::MachineClock,
    world::{Phase, World},
};
use chrono::TimeDelta;
use px_client::{PartnerClient, RetryPolicy};
use px_core::{Clock as _, InProcessTransport, SeededRandom};
use px_items::{
    engine::{Engine, Settings},
    partners::{FixedPartners, Partner},
    store::Store,
    webhook::{Sender, SenderSettings},
};
use std::{
    future::Future,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

/// Intensity of the faults of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Badness {
    pub(crate) network: Rates,
    pub(crate) damage: Damage,
    pub(crate) store: StoreRates,
    /// Number of starts of a thousand that end by a kill.
    pub(crate) kills: u64,
    /// Number of starts of a thousand that stand still at times.
    pub(crate) stalls: u64,
    /// Number of webhooks of a thousand that their receiver fails.
    pub(crate) receivers: u64,
    /// Maximum error of machine clocks, in milliseconds.
    pub(crate) skew: i64,
    /// Number of polls of a thousand at which a clock is set.
    pub(crate) steps: u64,
    /// Number of polls of a thousand at which a clock is set wrong by minutes or days, for a while.
    pub(crate) wrong_clocks: u64,
}

/// Minimum error of a wrong clock: more than a quarter of the longest lease.
const WRONG_CLOCK_MIN: Duration = Duration::from_secs(40);
/// Maximum error of a wrong clock.
const WRONG_CLOCK_MAX: Duration = Duration::from_secs(4 * 86_400);

impl Badness {
    fn ahead(&self, dice: &mut Dice) -> TimeDelta {
        let span = self.skew.unsigned_abs() * 2;
        TimeDelta::milliseconds(dice.between(0, span).cast_signed() - self.skew)
    }

    /// Returns an error that no working machine's clock may have.
    fn far_ahead(dice: &mut Dice) -> TimeDelta {
        let longest = match dice.below(3) {
            0 => Duration::from_secs(600),
            1 => Duration::from_secs(86_400),
            _ => WRONG_CLOCK_MAX,
        };
        let seconds = dice.between(WRONG_CLOCK_MIN.as_secs(), longest.as_secs()).cast_signed();
        TimeDelta::seconds(if dice.chance(700) { seconds } else { -seconds })
    }
}

/// A simulated machine.
pub(crate) struct Machine {
    pub(crate) world: Arc<World>,
    pub(crate) name: String,
    pub(crate) badness: Badness,
    pub(crate) dice: SharedDice,
    clock: MachineClock,
}

/// End of a start of a machine.
#[derive(Clone, Copy, Debug)]
enum End {
    KilledAtGate(u64),
    KilledAfter(u64),
    StoppedAfter(u64),
}

impl Machine {
    pub(crate) fn new(world: &Arc<World>, name: String, badness: Badness) -> Self {
        let dice = SharedDice::new(world.seed, &name);
        let ahead = dice.throw(|dice| badness.ahead(dice));
        let clock = MachineClock::new(world.clock, ahead);
        Self { world: world.clone(), name, badness, dice, clock }
    }

    /// Starts again and again until the run is over.
    ///
    /// `run` runs the program of the machine until the given future completes.
    pub(crate) async fn live<F: Future<Output = ()>>(
        self,
        run: impl Fn(&Self, Arc<Life>, StopSignal) -> F,
    ) {
        let mut start = 0;
        while self.world.phase() != Phase::Over {
            start += 1;
            let life = Arc::new(Life::new(
                format!("{}.{start}", self.name),
                self.world.clock,
                self.world.trace.clone(),
            ));
            self.one_start(&life, &run).await;
            let rest = self.dice.throw(|dice| match dice.below(10) {
                _ if self.world.is_crowded() => dice.between(1, 20),
                0..=6 => dice.between(1, 20),
                7 | 8 => dice.between(20, 600),
                _ => dice.between(600, 7200),
            });
            if self.world.phase() == Phase::Busy {
                self.world.clock.sleep(Duration::from_secs(rest)).await;
            }
        }
    }

    async fn one_start<F: Future<Output = ()>>(
        &self,
        life: &Arc<Life>,
        run: impl Fn(&Self, Arc<Life>, StopSignal) -> F,
    ) {
        let end = self.end();
        self.world.trace.note(&life.name, format_args!("starts"));
        if !self.world.is_busy() {
            self.set_right(life);
        }
        let stop = StopSignal {
            busy: self.world.is_busy(),
            world: self.world.clone(),
            after: match end {
                Some(End::StoppedAfter(seconds)) => Some(Duration::from_secs(seconds)),
                _ => None,
            },
        };
        if let Some(End::KilledAtGate(gate)) = end {
            life.end_at_gate(gate);
        }
        let killed = async {
            if let Some(End::KilledAfter(seconds)) = end {
                self.world.sleep_while_busy(Duration::from_secs(seconds)).await;
                life.end();
            }
            std::future::pending::<()>().await;
        };
        // Faults that were planned earlier are cancelled, too, once the faults are over.
        let spared = async {
            self.world.until_calm().await;
            life.spare();
            self.set_right(life);
            std::future::pending::<()>().await;
        };
        let over = tokio::select! {
            biased;
            () = life.until_end() => false,
            () = killed => false,
            () = spared => false,
            () = self.trouble(life) => false,
            () = run(self, life.clone(), stop) => true,
        };
        if over {
            self.world.trace.note(&life.name, format_args!("stopped"));
            let clean = self.badness.store.is_good() && !life.stood();
            if let Some(item) = self.world.witness.holds(life).filter(|_| clean) {
                let what = format!("{} stopped in good order and still holds {item}", life.name);
                self.world.trace.wrong(what);
            }
        } else {
            self.world.trace.note(&life.name, format_args!("is killed"));
            self.world.witness.count(|stats| stats.crashes += 1);
        }
        life.end();
    }

    fn end(&self) -> Option<End> {
        if self.world.phase() != Phase::Busy {
            return None;
        }
        self.dice.throw(|dice| match dice.below(3) {
            _ if !dice.chance(self.badness.kills) => None,
            0 => Some(End::KilledAfter(dice.between(1, 40_000))),
            1 => Some(End::StoppedAfter(dice.between(1, 40_000))),
            _ => Some(End::KilledAtGate(dice.between(1, 120))),
        })
    }

    /// Makes it stand still or lose its network at times.
    async fn trouble(&self, life: &Life) {
        loop {
            let wait = self.dice.throw(|dice| dice.between(10, 20_000));
            self.world.sleep_while_busy(Duration::from_secs(wait)).await;
            if self.clock.is_far_off() {
                self.set_right(life);
            } else if self.dice.throw(|dice| dice.chance(self.badness.wrong_clocks)) {
                self.set_clock(life, self.dice.throw(Badness::far_ahead));
                continue;
            }
            let (stall, which, gate, time) = self.dice.throw(|dice| {
                let stall = dice.chance(self.badness.stalls);
                (stall, dice.chance(600), dice.below(40), dice.between(1, 300))
            });
            let time = Duration::from_secs(time);
            if self.dice.throw(|dice| dice.chance(self.badness.steps)) {
                self.set_clock(life, self.dice.throw(|dice| self.badness.ahead(dice)));
            }
            match which {
                _ if !stall => {}
                // While it works, when it matters.
                true => life.stand_at_gate(gate, time),
                false => {
                    self.world.trace.note(&life.name, format_args!("is cut off for {time:?}"));
                    life.cut_off(time);
                }
            }
        }
    }

    fn set_clock(&self, life: &Life, ahead: TimeDelta) {
        self.world.trace.note(&life.name, format_args!("sets its clock {ahead} ahead"));
        self.clock.set_ahead(ahead);
    }

    /// Resets the clock to its normal error.
    fn set_right(&self, life: &Life) {
        if self.clock.is_far_off() {
            self.set_clock(life, self.dice.throw(|dice| self.badness.ahead(dice)));
        }
    }

    /// Returns the store as this start of the machine reaches it.
    pub(crate) fn store(&self, life: &Arc<Life>) -> Arc<dyn Store> {
        Arc::new(WatchedStore {
            inner: self.world.store.clone(),
            witness: self.world.witness.clone(),
            life: life.clone(),
            rates: self.badness.store,
            bad: self.world.bad.clone(),
            dice: SharedDice::new(self.world.seed, &format!("{} store", life.name)),
            clock: self.world.clock,
            trace: self.world.trace.clone(),
            spare_next_save: AtomicBool::new(false),
            machine: Some(self.clock.clone()),
            compares_with_itself: self.world.sabotage == Some(Sabotage::Clock),
        })
    }

    /// Returns the banks as this start of the machine reaches them.
    fn partners(&self, life: &Arc<Life>) -> FixedPartners {
        let mut partners = FixedPartners::new();
        for bank in &self.world.banks {
            let name = format!("{} {}", life.name, bank.id);
            let network = Network {
                bank: bank.clone(),
                service: InProcessTransport::new(bank.service(self.world.seed)),
                life: life.clone(),
                rates: self.badness.network,
                damage: self.badness.damage,
                bad: self.world.bad.clone(),
                dice: SharedDice::new(self.world.seed, &name),
                clock: self.world.clock,
                trace: self.world.trace.clone(),
                witness: self.world.witness.clone(),
                store: self.world.store.clone(),
                spare_next_refresh: Mutex::default(),
            };
            let (id, secret) = bank::credentials();
            let mut retry = RetryPolicy::default();
            retry.attempts = 2;
            let client = PartnerClient::builder("https://bank.example", network)
                .client(id, secret)
                .clock(Arc::new(self.clock.clone()))
                .retry(retry)
                .random(Arc::new(SeededRandom::new(self.dice.throw(|dice| dice.bits()))))
                .build()
                .unwrap();
            let mut partner = Partner::new(client);
            partner.budget.at_once = bank.style.at_once;
            partners = partners.with(bank.id.clone(), partner);
        }
        partners
    }

    /// Returns a webhook sender on this start of the machine.
    pub(crate) fn sender(&self, life: &Arc<Life>, applications: &Applications) -> Sender {
        let receivers = Receivers {
            applications: applications.clone(),
            witness: self.world.witness.clone(),
            life: life.clone(),
            bad: self.world.bad.clone(),
            dice: SharedDice::new(self.world.seed, &format!("{} receivers", life.name)),
            clock: self.world.clock,
            trace: self.world.trace.clone(),
            fails: self.badness.receivers,
        };
        let mut settings = SenderSettings::default();
        settings.poll = Duration::from_secs(60);
        Sender::builder(self.store(life), Arc::new(receivers), applications.signer.clone())
            .clock(Arc::new(self.clock.clone()))
            .random(Arc::new(SharedDice::new(self.world.seed, &format!("{} random", life.name))))
            .settings(settings)
            .build()
    }

    /// Returns an engine on this start of the machine.
    pub(crate) fn engine(&self, life: &Arc<Life>, settings: Settings) -> Engine {
        Engine::builder(self.store(life), Arc::new(self.partners(life)))
            .clock(Arc::new(self.clock.clone()))
            .random(Arc::new(SharedDice::new(self.world.seed, &format!("{} random", life.name))))
            .settings(settings)
            .build()
    }
}

/// Signal to shut down the program of a machine.
pub(crate) struct StopSignal {
    world: Arc<World>,
    after: Option<Duration>,
    /// Whether the machine started during the faults. It starts once more after them.
    busy: bool,
}

impl StopSignal {
    pub(crate) async fn wait(self) {
        let planned = async {
            match self.after {
                Some(after) => self.world.sleep_while_busy(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.world.until_calm(), if self.busy => {}
            () = self.world.until_over() => {}
            () = planned => {}
        }
    }
}
