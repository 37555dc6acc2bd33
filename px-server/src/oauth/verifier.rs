//! Verification of the kit's own access tokens.

use super::{Digest, OAuth, grant::GrantRefusal};
use crate::{
    TokenGrant,
    verify::{TokenVerifier, VerifyError},
};
use async_trait::async_trait;
use px_types::AccessToken;
use std::sync::Arc;

/// Verifies access tokens against the grant store.
pub(super) struct GrantStoreVerifier(pub(super) OAuth);

#[async_trait]
impl TokenVerifier for GrantStoreVerifier {
    async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
        let digest = Digest::of(token.expose());
        let oauth = &self.0;
        let now = oauth.now();
        let stepped = oauth.step(&digest, |record| {
            let step = record.present(&digest, now);
            super::grant::Step {
                record: step.record,
                outcome: step.outcome.map(|state| {
                    let mut grant = TokenGrant::new(record.principal.clone(), state.scopes.clone());
                    grant.accounts = record.accounts.clone();
                    grant.client_id = Some(record.client_id.clone());
                    grant.application_id = record.application_id.clone();
                    grant.grant_id = Some(record.id.clone());
                    grant.expires_at = Some(state.expires_at);
                    grant
                }),
            }
        });
        match stepped.await.map_err(VerifyError::unavailable)? {
            Some((found, Ok(grant))) => {
                match oauth
                    .is_parent_active(&found.record)
                    .await
                    .map_err(VerifyError::unavailable)?
                {
                    true => Ok(Arc::new(grant)),
                    false => Err(VerifyError::invalid()),
                }
            }
            Some((found, Err(refusal))) => {
                let record = &found.record;
                let state = record.access.iter().find(|state| state.digest == digest);
                let ended = state.is_some_and(|state| state.ended) || record.revoked_at.is_some();
                if ended && refusal == GrantRefusal::InvalidGrant {
                    tracing::warn!(
                        grant_id = record.id,
                        client_id = record.client_id.as_str(),
                        "a revoked access token was used"
                    );
                }
                Err(VerifyError::invalid())
            }
            None => Err(VerifyError::invalid()),
        }
    }
}
