//! A complete bank on axum: two methods and a token verifier.
//!
//! `cargo run --example minimal_axum`, then
//! `curl -H 'Authorization: Bearer demo-token' http://127.0.0.1:8080/users/ann`

use async_trait::async_trait;
use px_server::{Caller, Error, Partner, PartnerService, TokenGrant, verify};
use px_types::{AccessToken, AccountId, Amount, Date, IdentityId, ScopeSet, TransactionId, Unit};
use px_types::{model::account::*, model::account_subtype::*, partner::*};
use px_types::{model::identity::Identity, model::transaction::Transaction};
use std::{str::FromStr, sync::Arc};

struct MyBank;

fn read<T: FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>>(
    s: &str,
) -> Result<T, Error> {
    s.parse().map_err(Error::internal)
}

#[async_trait]
impl Partner for MyBank {
    async fn user(&self, _: &Caller, _: GetUser) -> Result<UserAccountInfoResponse, Error> {
        let ann: IdentityId = read("ann-holder")?;
        let account = Account::new(
            read::<AccountId>("wallet")?,
            "Wallet",
            AccountStatus::Active,
            vec![ann.clone()],
            read::<Amount>("41.50")?,
            Unit::iso("USD").map_err(Error::internal)?,
            AccountKind::Other(Other::new(OtherSubtype::Other)),
        );
        let holder = Identity::new(ann.clone(), "Ann Example");
        Ok(UserAccountInfoResponse::new(ann, vec![holder], vec![], vec![account]))
    }

    async fn transactions(
        &self,
        _: &Caller,
        request: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        let date: Date = read("2026-01-15")?;
        let mut coffee = Transaction::new(
            read::<TransactionId>("coffee-1")?,
            read::<AccountId>("wallet")?,
            read::<Amount>("3.50")?,
            date,
            AccountType::Other,
            Unit::iso("USD").map_err(Error::internal)?,
        );
        coffee.settled_at = Some(date.into());
        request.query.page_of(vec![coffee]).ok_or_else(Error::cursor_expired)
    }
}

/// The token verifier. A real one queries your session store; this one knows a single token.
struct MyTokens;

#[async_trait]
impl verify::TokenVerifier for MyTokens {
    async fn verify(&self, token: &AccessToken) -> Result<Arc<TokenGrant>, verify::VerifyError> {
        if *token != AccessToken::new("demo-token") {
            return Err(verify::VerifyError::invalid());
        }
        let ann = "ann".parse().map_err(verify::VerifyError::unavailable)?;
        Ok(Arc::new(TokenGrant::new(ann, ScopeSet::defaults())))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let service = PartnerService::builder(MyBank).tokens(Arc::new(MyTokens)).build()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    Ok(axum::serve(listener, px_server::axum::router(service)).await?)
}
