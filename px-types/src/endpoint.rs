//! Definitions of endpoints: request types with their method, path, authentication and response.
//!
//! The request struct **is** the endpoint. One [`Endpoint`] implementation of about twelve lines
//! drives the routing of the server, the client, the OpenAPI documents, the table in the README and
//! the tests. [`codec`] converts requests and responses to and from HTTP, [`path`] handles path
//! templates, and [`list`] lists all endpoints.

pub mod codec;
pub mod list;
pub mod parameters;
pub mod path;

use codec::{RequestBody, ResponseBody};
use http::Method;
use parameters::Parameters;
use path::PathParameters;

/// A request type of one of the two APIs.
pub trait Endpoint: Sized + Send + 'static {
    /// The id, method, path and authentication of the endpoint.
    const META: Meta;
    /// The path parameters, in the order of the template.
    type Path: PathParameters;
    /// The parameters of the query string.
    type Query: Parameters;
    /// The request body.
    type Body: RequestBody;
    /// The response of a successful request.
    type Response: ResponseBody;

    /// Splits the request into its path, query and body.
    fn into_parts(self) -> (Self::Path, Self::Query, Self::Body);

    /// Creates the request from its path, query and body.
    fn from_parts(path: Self::Path, query: Self::Query, body: Self::Body) -> Self;
}

/// The description of an endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Meta {
    /// The id of the endpoint in the contract, such as `transactions`.
    pub id: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// The path template, such as `/users/{user_id}/transactions`.
    pub path: &'static str,
    /// The authentication that the endpoint requires.
    pub auth: Auth,
    /// A summary in one sentence, for tables and documents.
    pub summary: &'static str,
}

impl Meta {
    /// Describes a `GET` endpoint. A malformed path is a compile error.
    #[must_use]
    pub const fn get(id: &'static str, path: &'static str) -> Self {
        Self::new(id, Method::GET, path)
    }

    /// Describes a `POST` endpoint. A malformed path is a compile error.
    #[must_use]
    pub const fn post(id: &'static str, path: &'static str) -> Self {
        Self::new(id, Method::POST, path)
    }

    const fn new(id: &'static str, method: Method, path: &'static str) -> Self {
        path::assert_template(path);
        Self { id, method, path, auth: Auth::None, summary: "" }
    }

    /// Sets the summary, one sentence.
    #[must_use]
    pub const fn summary(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    /// Sets the authentication that the endpoint requires.
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

/// The authentication of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Auth {
    /// No authentication.
    None,
    /// The user signs in, in a browser.
    User,
    /// The client's id and secret, in HTTP Basic or, on the OAuth endpoints, in the body.
    Client,
    /// A bearer token with the scope.
    Bearer(RequiredScope),
    /// A signed webhook (`px.md` section 9).
    Signature,
    /// The client's id and secret in the form of Plaid's API: in two headers or in the body.
    PlaidClient,
}

/// The scope that a bearer token must have for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredScope {
    /// Any valid token is sufficient.
    Any,
    /// The scope `accounts`.
    Accounts,
    /// The scope `transactions`.
    Transactions,
}

impl RequiredScope {
    /// Returns the name of the scope, or `None` if any token is sufficient.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Any => None,
            Self::Accounts => Some("accounts"),
            Self::Transactions => Some("transactions"),
        }
    }
}
