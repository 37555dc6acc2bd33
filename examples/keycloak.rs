//! A complete bank on axum, with access tokens of its Keycloak.
//!
//! `cargo run --example keycloak -- https://id.bank.example/realms/customers`, then
//! `curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8080/customers/current`
//!
//! The guide `px_server::guide::identity_provider` describes the setup of Keycloak. For another
//! provider, use its preset and its JWKS URL.

use async_trait::async_trait;
use px_core::ReqwestTransport;
use px_server::{
    Caller, Error, Partner, PartnerService,
    verify::{JwtVerifier, Preset},
};
use px_types::{AccountId, Amount, IdentityId, Unit};
use px_types::{
    model::account::*, model::account_subtype::*, model::identity::Identity, partner::*,
};
use std::{str::FromStr, sync::Arc};

struct MyBank;

fn read<T: FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>>(
    s: &str,
) -> Result<T, Error> {
    s.parse().map_err(Error::internal)
}

#[async_trait]
impl Partner for MyBank {
    async fn user(&self, caller: &Caller, _: GetUser) -> Result<UserAccountInfoResponse, Error> {
        // Keycloak's `sub`, or another claim if the profile names one.
        let holder: IdentityId = read(caller.principal().as_str())?;
        let account = Account::new(
            read::<AccountId>("wallet")?,
            "Wallet",
            AccountStatus::Active,
            vec![holder.clone()],
            read::<Amount>("41.50")?,
            Unit::iso("USD").map_err(Error::internal)?,
            AccountKind::Other(Other::new(OtherSubtype::Other)),
        );
        let ann = Identity::new(holder.clone(), "Ann Example");
        Ok(UserAccountInfoResponse::new(holder, vec![ann], vec![], vec![account]))
    }

    async fn transactions(
        &self,
        _: &Caller,
        request: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        request.query.page_of(vec![]).ok_or_else(Error::cursor_expired)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The log names invalid settings, and the reasons for refused tokens.
    tracing_subscriber::fmt().init();
    let realm = std::env::args().nth(1).ok_or("pass the URL of the realm as the first argument")?;
    let audience = std::env::args().nth(2).unwrap_or_else(|| "https://px.bank.example".to_owned());
    let verifier = JwtVerifier::new(
        Arc::new(ReqwestTransport::new()?),
        format!("{realm}/protocol/openid-connect/certs").parse()?,
        realm,
        audience,
    )?
    .profile(Preset::Keycloak);
    let service = PartnerService::builder(MyBank).tokens(Arc::new(verifier)).build()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    Ok(axum::serve(listener, px_server::axum::router(service)).await?)
}
