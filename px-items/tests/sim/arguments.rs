//! Argument parser without a library, for few arguments.

use crate::{backend::StoreKind, bank::Habit, sabotage::Sabotage};

/// Text of `--help`.
pub(crate) const HELP: &str = "\
The simulation: banks, workers, applications and faults from a seed.

Usage: cargo test -p px-items --all-features --test sim -- [OPTIONS]

  --seeds N        run N seeds (default 4)
  --from S         the first of them (default 1)
  --seed S         run this one alone
  --trace          print what happens, line by line
  --threads N      seeds at a time (default: the machine's processors)
  --twice N        run every Nth seed a second time and compare (default 25; 0: none)
  --store STORE    memory (default), sqlite or postgres; a seed repeats exactly in memory only
  --habit HABIT    every bank has this habit, as well as others; see tests/sim/bank/habit.rs
  --crowd          every seed has a crowded bank
  --sabotage WHAT  break something on purpose, and expect that a seed finds it:
                   merge, fencing, outbox, unreadable, refresh, edges, filing, clock,
                   revocation, set-aside
  --help           print this

Exit codes:
  0  every promise was kept; with --sabotage: a seed found it
  1  a promise was broken, or a seed did not repeat; with --sabotage: no seed found it
  2  the arguments are wrong
";

/// Arguments of a run.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    pub(crate) first: u64,
    pub(crate) seeds: u64,
    pub(crate) trace: bool,
    pub(crate) threads: usize,
    pub(crate) twice: u64,
    pub(crate) store: StoreKind,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) habit: Option<Habit>,
    pub(crate) crowd: bool,
}

/// Requested action.
#[derive(Debug)]
pub(crate) enum Wanted {
    Run(Arguments),
    Say(String),
}

/// Parses the arguments. Those that `cargo test` passes on to every test are accepted and ignored.
pub(crate) fn read(given: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = Arguments {
        first: 1,
        seeds: 4,
        trace: false,
        threads: processors,
        twice: 25,
        store: StoreKind::Memory,
        sabotage: None,
        habit: None,
        crowd: false,
    };
    let mut filters = Vec::new();
    let mut given = given.peekable();
    while let Some(argument) = given.next() {
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument.clone(), None),
        };
        let mut value = || {
            inline.clone().or_else(|| given.next()).ok_or_else(|| format!("{name} needs a value"))
        };
        match name.as_str() {
            "--help" | "-h" => return Ok(Wanted::Say(HELP.to_owned())),
            "--list" => return Ok(Wanted::Say("simulation: test".to_owned())),
            "--seeds" => arguments.seeds = number(&value()?)?,
            "--from" => arguments.first = number(&value()?)?,
            "--seed" => (arguments.first, arguments.seeds) = (number(&value()?)?, 1),
            "--threads" => arguments.threads = usize::try_from(number(&value()?)?).unwrap_or(1),
            "--twice" => arguments.twice = number(&value()?)?,
            "--trace" => arguments.trace = true,
            "--store" => arguments.store = store(&value()?)?,
            "--habit" => arguments.habit = Some(habit(&value()?)?),
            "--crowd" => arguments.crowd = true,
            "--sabotage" => arguments.sabotage = Some(sabotage(&value()?)?),
            // Arguments of the test harness.
            "--nocapture" | "--no-capture" | "--include-ignored" | "--ignored" | "--exact"
            | "-q" | "--quiet" | "--show-output" => {}
            "--test-threads" | "--format" | "--color" | "--skip" | "-Z" => drop(value()?),
            _ if name.starts_with('-') => return Err(format!("there is no {name}")),
            _ => filters.push(argument),
        }
    }
    if !filters.is_empty() && !filters.iter().any(|filter| "simulation".contains(&**filter)) {
        return Ok(Wanted::Say("simulation: filtered out".to_owned()));
    }
    if arguments.trace {
        (arguments.threads, arguments.twice) = (1, 0);
    }
    if arguments.store != StoreKind::Memory {
        // Virtual time does not apply to threads and sockets.
        arguments.twice = 0;
    }
    arguments.threads = arguments.threads.max(1);
    Ok(Wanted::Run(arguments))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn store(text: &str) -> Result<StoreKind, String> {
    match text {
        "memory" => Ok(StoreKind::Memory),
        "sqlite" => Ok(StoreKind::Sqlite),
        "postgres" => Ok(StoreKind::Postgres),
        _ => Err(format!("there is no store {text:?}: memory, sqlite or postgres")),
    }
}

fn habit(text: &str) -> Result<Habit, String> {
    let found = Habit::ALL.into_iter().find(|habit| habit.name() == text);
    found.ok_or_else(|| {
        let names: Vec<_> = Habit::ALL.iter().map(|habit| habit.name()).collect();
        format!("there is no habit {text:?}: {}", names.join(", "))
    })
}

fn sabotage(text: &str) -> Result<Sabotage, String> {
    let found = Sabotage::ALL.into_iter().find(|sabotage| sabotage.as_str() == text);
    found.ok_or_else(|| {
        let names: Vec<_> = Sabotage::ALL.iter().map(|sabotage| sabotage.as_str()).collect();
        format!("there is no sabotage {text:?}: {}", names.join(", "))
    })
}
