//! The parameters of paths, query strings and forms.
//!
//! They are not parsed by serde, so their schemas are written by hand. A test compares them with the
//! parameters that the endpoints write.

use super::path_parameters;
use crate::{
    endpoint::Meta,
    partner::{AuthorizationResponse, DEFAULT_LIMIT, MAX_LIMIT},
    primitive::id::CONTRACT_ID_BYTES,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Returns the parameters of an endpoint.
pub(super) fn of(meta: &Meta) -> Vec<Value> {
    let id = json!({ "type": "string", "minLength": 1, "maxLength": CONTRACT_ID_BYTES });
    let mut parameters: Vec<Value> = path_parameters(meta)
        .map(|name| {
            json!({
                "name": name, "in": "path", "required": true, "schema": id,
                "description": "The principal of the token, percent-encoded.",
            })
        })
        .collect();
    let query = |name: &str, required: bool, schema: Value, description: &str| {
        json!({
            "name": name, "in": "query", "required": required, "schema": schema,
            "description": description,
        })
    };
    let text = json!({ "type": "string" });
    let date = json!({ "type": "string", "format": "date" });
    match meta.id {
        "transactions" => parameters.extend([
            query("start_date", true, date.clone(), "The first date of the window."),
            query("end_date", true, date, "The last date of the window; not before `start_date`."),
            query(
                "limit",
                false,
                json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT }),
                "The maximum number of transactions in the response.",
            ),
            query(
                "offset",
                false,
                json!({ "type": "integer", "minimum": 0, "default": 0 }),
                "The number of transactions to skip; not together with `cursor`.",
            ),
            query(
                "cursor",
                false,
                json!({ "type": "string", "minLength": 1 }),
                "The `next_cursor` of the previous page, with the same dates and limit.",
            ),
        ]),
        "authorize" => parameters.extend([
            query("response_type", true, json!({ "type": "string", "const": "code" }), "`code`"),
            query("client_id", true, id.clone(), "The client that requests authorization."),
            query(
                "redirect_uri",
                true,
                json!({ "type": "string", "format": "uri" }),
                "One of the client's registered addresses, byte by byte.",
            ),
            query("scope", false, text.clone(), "Scopes separated by spaces; all scopes if missing."),
            query("state", false, text.clone(), "Returned unchanged."),
            query(
                "code_challenge",
                false,
                json!({ "type": "string", "minLength": 43, "maxLength": 128 }),
                "The S256 challenge of RFC 7636. Required unless the partner disables the requirement.",
            ),
            query(
                "code_challenge_method",
                false,
                json!({ "type": "string", "const": "S256" }),
                "`S256`",
            ),
            query("application_id", false, id, "The application for which the user consents."),
            query("application_name", false, text, "The name of the application, to be shown to the user."),
        ]),
        _ => {}
    }
    parameters
}

/// Returns the schema of the body of a token request.
pub(super) fn token_form() -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "grant_type": { "type": "string", "enum": ["authorization_code", "refresh_token"] },
            "code": { "type": "string", "format": "password" },
            "redirect_uri": { "type": "string", "format": "uri" },
            "code_verifier": { "type": "string", "format": "password", "minLength": 43, "maxLength": 128 },
            "refresh_token": { "type": "string", "format": "password" },
            "scope": { "type": "string" },
            "client_id": { "type": "string" },
            "client_secret": { "type": "string", "format": "password" },
        },
        "required": ["grant_type"],
        "oneOf": [
            { "properties": { "grant_type": { "const": "authorization_code" } }, "required": ["code"] },
            { "properties": { "grant_type": { "const": "refresh_token" } }, "required": ["refresh_token"] },
        ],
    })
}

/// Returns the schema of the body of a revocation request.
pub(super) fn revoke_form() -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "token": { "type": "string", "format": "password" },
            "token_type_hint": { "type": "string", "examples": ["access_token", "refresh_token"] },
            "client_id": { "type": "string" },
            "client_secret": { "type": "string", "format": "password" },
        },
        "required": ["token"],
    })
}

impl JsonSchema for AuthorizationResponse {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AuthorizationAnswer".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // It is sent in the query string of a redirect, which `responses` describes in words.
        json_schema!({ "type": "object" })
    }
}
