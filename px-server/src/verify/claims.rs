//! What a token's claims allow; introspection responses and JWTs have the same ones. Pure.

use super::{
    profile::{TokenProfile, TypeClaim},
    refusal::{Fault, Refusal, shown},
};
use crate::{PermittedAccounts, TokenGrant};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use px_types::{AccountId, ClientId, Scope, ScopeSet, UserId};
use serde_json::{Map, Value};

pub(super) type Claims = Map<String, Value>;

/// The most audiences that are shown of a token.
const MAX_SHOWN_AUDIENCES: usize = 5;
/// The values of `typ` that say in a header that a JWT is an access token (RFC 9068).
const ACCESS_TOKEN_TYPES: [&str; 2] = ["at+jwt", "application/at+jwt"];
/// Values of type claims that no access token has, at any provider.
const OTHER_TYPES: [&str; 6] = ["id", "id_token", "refresh", "refresh_token", "offline", "logout"];
/// The claims that ID tokens have and access tokens do not (OpenID Connect Core).
const ID_TOKEN_CLAIMS: [&str; 2] = ["nonce", "at_hash"];

/// Where the claims come from.
pub(super) enum Origin<'a> {
    /// A JWT whose signature was verified; the `typ` of its header.
    Jwt { header_type: Option<&'a str> },
    /// An introspection response that says `active`.
    Introspection,
}

/// The settings by which claims are judged.
pub(super) struct Rules<'a> {
    pub(super) profile: &'a TokenProfile,
    pub(super) issuer: Option<&'a str>,
    pub(super) audience: Option<&'a str>,
    pub(super) leeway: TimeDelta,
    pub(super) now: DateTime<Utc>,
}

impl Rules<'_> {
    /// The grant of a token.
    pub(super) fn grant(&self, origin: &Origin<'_>, claims: &Claims) -> Result<TokenGrant, Fault> {
        // First what is bad under any setting.
        let expires_at = self.check_times(origin, claims)?;
        let typed = self.check_type(origin, claims)?;
        self.check_issuer(claims)?;
        self.check_audience(claims, typed)?;
        let bound_to = binding(claims).map_err(|()| {
            let setting = "of the identity provider for what the tokens of the client are bound to";
            Fault::Suspect(setting, Refusal::Binding)
        })?;
        let mut grant = TokenGrant::new(self.user(claims)?, self.scopes(claims)?);
        if let Some(name) = &self.profile.accounts_claim {
            // A token without the claim shows no account rather than all of them.
            let ids = texts(get(claims, name));
            grant.accounts = PermittedAccounts::Only(ids.flat_map(AccountId::new).collect());
        }
        grant.client_id = self.client(claims).and_then(|id| ClientId::new(id).ok());
        grant.expires_at = expires_at;
        grant.certificate_thumbprint = bound_to;
        Ok(grant)
    }

    /// Returns the moment until which the token is accepted.
    fn check_times(
        &self,
        origin: &Origin<'_>,
        claims: &Claims,
    ) -> Result<Option<DateTime<Utc>>, Fault> {
        const SETTING: &str = "of the identity provider for the life of access tokens";
        let moment = |name: &str| {
            moment(claims, name).map_err(|()| {
                Fault::setting(SETTING, format!("the token's `{name}` is not a number of seconds"))
            })
        };
        let expires = match (moment("exp")?, origin) {
            (None, Origin::Jwt { .. }) => {
                return Err(Fault::setting(SETTING, "the token has no `exp`"));
            }
            (None, Origin::Introspection) => None,
            (Some(at), _) => {
                let ends = at.checked_add_signed(self.leeway).unwrap_or(at);
                if self.now >= ends {
                    return Err(Fault::Refused(Refusal::Expired { since: at }));
                }
                Some(ends)
            }
        };
        match moment("nbf")? {
            Some(begins) if self.now + self.leeway < begins => {
                // It will be good: one of the two clocks is wrong.
                let problem = "the token's `nbf` lies ahead";
                Err(Fault::setting("of the clocks here and at the identity provider", problem))
            }
            _ => Ok(expires),
        }
    }

    /// Checks that it is an access token. Returns whether its type says so.
    fn check_type(&self, origin: &Origin<'_>, claims: &Claims) -> Result<bool, Fault> {
        let Origin::Jwt { header_type } = origin else {
            return self.check_introspected_type(claims).map(|()| true);
        };
        let is = |name: &&str, typ: &str| typ.eq_ignore_ascii_case(name);
        if let Some(accepted) = &self.profile.header_types {
            let fits = header_type.is_some_and(|typ| accepted.iter().any(|name| is(&&**name, typ)));
            if !fits {
                let refusal = Refusal::Type {
                    claim: "typ".into(),
                    found: header_type.map(shown),
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
                Err(Fault::Suspect("`TokenProfile::type_claim`", Refusal::IdToken { claim }))
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
        // Ory Hydra of version 1, met with another preset.
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
        let refusal = Refusal::Issuer { found: found.map(shown), expected: expected.to_owned() };
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
            let found = found.iter().take(MAX_SHOWN_AUDIENCES).map(|text| shown(text)).collect();
            let refusal = Refusal::Audience { found, expected: expected.to_owned() };
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
                Err(Fault::Suspect("`TokenProfile::client_claims`", Refusal::NoClient { claims }))
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
        // A word that is no scope allows nothing; the others count all the same.
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
    let refusal = Refusal::Type {
        claim: kind.claim.clone(),
        found: found.map(shown),
        expected: kind.values.clone(),
    };
    let is_other = |found: &str| OTHER_TYPES.iter().any(|other| found.eq_ignore_ascii_case(other));
    match found.is_some_and(is_other) {
        true => Err(Fault::Refused(refusal)),
        false => Err(Fault::Suspect(setting, refusal)),
    }
}

/// The value of a claim by its name, or by a JSON Pointer that begins with `/`.
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

/// The texts of a claim that is a text or a list of texts.
fn texts(value: Option<&Value>) -> impl Iterator<Item = String> + '_ {
    let (one, list) = match value {
        Some(Value::Array(list)) => (None, list.as_slice()),
        value => (value, [].as_slice()),
    };
    one.into_iter().chain(list).filter_map(text_or_number)
}

/// A moment as RFC 7519 writes it: seconds since 1970, a fraction allowed and cut off. As a text
/// too, as some providers write it.
///
/// `Ok(None)` when the claim is absent, `Err` when it is no moment.
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

/// The certificate that a token is bound to (RFC 8705). An error if it is bound to something else,
/// which cannot be checked here: a key of DPoP, for example.
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
