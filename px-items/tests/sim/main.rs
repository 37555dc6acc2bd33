//! Simulation of a whole system from a seed: banks, a bad network, workers that crash, applications
//! and their readers, virtual days. In the end all of them must have the data of the banks.
//!
//! One seed is one single-threaded runtime under tokio's paused time, so that it repeats exactly
//! over the store in memory. Other stores must keep the same promises. Threads run different seeds.
//! `run` controls the events; `bank`, `machine`, `application` and `receiver` are the participants;
//! `network` and `store` inject faults; `witness` (all the time) and `check` (in the end) verify
//! the promises.

#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "a test, though its harness is its own")]

mod application;
mod arguments;
mod backend;
mod bank;
mod check;
mod customer;
mod damage;
mod dice;
mod life;
mod machine;
mod network;
mod receiver;
mod report;
mod run;
mod sabotage;
mod store;
mod time;
mod trace;
mod witness;
mod world;

fn main() -> std::process::ExitCode {
    let arguments = match arguments::read(std::env::args().skip(1)) {
        Ok(arguments::Wanted::Run(arguments)) => arguments,
        Ok(arguments::Wanted::Say(text)) => {
            report::line(text.trim_end());
            return 0.into();
        }
        Err(what) => {
            report::complaint(&format!("{what}\n\n{}", arguments::HELP));
            return 2.into();
        }
    };
    report::run(&arguments)
}
