//! Runs the seeds on a few threads and reports progress: a bar on a terminal, lines elsewhere.

use crate::{
    arguments::Arguments,
    backend::StoreKind,
    run::{self, Outcome},
    trace::TraceLevel,
    witness::Stats,
};
use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Prints a line to the user.
#[allow(clippy::print_stdout, reason = "a program's own output")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// Prints a line about wrong usage.
#[allow(clippy::print_stderr, reason = "a program's own output")]
pub(crate) fn complaint(text: &str) {
    eprintln!("{text}");
}

/// Results of the seeds so far.
#[derive(Default)]
struct Tally {
    done: u64,
    twice: u64,
    events: u64,
    stats: Stats,
    failed: Vec<Failed>,
}

struct Failed {
    seed: u64,
    wrong: Vec<String>,
}

/// Runs the requested seeds.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    if arguments.store == StoreKind::Postgres && !run::has_postgres() {
        line("skipped: this machine has no PostgreSQL");
        return 0.into();
    }
    run::catch_panics();
    let started = run::Stopwatch::start();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let tally = Mutex::new(Tally::default());
    let terminal = std::io::stdout().is_terminal() && !arguments.trace;
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= arguments.seeds {
                        return;
                    }
                    let seed = arguments.first.wrapping_add(place);
                    let (outcome, twice) = one(arguments, seed, place);
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    tally.add(seed, outcome, twice);
                    // One failure is enough with a sabotage; otherwise a few are more informative.
                    let enough = if arguments.sabotage.is_some() { 1 } else { 5 };
                    if tally.failed.len() >= enough {
                        stop.store(true, Ordering::Relaxed);
                    }
                    tally.progress(arguments, terminal);
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.finish(arguments, terminal, started.seconds())
}

/// Runs one seed. Returns whether it ran twice.
fn one(arguments: &Arguments, seed: u64, place: u64) -> (Outcome, bool) {
    let twice = arguments.twice > 0 && place.is_multiple_of(arguments.twice);
    let level = match (arguments.trace, twice) {
        (true, _) => TraceLevel::Print,
        (false, true) => TraceLevel::Lines,
        (false, false) => TraceLevel::Hash,
    };
    let mut outcome = run::seed(seed, arguments, level);
    if twice {
        let again = run::seed(seed, arguments, level);
        if again.hash != outcome.hash {
            outcome.wrong.push(difference(&outcome, &again));
        }
    }
    (outcome, twice)
}

/// Returns the first difference between two runs of a seed.
fn difference(one: &Outcome, other: &Outcome) -> String {
    let none = String::from("(the end)");
    let length = one.lines.len().max(other.lines.len());
    for place in 0..length {
        let (a, b) = (one.lines.get(place), other.lines.get(place));
        if a != b {
            let (a, b) = (a.unwrap_or(&none), b.unwrap_or(&none));
            return format!("run twice, it went another way at line {place}:\n    {a}\n    {b}");
        }
    }
    "run twice, it gave another hash over the same lines".to_owned()
}

impl Tally {
    fn add(&mut self, seed: u64, outcome: Outcome, twice: bool) {
        if !outcome.wrong.is_empty() {
            line(&format!("seed {seed} failed"));
        }
        self.done += 1;
        self.twice += u64::from(twice);
        self.events += outcome.events;
        self.stats += outcome.stats;
        if !outcome.wrong.is_empty() {
            self.failed.push(Failed { seed, wrong: outcome.wrong });
        }
    }

    fn progress(&self, arguments: &Arguments, terminal: bool) {
        let (done, all) = (self.done, arguments.seeds);
        if terminal {
            let width = 40;
            let filled = usize::try_from(done * width / all.max(1)).unwrap_or_default();
            let bar = format!("{:<40}", "#".repeat(filled));
            let failed = self.failed.len();
            let mut out = std::io::stdout().lock();
            // A closed terminal is no reason to stop.
            let _ = write!(out, "\r[{bar}] {done}/{all} seeds, {failed} failed");
            let _ = out.flush();
        } else if done.is_multiple_of((all / 10).max(1)) && all > 1 {
            line(&format!("{done} of {all} seeds, {} failed", self.failed.len()));
        }
    }

    fn finish(mut self, arguments: &Arguments, terminal: bool, seconds: u64) -> ExitCode {
        if terminal {
            line("");
        }
        self.failed.sort_by_key(|failed| failed.seed);
        let Stats {
            commits,
            takeovers,
            crashes,
            refreshes,
            lost,
            excused,
            webhooks,
            given_up,
            passes,
        } = self.stats;
        line(&format!(
            "{} seeds, {} of them twice: {} events, {commits} commits, {crashes} crashes, \
             {takeovers} taken over, {refreshes} refreshes, {lost} authorizations ended, \
             {webhooks} webhooks ({given_up} given up), {passes} passes of readers, \
             {excused} excused",
            self.done, self.twice, self.events
        ));
        let hundred = seconds * 100 / (self.done + self.twice).max(1);
        line(&format!("{seconds} s, {hundred} s for 100 seeds"));
        match arguments.sabotage {
            None => self.say_failures(arguments),
            Some(sabotage) => {
                let what = sabotage.as_str();
                let Some(failed) = self.failed.first() else {
                    line(&format!("nobody noticed that {what} is broken"));
                    return 1.into();
                };
                let first = failed.wrong.first().map_or("", |what| what);
                line(&format!("{what} is broken, and seed {} noticed: {first}", failed.seed));
                0.into()
            }
        }
    }

    fn say_failures(&self, arguments: &Arguments) -> ExitCode {
        for failed in &self.failed {
            line(&format!("seed {}:", failed.seed));
            for what in failed.wrong.iter().take(10) {
                line(&format!("  {what}"));
            }
            if failed.wrong.len() > 10 {
                line(&format!("  and {} more", failed.wrong.len() - 10));
            }
            let store = match arguments.store {
                StoreKind::Memory => "",
                StoreKind::Sqlite => " --store sqlite",
                StoreKind::Postgres => " --store postgres",
            };
            let habit = arguments.habit.map(|habit| format!(" --habit {}", habit.name()));
            let crowd = if arguments.crowd { " --crowd" } else { "" };
            let more = habit.unwrap_or_default() + crowd;
            line(&format!("  replay: just sim-replay {}{store}{more}", failed.seed));
        }
        u8::from(!self.failed.is_empty()).into()
    }
}
