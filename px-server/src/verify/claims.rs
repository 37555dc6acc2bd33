//! Evaluation of a token's claims, which JWTs and introspection responses share. Without I/O.

use super::{
    profile::{TokenProfile, TypeClaim},
    refusal::{Fault, TokenRefusal, printable},
};
use crate::{PermittedAccounts, TokenGrant};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use px_types::{AccountId, ClientId, Scope, ScopeSet, UserId};
use serde_json::{Map, Value};

pub(super) type Claims = Map<String, Value>;

/// Maximum number of audiences of a token in an error text.
const MAX_SHOWN_AUDIENCES: usize = 5;
/// The values of `typ` in a JWT header that mark an access token (RFC 9068).
const ACCESS_TOKEN_TYPES: [&str; 2] = ["at+jwt", "application/at+jwt"];
/// Values of type claims that no access token has, at any provider.
const OTHER_TYPES: [&str; 6] = ["id", "id_token", "refresh", "refresh_token", "offline", "logout"];
/// Claims that ID tokens have and access tokens do not (OpenID Connect Core).
const ID_TOKEN_CLAIMS: [&str; 2] = ["nonce", "at_hash"];

/// The source of the claims.
pub(super) enum ClaimsSource<'a> {
    /// A JWT with a verified signature, and the `typ` of its header.
    #[cfg_attr(not(feature = "jwt"), allow(dead_code, reason = "JWTs need the feature"))]
    Jwt { header_type: Option<&'a str> },
    /// An introspection response with `active: true`.
    Introspection,
}

/// The settings for evaluating claims.
pub(super) struct ClaimRules<'a> {
    pub(super) profile: &'a TokenProfile,
    pub(super) issuer: Option<&'a str>,
    pub(super) audience: Option<&'a str>,
    pub(super) leeway: TimeDelta,
    pub(super) now: DateTime<Utc>,
}

impl ClaimRules<'_> {
    /// Returns the grant of a token.
    pub(super) fn grant(
        &self,
        source: &ClaimsSource<'_>,
        claims: &Claims,
    ) -> Result<TokenGrant, Fault> {
        // Checks that do not depend on a setting come first.
        let expires_at = self.check_times(source, claims)?;
        let typed = self.check_type(source, claims)?;
        self.check_issuer(claims)?;
        self.check_audience(claims, typed)?;
        let bound_to = binding(claims).map_err(|()| {
            let setting = "of the identity provider for what the tokens of the client are bound to";
            Fault::Suspect(setting, TokenRefusal::Binding)
        })?;
        let mut grant = TokenGrant::new(self.user(claims)?, self.scopes(claims)?);
        if let Some(name) = &self.profile.accounts_claim {
            // A token without the claim permits no account, rather than all accounts.
            let ids = texts(get(claims, name));
            grant.accounts = PermittedAccounts::Only(ids.flat_map(AccountId::new).collect());
        }
        grant.client_id = self.client(claims).and_then(|id| ClientId::new(id).ok());
        grant.expires_at = expires_at;
        grant.certificate_thumbprint = bound_to;
        Ok(grant)
    }

    /// Returns the time until which the token is accepted.
    fn check_times(
        &self,
        source: &ClaimsSource<'_>,
        claims: &Claims,
    ) -> Result<Option<DateTime<Utc>>, Fault> {
        const SETTING: &str = "of the identity provider for the life of access tokens";
        let moment = |name: &str| {
            moment(claims, name).map_err(|()| {
                Fault::setting(SETTING, format!("the token's `{name}` is not a number of seconds"))
            })
        };
        let expires = match (moment("exp")?, source) {
            (None, ClaimsSource::Jwt { .. }) => {
                return Err(Fault::setting(SETTING, "the token has no `exp`"));
            }
            (None, ClaimsSource::Introspection) => None,
            (Some(at), _) => {
                let ends = at.checked_add_signed(self.leeway).unwrap_or(at);
                if self.now >= ends {
                    return Err(Fault::Refused(TokenRefusal::Expired { since: at }));
                }
                Some(ends)
            }
        };
        match moment("nbf")? {
            Some(begins) if self.now + self.leeway < begins => {
                // The token becomes valid later, so one of the two clocks is wrong.
                let problem = "the token's `nbf` is in the future";
                Err(Fault::setting("of the clocks here and at the identity provider", problem))
            }
            _ => Ok(expires),
        }
    }

    /// Checks that the token is an access token. Returns whether its type states that explicitly.
    fn check_type(&self, source: &ClaimsSource<'_>, claims: &Claims) -> Result<bool, Fault> {
        let ClaimsSource::Jwt { header_type } = source else {
            return self.check_introspected_type(claims).map(|()| true);
        };
        let is = |name: &&str, typ: &str| typ.eq_ignore_ascii_case(name);
        if let Some(accepted) = &self.profile.header_types {
            let fits = header_type.is_some_and(|typ| accepted.iter().any(|name| is(&&**name, typ)));
            if !fits {
                let refusal = TokenRefusal::Type {
                    claim: "typ".into(),
                    found: header_type.map(printable),
                    expected: accepted.clone(),
                };
                return Err(Fault::Suspect("`TokenProfile::header_types`", refusal));
            }
        }
        if let Some(kind) = &self.profile.type_claim {
            check_kind(kind, get(claims, &kind.claim), "`TokenProfile::type_claim`")?;
            return Ok(true);
        }
        if header_type.is_some_and(|typ| ACCESS_TOKEN_TYPES.iter().any(|name| is(name, typ))) {
            return Ok(true);
        }
        match ID_TOKEN_CLAIMS.into_iter().find(|claim| claims.contains_key(*claim)) {
            Some(claim) => {
                Err(Fault::Suspect("`TokenProfile::type_claim`", TokenRefusal::IdToken { claim }))
            }
            None => Ok(false),
        }
    }

    fn check_introspected_type(&self, claims: &Claims) -> Result<(), Fault> {
        const SETTING: &str = "`TokenProfile::introspection_types`";
        let kinds = &self.profile.introspection_types;
        let named = kinds.iter().find_map(|kind| Some((kind, present(claims, &kind.claim)?)));
        let Some((kind, value)) = named else {
            let names: Vec<_> = kinds.iter().map(|kind| &*kind.claim).collect();
            let problem = format!(
                "the introspection response has no `{}`, so the token may be a refresh token",
                names.join("` and no `")
            );
            return Err(Fault::setting(SETTING, problem));
        };
        // A response of Ory Hydra version 1, evaluated with another preset.
        if value.as_str() == Some("access_token") && !kind.accepts("access_token") {
            let problem = format!("the introspection response has `{}: access_token`", kind.claim);
            return Err(Fault::setting(SETTING, problem));
        }
        check_kind(kind, Some(value), SETTING)
    }

    fn check_issuer(&self, claims: &Claims) -> Result<(), Fault> {
        let Some(expected) = self.issuer else { return Ok(()) };
        let found = claims.get("iss").and_then(Value::as_str);
        if found == Some(expected) {
            return Ok(());
        }
        let refusal =
            TokenRefusal::Issuer { found: found.map(printable), expected: expected.to_owned() };
        Err(Fault::Suspect("`issuer`", refusal))
    }

    fn check_audience(&self, claims: &Claims, typed: bool) -> Result<(), Fault> {
        const SETTING: &str = "`audience`";
        let Some(expected) = self.audience else { return Ok(()) };
        let found: Vec<_> = texts(claims.get("aud")).collect();
        if found.is_empty() {
            let problem = format!(
                "the token has no `aud`; have the identity provider put {expected:?} into it"
            );
            return Err(Fault::setting(SETTING, problem));
        }
        if !found.iter().any(|audience| audience == expected) {
            let found =
                found.iter().take(MAX_SHOWN_AUDIENCES).map(|text| printable(text)).collect();
            let refusal = TokenRefusal::Audience { found, expected: expected.to_owned() };
            return Err(Fault::Suspect(SETTING, refusal));
        }
        if typed {
            return Ok(());
        }
        match self.client(claims) {
            Some(client) if client == expected => {
                let problem = format!(
                    "{expected:?} is the client's id, which ID tokens have as their audience too"
                );
                Err(Fault::setting(SETTING, problem))
            }
            Some(_) => Ok(()),
            None => {
                let claims = self.profile.client_claims.clone();
                Err(Fault::Suspect(
                    "`TokenProfile::client_claims`",
                    TokenRefusal::NoClient { claims },
                ))
            }
        }
    }

    fn user(&self, claims: &Claims) -> Result<UserId, Fault> {
        const SETTING: &str = "`TokenProfile::user_claim`";
        let name = &self.profile.user_claim;
        let user = present(claims, name).and_then(text_or_number);
        let user = user
            .ok_or_else(|| Fault::setting(SETTING, format!("the token has no user in `{name}`")))?;
        UserId::new(user).map_err(|_| {
            Fault::setting(SETTING, format!("the token's `{name}` cannot be the id of a user"))
        })
    }

    fn scopes(&self, claims: &Claims) -> Result<ScopeSet, Fault> {
        let names = &self.profile.scope_claims;
        let Some(value) = names.iter().find_map(|name| present(claims, name)) else {
            let problem = format!("the token has no scopes in `{}`", names.join("` or `"));
            return Err(Fault::setting("`TokenProfile::scope_claims`", problem));
        };
        // Words that are not valid scopes are ignored.
        let lists: Vec<_> = texts(Some(value)).collect();
        Ok(lists.iter().flat_map(|list| list.split(' ')).flat_map(Scope::new).collect())
    }

    fn client(&self, claims: &Claims) -> Option<String> {
        let names = self.profile.client_claims.iter();
        names.filter_map(|name| present(claims, name)).find_map(text_or_number)
    }
}

impl TypeClaim {
    fn accepts(&self, value: &str) -> bool {
        self.values.iter().any(|accepted| accepted.eq_ignore_ascii_case(value))
    }
}

fn check_kind(kind: &TypeClaim, value: Option<&Value>, setting: &'static str) -> Result<(), Fault> {
    let found = value.and_then(Value::as_str);
    if found.is_some_and(|found| kind.accepts(found)) {
        return Ok(());
    }
    let refusal = TokenRefusal::Type {
        claim: kind.claim.clone(),
        found: found.map(printable),
        expected: kind.values.clone(),
    };
    let is_other = |found: &str| OTHER_TYPES.iter().any(|other| found.eq_ignore_ascii_case(other));
    match found.is_some_and(is_other) {
        true => Err(Fault::Refused(refusal)),
        false => Err(Fault::Suspect(setting, refusal)),
    }
}

/// Returns the value of a claim by its name, or by a JSON Pointer that begins with `/`.
fn get<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    let Some(pointer) = name.strip_prefix('/') else { return claims.get(name) };
    let (first, rest) = match pointer.find('/') {
        Some(at) => pointer.split_at(at),
        None => (pointer, ""),
    };
    claims.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest)
}

fn present<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    get(claims, name).filter(|value| !value.is_null())
}

fn text_or_number(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
        _ => None,
    }
}

/// Returns the strings of a claim that is a string or a list of strings.
fn texts(value: Option<&Value>) -> impl Iterator<Item = String> + '_ {
    let (one, list) = match value {
        Some(Value::Array(list)) => (None, list.as_slice()),
        value => (value, [].as_slice()),
    };
    one.into_iter().chain(list).filter_map(text_or_number)
}

/// Returns the time in a claim: seconds since 1970 as in RFC 7519, with a fraction truncated. Also
/// accepts a string, which some providers use.
///
/// Returns `Ok(None)` if the claim is absent, and `Err` if it is not a time.
fn moment(claims: &Claims, name: &str) -> Result<Option<DateTime<Utc>>, ()> {
    let number = match claims.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(_) => return Err(()),
    };
    let seconds = number.split('.').next().unwrap_or_default();
    let seconds = seconds.parse().map_err(|_| ())?;
    DateTime::from_timestamp(seconds, 0).map(Some).ok_or(())
}

/// Returns the certificate that a token is bound to (RFC 8705). Returns an error if the token has
/// another binding that cannot be checked here, for example a DPoP key.
fn binding(claims: &Claims) -> Result<Option<[u8; 32]>, ()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_are_found_by_name_and_by_pointer() {
        let claims = json!({
            "sub": "ann", "https://bank.example/accounts": ["a"],
            "ext": {"accounts": ["b"], "a/b": 1, "null": null},
        });
        let claims = claims.as_object().unwrap();
        for (name, found) in [
            ("sub", json!("ann")),
            ("https://bank.example/accounts", json!(["a"])),
            ("/ext/accounts", json!(["b"])),
            ("/ext/accounts/0", json!("b")),
            ("/ext/a~1b", json!(1)),
            ("/sub", json!("ann")),
        ] {
            assert_eq!(get(claims, name), Some(&found), "{name}");
        }
        for name in ["", "/", "ext/accounts", "/ext/none", "/sub/x", "/ext/null"] {
            assert_eq!(present(claims, name), None, "{name}");
        }
    }
}
