//! Randomly varied samples of every message, for the tests of this crate and its dependents.
//!
//! There is no strategy per type. A sample is a JSON text with every field set. Fields are removed,
//! repeated and replaced at random, and a change that makes the message invalid is undone. The same
//! [`Seed`] returns the same values. With proptest, use `any::<u64>().prop_map(Seed::new)`.

use crate::{
    endpoint::{Endpoint, codec::Empty},
    partner::*,
    primitive::{
        date::Date,
        id::{ApplicationId, ClientId, UserId},
        secret::{
            AnyToken, AuthorizationCode, AuthorizationState, ClientSecret, CodeVerifier,
            RefreshToken,
        },
    },
    wire,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A response of `GET /users/{user_id}` with every field set, as JSON.
pub const USER: &str = include_str!("../tests/fixtures/user.json");
/// A page of transactions with every field set, as JSON.
pub const PAGE: &str = include_str!("../tests/fixtures/page.json");
/// An error of Plaid with every field set, as JSON.
pub const PLAID_ERROR: &str = include_str!("../tests/fixtures/plaid/error.json");
const SAMPLES: &str = include_str!("../tests/fixtures/samples.json");

/// The test vectors of Plaid's API: the id of each endpoint, and `{"request", "response"}` with every
/// field set, as JSON.
///
/// Servers and clients of the API are tested against the same vectors.
pub const PLAID_VECTORS: &[(&str, &str)] = &[
    ("notify_transactions", include_str!("../tests/fixtures/plaid/notify_transactions.json")),
    ("notify_accounts", include_str!("../tests/fixtures/plaid/notify_accounts.json")),
    ("notify_tokens", include_str!("../tests/fixtures/plaid/notify_tokens.json")),
    ("import", include_str!("../tests/fixtures/plaid/import.json")),
    ("list_applications", include_str!("../tests/fixtures/plaid/list_applications.json")),
    ("unlink_application", include_str!("../tests/fixtures/plaid/unlink_application.json")),
    ("update_scopes", include_str!("../tests/fixtures/plaid/update_scopes.json")),
    ("list_activity", include_str!("../tests/fixtures/plaid/list_activity.json")),
    ("application", include_str!("../tests/fixtures/plaid/application.json")),
    ("create_link_token", include_str!("../tests/fixtures/plaid/create_link_token.json")),
    ("exchange_public_token", include_str!("../tests/fixtures/plaid/exchange_public_token.json")),
    ("item", include_str!("../tests/fixtures/plaid/item.json")),
    ("remove_item", include_str!("../tests/fixtures/plaid/remove_item.json")),
    ("update_webhook", include_str!("../tests/fixtures/plaid/update_webhook.json")),
    ("invalidate_token", include_str!("../tests/fixtures/plaid/invalidate_token.json")),
    ("verification_key", include_str!("../tests/fixtures/plaid/verification_key.json")),
];

/// A deterministic source of random values.
#[derive(Clone, Debug)]
pub struct Seed(u64);

impl Seed {
    /// Creates a source from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 bits (splitmix64).
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `limit`; 0 if `limit` is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit.max(1) as u64) as usize
    }

    /// Returns one of several values.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Returns a text of 1–12 characters, including unusual ones, that is also a valid id.
    pub fn text(&mut self) -> String {
        const CHARACTERS: &[char] = &[
            'a', 'Z', '0', '9', '-', '_', '~', '/', '%', '+', '&', '=', '?', '#', ' ', '"', '\\',
            '\'', '<', '{', '.', ',', ';', 'é', 'ß', '漢', '🦀', '\u{200b}',
        ];
        let length = 1 + self.below(12);
        let text: String = (0..length).map(|_| *self.pick(CHARACTERS)).collect();
        match text.as_str() {
            "." | ".." => "dots".into(),
            _ => text,
        }
    }

    fn some<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| make(self))
    }

    fn date(&mut self) -> Date {
        let (year, month, day) = (self.below(10_000), 1 + self.below(12), 1 + self.below(28));
        Date::from_ymd(year as i32, month as u32, day as u32)
            .unwrap_or(Date::from(chrono::NaiveDate::default()))
    }

    /// Returns a JSON value that replaces a leaf.
    fn leaf(&mut self) -> Value {
        match self.below(8) {
            0 => json!(self.text()),
            1 => {
                let scale = self.below(7);
                let whole = self.bits() % 1_000_000_000;
                let sign = self.pick(&["", "-"]);
                match scale {
                    0 => json!(format!("{sign}{whole}")),
                    _ => json!(format!(
                        "{sign}{whole}.{:0scale$}",
                        self.bits() % 10_u64.pow(scale as u32)
                    )),
                }
            }
            2 => json!(self.date().to_string()),
            3 => {
                let offset =
                    *self.pick(&["Z", "+02:00", "-11:30", "-00:00", ".5Z", ".123456789+14:00"]);
                json!(format!("{}T{:02}:15:59{offset}", self.date(), self.below(24)))
            }
            4 => json!(self.below(2) == 0),
            5 => json!(self.bits() % 100_000),
            6 => json!(self.pick(&["USD", "EUR", "JPY", "ZZZ", "QQQ"])),
            _ => json!(*self.pick(&["depository", "OTP", "ach", "cycle", "a new value"])),
        }
    }
}

/// An endpoint with samples.
pub trait Sample: Endpoint {
    /// Returns a sample of the request.
    fn request(seed: &mut Seed) -> Self;
    /// Returns a sample of the response.
    fn response(seed: &mut Seed) -> Self::Response;
}

/// Parses a message after random changes that keep it valid.
///
/// # Panics
/// If `text` is not a valid message of this type.
pub fn vary<T: DeserializeOwned>(text: &str, seed: &mut Seed) -> T {
    let mut value: Value = serde_json::from_str(text).unwrap_or_default();
    for _ in 0..seed.below(24) {
        let mut changed = value.clone();
        change(&mut changed, seed);
        if wire::decode_value::<T>(&changed).is_ok() {
            value = changed;
        }
    }
    match wire::decode_value(&value) {
        Ok(message) => message,
        Err(error) => panic!("the sample is not a valid message: {error}"),
    }
}

/// Changes one randomly chosen value within a JSON value.
fn change(value: &mut Value, seed: &mut Seed) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let names: Vec<String> = fields.keys().cloned().collect();
            let name = seed.pick(&names);
            match seed.below(6) {
                0 => {
                    fields.remove(name);
                }
                1 => {
                    let empty = seed.pick(&[Value::Null, json!("")]).clone();
                    fields.insert(name.clone(), empty);
                }
                _ => {
                    if let Some(below) = fields.get_mut(name) {
                        change(below, seed);
                    }
                }
            }
        }
        Value::Array(entries) if !entries.is_empty() => {
            let index = seed.below(entries.len());
            match seed.below(5) {
                0 => {
                    entries.remove(index);
                }
                1 => entries.push(entries[index].clone()),
                _ => change(&mut entries[index], seed),
            }
        }
        leaf => *leaf = seed.leaf(),
    }
}

/// Returns a varied request or response from the file of samples.
fn from_file<T: DeserializeOwned>(id: &str, part: &str, seed: &mut Seed) -> T {
    let samples: Value = serde_json::from_str(SAMPLES).unwrap_or_default();
    match samples[id][part].as_array() {
        Some(choices) if !choices.is_empty() => vary(&seed.pick(choices).to_string(), seed),
        _ => panic!("the file of samples has no {part} of {id}"),
    }
}

fn user_id(seed: &mut Seed) -> UserId {
    id(seed, UserId::new)
}

fn id<T, E: std::fmt::Display>(seed: &mut Seed, make: impl Fn(String) -> Result<T, E>) -> T {
    match make(seed.text()) {
        Ok(id) => id,
        Err(error) => panic!("the text is not a valid id: {error}"),
    }
}

macro_rules! plaid_samples {
    ($($name:ident => $endpoint:ty,)+) => {$(
        impl Sample for $endpoint {
            fn request(seed: &mut Seed) -> Self {
                from_file(Self::META.id, "request", seed)
            }
            fn response(seed: &mut Seed) -> Self::Response {
                from_file(Self::META.id, "response", seed)
            }
        }
    )+};
}

crate::for_each_plaid_endpoint!(plaid_samples);

impl Sample for Authorize {
    fn request(seed: &mut Seed) -> Self {
        Self::new(AuthorizeQuery {
            response_type: seed.some(|s| ResponseType::from(s.text().as_str())),
            client_id: seed.some(|s| id(s, ClientId::new)),
            redirect_uri: seed.some(Seed::text),
            scope: seed.some(Seed::text),
            state: seed.some(|s| AuthorizationState::new(s.text())),
            code_challenge: seed.some(Seed::text),
            code_challenge_method: seed.some(Seed::text),
            application_id: seed.some(|s| id(s, ApplicationId::new)),
            application_name: seed.some(Seed::text),
        })
    }
    fn response(seed: &mut Seed) -> AuthorizationResponse {
        AuthorizationResponse {
            code: seed.some(|s| AuthorizationCode::new(s.text())),
            error: seed.some(|s| AuthorizationError::from(s.text().as_str())),
            error_description: seed.some(Seed::text),
            state: seed.some(|s| AuthorizationState::new(s.text())),
            iss: seed.some(Seed::text),
        }
    }
}

impl Sample for RequestToken {
    fn request(seed: &mut Seed) -> Self {
        let mut request = TokenRequest::new(match seed.below(3) {
            0 => Grant::AuthorizationCode {
                code: AuthorizationCode::new(seed.text()),
                redirect_uri: seed.some(Seed::text),
                code_verifier: seed.some(|s| CodeVerifier::new(s.text())),
            },
            1 => Grant::RefreshToken {
                refresh_token: RefreshToken::new(seed.text()),
                scope: seed.some(Seed::text),
            },
            _ => Grant::Unsupported(seed.text()),
        });
        request.client_id = seed.some(|s| id(s, ClientId::new));
        request.client_secret = seed.some(|s| ClientSecret::new(s.text()));
        Self::new(request)
    }
    fn response(seed: &mut Seed) -> TokenResponse {
        from_file("token", "response", seed)
    }
}

impl Sample for Revoke {
    fn request(seed: &mut Seed) -> Self {
        let mut request = RevokeRequest::new(AnyToken::new(seed.text()));
        request.token_type_hint = seed.some(|s| TokenTypeHint::from(s.text().as_str()));
        request.client_id = seed.some(|s| id(s, ClientId::new));
        request.client_secret = seed.some(|s| ClientSecret::new(s.text()));
        Self::new(request)
    }
    fn response(_: &mut Seed) -> Empty {
        Empty
    }
}

impl Sample for GetCurrentUser {
    fn request(_: &mut Seed) -> Self {
        Self
    }
    fn response(seed: &mut Seed) -> CurrentUserResponse {
        from_file("current_user", "response", seed)
    }
}

impl Sample for GetUser {
    fn request(seed: &mut Seed) -> Self {
        Self::new(user_id(seed))
    }
    fn response(seed: &mut Seed) -> UserAccountInfoResponse {
        vary(USER, seed)
    }
}

impl Sample for ListTransactions {
    fn request(seed: &mut Seed) -> Self {
        let (one, other) = (seed.date(), seed.date());
        let mut query = TransactionsQuery::new(one.min(other), one.max(other));
        query.limit = 1 + seed.below(500) as u64;
        query.position = match seed.below(2) {
            0 => Position::Offset(seed.bits()),
            _ => Position::Cursor(seed.text()),
        };
        Self::new(user_id(seed), query)
    }
    fn response(seed: &mut Seed) -> TransactionsResponse {
        vary(PAGE, seed)
    }
}

impl Sample for RequestAuthToken {
    fn request(seed: &mut Seed) -> Self {
        Self::new(from_file("auth_token", "request", seed))
    }
    fn response(seed: &mut Seed) -> Self::Response {
        from_file("auth_token", "response", seed)
    }
}

impl Sample for SendOtp {
    fn request(seed: &mut Seed) -> Self {
        Self::new(user_id(seed), from_file("send_otp", "request", seed))
    }
    fn response(seed: &mut Seed) -> SendOtpResponse {
        from_file("send_otp", "response", seed)
    }
}

impl Sample for ValidateTwoFactor {
    fn request(seed: &mut Seed) -> Self {
        Self::new(user_id(seed), from_file("two_factor", "request", seed))
    }
    fn response(seed: &mut Seed) -> Self::Response {
        from_file("two_factor", "response", seed)
    }
}

impl Sample for NotifyApplicationLinked {
    fn request(seed: &mut Seed) -> Self {
        Self::new(from_file("application_linked", "request", seed))
    }
    fn response(_: &mut Seed) -> Empty {
        Empty
    }
}
