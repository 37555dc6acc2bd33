//! Transactions on imported accounts when the clock advances: few, in proportion to the balance.

use super::{
    Day,
    event::{End, Event, EventDetails},
    household::id,
    names::SHOPS,
    rng::{Rng, label},
};
use px_types::model::transaction::TransactionCode;

/// Returns the events of a day on an imported account with an opening balance of `base` minor
/// units.
#[must_use]
pub fn events(seed: u64, account: &str, base: i64, day: Day) -> Vec<Event> {
    let name = [seed, label("drift"), label(account), day.unsigned_abs()];
    let mut rng = Rng::new(&name);
    if !rng.chance(240) {
        return Vec::new();
    }
    let step = (base.abs() / 300).clamp(200, 1_000_000);
    let shop = rng.pick(SHOPS);
    let amount = rng.range(step / 2, step * 3);
    vec![Event {
        id: id("new", &name),
        account: 0,
        made: day,
        time: None,
        amount,
        pends: rng.range(0, 3),
        end: match rng.below(20) {
            0 => End::Vanishes,
            1 | 2 => End::Posts(amount + step / 4),
            _ => End::Posts(amount),
        },
        details: EventDetails {
            description: shop.name.to_uppercase(),
            code: Some(TransactionCode::Purchase),
            biller: Some((shop.name, shop.mcc)),
            ..EventDetails::default()
        },
    }]
}

/// Returns the number of days after which an imported pending transaction posts.
#[must_use]
pub fn posts_after(seed: u64, transaction: &str) -> Day {
    Rng::new(&[seed, label("posts"), label(transaction)]).range(1, 4)
}
