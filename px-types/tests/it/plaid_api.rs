//! Plaid's API as its own public description has it, and as this crate has it: the same field
//! names, required fields and enum values, but for what is listed here with its reason.
//!
//! The other side is `fixtures/plaid-api.json`. Ours are the generated schemas, so a message
//! that changes is seen here.

use px_types::{
    model::{
        activity::{ActivityState, ActivityType},
        item::ItemUpdateType,
        plaid_error::PlaidErrorType,
        product::Product,
    },
    plaid::ScopesContext,
    primitive::open_enum::OpenEnum,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Ours, and Plaid's.
const SCHEMAS: &[(&str, &str)] = &[
    ("ImportItem", "ItemImportRequest"),
    ("ImportItemResponse", "ItemImportResponse"),
    ("UserAuth", "ItemImportRequestUserAuth"),
    ("ImportItemOptions", "ItemImportRequestOptions"),
    ("ListApplications", "ItemApplicationListRequest"),
    ("ListApplicationsResponse", "ItemApplicationListResponse"),
    ("ConnectedApplication", "ConnectedApplication"),
    ("Scopes", "Scopes"),
    ("ProductAccess", "ProductAccess"),
    ("AccountAccess", "AccountAccess"),
    ("UnlinkApplication", "ItemApplicationUnlinkRequest"),
    ("Acknowledged", "ItemApplicationUnlinkResponse"),
    ("UpdateScopes", "ItemApplicationScopesUpdateRequest"),
    ("Acknowledged", "ItemApplicationScopesUpdateResponse"),
    ("ListActivity", "ItemActivityListRequest"),
    ("ListActivityResponse", "ItemActivityListResponse"),
    ("Activity", "Activity"),
    ("LastDataAccessTimes", "LastDataAccessTimes"),
    ("GetApplication", "ApplicationGetRequest"),
    ("GetApplicationResponse", "ApplicationGetResponse"),
    ("Application", "Application"),
    ("CreateLinkToken", "LinkTokenCreateRequest"),
    ("CreateLinkTokenResponse", "LinkTokenCreateResponse"),
    ("LinkTokenUser", "LinkTokenCreateRequestUser"),
    ("ExchangePublicToken", "ItemPublicTokenExchangeRequest"),
    ("ExchangePublicTokenResponse", "ItemPublicTokenExchangeResponse"),
    ("GetItem", "ItemGetRequest"),
    ("GetItemResponse", "ItemGetResponse"),
    ("Item", "ItemWithConsentFields"),
    ("Item", "Item"),
    ("ItemStatus", "ItemStatus"),
    ("UpdateStatus", "ItemStatusInvestments"),
    ("UpdateStatus", "ItemStatusTransactions"),
    ("LastWebhook", "ItemStatusLastWebhook"),
    ("RemoveItem", "ItemRemoveRequest"),
    ("Acknowledged", "ItemRemoveResponse"),
    ("UpdateWebhook", "ItemWebhookUpdateRequest"),
    ("UpdateWebhookResponse", "ItemWebhookUpdateResponse"),
    ("InvalidateToken", "ItemAccessTokenInvalidateRequest"),
    ("InvalidateTokenResponse", "ItemAccessTokenInvalidateResponse"),
    ("GetVerificationKey", "WebhookVerificationKeyGetRequest"),
    ("GetVerificationKeyResponse", "WebhookVerificationKeyGetResponse"),
    ("VerificationKey", "JWKPublicKey"),
    ("PlaidError", "PlaidError"),
];

/// How a field differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Differs {
    /// Plaid has it; here it is not read and not written.
    LeftOut,
    /// Plaid has none.
    Added,
    /// Plaid requires it; here it may be missing.
    Optional,
    /// Here it is required; Plaid goes without.
    Required,
    /// It is of another kind.
    Kind,
}

use Differs::{Added, LeftOut, Optional, Required};

/// Every difference there is, and why. `*` stands for all fields that Plaid has and we have not.
const DIFFERENCES: &[(&str, Differs, &[&str], &str)] = &[
    // Requests.
    (
        "ItemImportRequest",
        LeftOut,
        &["institution_id"],
        "a partner's client is of one institution, so the client says which",
    ),
    (
        "ItemApplicationListRequest",
        Required,
        &["access_token"],
        "without one, Plaid finds the user by a sign-in at Plaid, which a partner's user has none of",
    ),
    (
        "ItemActivityListRequest",
        Required,
        &["access_token"],
        "as for the list of applications: the Item is named by its token",
    ),
    (
        "ApplicationGetRequest",
        Optional,
        &["client_id", "secret"],
        "the credentials may be in the headers, as on every other endpoint",
    ),
    (
        "LinkTokenCreateRequest",
        LeftOut,
        &["*"],
        "section 6 takes over what a connection at one institution needs; the rest is of products that PX has not",
    ),
    (
        "LinkTokenCreateRequest",
        Added,
        &["cross_app_item_add"],
        "section 10; Plaid's own description had it once and has it no longer",
    ),
    (
        "LinkTokenCreateRequest",
        Required,
        &["user"],
        "Plaid takes a `user_id` of its own instead, which PX has not",
    ),
    (
        "LinkTokenCreateRequestUser",
        LeftOut,
        &["*"],
        "a person's name, addresses and numbers are not needed to connect, so they are not sent",
    ),
    (
        "ItemRemoveRequest",
        LeftOut,
        &["reason_code", "reason_note"],
        "not in section 6; a reader ignores them",
    ),
    // What is granted.
    (
        "ProductAccess",
        LeftOut,
        &[
            "accounts_details_transactions",
            "accounts_routing_number",
            "accounts_statements",
            "accounts_tax_statements",
            "customers_profiles",
        ],
        "the scopes of single institutions; section 6 names the four products",
    ),
    (
        "AccountAccess",
        LeftOut,
        &["account_product_access"],
        "section 6 grants products for all of the permitted accounts alike",
    ),
    ("Activity", LeftOut, &["authentication"], "how a sign-in at Plaid went, which PX has not"),
    // Answers.
    (
        "ItemApplicationListResponse",
        Required,
        &["request_id"],
        "every answer carries one (section 1)",
    ),
    (
        "LinkTokenCreateResponse",
        LeftOut,
        &["hosted_link_url", "user_id"],
        "of products that PX has not",
    ),
    (
        "ItemStatus",
        Added,
        &["health"],
        "section 7.1; Plaid has no word for data that is on hold or incomplete",
    ),
    (
        "LastDataAccessTimes",
        Optional,
        &[
            "account_balance_info",
            "account_routing_number",
            "contact_details",
            "transactions",
            "credit_and_loans",
            "investments",
            "payroll_info",
            "transaction_risk_info",
        ],
        NULL,
    ),
    (
        "Application",
        Optional,
        &[
            "join_date",
            "display_name",
            "logo_url",
            "application_url",
            "reason_for_access",
            "use_case",
            "company_legal_name",
            "city",
            "region",
            "postal_code",
            "country_code",
        ],
        NULL,
    ),
    ("JWKPublicKey", Optional, &["expired_at"], NULL),
    ("Item", Optional, ITEM_NULLS, NULL),
    ("ItemWithConsentFields", Optional, ITEM_NULLS, NULL),
    (
        "Item",
        Added,
        &["created_at"],
        "one message for both endpoints; Plaid leaves it out of the answer to a webhook's update",
    ),
    ("Item", LeftOut, &["auth_method"], "of micro-deposits, which PX has not"),
    (
        "ItemWithConsentFields",
        LeftOut,
        &["auth_method", "consented_use_cases", "consented_data_scopes"],
        "of micro-deposits and of Plaid's data transparency page, which PX has not",
    ),
    (
        "PlaidError",
        LeftOut,
        &["causes", "error_code_reason", "required_account_subtypes", "provided_account_subtypes"],
        "not in section 6; of assets and of products that PX has not",
    ),
];

/// Section 1: what is not required may be absent, `null` or `""`, and writers omit it.
const NULL: &str = "Plaid writes it as `null` or empty; a writer of this project omits it";
const ITEM_NULLS: &[&str] = &[
    "webhook",
    "error",
    "available_products",
    "billed_products",
    "consent_expiration_time",
    "update_type",
];

/// A message: the kind of each field, and which are required.
struct Shape {
    fields: BTreeMap<String, String>,
    required: BTreeSet<String>,
}

fn texts(value: &Value) -> BTreeSet<String> {
    let values = value.as_array().into_iter().flatten();
    values.map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn theirs(schema: &Value) -> Shape {
    let fields = schema["fields"].as_object().unwrap().iter();
    let fields = fields.map(|(name, kind)| (name.clone(), kind.as_str().unwrap().to_owned()));
    Shape { fields: fields.collect(), required: texts(&schema["required"]) }
}

fn ours(name: &str, schemas: &Value) -> Shape {
    let schema = &schemas[name];
    let fields = schema["properties"].as_object().unwrap_or_else(|| panic!("no schema `{name}`"));
    let fields = fields.iter().map(|(field, of)| (field.clone(), kind(of, schemas)));
    Shape { fields: fields.collect(), required: texts(&schema["required"]) }
}

/// The kind of a field, without `null`.
fn kind(schema: &Value, schemas: &Value) -> String {
    if let Some(target) = schema["$ref"].as_str() {
        return kind(&schemas[target.rsplit('/').next().unwrap()], schemas);
    }
    let of = match &schema["type"] {
        Value::String(of) => Some(of.as_str()),
        Value::Array(all) => all.iter().filter_map(Value::as_str).find(|of| *of != "null"),
        _ => None,
    };
    match of {
        Some("array") => format!("array of {}", kind(&schema["items"], schemas)),
        Some(of) => of.to_owned(),
        None => {
            let any = schema["anyOf"].as_array().unwrap_or_else(|| panic!("no kind: {schema}"));
            kind(any.iter().find(|of| of["type"] != "null").unwrap(), schemas)
        }
    }
}

/// What differs between two shapes.
fn differences(ours: &Shape, theirs: &Shape) -> BTreeSet<(Differs, String)> {
    let mut found = BTreeSet::new();
    for (field, kind) in &ours.fields {
        let required = (ours.required.contains(field), theirs.required.contains(field));
        let how = match theirs.fields.get(field) {
            None => Added,
            Some(other) if other != kind => Differs::Kind,
            Some(_) if required == (true, false) => Required,
            Some(_) if required == (false, true) => Optional,
            Some(_) => continue,
        };
        found.insert((how, field.clone()));
    }
    let left_out = theirs.fields.keys().filter(|field| !ours.fields.contains_key(*field));
    found.extend(left_out.map(|field| (LeftOut, field.clone())));
    found
}

fn description() -> Value {
    serde_json::from_str(include_str!("../fixtures/plaid-api.json")).unwrap()
}

#[test]
fn every_message_differs_from_plaids_in_nothing_but_what_is_listed() {
    let (description, document) = (description(), px_types::openapi::plaid());
    let mut wrong = Vec::new();
    for (our_name, their_name) in SCHEMAS {
        let theirs = theirs(&description["schemas"][their_name]);
        let ours = ours(our_name, &document["components"]["schemas"]);
        let mut found = differences(&ours, &theirs);
        for (_, how, fields, why) in DIFFERENCES.iter().filter(|(of, ..)| of == their_name) {
            assert!(!why.is_empty());
            for field in *fields {
                let before = found.len();
                found.retain(|(is, name)| {
                    (is, name.as_str()) != (how, field) && (is != how || *field != "*")
                });
                if found.len() == before {
                    wrong.push(format!("{their_name}: `{field}` is not {how:?}, and is listed so"));
                }
            }
        }
        wrong
            .extend(found.iter().map(|(how, field)| format!("{their_name}: `{field}` is {how:?}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Nothing of the description is passed over, and no difference names what is not in it.
    let compared: BTreeSet<_> = SCHEMAS.iter().map(|(_, theirs)| *theirs).collect();
    let described: BTreeSet<_> =
        description["schemas"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(compared, described);
    assert!(DIFFERENCES.iter().all(|(of, ..)| compared.contains(of)));
}

/// What section 6 decides for itself (D) and Plaid's description does not have.
const OF_PX_ALONE: &[&str] =
    &["/items/transactions/notify", "/items/accounts/notify", "/items/tokens/notify"];

#[test]
fn every_endpoint_is_where_plaid_has_it() {
    let (description, document) = (description(), px_types::openapi::plaid());
    let paths = description["paths"].as_object().unwrap();
    let pairs: BTreeMap<&str, Vec<&str>> = SCHEMAS.iter().fold(BTreeMap::new(), |mut all, pair| {
        all.entry(pair.1).or_default().push(pair.0);
        all
    });
    let name = |media: &Value| -> String {
        let target = media["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
        target.rsplit('/').next().unwrap().to_owned()
    };
    for (path, messages) in paths {
        let operation = &document["paths"][path]["post"];
        let ours = [name(&operation["requestBody"]), name(&operation["responses"]["200"])];
        for (ours, theirs) in ours.iter().zip(messages.as_array().unwrap()) {
            let theirs = theirs.as_str().unwrap();
            assert!(pairs[theirs].contains(&ours.as_str()), "{path}: {ours} is not {theirs}");
        }
    }
    let ours: BTreeSet<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    let theirs = paths.keys().cloned();
    assert_eq!(ours, theirs.chain(OF_PX_ALONE.iter().map(|path| (*path).to_owned())).collect());
}

#[test]
fn every_enum_has_plaids_values() {
    let enums = &description()["enums"];
    fn check<E: OpenEnum>(values: &Value) {
        let ours: BTreeSet<String> = E::KNOWN.iter().map(|value| (*value).to_owned()).collect();
        assert_eq!(ours, texts(values), "{}", std::any::type_name::<E>());
    }
    check::<Product>(&enums["Products"]);
    let mut activities = enums["ActivityType"].clone();
    // Section 7.2 (D): Plaid's log is of consent alone.
    activities.as_array_mut().unwrap().push("DATA_REVIEW".into());
    check::<ActivityType>(&activities);
    check::<ActivityState>(&enums["ActionState"]);
    check::<ScopesContext>(&enums["ScopesContext"]);
    check::<PlaidErrorType>(&enums["PlaidErrorType"]);
    check::<ItemUpdateType>(&enums["Item.update_type"]);
    assert_eq!(enums.as_object().unwrap().len(), 6);
}

/// Notes which fields of which messages a value has.
fn note(
    value: &Value,
    schema: &Value,
    schemas: &Value,
    seen: &mut BTreeMap<String, BTreeSet<String>>,
) {
    if let Some(target) = schema["$ref"].as_str() {
        let name = target.rsplit('/').next().unwrap();
        if let Value::Object(fields) = value {
            seen.entry(name.to_owned()).or_default().extend(fields.keys().cloned());
        }
        return note(value, &schemas[name], schemas, seen);
    }
    for of in schema["anyOf"].as_array().into_iter().flatten() {
        note(value, of, schemas, seen);
    }
    match value {
        Value::Array(entries) => {
            entries.iter().for_each(|entry| note(entry, &schema["items"], schemas, seen));
        }
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            note(value, &schema["properties"][name], schemas, seen);
        }),
        _ => {}
    }
}

#[test]
fn the_golden_vectors_set_every_field() {
    let document = px_types::openapi::plaid();
    let schemas = &document["components"]["schemas"];
    let paths = document["paths"].as_object().unwrap();
    let operation = |id: &str| {
        let operations = paths.values().map(|path| &path["post"]);
        operations.into_iter().find(|operation| operation["operationId"] == id).unwrap()
    };
    let mut seen = BTreeMap::new();
    for (id, text) in px_types::testing::PLAID_VECTORS {
        let vector: Value = serde_json::from_str(text).unwrap();
        let operation = operation(id);
        let parts =
            [("request", &operation["requestBody"]), ("response", &operation["responses"]["200"])];
        for (part, media) in parts {
            let schema = &media["content"]["application/json"]["schema"];
            note(&vector[part], schema, schemas, &mut seen);
        }
    }
    let error: Value = serde_json::from_str(px_types::testing::PLAID_ERROR).unwrap();
    let schema = serde_json::json!({ "$ref": "#/components/schemas/PlaidError" });
    note(&error, &schema, schemas, &mut seen);
    for (name, fields) in &seen {
        let all = schemas[name]["properties"].as_object().unwrap().keys().cloned();
        assert_eq!(*fields, all.collect(), "{name}");
    }
    let messages = SCHEMAS.iter().map(|(ours, _)| *ours);
    assert!(messages.into_iter().all(|name| seen.contains_key(name)));
}
