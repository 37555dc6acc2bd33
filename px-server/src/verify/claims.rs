//! What a token's claims allow; introspection answers and JWTs have the same ones.

use crate::{PermittedAccounts, TokenGrant};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use px_types::{AccountId, ClientId, Scope, ScopeSet, UserId};
use serde_json::{Map, Value};

pub(super) type Claims = Map<String, Value>;

/// A moment as RFC 7519 writes it: seconds since 1970, a fraction allowed and cut off.
///
/// `Ok(None)` when the claim is absent, `Err` when it is no moment.
pub(super) fn moment(claims: &Claims, name: &str) -> Result<Option<DateTime<Utc>>, ()> {
    let number = match claims.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(()),
    };
    let seconds = number.split('.').next().unwrap_or_default();
    let seconds = seconds.parse().map_err(|_| ())?;
    DateTime::from_timestamp(seconds, 0).map(Some).ok_or(())
}

pub(super) fn text<'a>(claims: &'a Claims, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

/// Whether a claim that is a text or a list of texts has a text.
pub(super) fn names(claims: &Claims, name: &str, wanted: &str) -> bool {
    match claims.get(name) {
        Some(Value::String(text)) => text == wanted,
        Some(Value::Array(list)) => list.iter().any(|entry| entry.as_str() == Some(wanted)),
        _ => false,
    }
}

/// The grant of a token whose claims were checked; `None` if they name no principal.
pub(super) fn grant(claims: &Claims, accounts_claim: Option<&str>) -> Option<TokenGrant> {
    let principal = UserId::new(text(claims, "sub")?).ok()?;
    // A word that is no scope allows nothing; the others count all the same.
    let scopes: ScopeSet = match claims.get("scope") {
        Some(Value::String(words)) => words.split(' ').flat_map(Scope::new).collect(),
        Some(Value::Array(words)) => {
            let words = words.iter().filter_map(Value::as_str);
            words.flat_map(Scope::new).collect()
        }
        _ => ScopeSet::default(),
    };
    let mut grant = TokenGrant::new(principal, scopes);
    if let Some(name) = accounts_claim {
        // A token without the claim shows no account rather than all of them.
        let listed = claims.get(name).and_then(Value::as_array);
        let ids = listed.into_iter().flatten().filter_map(Value::as_str);
        grant.accounts = PermittedAccounts::Only(ids.flat_map(AccountId::new).collect());
    }
    grant.client_id = text(claims, "client_id").and_then(|id| ClientId::new(id).ok());
    Some(grant)
}

/// The certificate that a token is bound to (RFC 8705). An error if it is bound to something else,
/// which cannot be checked here: a key of DPoP, for example.
pub(super) fn binding(claims: &Claims) -> Result<Option<[u8; 32]>, ()> {
    match claims.get("cnf") {
        None | Some(Value::Null) => Ok(None),
        Some(confirmation) => thumbprint(confirmation).map(Some).ok_or(()),
    }
}

fn thumbprint(confirmation: &Value) -> Option<[u8; 32]> {
    let members = confirmation.as_object().filter(|members| members.len() == 1)?;
    let text = members.get("x5t#S256")?.as_str()?;
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
