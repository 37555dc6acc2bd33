//! `px keys`: makes the keys that are missing, and prints the public half of the one for webhooks.
//!
//! With an SQLite database `px link` and `px run` make them too. Machines that share a
//! database share the keys as well, so there they are made once, by this.

use crate::{
    cli::{Common, WebhookKey},
    database::{self, Make},
    failure::Result,
    output::print_json,
    webhook_key,
};
use px_core::{Clock as _, SystemClock};

pub(crate) fn run(common: &Common, key: &WebhookKey) -> Result<()> {
    let now = SystemClock::new().now();
    database::make_key(common)?;
    let key = webhook_key::open(common, key.webhook_key.as_deref(), Make::IfMissing, now)?;
    print_json(&key.verification_key(now))
}
