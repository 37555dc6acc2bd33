//! Everything at once, from a seed: banks, a bad network, workers that crash, applications and
//! their readers, virtual days. In the end everyone must have what the banks have.
//!
//! One seed is one runtime of one thread under tokio's paused time, so that it repeats exactly
//! (over the store in memory; the others are held to the same promises); threads run different
//! seeds. What happens is in `run`; who takes part in `bank`, `machine`,
//! `application`, `receiver`; what makes it hard in `network` and `store`; what is promised in
//! `witness` (all along) and `check` (in the end).

#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, reason = "a test, though its harness is its own")]

mod application;
mod arguments;
mod backend;
mod bank;
mod check;
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
mod town;
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
