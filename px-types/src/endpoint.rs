//! What an endpoint is: a request type that knows its method, path,
//! authentication and answer.
//!
//! The request struct **is** the endpoint. One `impl` of about twelve lines
//! feeds the server's routing, the client, the OpenAPI documents, the table in
//! the README and the tests. Reading and writing HTTP lives in [`codec`], path
//! templates in [`path`], the lists of all endpoints in [`list`].

pub mod codec;
pub mod list;
pub mod parameters;
pub mod path;

use codec::{Reply, RequestBody};
use http::Method;
use parameters::Parameters;
use path::PathParameters;

/// A request type of one of the two APIs.
pub trait Endpoint: Sized + Send + 'static {
    /// What the endpoint is called, where it is and who may call it.
    const META: Meta;
    /// The values in the path, in the order of the template.
    type Path: PathParameters;
    /// The query string.
    type Query: Parameters;
    /// The body of the request.
    type Body: RequestBody;
    /// The answer when all is well.
    type Response: Reply;

    /// Takes the request apart, to be written as HTTP.
    fn into_parts(self) -> (Self::Path, Self::Query, Self::Body);

    /// Puts the request together from what HTTP carried.
    fn from_parts(path: Self::Path, query: Self::Query, body: Self::Body) -> Self;
}

/// The description of an endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Meta {
    /// The id of the endpoint in `px.md`, `transactions`.
    pub id: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// The path template, `/users/{user_id}/transactions`.
    pub path: &'static str,
    /// Who may call it.
    pub auth: Auth,
    /// One sentence for tables and documents.
    pub summary: &'static str,
}

impl Meta {
    /// Describes a `GET` endpoint. A malformed path does not compile.
    #[must_use]
    pub const fn get(id: &'static str, path: &'static str) -> Self {
        Self::new(id, Method::GET, path)
    }

    /// Describes a `POST` endpoint. A malformed path does not compile.
    #[must_use]
    pub const fn post(id: &'static str, path: &'static str) -> Self {
        Self::new(id, Method::POST, path)
    }

    const fn new(id: &'static str, method: Method, path: &'static str) -> Self {
        path::assert_template(path);
        Self { id, method, path, auth: Auth::None, summary: "" }
    }

    /// Says what the endpoint is for, in one sentence.
    #[must_use]
    pub const fn summary(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    /// Says who may call it.
    #[must_use]
    pub const fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Requires a bearer token with a scope.
    #[must_use]
    pub const fn bearer(self, scope: RequiredScope) -> Self {
        self.auth(Auth::Bearer(scope))
    }
}

/// How a caller shows who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Auth {
    /// Anyone may call.
    None,
    /// A user in a browser.
    User,
    /// A client's id and secret, as HTTP Basic or, on the OAuth endpoints, in the body.
    Client,
    /// A bearer token that has the scope.
    Bearer(RequiredScope),
    /// A signed webhook (`px.md` section 9).
    Signature,
    /// A client's id and secret as Plaid takes them: in two headers or in the body.
    PlaidClient,
}

/// The scope that a bearer token must have for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredScope {
    /// Any live token will do.
    Any,
    /// `accounts`
    Accounts,
    /// `transactions`
    Transactions,
}

impl RequiredScope {
    /// The scope's name; `None` when any token will do.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Any => None,
            Self::Accounts => Some("accounts"),
            Self::Transactions => Some("transactions"),
        }
    }
}
