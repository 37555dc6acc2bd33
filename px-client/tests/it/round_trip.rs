//! One side reads what the other side sends: every endpoint, through the client.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use proptest::prelude::*;
use px_client::{PartnerClient, SignBody};
use px_core::InProcessTransport;
use px_server::{
    Caller, Partner, PartnerService, ResponseCheck, TokenGrant,
    verify::{TokenVerifier, VerifyError},
};
use px_types::{
    AccessToken, ClientSecret, Endpoint, ScopeSet, UserId,
    endpoint::{
        codec::{self, ResponseBody, ResponseKind},
        path::match_path,
    },
    partner::*,
    testing::{Sample, Seed},
};
use std::{
    convert::Infallible,
    error::Error as StdError,
    fmt::Debug,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

/// Records the request that it reads and returns a given response.
#[derive(Clone)]
pub(crate) struct Echo<E: Endpoint> {
    read: Arc<Mutex<Option<E>>>,
    response: Arc<E::Response>,
}

impl<E: Endpoint> Echo<E> {
    pub(crate) fn responding(response: E::Response) -> Self {
        Self { read: Arc::default(), response: Arc::new(response) }
    }

    /// The request that it read.
    pub(crate) fn take(&self) -> Option<E> {
        self.read.lock().unwrap().take()
    }
}

impl<E> tower_service::Service<Request<Full<Bytes>>> for Echo<E>
where
    E: Endpoint,
    E::Response: Sync,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let (read, response) = (self.read.clone(), self.response.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            assert_eq!(parts.method, E::META.method);
            let path = match_path(E::META.path, parts.uri.path()).unwrap();
            let request = codec::from_http::<E>(&path, parts.uri.query(), &body).unwrap();
            *read.lock().unwrap() = Some(request);
            let body = response.encode();
            let response = Response::builder();
            Ok(match <E::Response as ResponseBody>::KIND {
                ResponseKind::Redirect => {
                    let query = String::from_utf8(body).unwrap();
                    response
                        .status(302)
                        .header("location", format!("https://plaid.example/cb?{query}"))
                        .body(Full::default())
                }
                ResponseKind::Json => response
                    .header("content-type", "application/json; charset=utf-8")
                    .body(Full::from(body)),
                _ => response.body(Full::default()),
            }
            .unwrap())
        })
    }
}

#[derive(Debug)]
struct Signer;

impl SignBody for Signer {
    fn sign(&self, _: &[u8]) -> Result<String, Box<dyn StdError + Send + Sync>> {
        Ok("signature".into())
    }
}

fn goes_through<E>(seed: u64)
where
    E: Sample + Clone + Debug + PartialEq + Sync,
    E::Response: Clone + Debug + PartialEq + Sync,
{
    let seed = &mut Seed::new(seed);
    let (request, response) = (E::request(seed), E::response(seed));
    let echo = Echo::<E>::responding(response.clone());
    let client =
        PartnerClient::builder("http://bank.test/px/..", InProcessTransport::new(echo.clone()))
            .client("plaid".parse().unwrap(), ClientSecret::new("s"))
            .token(AccessToken::new("t"))
            .signer(Arc::new(Signer))
            .build()
            .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let read = runtime.block_on(client.send(request.clone())).unwrap();
    assert_eq!(read, response);
    assert_eq!(echo.take(), Some(request));
}

macro_rules! every_endpoint {
    ($($name:ident => $endpoint:ty,)+) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(64))]
            $(#[test] fn $name(seed: u64) { goes_through::<$endpoint>(seed); })+
        }
    };
}

mod every_endpoint_goes_through {
    use super::*;
    px_types::for_each_partner_endpoint!(every_endpoint);
}

struct Bank(UserAccountInfoResponse, TransactionsResponse);

#[async_trait]
impl Partner for Bank {
    async fn user(
        &self,
        _: &Caller,
        _: GetUser,
    ) -> Result<UserAccountInfoResponse, px_server::Error> {
        Ok(self.0.clone())
    }
    async fn transactions(
        &self,
        _: &Caller,
        _: ListTransactions,
    ) -> Result<TransactionsResponse, px_server::Error> {
        Ok(self.1.clone())
    }
}

struct Anyone(UserId);

#[async_trait]
impl TokenVerifier for Anyone {
    async fn verify(&self, _: &AccessToken) -> Result<Arc<TokenGrant>, VerifyError> {
        Ok(Arc::new(TokenGrant::new(self.0.clone(), ScopeSet::defaults())))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_partner_service_gives_what_the_bank_gave(seed: u64) {
        let seed = &mut Seed::new(seed);
        let (user, page) = (GetUser::response(seed), ListTransactions::response(seed));
        let request = ListTransactions::request(seed);
        let user_id = request.user_id.clone();
        let service = PartnerService::builder(Bank(user.clone(), page.clone()))
            .tokens(Arc::new(Anyone(user_id.clone())))
            .response_check(ResponseCheck::Off)
            .build()
            .unwrap();
        let client = PartnerClient::builder("http://bank.test", InProcessTransport::new(service))
            .token(AccessToken::new("t"))
            .build()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!(client.user(&user_id).await.unwrap(), user);
            assert_eq!(client.transactions_page(request).await.unwrap(), page);
            assert_eq!(client.current_user().await.unwrap().user_id, user_id);
        });
    }
}
