//! The form of a provider's access tokens, and the forms of well-known providers.

use serde::{Deserialize, Serialize};

/// The form of an identity provider's access tokens: which claim says what.
///
/// Start with a [`Preset`] and change what your provider does differently. It can be read from a
/// configuration file; members that are left out are those of [`Preset::Rfc9068`].
///
/// The name of a claim that begins with `/` is a JSON Pointer (RFC 6901) into the claims,
/// `/ext/accounts`. Any other name is that of a claim at the top.
///
/// # Examples
///
/// A Keycloak whose user ids for the bank are in a claim `customer_number`:
///
/// ```
/// use px_server::verify::{Preset, TokenProfile};
///
/// let mut profile = TokenProfile::from(Preset::Keycloak);
/// profile.user_claim = "customer_number".into();
/// profile.accounts_claim = Some("px_accounts".into());
/// assert_eq!(profile.scope_claims, ["scope"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TokenProfile {
    /// The claim with the id of the user, a text or a whole number. It must name the same user the
    /// same way for ever: a login or an e-mail address does not.
    pub user_claim: String,
    /// The claims that may have the scopes; the first that is there counts. A text of scopes
    /// separated by spaces, or a list of texts. A token without any of them cannot be judged.
    pub scope_claims: Vec<String>,
    /// The claim with the permitted accounts, a list of account ids. A token without it permits
    /// no account. `None` if every token permits all accounts of its user.
    pub accounts_claim: Option<String>,
    /// The claims that may have the id of the OAuth client; the first that is there counts.
    pub client_claims: Vec<String>,
    /// The values of `typ` in the header of a JWT that are accepted, in any case. `None` accepts
    /// any, and none at all.
    pub header_types: Option<Vec<String>>,
    /// The claim in a JWT that tells access tokens from other tokens.
    ///
    /// If there is neither this nor `at+jwt` in the header, a token must name its client, must not
    /// have the claims `nonce` and `at_hash`, and its audience must not be its client: ID tokens
    /// are refused by that.
    pub type_claim: Option<TypeClaim>,
    /// The members of an introspection response that tell access tokens from refresh tokens. The
    /// first that is there counts. A response without any of them cannot be judged: providers leave
    /// `token_type` out for refresh tokens.
    pub introspection_types: Vec<TypeClaim>,
}

/// A claim that tells access tokens from other tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeClaim {
    /// The name of the claim.
    pub claim: String,
    /// Its values in an access token, in any case.
    pub values: Vec<String>,
}

/// A well-known provider, whose tokens have a documented form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// Tokens by RFC 9068 and introspection by RFC 7662, without any addition.
    Rfc9068,
    /// Keycloak, and Red Hat's build of it.
    Keycloak,
    /// Ory Hydra and Ory Network.
    OryHydra,
    /// A custom authorization server of Okta.
    Okta,
    /// Auth0, with either of its access token profiles.
    Auth0,
    /// Microsoft Entra ID, access tokens of version 1 or 2.
    EntraId,
    /// PingOne and PingFederate.
    Ping,
    /// ForgeRock Access Management, now PingAM, with client-side tokens or introspection.
    ForgeRock,
}

impl Preset {
    /// All presets.
    pub const ALL: [Self; 8] = [
        Self::Rfc9068,
        Self::Keycloak,
        Self::OryHydra,
        Self::Okta,
        Self::Auth0,
        Self::EntraId,
        Self::Ping,
        Self::ForgeRock,
    ];

    const fn data(self) -> &'static Data {
        match self {
            Self::Rfc9068 => &RFC_9068,
            Self::Keycloak => &KEYCLOAK,
            Self::OryHydra => &ORY_HYDRA,
            Self::Okta => &OKTA,
            Self::Auth0 => &AUTH0,
            Self::EntraId => &ENTRA_ID,
            Self::Ping => &PING,
            Self::ForgeRock => &FORGEROCK,
        }
    }
}

/// A preset as it is written below.
struct Data {
    user: &'static str,
    scopes: &'static [&'static str],
    clients: &'static [&'static str],
    header_types: Option<&'static [&'static str]>,
    type_claim: Option<Kinds>,
    introspection: &'static [Kinds],
}

/// The name of a claim and its values in an access token.
type Kinds = (&'static str, &'static [&'static str]);

const BEARER: Kinds = ("token_type", &["Bearer"]);

const RFC_9068: Data = Data {
    user: "sub",
    scopes: &["scope"],
    clients: &["client_id"],
    header_types: Some(&["at+jwt", "application/at+jwt"]),
    type_claim: None,
    introspection: &[BEARER],
};

// The claim `typ` is `ID` in ID tokens, `Refresh` or `Offline` in refresh tokens.
const KEYCLOAK: Data = Data {
    user: "sub",
    scopes: &["scope"],
    clients: &["azp", "client_id"],
    header_types: None,
    type_claim: Some(("typ", &["Bearer"])),
    introspection: &[("typ", &["Bearer"]), BEARER],
};

// Version 1 says `token_type: access_token`, later ones `token_use: access_token`.
const ORY_HYDRA: Data = Data {
    user: "sub",
    scopes: &["scp", "scope"],
    clients: &["client_id"],
    header_types: None,
    type_claim: None,
    introspection: &[("token_use", &["access_token"]), ("token_type", &["Bearer", "access_token"])],
};

// `sub` is the login, which a user can change. Introspection has `scope` and `client_id`.
const OKTA: Data = Data {
    user: "uid",
    scopes: &["scp", "scope"],
    clients: &["cid", "client_id"],
    header_types: None,
    type_claim: None,
    introspection: &[BEARER],
};

// `azp` in Auth0's own profile, `client_id` in that of RFC 9068.
const AUTH0: Data = Data {
    user: "sub",
    scopes: &["scope", "permissions"],
    clients: &["azp", "client_id"],
    header_types: None,
    type_claim: None,
    introspection: &[BEARER],
};

// `sub` is another one for each application; `oid` is the user's in the whole tenant.
const ENTRA_ID: Data = Data {
    user: "oid",
    scopes: &["scp"],
    clients: &["azp", "appid"],
    header_types: None,
    type_claim: None,
    introspection: &[BEARER],
};

const PING: Data = Data {
    user: "sub",
    scopes: &["scope"],
    clients: &["client_id"],
    header_types: None,
    type_claim: None,
    introspection: &[BEARER],
};

// The audience is the client, and access tokens can have `nonce`; `tokenName` tells them apart.
const FORGEROCK: Data = Data {
    user: "sub",
    scopes: &["scope"],
    clients: &["client_id"],
    header_types: None,
    type_claim: Some(("tokenName", &["access_token"])),
    introspection: &[("tokenName", &["access_token"]), BEARER],
};

impl From<Preset> for TokenProfile {
    fn from(preset: Preset) -> Self {
        let data = preset.data();
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let kinds =
            |&(claim, values): &Kinds| TypeClaim { claim: claim.to_owned(), values: texts(values) };
        Self {
            user_claim: data.user.to_owned(),
            scope_claims: texts(data.scopes),
            accounts_claim: None,
            client_claims: texts(data.clients),
            header_types: data.header_types.map(texts),
            type_claim: data.type_claim.as_ref().map(kinds),
            introspection_types: data.introspection.iter().map(kinds).collect(),
        }
    }
}

impl Default for TokenProfile {
    fn default() -> Self {
        Preset::Rfc9068.into()
    }
}
