//! Realistic transactions: merchants, locations, payments, some of them pending.

use px_types::{
    Amount, Date, TransactionId, Unit,
    model::{
        account::AccountType,
        location::{Coordinates, GeoLocation},
        transaction::{Merchant, Payment, Transaction, TransactionCode},
    },
};

/// The accounts of the only user.
pub(crate) const ACCOUNTS: [&str; 3] =
    ["acc-6b0f0c1e-checking", "acc-51d9e0aa-savings", "acc-0c3b7f42-joint"];

const MERCHANTS: [(&str, &str, &str); 6] = [
    ("Green Grocers", "5411", "GREEN GROCERS #0231 PORTLAND OR"),
    ("Blue Bottle Fuel", "5541", "BLUE BOTTLE FUEL 88120 SALEM OR"),
    ("Corner Bakery", "5462", "SQ *CORNER BAKERY Portland"),
    ("City Transit", "4111", "CITY TRANSIT MOBILE TICKET"),
    ("Paper & Ink", "5943", "PAPER & INK CO, EUGENE OR"),
    ("Café Löwe", "5814", "CAFÉ LÖWE BEND OR"),
];

/// Returns the last date of every history.
pub(crate) fn end() -> Date {
    Date::from_ymd(2024, 12, 31).expect("a date that exists")
}

/// Returns the first date of a history: two years, both ends included.
pub(crate) fn start() -> Date {
    end().minus_days(729)
}

/// Returns `count` transactions over two years, in the order of the contract.
pub(crate) fn transactions(count: usize) -> Vec<Transaction> {
    let mut rows: Vec<_> = (0..count).map(|index| transaction(index, count)).collect();
    rows.sort_by(|a, b| b.date().cmp(&a.date()).then_with(|| a.id.cmp(&b.id)));
    rows
}

fn transaction(index: usize, count: usize) -> Transaction {
    // A multiplier that leaves no visible pattern.
    let mix = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let day = (index * 730 / count) as u64;
    let date = end().minus_days(day);
    let cents = mix % 48_000 + 100;
    let sign = if mix.is_multiple_of(11) { "-" } else { "" };
    let amount: Amount = format!("{sign}{}.{:02}", cents / 100, cents % 100)
        .parse()
        .expect("digits with two decimal places");
    let id: TransactionId =
        format!("tx-{mix:016x}-{index:06}").parse().expect("an id of plain letters");
    let account = ACCOUNTS[(mix % 3) as usize].parse().expect("a plain id");
    let account: px_types::AccountId = account;
    let made = format!("{}T{:02}:{:02}:09-08:00", date, mix % 23, mix % 59);
    let made: px_types::Iso8601 = made.parse().expect("a timestamp");
    let usd = Unit::iso("USD").expect("three letters");
    let mut row = Transaction::new(id, account, amount, made, AccountType::Depository, usd);
    let (name, mcc, text) = MERCHANTS[(mix % 6) as usize];
    row.description = Some(text.to_owned());
    if day > 1 || mix.is_multiple_of(3) {
        row.settled_at = Some(date.into());
    }
    if mix.is_multiple_of(4) {
        row.code = Some(TransactionCode::Transfer);
        let mut payment = Payment::new();
        payment.reference_number = Some(format!("REF{index:08}"));
        payment.payee = Some("Ann Example".to_owned());
        payment.payment_method = Some("ACH".to_owned());
        row.payment = Some(payment);
    } else {
        row.code = Some(TransactionCode::Purchase);
        let mut location = GeoLocation::new();
        location.city = Some("Portland".to_owned());
        location.region = Some("OR".to_owned());
        location.country = Some("US".to_owned());
        if mix.is_multiple_of(2) {
            location.coordinates = Some(Coordinates::new(45.5152, -122.6784));
        }
        let mut merchant = Merchant::new();
        merchant.name = Some(name.to_owned());
        merchant.mcc = Some(mcc.to_owned());
        merchant.location = Some(location);
        row.merchant = Some(merchant);
    }
    row
}
