//! `px`: links Items, keeps them in sync, shows how they are.

mod cli;
mod failure;
mod http;
mod metrics;
mod output;
mod partners;
mod secret_file;
mod signal;
mod view;

fn main() {}
