//! The same page as plain structs of strings, which is serde without any semantics.

use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Page {
    pub(crate) total: u64,
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Transaction {
    id: String,
    account_id: String,
    amount: String,
    transacted_at: String,
    #[serde(rename = "type")]
    kind: String,
    description: Option<String>,
    settled_at: Option<String>,
    code: Option<String>,
    merchant: Option<Merchant>,
    check_number: Option<String>,
    payment: Option<Payment>,
    currency: Option<String>,
    non_iso_currency: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Merchant {
    name: Option<String>,
    mcc: Option<String>,
    website: Option<String>,
    location: Option<Location>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Location {
    coordinates: Option<Coordinates>,
    city: Option<String>,
    region: Option<String>,
    country: Option<String>,
    street: Option<String>,
    postal_code: Option<String>,
    store_number: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Coordinates {
    lat: f64,
    lon: f64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Payment {
    reference_number: Option<String>,
    ppd_id: Option<String>,
    payee: Option<String>,
    payer: Option<String>,
    by_order_of: Option<String>,
    payment_method: Option<String>,
    payment_processor: Option<String>,
    reason: Option<String>,
}
