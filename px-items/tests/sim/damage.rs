//! A bank that serves damaged responses: rows, accounts and whole responses that cannot be read,
//! the same ones for hours, and later repaired.
//!
//! The readable parts are unchanged, so the other checks still apply: no data of the bank is
//! treated as removed, and after the repair the Items have the data of the bank.

use crate::dice::Dice;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::Response;
use px_types::{AccountId, TransactionId};
use serde_json::{Value, json};

/// Seconds during which the same elements are damaged in the same way.
const SPELL: i64 = 5 * 3600;

/// Amount of damage.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Damage {
    seed: u64,
    /// Number of elements of a thousand that are damaged.
    elements: u64,
    /// Number of periods of a thousand in which no response of a kind can be read.
    whole: u64,
    /// Whether damaged elements are dropped: as if what was set aside was removed.
    drops: bool,
}

impl Damage {
    /// Returns a random amount of damage; none in half of all runs.
    pub(crate) fn random(seed: u64, drops: bool) -> Self {
        let mut dice = Dice::new(seed, "damage");
        let elements = dice.pick(&[0, 0, 0, 5, 30, 120]).copied().unwrap_or_default();
        let elements = if drops { 120 } else { elements };
        let whole = if elements > 0 && !drops { dice.below(100) } else { 0 };
        Self { seed, elements, whole, drops }
    }

    /// Returns the response as it arrives.
    pub(crate) fn apply(
        &self,
        path: &str,
        now: DateTime<Utc>,
        response: Response<Bytes>,
    ) -> Response<Bytes> {
        let is_data = path.contains("/users/") && response.status().is_success();
        if self.elements == 0 || !is_data {
            return response;
        }
        let (parts, bytes) = response.into_parts();
        let spell = now.timestamp() / SPELL;
        let mut dice = Dice::new(self.seed, &format!("{spell} {path}"));
        if dice.chance(self.whole) {
            return Response::from_parts(parts, whole(&bytes, &mut dice));
        }
        let Ok(mut body) = serde_json::from_slice::<Value>(&bytes) else {
            return Response::from_parts(parts, bytes);
        };
        for list in ["transactions", "accounts"] {
            self.damage_list(list, spell, &mut body);
        }
        Response::from_parts(parts, Bytes::from(body.to_string()))
    }

    /// Whether a transaction and its account can be read from what the bank serves at a time.
    pub(crate) fn serves(
        &self,
        at: DateTime<Utc>,
        id: &TransactionId,
        account: &AccountId,
    ) -> bool {
        let spell = at.timestamp() / SPELL;
        let is_damaged = |list: &str, id: &str| self.dice(spell, list, id).chance(self.elements);
        !is_damaged("transactions", id.as_str()) && !is_damaged("accounts", account.as_str())
    }

    /// Decides what becomes of an element.
    fn dice(&self, spell: i64, list: &str, id: &str) -> Dice {
        Dice::new(self.seed, &format!("{spell} {list} {id}"))
    }

    fn damage_list(&self, list: &str, spell: i64, body: &mut Value) {
        let Some(entries) = body[list].as_array_mut() else { return };
        let mut dropped = 0;
        entries.retain_mut(|entry| {
            let id = entry["id"].as_str().unwrap_or_default();
            // Some banks change the id of a pending row with every response.
            let id = id.split('~').next().unwrap_or_default();
            let mut dice = self.dice(spell, list, id);
            if !dice.chance(self.elements) {
                return true;
            }
            if self.drops {
                dropped += 1;
                return false;
            }
            match list {
                "transactions" => damage_row(entry, &mut dice),
                _ => damage_account(entry, &mut dice),
            }
            true
        });
        if let Some(total) = body["total"].as_u64().filter(|_| dropped > 0) {
            body["total"] = json!(total.saturating_sub(dropped));
        }
    }
}

/// Returns an unreadable response.
fn whole(bytes: &Bytes, dice: &mut Dice) -> Bytes {
    match dice.below(4) {
        0 => Bytes::from_static(b"[]"),
        1 => Bytes::from_static(b"{}"),
        2 => Bytes::from_static(b"{\"error\": null}"),
        _ => bytes.slice(..bytes.len() / 2),
    }
}

fn damage_row(row: &mut Value, dice: &mut Dice) {
    match dice.below(10) {
        0 => row["amount"] = json!({}),
        1 => row["amount"] = json!("12,50"),
        2 => row["transacted_at"] = json!("soon"),
        3 => row["settled_at"] = json!([]),
        4 => row["currency"] = json!(7),
        5 => row["id"] = Value::Null,
        6 => (row["id"], row["account_id"]) = (json!([]), json!(false)),
        7 => *row = Value::Null,
        // These can be read.
        8 => row["check_number"] = json!([]),
        _ => row["mystery"] = json!("\u{fffd}"),
    }
}

fn damage_account(account: &mut Value, dice: &mut Dice) {
    match dice.below(6) {
        0 => account["current_balance"] = json!([]),
        1 => account["id"] = json!({}),
        2 => *account = json!("account"),
        3 => account["status"] = Value::Null,
        4 if account["holdings"].is_array() => account["holdings"] = Value::Null,
        _ => account["opening_date"] = json!("long ago"),
    }
}
