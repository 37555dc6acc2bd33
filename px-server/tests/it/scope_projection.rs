//! The scope that each field of `GET /users/{user_id}` needs: one decision per field of the
//! contract.
//!
//! The fields come from the generated API description, so a new field fails here until a decision
//! is made for it.

use crate::bank::{get, json};
use async_trait::async_trait;
use px_server::{
    Caller, Error, Partner, PartnerService, PermittedAccounts, TokenGrant,
    verify::{TokenVerifier, VerifyError},
};
use px_types::{
    AccessToken, UserId,
    partner::{GetUser, ListTransactions, TransactionsResponse, UserAccountInfoResponse},
    testing::USER,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tower::ServiceExt as _;

const DESCRIPTION: &str = include_str!("../../../openapi/partner.json");

/// The scope that a field needs beyond `accounts`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Needs {
    Nothing,
    Identity,
    Auth,
}
use Needs::{Auth, Identity, Nothing};

/// The decisions: the needed scope, the object, and its fields.
const DECISIONS: &[(Needs, &str, &str)] = &[
    (Nothing, "", "user_identity_id"),
    (Nothing, "identities[].", "id name"),
    (Identity, "identities[].", "email names"),
    (Identity, "identities[].emails[].", "address primary type"),
    (Identity, "identities[].phone_numbers[].", "number primary type"),
    (Identity, "identities[].addresses[].", ADDRESS),
    (
        Nothing,
        "securities[].",
        "id name symbol isin cusip sedol is_cash_equivalent type current_price current_as_of \
         close_price close_price_as_of currency non_iso_currency",
    ),
    // Users identify an account by its mask, which is not an account number.
    (
        Nothing,
        "accounts[].",
        "id type subtype name official_name display_mask status ownership_type \
         owner_identity_ids non_owner_identity_ids opening_date last_activity_at \
         current_balance available_balance tax_advantaged currency non_iso_currency",
    ),
    (Auth, "accounts[].transfer_codes[].", "network account_number routing_number tokenized"),
    (Auth, "accounts[].transfer_codes[].", "wire_routing_number institution_number branch_number"),
    (Auth, "accounts[].transfer_codes[].", "sort_code iban bic debit credit"),
    (
        Nothing,
        "accounts[].",
        "credit_limit is_overdue last_payment_amount last_payment_date last_statement_balance \
         last_statement_issue_date minimum_payment_amount next_payment_due_date \
         origination_date maturity_date origination_principal_amount \
         outstanding_interest_amount ytd_interest_paid ytd_principal_paid past_due_amount \
         escrow_balance",
    ),
    (
        Nothing,
        "accounts[].aprs[].",
        "percentage type balance_subject_to_apr interest_charge_amount",
    ),
    (Nothing, "accounts[].interest_rate.", "percentage type"),
    (
        Nothing,
        "accounts[].mortgage.",
        "loan_type_description loan_term has_pmi has_prepayment_penalty current_late_fee",
    ),
    (Identity, "accounts[].mortgage.property_address.", ADDRESS),
    (
        Nothing,
        "accounts[].student.",
        "loan_name guarantor disbursement_dates expected_payoff_date sequence_number",
    ),
    (Nothing, "accounts[].student.loan_status.", "type end_date"),
    (Nothing, "accounts[].student.repayment_plan.", "type description"),
    (
        Nothing,
        "accounts[].student.pslf_status.",
        "estimated_eligibility_date payments_made payments_remaining",
    ),
    (Auth, "accounts[].student.", "payment_reference_number"),
    (Identity, "accounts[].student.servicer_address.", ADDRESS),
    (
        Nothing,
        "accounts[].holdings[].",
        "security_id quantity institution_price institution_price_as_of institution_value \
         cost_basis vested_quantity vested_value currency non_iso_currency",
    ),
];

const ADDRESS: &str = "street city region postal_code country primary";

fn decisions() -> BTreeMap<String, Needs> {
    let all = DECISIONS.iter().flat_map(|(needs, place, names)| {
        names.split_whitespace().map(move |name| (format!("{place}{name}"), *needs))
    });
    all.collect()
}

/// Collects the paths of every leaf of a schema.
fn described(schema: &Value, all: &Value, path: &str, into: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        described(&all[name], all, path, into);
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        for one in schema[choice].as_array().into_iter().flatten() {
            described(one, all, path, into);
        }
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let mut leaves = BTreeSet::new();
        described(below, all, &path, &mut leaves);
        if leaves.is_empty() {
            leaves.insert(path);
        }
        into.extend(leaves);
    }
    if schema["items"].is_object() {
        described(&schema["items"], all, &format!("{path}[]"), into);
    }
}

/// Collects the paths of every leaf of a message.
fn shown(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, below) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                shown(below, &path, into);
            }
        }
        Value::Array(entries) if entries.iter().any(Value::is_object) => {
            entries.iter().for_each(|entry| shown(entry, &format!("{path}[]"), into));
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

fn leaves(value: &Value) -> BTreeSet<String> {
    let mut into = BTreeSet::new();
    shown(value, "", &mut into);
    into
}

/// A bank with a user who has an account of every kind with every field, and one of an unknown
/// kind.
struct Bank;

fn everything() -> Value {
    let mut user: Value = serde_json::from_str(USER).unwrap();
    let mut later = user["accounts"][0].clone();
    later["id"] = "account-later".into();
    later["type"] = "wallet".into();
    later["subtype"] = "wallet".into();
    later["currency"].take();
    later["non_iso_currency"] = "BTC".into();
    later["home"] = serde_json::json!({ "street": "1 Main St", "iban": "GB33BUKB20201555555555" });
    user["accounts"].as_array_mut().unwrap().push(later);
    user["accounts"][4]["holdings"][0].as_object_mut().unwrap().remove("currency");
    let mut coin = user["accounts"][4]["holdings"][0].clone();
    user["accounts"][4]["holdings"][0]["currency"] = "USD".into();
    coin["non_iso_currency"] = "BTC".into();
    coin["security_id"] = "security-2".into();
    user["accounts"][4]["holdings"].as_array_mut().unwrap().push(coin);
    user
}

#[async_trait]
impl Partner for Bank {
    async fn user(&self, _: &Caller, _: GetUser) -> Result<UserAccountInfoResponse, Error> {
        Ok(px_types::decode(everything().to_string().as_bytes()).unwrap())
    }

    async fn transactions(
        &self,
        _: &Caller,
        _: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        Err(Error::not_offered())
    }
}

/// A token is the list of its scopes, separated by `+`.
struct Tokens;

#[async_trait]
impl TokenVerifier for Tokens {
    async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
        let scopes = token.expose().replace('+', " ").parse().unwrap();
        let mut grant = TokenGrant::new(UserId::new("u1").unwrap(), scopes);
        grant.accounts = PermittedAccounts::All;
        Ok(Arc::new(grant))
    }
}

async fn user(scopes: &str) -> Value {
    let service = PartnerService::builder(Bank).tokens(Arc::new(Tokens)).build().unwrap();
    let response = service.oneshot(get("/users/u1", Some(scopes))).await.unwrap();
    assert_eq!(response.status(), 200);
    json(response).await
}

#[test]
fn every_field_of_the_contract_has_a_decision() {
    let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
    let schemas = &description["components"]["schemas"];
    let mut fields = BTreeSet::new();
    described(&schemas["UserAccountInfoResponse"], schemas, "", &mut fields);
    let decided: BTreeSet<_> = decisions().into_keys().collect();
    assert_eq!(fields, decided);
}

/// Fields without the needed scope are not shown (security case: property-level authorization).
#[tokio::test]
async fn scope_projection() {
    let decisions = decisions();
    for scopes in ["accounts", "accounts+identity", "accounts+auth", "accounts+auth+identity"] {
        let allowed = |needs| match needs {
            Nothing => true,
            Identity => scopes.contains("identity"),
            Auth => scopes.contains("auth"),
        };
        let mut user = user(scopes).await;
        let accounts = user["accounts"].as_array_mut().unwrap();
        assert_eq!(accounts.len(), 7, "no account is lost");
        // The meaning of a field of an unknown kind is not known.
        let later = leaves(&accounts.pop().unwrap());
        let whole = allowed(Identity) && allowed(Auth);
        assert_eq!(later.contains("home.street"), whole, "{scopes}: {later:?}");
        assert_eq!(later.iter().any(|path| path.starts_with("transfer_codes")), whole, "{scopes}");
        let expected: BTreeSet<_> = decisions
            .iter()
            .filter(|(_, needs)| allowed(**needs))
            .map(|(path, _)| path.clone())
            .collect();
        let mut shown = leaves(&user);
        // Only the account of an unknown kind is in bitcoin.
        shown.insert("accounts[].non_iso_currency".into());
        assert_eq!(shown, expected, "{scopes}");
    }
}
