//! Comparison of this crate's messages of Plaid's API with Plaid's public description: field names,
//! required fields and enum values are the same, except for the differences listed here.
//!
//! Plaid's description is `fixtures/plaid-api.json`. It is compared with the generated schemas, so a
//! change of a message is detected.

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

/// The names of the schemas: ours and Plaid's.
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

/// The kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Differs {
    /// Plaid has the field; we do not.
    LeftOut,
    /// We have the field; Plaid does not.
    Added,
    /// Plaid requires the field; we do not.
    Optional,
    /// We require the field; Plaid does not.
    Required,
    /// The field has another type.
    Kind,
}

use Differs::{Added, LeftOut, Optional, Required};

/// All differences with their reasons. `*` stands for all fields that Plaid has and we do not.
const DIFFERENCES: &[(&str, Differs, &[&str], &str)] = &[
    // Requests.
    (
        "ItemImportRequest",
        LeftOut,
        &["institution_id"],
        "a partner's client belongs to one institution, so the client determines the institution",
    ),
    (
        "ItemApplicationListRequest",
        Required,
        &["access_token"],
        "without it, Plaid identifies the user by a sign-in at Plaid, which a partner's user does not have",
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
        "section 6 adopts the fields for a connection at one institution; the others belong to products that PX does not have",
    ),
    (
        "LinkTokenCreateRequest",
        Added,
        &["cross_app_item_add"],
        "section 10; an earlier version of Plaid's description had it",
    ),
    (
        "LinkTokenCreateRequest",
        Required,
        &["user"],
        "Plaid accepts its own `user_id` instead, which PX does not have",
    ),
    (
        "LinkTokenCreateRequestUser",
        LeftOut,
        &["*"],
        "name, addresses and numbers of the user are not needed to connect, so they are not sent",
    ),
    (
        "ItemRemoveRequest",
        LeftOut,
        &["reason_code", "reason_note"],
        "not in section 6; a reader ignores them",
    ),
    // Grants.
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
        "the scopes of individual institutions; section 6 names the four products",
    ),
    (
        "AccountAccess",
        LeftOut,
        &["account_product_access"],
        "section 6 grants products for all permitted accounts together",
    ),
    (
        "Activity",
        LeftOut,
        &["authentication"],
        "the result of a sign-in at Plaid, which PX does not have",
    ),
    // Responses.
    (
        "ItemApplicationListResponse",
        Required,
        &["request_id"],
        "every response has one (section 1)",
    ),
    (
        "LinkTokenCreateResponse",
        LeftOut,
        &["hosted_link_url", "user_id"],
        "of products that PX does not have",
    ),
    (
        "ItemStatus",
        Added,
        &["health"],
        "section 7.1; Plaid has no field for data that is on hold or incomplete",
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
        "one message for both endpoints; Plaid omits it in the response to a webhook update",
    ),
    ("Item", LeftOut, &["auth_method"], "of micro-deposits, which PX does not have"),
    (
        "ItemWithConsentFields",
        LeftOut,
        &["auth_method", "consented_use_cases", "consented_data_scopes"],
        "of micro-deposits and of Plaid's data transparency page, which PX does not have",
    ),
    (
        "PlaidError",
        LeftOut,
        &["causes", "error_code_reason", "required_account_subtypes", "provided_account_subtypes"],
        "not in section 6; of assets and of products that PX does not have",
    ),
];

/// Section 1: a field that is not required may be absent, `null` or `""`, and writers omit it.
const NULL: &str = "Plaid writes it as `null` or empty; a writer of this project omits it";
const ITEM_NULLS: &[&str] = &[
    "webhook",
    "error",
    "available_products",
    "billed_products",
    "consent_expiration_time",
    "update_type",
];

/// A message: the type of each field, and the required fields.
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

/// Returns the type of a field, without `null`.
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

/// Returns the differences between two messages.
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
    // All schemas of the description are compared, and all listed differences name one of them.
    let compared: BTreeSet<_> = SCHEMAS.iter().map(|(_, theirs)| *theirs).collect();
    let described: BTreeSet<_> =
        description["schemas"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(compared, described);
    assert!(DIFFERENCES.iter().all(|(of, ..)| compared.contains(of)));
}

/// The paths of section 6 that Plaid's description does not have (D).
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
    // Section 7.2 (D): Plaid's log has only activities about consent.
    activities.as_array_mut().unwrap().push("DATA_REVIEW".into());
    check::<ActivityType>(&activities);
    check::<ActivityState>(&enums["ActionState"]);
    check::<ScopesContext>(&enums["ScopesContext"]);
    check::<PlaidErrorType>(&enums["PlaidErrorType"]);
    check::<ItemUpdateType>(&enums["Item.update_type"]);
    assert_eq!(enums.as_object().unwrap().len(), 6);
}

/// Records the fields of each message that a value has.
fn record_fields(
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
        return record_fields(value, &schemas[name], schemas, seen);
    }
    for of in schema["anyOf"].as_array().into_iter().flatten() {
        record_fields(value, of, schemas, seen);
    }
    match value {
        Value::Array(entries) => {
            entries.iter().for_each(|entry| record_fields(entry, &schema["items"], schemas, seen));
        }
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            record_fields(value, &schema["properties"][name], schemas, seen);
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
            record_fields(&vector[part], schema, schemas, &mut seen);
        }
    }
    let error: Value = serde_json::from_str(px_types::testing::PLAID_ERROR).unwrap();
    let schema = serde_json::json!({ "$ref": "#/components/schemas/PlaidError" });
    record_fields(&error, &schema, schemas, &mut seen);
    for (name, fields) in &seen {
        let all = schemas[name]["properties"].as_object().unwrap().keys().cloned();
        assert_eq!(*fields, all.collect(), "{name}");
    }
    let messages = SCHEMAS.iter().map(|(ours, _)| *ours);
    assert!(messages.into_iter().all(|name| seen.contains_key(name)));
}
