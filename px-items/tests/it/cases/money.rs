//! Cases 29–31: data is stored as it was read, to the last digit, sign and letter.

use crate::row_store::{RowStore, days, posted};
use px_items::merge::Change;
use px_types::{Unit, model::transaction::Transaction};

/// Returns the JSON of a row after the merge.
fn stored_as(row: Transaction) -> serde_json::Value {
    let store = RowStore::with([row]);
    serde_json::to_value(&store.as_read()[0]).unwrap()
}

/// Amounts that floats would change.
#[test]
fn case_29_an_amount_is_kept_to_the_last_digit() {
    for text in [
        "2557.68",
        "0.1",
        "0.30",
        "1.005",
        "-0.000001",
        "90071992547409.93",
        "9999999999999999999999.999999",
        "100.950000",
    ] {
        assert_eq!(stored_as(posted("t", text, "x"))["amount"], text);
    }
    // The smallest change is a change, and so is another scale.
    for (before, after) in [
        ("9999999999999999999999.999998", "9999999999999999999999.999999"),
        ("90071992547409.92", "90071992547409.93"),
        ("1.0", "1.00"),
    ] {
        let mut store = RowStore::with([posted("t", before, "x")]);
        let merged = store.read(days(0, 30), [posted("t", after, "x")], 10);
        assert_eq!(merged.writes.len(), 1, "{before} and {after}");
        assert_eq!(merged.writes[0].change, Change::Modified);
        assert_eq!(serde_json::to_value(&store.as_read()[0]).unwrap()["amount"], after);
    }
    // A number that may have been a float is refused when it is read.
    let mut number = serde_json::to_value(posted("t", "1.00", "x")).unwrap();
    number["amount"] = serde_json::json!(2557.68);
    assert!(serde_json::from_value::<Transaction>(number).is_err());
}

/// A positive amount leaves the account, for every type of account. No sign is changed, and an
/// outgoing amount is never matched with an incoming one.
#[test]
fn case_30_a_sign_stays_as_it_is_on_every_type_of_account() {
    for kind in ["depository", "credit", "loan", "investment", "other", "crypto"] {
        for text in ["12.50", "-12.50", "0.00"] {
            let mut row = serde_json::to_value(posted("t", text, "x")).unwrap();
            row["type"] = kind.into();
            let stored = stored_as(serde_json::from_value(row.clone()).unwrap());
            assert_eq!(stored, row);
        }
    }
    let mut store = RowStore::with([posted("t", "12.50", "x")]);
    let merged = store.read(days(0, 30), [posted("t", "-12.50", "x")], 10);
    assert_eq!(merged.writes.len(), 1);
}

/// An unknown unit is stored, and different units are never equal.
#[test]
fn case_31_an_unknown_currency_is_kept_and_never_guessed() {
    for (field, unit) in [
        ("currency", "USD"),
        ("currency", "JPY"),
        ("currency", "KWD"),
        ("currency", "ZZZ"),
        ("non_iso_currency", "BTC"),
        ("non_iso_currency", "miles & more"),
    ] {
        let mut row = serde_json::to_value(posted("t", "12.345", "x")).unwrap();
        let fields = row.as_object_mut().unwrap();
        fields.remove("currency");
        fields.insert(field.into(), unit.into());
        let stored = stored_as(serde_json::from_value(row.clone()).unwrap());
        assert_eq!(stored, row);
    }
    // A missing unit is refused, not filled in.
    let mut row = serde_json::to_value(posted("t", "12.345", "x")).unwrap();
    row.as_object_mut().unwrap().remove("currency");
    assert!(serde_json::from_value::<Transaction>(row).is_err());
    // The same number in another unit is another amount.
    let mut store = RowStore::with([posted("t", "5.00", "x")]);
    let mut other = posted("t", "5.00", "x");
    other.unit = Unit::iso("EUR").unwrap();
    assert_eq!(store.read(days(0, 30), [other], 10).writes.len(), 1);
}
