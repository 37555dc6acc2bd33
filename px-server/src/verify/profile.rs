//! The format of access tokens, and presets for well-known providers.

use serde::{Deserialize, Serialize};

/// The format of an identity provider's access tokens: the claims that carry each value.
///
/// Start with a [`Preset`] and change the fields in which your provider differs. A profile can be
/// deserialized from a configuration file; omitted members have the values of [`Preset::Rfc9068`].
///
/// A claim name that begins with `/` is a JSON Pointer (RFC 6901) into the claims, for example
/// `/ext/accounts`. Any other name is that of a top-level claim.
///
/// # Examples
///
/// A Keycloak with the bank's user ids in a claim `customer_number`:
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
    /// The claim with the id of the user, a string or an integer. It must always identify the same
    /// user in the same way; a login or an e-mail address does not.
    pub user_claim: String,
    /// The claims that may contain the scopes; the first that is present counts. The value is a
    /// string of scopes separated by spaces, or a list of strings. A token without any of them
    /// cannot be verified.
    pub scope_claims: Vec<String>,
    /// The claim with the permitted accounts, a list of account ids. A token without it permits no
    /// account. `None` if every token permits all accounts of its user.
    pub accounts_claim: Option<String>,
    /// The claims that may contain the id of the OAuth client; the first that is present counts.
    pub client_claims: Vec<String>,
    /// The accepted values of `typ` in the header of a JWT, ignoring case. `None` accepts any
    /// value, and a header without `typ`.
    pub header_types: Option<Vec<String>>,
    /// The claim in a JWT that distinguishes access tokens from other tokens.
    ///
    /// If neither this nor `at+jwt` in the header is present, a token must name its client, must
    /// not have the claims `nonce` and `at_hash`, and its audience must not be its client. These
    /// rules refuse ID tokens.
    pub type_claim: Option<TypeClaim>,
    /// The members of an introspection response that distinguish access tokens from refresh tokens;
    /// the first that is present counts. A response without any of them cannot be verified, because
    /// providers omit `token_type` for refresh tokens.
    pub introspection_types: Vec<TypeClaim>,
}

/// A claim that distinguishes access tokens from other tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeClaim {
    /// The name of the claim.
    pub claim: String,
    /// Its values in an access token, ignoring case.
    pub values: Vec<String>,
}

/// A well-known provider with a documented token format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// Tokens by RFC 9068 and introspection by RFC 7662, without extensions.
    Rfc9068,
    /// Keycloak and the Red Hat build of Keycloak.
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

    const fn data(self) -> &'static PresetData {
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

/// The data of a preset.
struct PresetData {
    user: &'static str,
    scopes: &'static [&'static str],
    clients: &'static [&'static str],
    header_types: Option<&'static [&'static str]>,
    type_claim: Option<TypeValues>,
    introspection: &'static [TypeValues],
}

/// The name of a claim and its values in an access token.
type TypeValues = (&'static str, &'static [&'static str]);

const BEARER: TypeValues = ("token_type", &["Bearer"]);

const RFC_9068: PresetData = PresetData {
    user: "sub",
    scopes: &["scope"],
    clients: &["client_id"],
    header_types: Some(&["at+jwt", "application/at+jwt"]),
    type_claim: None,
    introspection: &[BEARER],
};

// The claim `typ` is `ID` in ID tokens, `Refresh` or `Offline` in refresh tokens.
const KEYCLOAK: PresetData = PresetData {
    user: "sub",
    scopes: &["scope"],
    clients: &["azp", "client_id"],
    header_types: None,
    type_claim: Some(("typ", &["Bearer"])),
    introspection: &[("typ", &["Bearer"]), BEARER],
};

// Version 1 says `token_type: access_token`, later ones `token_use: access_token`.
const ORY_HYDRA: PresetData = PresetData {
    user: "sub",
    scopes: &["scp", "scope"],
    clients: &["client_id"],
    header_types: None,
    type_claim: None,
    introspection: &[("token_use", &["access_token"]), ("token_type", &["Bearer", "access_token"])],
};

// `sub` is the login, which a user can change. Introspection has `scope` and `client_id`.
const OKTA: PresetData = PresetData {
    user: "uid",
    scopes: &["scp", "scope"],
    clients: &["cid", "client_id"],
    header_types: None,
    type_claim: None,
    introspection: &[BEARER],
};

// `azp` in Auth0's own profile, `client_id` in that of RFC 9068.
const AUTH0: PresetData = PresetData {
    user: "sub",
    scopes: &["scope", "permissions"],
    clients: &["azp", "client_id"],
    header_types: None,
    type_claim: None,
    introspection: &[BEARER],
};

// `sub` is another one for each application; `oid` is the user's in the whole tenant.
const ENTRA_ID: PresetData = PresetData {
    user: "oid",
    scopes: &["scp"],
    clients: &["azp", "appid"],
    header_types: None,
    type_claim: None,
    introspection: &[BEARER],
};

const PING: PresetData = PresetData {
    user: "sub",
    scopes: &["scope"],
    clients: &["client_id"],
    header_types: None,
    type_claim: None,
    introspection: &[BEARER],
};

// The audience is the client, and access tokens can have `nonce`; `tokenName` tells them apart.
const FORGEROCK: PresetData = PresetData {
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
        let kinds = |&(claim, values): &TypeValues| TypeClaim {
            claim: claim.to_owned(),
            values: texts(values),
        };
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
