//! The OpenAPI 3.1 documents of both APIs, generated from the definitions of the endpoints.
//!
//! The documents are checked in under `openapi/`. A test keeps them up to date.

mod parameters;
mod responses;

use crate::{
    endpoint::{
        Auth, Endpoint, Meta,
        codec::{BodyKind, Empty, Form, Json, RequestBody, ResponseBody as _, ResponseKind},
    },
    partner::{RevokeRequest, TokenRequest},
    webhook::Webhook,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::{Map, Value, json};

/// Returns the OpenAPI document of the partner's API.
#[must_use]
pub fn partner() -> Value {
    let mut document = Document::new();
    macro_rules! add { ($($name:ident => $endpoint:ty,)+) => { $(document.add::<$endpoint>();)+ } }
    crate::for_each_partner_endpoint!(add);
    document.finish(
        "Plaid Exchange: the partner's API",
        "The API that a financial institution serves and Plaid calls.",
        json!({
            "bearer": { "type": "http", "scheme": "bearer", "description": "A user's access token." },
            "client": { "type": "http", "scheme": "basic", "description": "Plaid's client id and secret." },
            "signature": {
                "type": "apiKey", "in": "header", "name": "Plaid-Verification",
                "description": "A JWT (ES256) over the SHA-256 of the body.",
            },
        }),
        None,
    )
}

/// Returns the OpenAPI document of the part of Plaid's API that partners call.
#[must_use]
pub fn plaid() -> Value {
    let mut document = Document::new();
    macro_rules! add { ($($name:ident => $endpoint:ty,)+) => { $(document.add::<$endpoint>();)+ } }
    crate::for_each_plaid_endpoint!(add);
    let webhook = document.generator.subschema_for::<Webhook>();
    let webhooks = json!({
        "item": {
            "post": {
                "operationId": "webhook",
                "summary": "Something happened to an Item",
                "parameters": [{
                    "name": "Plaid-Verification", "in": "header", "required": true,
                    "description": "A JWT (ES256) over the SHA-256 of the body.",
                    "schema": { "type": "string" },
                }],
                "requestBody": { "required": true, "content": { "application/json": { "schema": webhook } } },
                "responses": { "200": { "description": "Received. After any other response the webhook is sent again for 24 hours." } },
            },
        },
    });
    document.finish(
        "Plaid Exchange: Plaid's API",
        "The API that Plaid serves and a financial institution calls.",
        json!({
            "plaidClientId": { "type": "apiKey", "in": "header", "name": "PLAID-CLIENT-ID" },
            "plaidSecret": { "type": "apiKey", "in": "header", "name": "PLAID-SECRET" },
        }),
        Some(webhooks),
    )
}

/// Allows `null` in the schema of a required field.
pub(crate) fn allow_null(schema: &mut Schema) {
    match schema.get_mut("type") {
        Some(Value::String(name)) => {
            let types = json!([name, "null"]);
            schema.insert("type".into(), types);
        }
        _ => {
            let description = schema.remove("description");
            let inner = std::mem::take(schema);
            *schema = json_schema!({ "anyOf": [inner, { "type": "null" }] });
            if let Some(description) = description {
                schema.insert("description".into(), description);
            }
        }
    }
}

/// A request body with a schema; `None` for an empty body.
trait BodySchema: RequestBody {
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema>;
}

impl BodySchema for Empty {
    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }
}

impl<T: JsonSchema> BodySchema for Json<T>
where
    Self: RequestBody,
{
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }
}

impl BodySchema for Form<TokenRequest> {
    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        Some(parameters::token_form())
    }
}

impl BodySchema for Form<RevokeRequest> {
    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        Some(parameters::revoke_form())
    }
}

impl JsonSchema for Empty {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Empty".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({})
    }
}

struct Document {
    generator: SchemaGenerator,
    paths: Map<String, Value>,
}

impl Document {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self { generator: settings.into_generator(), paths: Map::new() }
    }

    fn add<E>(&mut self)
    where
        E: Endpoint<Body: BodySchema, Response: ResponseSchema>,
    {
        let meta = E::META;
        let mut operation = json!({
            "operationId": meta.id,
            "summary": meta.summary,
            "security": security(meta.auth),
        });
        let parameters = parameters::of(&meta);
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(schema) = E::Body::schema(&mut self.generator)
            && let Some(media_type) = E::Body::KIND.media_type()
        {
            operation["requestBody"] =
                json!({ "required": true, "content": { media_type: { "schema": schema } } });
        }
        let response_schema = match E::Response::KIND {
            ResponseKind::Json => Some(E::Response::schema(&mut self.generator)),
            ResponseKind::Empty | ResponseKind::Redirect => None,
        };
        let form = E::Body::KIND == BodyKind::Form;
        operation["responses"] = responses::of(&meta, form, response_schema, &mut self.generator);
        let method = meta.method.as_str().to_ascii_lowercase();
        let path = self.paths.entry(meta.path).or_insert_with(|| json!({}));
        path[method] = operation;
    }

    fn finish(
        mut self,
        title: &str,
        description: &str,
        security_schemes: Value,
        webhooks: Option<Value>,
    ) -> Value {
        let mut document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": title,
                "description": description,
                "version": env!("CARGO_PKG_VERSION"),
                "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            },
            "paths": self.paths,
            "components": {
                "schemas": self.generator.take_definitions(true),
                "securitySchemes": security_schemes,
            },
        });
        if let Some(webhooks) = webhooks {
            document["webhooks"] = webhooks;
        }
        document
    }
}

/// A response with a schema.
trait ResponseSchema: crate::endpoint::codec::ResponseBody {
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

impl<T: crate::endpoint::codec::ResponseBody + JsonSchema> ResponseSchema for T {
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

fn security(auth: Auth) -> Value {
    match auth {
        Auth::None | Auth::User => json!([]),
        Auth::Client => json!([{ "client": [] }]),
        Auth::Bearer(_) => json!([{ "bearer": [] }]),
        Auth::Signature => json!([{ "signature": [] }]),
        // The alternative is `client_id` and `secret` in the body.
        Auth::PlaidClient => json!([{ "plaidClientId": [], "plaidSecret": [] }, {}]),
    }
}

fn path_parameters(meta: &Meta) -> impl Iterator<Item = &'static str> {
    meta.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}
