//! Conversion of an event to a PX message, as of a day.

use super::{
    date_of,
    event::{Event, State},
    household::Household,
    money::{amount, cents},
    names::City,
    security::LISTINGS,
};
use px_types::{
    AccountId, Iso8601, SecurityId, TransactionId, Unit,
    model::{
        account::AccountType,
        location::GeoLocation,
        transaction::{InvestmentDetails, Merchant, Payment, Transaction},
    },
};

/// Returns the transaction of an event in a state. Returns `None` if it is not in the ledger.
#[must_use]
pub fn message(
    event: &Event,
    state: State,
    account: &AccountId,
    kind: AccountType,
    unit: &Unit,
    scale: u32,
    city: Option<&City>,
) -> Option<Transaction> {
    let (settled, minor) = match state {
        State::Absent => return None,
        State::Pending(minor) => (None, minor),
        State::Posted(day, minor) => (Some(date_of(day)), minor),
    };
    let made = date_of(event.made);
    let made_at = match (event.time, city) {
        (Some((h, m, s)), Some(city)) => {
            format!("{made}T{h:02}:{m:02}:{s:02}{}", city.offset).parse().ok()?
        }
        _ => Iso8601::Date(made),
    };
    let id = TransactionId::new(&event.id).ok()?;
    let mut message =
        Transaction::new(id, account.clone(), amount(minor, scale), made_at, kind, unit.clone());
    message.description = Some(event.details.description.clone());
    message.settled_at = settled.map(Iso8601::Date);
    message.code = event.details.code.clone();
    message.merchant = merchant(event, city);
    message.check_number = event.details.cheque.map(|number| number.to_string());
    message.payment = event.details.payment.as_ref().map(|money| {
        let mut payment = Payment::new();
        payment.payer = money.payer.clone();
        payment.payee = money.payee.clone();
        payment.reason = money.reason.clone();
        payment.payment_method = Some(money.method.to_owned());
        if money.payer.is_some() {
            payment.ppd_id = Some(format!("9{:09}", event.details.description.len() * 7_919));
        }
        payment
    });
    message.investment = event.details.trade.as_ref().and_then(|trade| {
        let mut details = InvestmentDetails::new(trade.kind.clone(), amount(trade.quantity, 4));
        details.subtype = Some(trade.subtype.clone());
        details.security_id = Some(SecurityId::new(LISTINGS[trade.listing].id).ok()?);
        details.price = (trade.price > 0).then(|| cents(trade.price));
        details.fees = Some(cents(0));
        Some(details)
    });
    Some(message)
}

fn merchant(event: &Event, city: Option<&City>) -> Option<Merchant> {
    let mut merchant = Merchant::new();
    if let Some((name, mcc)) = event.details.biller {
        merchant.name = Some(name.to_owned());
        merchant.mcc = Some(mcc.to_owned());
        return Some(merchant);
    }
    let (shop, store) = event.details.shop?;
    merchant.name = Some(shop.name.to_owned());
    merchant.mcc = Some(shop.mcc.to_owned());
    merchant.website = (!shop.website.is_empty()).then(|| shop.website.to_owned());
    if let (Some(store), Some(city)) = (store, city) {
        let mut place = GeoLocation::new();
        let step = store as i32;
        place.coordinates = Some(city.point(step % 41 - 20, step % 37 - 18));
        place.city = Some(city.name.to_owned());
        place.region = Some(city.region.to_owned());
        place.country = Some("US".to_owned());
        place.postal_code = Some(city.postal_code.to_owned());
        place.store_number = Some(format!("{store:04}"));
        merchant.location = Some(place);
    }
    Some(merchant)
}

impl Household {
    /// Returns the transaction of an event of this household.
    #[must_use]
    pub fn transaction(&self, event: &Event, state: State) -> Option<Transaction> {
        let spec = &self.accounts[event.account];
        let unit = Unit::iso(spec.kind.currency()).ok()?;
        let id = AccountId::new(&spec.id).ok()?;
        message(event, state, &id, spec.kind.account_type(), &unit, 2, Some(self.city))
    }
}
