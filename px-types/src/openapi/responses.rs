//! The responses of endpoints, including the error responses.

use crate::{
    endpoint::{Auth, Meta},
    error::{ErrorResponse, OAuthErrorResponse},
    model::plaid_error::PlaidError,
};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// Returns the responses of an endpoint.
///
/// `form` is whether it is one of the OAuth endpoints with a form body. Their error responses have the
/// format of RFC 6749.
pub(super) fn of(
    meta: &Meta,
    form: bool,
    response_schema: Option<Schema>,
    generator: &mut SchemaGenerator,
) -> Value {
    let mut responses = Map::new();
    let mut add = |status: &str, description: &str, schema: Option<Value>, headers: &[&str]| {
        let mut response = json!({ "description": description, "headers": headers_of(headers) });
        if let Some(schema) = schema {
            response["content"] = json!({ "application/json": { "schema": schema } });
        }
        responses.insert(status.to_owned(), response);
    };
    if meta.auth == Auth::User {
        add(
            "302",
            "The authorization response, in the query of `Location`: `code`, `state`, `iss`; or `error`, `error_description`, `state`, `iss`.",
            None,
            &["Location"],
        );
        add("200", "A page on which the user signs in, picks accounts and consents.", None, &[]);
        add(
            "400",
            "A page: the client or the redirect address is unknown. Never a redirect.",
            None,
            &[],
        );
        return responses.into();
    }
    add("200", "Success.", response_schema.map(Value::from), &[]);
    if meta.auth == Auth::PlaidClient {
        let error = Value::from(generator.subschema_for::<PlaidError>());
        let mut error = |status, description, headers: &[&str]| {
            add(status, description, Some(error.clone()), headers);
        };
        error("400", "The request is malformed or cannot be performed. Nothing was changed.", &[]);
        error("401", "The client id or the secret is wrong.", &[]);
        error("429", "Too many requests. Nothing was changed.", &["Retry-After"]);
        error("500", "Plaid failed.", &[]);
        error("503", "Plaid is temporarily unavailable.", &["Retry-After"]);
        return responses.into();
    }
    let plain = Value::from(generator.subschema_for::<ErrorResponse>());
    let oauth = Value::from(generator.subschema_for::<OAuthErrorResponse>());
    let refusal = if form { oauth } else { plain.clone() };
    let bad_request =
        "A parameter or the body is missing, malformed or out of range. The message names it.";
    let unauthorized = match meta.auth {
        Auth::Bearer(_) => {
            "The token is missing, malformed, unknown, expired or revoked. It will never be valid again."
        }
        Auth::Signature => "The signature is missing or wrong.",
        _ if form => "The client id or the secret is wrong.",
        _ => "The client's or the user's credentials are wrong.",
    };
    add("400", bad_request, Some(refusal.clone()), &[]);
    add("401", unauthorized, Some(refusal.clone()), &["WWW-Authenticate"]);
    match meta.auth {
        Auth::Bearer(_) => add(
            "403",
            "The token is valid but does not allow the request: it belongs to another principal or lacks a scope.",
            Some(plain.clone()),
            &["WWW-Authenticate"],
        ),
        _ if form => {}
        _ => add(
            "403",
            "Refused, for example because the user is locked out.",
            Some(plain.clone()),
            &[],
        ),
    }
    add(
        "404",
        "The path does not exist, or the partner does not support it.",
        Some(plain.clone()),
        &[],
    );
    add("429", "Too many requests.", Some(plain.clone()), &["Retry-After"]);
    add("500", "The partner's own code failed.", Some(plain), &[]);
    add(
        "503",
        "The institution is temporarily unavailable; `retry_at` is the time at which it expects to be back.",
        Some(json!({ "$ref": "#/components/schemas/InstitutionError" })),
        &["Retry-After"],
    );
    institution_error(generator);
    responses.into()
}

/// Adds the schema `InstitutionError`: an `ErrorResponse` with `retry_at`. Rust has one struct for both.
fn institution_error(generator: &mut SchemaGenerator) {
    let error = Value::from(generator.subschema_for::<ErrorResponse>());
    let schema =
        json!({ "allOf": [error], "description": "The institution is temporarily unavailable." });
    generator.definitions_mut().insert("InstitutionError".to_owned(), schema);
}

fn headers_of(extra: &[&str]) -> Value {
    let mut headers = Map::new();
    let mut add = |name: &str, description: &str| {
        let header = json!({ "description": description, "schema": { "type": "string" } });
        headers.insert(name.to_owned(), header);
    };
    add("X-Request-Id", "The id of the request, to be quoted in support.");
    for name in extra {
        add(
            name,
            match *name {
                "Retry-After" => "A number of seconds or an HTTP date, if the time is known.",
                "WWW-Authenticate" => "The required authentication (RFC 6750, RFC 7617).",
                _ => "The redirect address.",
            },
        );
    }
    headers.into()
}
