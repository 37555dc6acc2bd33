//! The commands, one module each.

mod item;
mod items;
mod keys;
mod link;
mod review;
mod run;
mod sync;
mod unlink;

use crate::{
    cli::{Cli, Command},
    context::Context,
    database::IfMissing,
    failure::Result,
};

/// Runs the command of the command line.
pub(crate) async fn run(cli: &Cli) -> Result<()> {
    let open = async || Context::open(&cli.common, IfMissing::Fail).await;
    match &cli.command {
        Command::Link(link) => link::run(cli, link).await,
        Command::Items => items::run(&open().await?).await,
        Command::Item(show) => item::run(&open().await?, show).await,
        Command::Sync { item } => sync::run(cli, &open().await?, item).await,
        Command::Run(options) => run::run(cli, options).await,
        Command::Unlink(unlink) => unlink::run(&open().await?, unlink).await,
        Command::Review(options) => review::review(&open().await?, options).await,
        Command::Accept(decide) => review::accept(&open().await?, decide).await,
        Command::Remap { decide, onto } => review::remap(&open().await?, decide, onto).await,
        Command::Keys(options) => keys::run(&cli.common, options).await,
    }
}
