//! The securities of the bank's customers, and their prices on any day.

use super::{
    Day, codes, date_of,
    money::{cents, share},
    rng::{Rng, label},
};
use px_types::{
    SecurityId, Unit,
    model::security::{Security, SecurityType},
};

/// A security.
#[derive(Debug)]
pub struct Listing {
    /// The id.
    pub id: &'static str,
    name: &'static str,
    symbol: &'static str,
    nsin: &'static str,
    kind: SecurityType,
    /// The price in cents at the beginning of 2020.
    base: i64,
    /// The gain per year, in hundredths of a percent.
    gain: i64,
}

/// The index of cash in the listings.
pub const CASH: usize = 0;

/// Every security. The first is cash.
pub const LISTINGS: &[Listing] = &[
    listing("sec-cash-usd", "US Dollar", "CUR:USD", "", SecurityType::Cash, 100, 0),
    listing(
        "sec-total-market",
        "Larkfield Total Market ETF",
        "LTMX",
        "51709A101",
        SecurityType::Etf,
        8_240,
        820,
    ),
    listing(
        "sec-bond",
        "Larkfield Core Bond Fund",
        "LCBF",
        "51709A218",
        SecurityType::MutualFund,
        1_084,
        210,
    ),
    listing(
        "sec-target-2050",
        "Target Horizon 2050 Fund",
        "THRZX",
        "87612T404",
        SecurityType::MutualFund,
        2_455,
        690,
    ),
    listing(
        "sec-cobalt",
        "Cobalt Software Inc.",
        "CBLT",
        "19105Q107",
        SecurityType::Equity,
        14_310,
        1_240,
    ),
    listing(
        "sec-tidewater",
        "Tidewater Energy Corp.",
        "TDWE",
        "88650V103",
        SecurityType::Equity,
        5_620,
        330,
    ),
    listing(
        "sec-treasury",
        "Treasury Note 4.125% 2031",
        "",
        "91282CMB4",
        SecurityType::FixedIncome,
        9_910,
        15,
    ),
];

const fn listing(
    id: &'static str,
    name: &'static str,
    symbol: &'static str,
    nsin: &'static str,
    kind: SecurityType,
    base: i64,
    gain: i64,
) -> Listing {
    Listing { id, name, symbol, nsin, kind, base, gain }
}

/// 1 January 2020, the date of the base prices.
const BASE_DAY: Day = 18_262;

impl Listing {
    /// Returns the price on a day, in cents.
    #[must_use]
    pub fn price(&self, day: Day) -> i64 {
        if self.kind == SecurityType::Cash {
            return self.base;
        }
        let noise = Rng::new(&[label(self.id), day.unsigned_abs()]).range(-140, 140);
        let points = 10_000 + self.gain * (day - BASE_DAY) / 365 + noise;
        share(self.base, points, 10_000).max(1)
    }

    /// Returns the security as of a day.
    #[must_use]
    pub fn message(&self, day: Day) -> Option<Security> {
        let unit = Unit::iso("USD").ok()?;
        let mut security = Security::new(SecurityId::new(self.id).ok()?, self.kind.clone(), unit);
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        security.name = some(self.name);
        security.symbol = some(self.symbol);
        security.isin = some(self.nsin).map(|nsin| codes::isin("US", &nsin));
        security.is_cash_equivalent = Some(self.kind == SecurityType::Cash);
        security.current_price = Some(cents(self.price(day)));
        security.current_as_of = Some(date_of(day).into());
        if self.kind != SecurityType::Cash {
            security.close_price = Some(cents(self.price(day - 1)));
            security.close_price_as_of = Some(date_of(day - 1));
        }
        Some(security)
    }
}
