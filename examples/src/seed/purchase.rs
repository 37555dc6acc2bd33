//! Purchases in shops, fuel, meals; including those that pend, change their amount or vanish.

use super::{
    Day,
    event::{End, Event, EventDetails},
    household::{Household, Kind, id},
    money::share,
    names::{Finish, SHOPS, Shop},
    rng::{Rng, label},
};
use px_types::model::transaction::TransactionCode;

/// The index of Metro Transit in the shops.
const TRANSIT: usize = 6;

impl Household {
    /// Adds the purchases and refunds of a day.
    pub(super) fn purchases(&self, day: Day, out: &mut Vec<Event>) {
        let Some(checking) = self.find(Kind::Checking) else {
            return;
        };
        let card = self.find(Kind::Card);
        for (n, shop) in SHOPS.iter().enumerate() {
            let name = [self.seed, self.number, label("shop"), n as u64, day.unsigned_abs()];
            let mut rng = Rng::new(&name);
            if !rng.chance(shop.often) {
                continue;
            }
            let on_card = card.filter(|_| rng.chance(self.prefers_card));
            out.push(purchase(shop, day, on_card.unwrap_or(checking), &mut rng, id("txn", &name)));
        }
        self.commute(day, card.unwrap_or(checking), out);
        let mut rng = self.rng("refund", day);
        if rng.chance(14) {
            let shop = &SHOPS[7];
            let mut event = purchase(shop, day, card.unwrap_or(checking), &mut rng, String::new());
            event.id = id("txn", &[self.seed, self.number, label("refund"), day.unsigned_abs()]);
            event.amount = -event.amount.abs();
            event.end = End::Posts(event.amount);
            event.details.code = Some(TransactionCode::Refund);
            event.details.description = format!("REFUND {}", shop.name.to_uppercase());
            out.push(event);
        }
    }

    /// Adds rides, authorized with one dollar and posted with the fare, and card checks, which are
    /// released. Both pend for three days, so that on any day some pending transaction will change
    /// and some will vanish.
    fn commute(&self, day: Day, account: usize, out: &mut Vec<Event>) {
        let shop = &SHOPS[TRANSIT];
        let mut tap = |what: &str, end: fn(i64) -> End| {
            let name = [self.seed, self.number, label(what), day.unsigned_abs()];
            let mut event = purchase(shop, day, account, &mut Rng::new(&name), id("txn", &name));
            let fare = event.amount;
            (event.amount, event.pends, event.end) = (100, 3, end(fare));
            out.push(event);
        };
        if day.rem_euclid(2) == 0 {
            tap("ride", End::Posts);
        }
        if day.rem_euclid(3) == 0 {
            tap("card check", |_| End::Vanishes);
        }
    }
}

fn purchase(shop: &'static Shop, day: Day, account: usize, rng: &mut Rng, id: String) -> Event {
    let amount = rng.range(shop.spends.0, shop.spends.1);
    let store = shop.place.then(|| rng.range(1, 420) as u32);
    let (first, end) = match shop.finish {
        Finish::Preauthorized => (100, End::Posts(amount)),
        Finish::Tip if rng.chance(600) => {
            (amount, End::Posts(amount + share(amount, rng.range(12, 22), 100)))
        }
        Finish::Hold if rng.chance(500) => (amount, End::Vanishes),
        _ if rng.chance(12) => (amount, End::Vanishes),
        _ => (amount, End::Posts(amount)),
    };
    let number = store.map_or_else(|| rng.digits(7), |store| format!("#{store:04}"));
    Event {
        id,
        account,
        made: day,
        time: Some((rng.range(7, 21) as u8, rng.range(0, 59) as u8, rng.range(0, 59) as u8)),
        amount: first,
        pends: rng.range(1, 3) + i64::from(rng.chance(100)),
        end,
        details: EventDetails {
            description: format!("{} {number}", shop.name.to_uppercase()),
            code: Some(TransactionCode::Purchase),
            shop: Some((shop, store)),
            ..EventDetails::default()
        },
    }
}
