//! The presets, with tokens in the format that each provider documents
//! (`fixtures/identity_providers.json`).

use super::*;
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use px_server::verify::{Preset, TokenProfile, TokenRefusal};
use serde::Deserialize;

/// A token format of a provider.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    preset: String,
    source: String,
    issuer: String,
    audience: String,
    user: String,
    client: String,
    header: Value,
    claims: Value,
    id_token_header: Value,
    id_token: Value,
    introspection: Option<Value>,
    introspected_refresh_token: Option<Value>,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../../fixtures/identity_providers.json")).unwrap()
}

impl Vector {
    fn preset(&self) -> Preset {
        Preset::ALL.into_iter().find(|preset| format!("{preset:?}") == self.preset).unwrap()
    }

    fn key_id(&self) -> &str {
        self.header["kid"].as_str().unwrap()
    }

    /// Returns a verifier that has not accepted any token yet.
    fn verifier(&self, key: &RsaKey) -> JwtVerifier {
        let keys = json!({ "keys": [key.jwk(self.key_id())] });
        let uri = Uri::from_static("https://idp.example/jwks");
        let provider = Provider::new([ScriptedResponse::Json(200, keys)]);
        let verifier = JwtVerifier::new(provider, uri, &self.issuer, &self.audience).unwrap();
        verifier.profile(self.preset()).clock(Arc::new(ManualClock::new(start())))
    }

    fn introspection(&self, responses: &[&Value]) -> IntrospectionVerifier {
        let responses =
            responses.iter().map(|response| ScriptedResponse::Json(200, (*response).clone()));
        introspection(&Provider::new(responses)).audience(&self.audience).profile(self.preset())
    }

    /// Returns whether the preset has a claim that distinguishes access tokens from ID tokens.
    fn is_typed(&self) -> bool {
        TokenProfile::from(self.preset()).type_claim.is_some()
            || self.header["typ"].as_str() == Some("at+jwt")
    }
}

/// The RSA key of a provider.
struct RsaKey(KeyPair);

impl RsaKey {
    fn new() -> Self {
        Self(KeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn jwk(&self, id: &str) -> Value {
        // RSAPublicKey: a sequence of the modulus (0 and 256 bytes) and the exponent 65,537.
        let modulus = &self.0.public_key().as_ref()[9..265];
        json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": id,
            "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB",
        })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let mut signature = vec![0; self.0.public_modulus_len()];
        let random = SystemRandom::new();
        self.0.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

async fn refusal(verifier: &dyn TokenVerifier, token: &str) -> TokenRefusal {
    match verify(verifier, token).await {
        Err(VerifyError::Invalid(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_preset_has_vectors() {
    let vectors = vectors();
    for preset in Preset::ALL {
        assert!(vectors.iter().any(|vector| vector.preset() == preset), "{preset:?}");
    }
    assert!(vectors.iter().all(|vector| vector.source.contains("https://")));
}

#[tokio::test]
async fn documented_jwts() {
    let key = RsaKey::new();
    for vector in vectors() {
        let name = format!("{} of {}", vector.preset, vector.source);
        let token =
            |changes: Value| key.sign(&vector.header, &merged(vector.claims.clone(), changes));
        let good = token(json!({}));
        let verifier = vector.verifier(&key);
        let grant = verify(&verifier, &good).await.unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(grant.principal.as_str(), vector.user, "{name}");
        assert!(grant.scopes.allows("accounts") && grant.scopes.allows("transactions"), "{name}");
        assert_eq!(grant.client_id.as_ref().unwrap().as_str(), vector.client, "{name}");

        let expired = refusal(&verifier, &token(json!({"exp": NOW - 100}))).await;
        let since = DateTime::from_timestamp(NOW - 100, 0).unwrap();
        assert_eq!(expired, TokenRefusal::Expired { since }, "{name}");
        let other = json!({"aud": "https://other.example"});
        let audience = refusal(&verifier, &token(other)).await;
        let found = vec!["https://other.example".to_owned()];
        let expected = vector.audience.clone();
        assert_eq!(audience, TokenRefusal::Audience { found, expected }, "{name}");
        let issuer = refusal(&verifier, &token(json!({"iss": "https://other.example"}))).await;
        let found = Some("https://other.example".to_owned());
        let expected = vector.issuer.clone();
        assert_eq!(issuer, TokenRefusal::Issuer { found, expected }, "{name}");
        let id_token = key.sign(&vector.id_token_header, &vector.id_token);
        let said = refusal(&verifier, &id_token).await;
        let kind = matches!(
            said,
            TokenRefusal::Type { .. }
                | TokenRefusal::IdToken { .. }
                | TokenRefusal::Audience { .. }
        );
        assert!(kind, "{name}: {said:?}");
    }
}

/// A bank that configures the client as its audience would accept ID tokens.
#[tokio::test]
async fn without_a_type_the_audience_is_no_client_and_id_tokens_are_refused() {
    let key = RsaKey::new();
    for vector in vectors() {
        let name = format!("{} of {}", vector.preset, vector.source);
        let good = key.sign(&vector.header, &vector.claims);
        // The configured audience is the client's id.
        let mut wrong = vector.clone();
        wrong.audience = vector.client.clone();
        let verifier = wrong.verifier(&key);
        let id_token = key.sign(&vector.id_token_header, &vector.id_token);
        assert_ne!(outcome(&verifier, &id_token).await, "good", "{name}");
        let to_client = merged(vector.claims.clone(), json!({"aud": vector.client}));
        let token = key.sign(&vector.header, &to_client);
        let expected = if vector.is_typed() { "good" } else { "misconfigured" };
        assert_eq!(outcome(&verifier, &token).await, expected, "{name}");
        if vector.is_typed() {
            continue;
        }
        // A token with the mark of an ID token is refused although it names the audience.
        let verifier = after_accepting(vector.verifier(&key), &good).await;
        for claim in ["nonce", "at_hash"] {
            let marked = merged(vector.claims.clone(), json!({claim: "x"}));
            let marked = key.sign(&vector.header, &marked);
            assert_eq!(
                refusal(&verifier, &marked).await,
                TokenRefusal::IdToken { claim },
                "{name}"
            );
        }
        let mut nameless = vector.claims.clone();
        let clients = TokenProfile::from(vector.preset()).client_claims;
        for client in &clients {
            nameless.as_object_mut().unwrap().remove(client);
        }
        let nameless = key.sign(&vector.header, &nameless);
        let expected = TokenRefusal::NoClient { claims: clients };
        assert_eq!(refusal(&verifier, &nameless).await, expected, "{name}");
    }
}

#[tokio::test]
async fn documented_introspection_responses() {
    for vector in vectors() {
        let name = format!("{} of {}", vector.preset, vector.source);
        let Some(good) = &vector.introspection else { continue };
        let verifier = vector.introspection(&[good]);
        let grant = verify(&verifier, "t").await.unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(grant.principal.as_str(), vector.user, "{name}");
        assert!(grant.scopes.allows("accounts") && grant.scopes.allows("transactions"), "{name}");
        assert_eq!(grant.client_id.as_ref().unwrap().as_str(), vector.client, "{name}");
        let after_good = |changes: Value| {
            let response = merged(good.clone(), changes);
            let verifier = vector.introspection(&[good, &response]);
            async move { after_accepting(verifier, "good").await }
        };
        let expired = after_good(json!({"exp": NOW - 1})).await;
        let since = DateTime::from_timestamp(NOW - 1, 0).unwrap();
        assert_eq!(refusal(&expired, "t").await, TokenRefusal::Expired { since }, "{name}");
        let other = after_good(json!({"aud": "https://other.example"})).await;
        assert!(matches!(refusal(&other, "t").await, TokenRefusal::Audience { .. }), "{name}");
        // Nothing marks it as an access token.
        let untold = after_good(json!({"token_type": null, "token_use": null, "typ": null})).await;
        assert_eq!(outcome(&untold, "t").await, "misconfigured", "{name}");
        if let Some(refresh) = &vector.introspected_refresh_token {
            let refresh = merged(refresh.clone(), json!({"aud": vector.audience}));
            let verifier = vector.introspection(&[good, &refresh]);
            let verifier = after_accepting(verifier, "good").await;
            assert!(matches!(refusal(&verifier, "t").await, TokenRefusal::Type { .. }), "{name}");
        }
    }
}

/// Ory Hydra version 1.
#[tokio::test]
async fn a_token_type_of_access_token_needs_its_preset() {
    let response = active(json!({"token_type": "access_token"}));
    let hydra = introspection(&Provider::new([response.clone()]));
    assert_eq!(outcome(&hydra.profile(Preset::OryHydra).audience(AUDIENCE), "t").await, "good");
    let plain = introspection(&Provider::new([response])).audience(AUDIENCE);
    match verify(&plain, "t").await {
        Err(VerifyError::Misconfigured(problem)) => {
            assert_eq!(problem.setting(), "`TokenProfile::introspection_types`");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn claims_of_the_bank_s_own() {
    let key = RsaKey::new();
    let vector = &vectors()[1];
    let mut profile = TokenProfile::from(vector.preset());
    profile.user_claim = "/ext/customer".into();
    profile.scope_claims = vec!["none".into(), "permissions".into()];
    profile.accounts_claim = Some("https://bank.example/accounts".into());
    let own = json!({
        "ext": {"customer": 4711}, "permissions": ["accounts"],
        "https://bank.example/accounts": ["a-1", 2],
    });
    let token = key.sign(&vector.header, &merged(vector.claims.clone(), own));
    let grant = verify(&vector.verifier(&key).profile(profile.clone()), &token).await.unwrap();
    assert_eq!(grant.principal.as_str(), "4711");
    assert_eq!(grant.scopes.to_string(), "accounts");
    let accounts = ["a-1", "2"].map(|id| AccountId::new(id).unwrap());
    assert_eq!(grant.accounts, PermittedAccounts::Only(accounts.into()));
    // From a configuration file; omitted members are those of RFC 9068.
    let written = serde_json::to_value(&profile).unwrap();
    assert_eq!(serde_json::from_value::<TokenProfile>(written).unwrap(), profile);
    let part: TokenProfile = serde_json::from_value(json!({"user_claim": "uid"})).unwrap();
    assert_eq!(part.header_types, TokenProfile::default().header_types);
    assert!(serde_json::from_value::<TokenProfile>(json!({"user_claims": "uid"})).is_err());
}
