//! Plaid's side of the API has the shape that Plaid publishes, but for what is listed here.
//!
//! `plaid_public.json` holds the names: the fields of each schema, which are required, the values
//! of each enum. Types and formats are not in it. What the contract takes from elsewhere (the
//! three notifications) is not compared.

use px_types::testing::{PLAID_ERROR, PLAID_VECTORS};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// How a field differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Ours and not Plaid's.
    Added,
    /// Plaid's and not ours.
    LeftOut,
    /// Required by us and not by Plaid.
    Stricter,
    /// Required by Plaid and not by us.
    Looser,
}

use Way::{Added, LeftOut, Looser, Stricter};

/// The contract (section 1) reads absent, `null` and `""` alike and omits what is not set;
/// what Plaid requires here may be `null` or empty.
const OMITTED: &str = "may be null or empty at Plaid's; omitted here when it is";
const NOT_IN_CONTRACT: &str = "not in the contract; unknown fields are ignored";
const ONE_TOKEN: &str = "published for callers that show their user otherwise; here a token does";
const OTHER_PRODUCTS: &str = "of products and flows that Plaid Exchange does not have";

/// Every difference that is meant: Plaid's schema, the way, the fields, the reason.
const MEANT: &[(&str, Way, &str, &str)] = &[
    ("AccountAccess", LeftOut, "account_product_access", NOT_IN_CONTRACT),
    ("Activity", LeftOut, "authentication", NOT_IN_CONTRACT),
    (
        "Application",
        Looser,
        "display_name join_date logo_url application_url reason_for_access use_case \
         company_legal_name city region postal_code country_code",
        OMITTED,
    ),
    (
        "ApplicationGetRequest",
        Looser,
        "client_id secret",
        "the same two ways to show who calls everywhere: in headers, or in the body",
    ),
    ("ItemActivityListRequest", Stricter, "access_token", ONE_TOKEN),
    ("ItemApplicationListRequest", Stricter, "access_token", ONE_TOKEN),
    ("ItemApplicationListResponse", Stricter, "request_id", "every answer has it"),
    (
        "ItemImportRequest",
        LeftOut,
        "institution_id",
        "a partner is one institution; the credentials name it",
    ),
    ("ItemRemoveRequest", LeftOut, "reason_code reason_note", NOT_IN_CONTRACT),
    (
        "ItemWithConsentFields",
        LeftOut,
        "auth_method consented_data_scopes consented_use_cases",
        NOT_IN_CONTRACT,
    ),
    (
        "ItemWithConsentFields",
        Looser,
        "available_products billed_products consent_expiration_time error update_type webhook",
        OMITTED,
    ),
    ("JWKPublicKey", Looser, "expired_at", OMITTED),
    (
        "LastDataAccessTimes",
        Looser,
        "account_balance_info account_routing_number contact_details credit_and_loans \
         investments payroll_info transaction_risk_info transactions",
        OMITTED,
    ),
    (
        "LinkTokenCreateRequest",
        Added,
        "cross_app_item_add",
        "published for Plaid Exchange and gone from the description; old SDKs have it",
    ),
    (
        "LinkTokenCreateRequest",
        LeftOut,
        "access_tokens account_filters additional_consented_products android_package_name \
         appearance_mode auth base_report card_switch cashflow_report \
         consumer_report_permissible_purpose cra_enabled cra_options credit_partner_insights \
         employment enable_multi_item_link eu_config financekit_supported hosted_link identity \
         identity_verification income_verification institution_data institution_id investments \
         investments_auth link_customization_name optional_products payment_configuration \
         payment_initiation required_if_supported_products statements third_party_user_token \
         transactions transfer update user_id user_token",
        OTHER_PRODUCTS,
    ),
    (
        "LinkTokenCreateRequest",
        Stricter,
        "user",
        "a page is always opened for one user; `user_id`, which can stand for it, is of another product",
    ),
    (
        "LinkTokenCreateRequestUser",
        LeftOut,
        "address date_of_birth email_address email_address_verified_time id_number legal_name \
         name phone_number phone_number_verified_time ssn",
        OTHER_PRODUCTS,
    ),
    ("LinkTokenCreateResponse", LeftOut, "hosted_link_url user_id", OTHER_PRODUCTS),
    (
        "PlaidError",
        LeftOut,
        "causes error_code_reason provided_account_subtypes required_account_subtypes",
        OTHER_PRODUCTS,
    ),
    (
        "ProductAccess",
        LeftOut,
        "accounts_details_transactions accounts_routing_number accounts_statements \
         accounts_tax_statements customers_profiles",
        "names of one institution's own scopes",
    ),
];

fn document() -> Value {
    px_types::openapi::plaid()
}

fn public() -> Value {
    serde_json::from_str(include_str!("../fixtures/plaid_public.json")).unwrap()
}

fn names(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn found() -> BTreeSet<(String, Way, String)> {
    let (document, public) = (document(), public());
    let mut found = BTreeSet::new();
    for (name, theirs) in public["schemas"].as_object().unwrap() {
        let ours = &document["components"]["schemas"][theirs["ours"].as_str().unwrap()];
        assert!(ours.is_object(), "{name}");
        let properties = ours["properties"].as_object().unwrap();
        let our_fields: BTreeSet<String> = properties.keys().cloned().collect();
        let our_required = names(&ours["required"]);
        let their_required = names(&theirs["required"]);
        let their_fields = &names(&theirs["optional"]) | &their_required;
        let both = &our_fields & &their_fields;
        let mut differ = |way: Way, fields: BTreeSet<String>| {
            found.extend(fields.into_iter().map(|field| (name.clone(), way, field)));
        };
        differ(Added, &our_fields - &their_fields);
        differ(LeftOut, &their_fields - &our_fields);
        differ(Stricter, &(&our_required - &their_required) & &both);
        differ(Looser, &(&their_required - &our_required) & &both);
    }
    found
}

#[test]
fn fields_are_plaids_but_for_what_is_listed() {
    let mut meant = BTreeSet::new();
    for (schema, way, fields, reason) in MEANT {
        assert!(!reason.is_empty());
        for field in fields.split_whitespace() {
            assert!(
                meant.insert(((*schema).to_owned(), *way, field.to_owned())),
                "{schema}.{field}"
            );
        }
    }
    let found = found();
    let unlisted: Vec<_> = found.difference(&meant).collect();
    assert!(unlisted.is_empty(), "differs from what Plaid publishes: {unlisted:#?}");
    let gone: Vec<_> = meant.difference(&found).collect();
    assert!(gone.is_empty(), "listed, and no difference any more: {gone:#?}");
}

#[test]
fn values_of_enums_are_plaids() {
    let (document, public) = (document(), public());
    for (name, theirs) in public["enums"].as_object().unwrap() {
        // Enums are open on reading, so the document gives the values as examples.
        let ours = &document["components"]["schemas"][theirs["ours"].as_str().unwrap()];
        assert_eq!(names(&ours["examples"]), names(&theirs["values"]), "{name}");
    }
}

/// Notes which fields of which schema a value sets.
fn walk<'d>(
    document: &'d Value,
    schema: &'d Value,
    value: &Value,
    seen: &mut BTreeMap<&'d str, BTreeSet<String>>,
) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        let schema = &document["components"]["schemas"][name];
        assert!(schema.is_object(), "{reference}");
        let Some(properties) = schema["properties"].as_object() else { return };
        let fields = value.as_object().unwrap();
        seen.entry(name).or_default().extend(fields.keys().cloned());
        for (field, value) in fields {
            let schema = properties.get(field).unwrap_or_else(|| panic!("{name}.{field}"));
            walk(document, schema, value, seen);
        }
    }
    for schema in schema["anyOf"].as_array().into_iter().flatten() {
        walk(document, schema, value, seen);
    }
    for value in value.as_array().into_iter().flatten() {
        walk(document, &schema["items"], value, seen);
    }
}

/// Every field that a type has is in a vector, so none is left untested by whoever uses them.
#[test]
fn vectors_set_every_field() {
    let document = document();
    let operations: BTreeMap<&str, &Value> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|path| (path["post"]["operationId"].as_str().unwrap(), &path["post"]))
        .collect();
    let json = |at: &Value| at["content"]["application/json"]["schema"].clone();
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut note = |schema: &Value, value: &Value| {
        let mut seen = BTreeMap::new();
        walk(&document, schema, value, &mut seen);
        for (name, fields) in seen {
            let schema = &document["components"]["schemas"][name];
            let wanted: BTreeSet<String> =
                schema["properties"].as_object().unwrap().keys().cloned().collect();
            assert_eq!(fields, wanted, "{name}");
            all.entry(name.to_owned()).or_default().extend(fields);
        }
    };
    for (id, text) in PLAID_VECTORS {
        let vector: Value = serde_json::from_str(text).unwrap();
        note(&json(&operations[id]["requestBody"]), &vector["request"]);
        note(&json(&operations[id]["responses"]["200"]), &vector["response"]);
    }
    let error: Value = serde_json::from_str(PLAID_ERROR).unwrap();
    note(&json(&operations["item"]["responses"]["400"]), &error);
    // Whatever is compared with Plaid's is in a vector.
    for (name, theirs) in public()["schemas"].as_object().unwrap() {
        assert!(all.contains_key(theirs["ours"].as_str().unwrap()), "{name}");
    }
}
