//! Conversion of requests and responses to and from HTTP.
//!
//! Client and server use the same functions, so `from_http(to_http(x)) == x` holds for every endpoint.

use super::{
    Endpoint,
    parameters::{ParameterError, ParameterWriter, Parameters, ParsedParameters},
    path::{PathParameters as _, fill_path},
};
use crate::{
    fault::Fault,
    primitive::id::InvalidId,
    tolerant::{Limits, WithFaults},
    wire::{self, DecodeError},
};
use http::{HeaderValue, Request, header};
use serde::{Serialize, de::DeserializeOwned};

/// The format of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyKind {
    /// No body.
    Empty,
    /// JSON, `application/json`.
    Json,
    /// A form, `application/x-www-form-urlencoded`.
    Form,
}

impl BodyKind {
    /// Returns the media type, or `None` if there is no body.
    #[must_use]
    pub const fn media_type(self) -> Option<&'static str> {
        match self {
            Self::Empty => None,
            Self::Json => Some("application/json"),
            Self::Form => Some("application/x-www-form-urlencoded"),
        }
    }
}

/// A request body.
pub trait RequestBody: Sized + Send {
    /// The format of the body.
    const KIND: BodyKind;

    /// Serializes the body.
    fn encode(&self) -> Vec<u8>;

    /// Parses the body.
    ///
    /// # Errors
    /// If the bytes are not a valid body of this type.
    fn decode(bytes: &[u8]) -> Result<Self, Rejection>;
}

/// An empty body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Empty;

impl RequestBody for Empty {
    const KIND: BodyKind = BodyKind::Empty;
    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }
    fn decode(_: &[u8]) -> Result<Self, Rejection> {
        Ok(Self)
    }
}

/// A JSON body.
#[derive(Clone, Debug, PartialEq)]
pub struct Json<T>(pub T);

impl<T: Serialize + DeserializeOwned + Send> RequestBody for Json<T> {
    const KIND: BodyKind = BodyKind::Json;
    fn encode(&self) -> Vec<u8> {
        wire::encode(&self.0)
    }
    fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        // Serde would also accept an array with the values of the fields.
        if first == Some(&b'[') {
            return Err(Rejection::Body(DecodeError::new(".", "expected a JSON object")));
        }
        Ok(Self(wire::decode(bytes)?))
    }
}

/// A form body.
#[derive(Clone, Debug, PartialEq)]
pub struct Form<T>(pub T);

impl<T: Parameters> RequestBody for Form<T> {
    const KIND: BodyKind = BodyKind::Form;
    fn encode(&self) -> Vec<u8> {
        ParameterWriter::text_of(&self.0).into_bytes()
    }
    fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Rejection::Body(DecodeError::new(".", "the form is not UTF-8")))?;
        Ok(Self(T::read(&ParsedParameters::parse(text)?)?))
    }
}

/// The format of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseKind {
    /// No body.
    Empty,
    /// A JSON body.
    Json,
    /// A redirect with the response in its query string (the authorization endpoint).
    Redirect,
}

/// The response of a successful request.
pub trait ResponseBody: Sized + Send {
    /// The format of the response.
    const KIND: ResponseKind;

    /// Serializes the response: a body, or the query string of a redirect.
    fn encode(&self) -> Vec<u8>;

    /// Parses the response.
    ///
    /// # Errors
    /// If the bytes are not a valid response of this type. The error names the path.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// Parses the response [tolerantly](crate::tolerant). A response that is not JSON is parsed by
    /// [`decode`](Self::decode).
    ///
    /// # Errors
    /// If the response cannot be parsed tolerantly either. The error names the path.
    fn decode_tolerant(bytes: &[u8], _: &Limits<'_>) -> Result<WithFaults<Self>, DecodeError> {
        Self::decode(bytes).map(WithFaults::without_faults)
    }

    /// Adds a fault of the HTTP message to the response, if its type has a list of faults.
    fn note_fault(&mut self, _: Fault) {}
}

impl ResponseBody for Empty {
    const KIND: ResponseKind = ResponseKind::Empty;
    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }
    fn decode(_: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

/// Implements [`ResponseBody`] for messages that are JSON responses.
macro_rules! json_responses {
    ($($message:ty),+ $(,)?) => {$(
        impl $crate::tolerant::Tolerant for $message {}
        $crate::endpoint::codec::json_responses!(tolerant: $message);
    )+};
    (tolerant: $message:ty) => {
        impl $crate::endpoint::codec::ResponseBody for $message {
            const KIND: $crate::endpoint::codec::ResponseKind = $crate::endpoint::codec::ResponseKind::Json;
            fn encode(&self) -> Vec<u8> {
                $crate::wire::encode(self)
            }
            fn decode(bytes: &[u8]) -> Result<Self, $crate::wire::DecodeError> {
                $crate::wire::decode(bytes)
            }
            fn decode_tolerant(
                bytes: &[u8],
                limits: &$crate::tolerant::Limits<'_>,
            ) -> Result<$crate::tolerant::WithFaults<Self>, $crate::wire::DecodeError> {
                $crate::tolerant::decode(bytes, limits)
            }
            fn note_fault(&mut self, fault: $crate::fault::Fault) {
                $crate::tolerant::Tolerant::note_fault(self, fault);
            }
        }
    };
}

pub(crate) use json_responses;

/// An error while reading an HTTP request as the request of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// A path parameter is not a valid id.
    #[error("the path: {0}")]
    Path(#[from] InvalidId),
    /// A parameter of the query string or the form is invalid.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The body is invalid.
    #[error("the body, {0}")]
    Body(#[from] DecodeError),
}

/// Converts a request to HTTP, without a host and without authentication.
///
/// # Errors
/// If the resulting URI is not valid HTTP. Valid ids do not cause this error.
pub fn to_http<E: Endpoint>(request: E) -> Result<Request<Vec<u8>>, http::Error> {
    let (path, query, body) = request.into_parts();
    let mut target = fill_path(E::META.path, &path.write());
    let query = ParameterWriter::text_of(&query);
    if !query.is_empty() {
        target.push('?');
        target.push_str(&query);
    }
    let mut builder = Request::builder().method(E::META.method).uri(target);
    if let Some(media_type) = E::Body::KIND.media_type() {
        builder = builder.header(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    builder.body(body.encode())
}

/// Reads a request from HTTP.
///
/// `path` has the decoded path parameters, as returned by [`match_path`](super::path::match_path).
///
/// # Errors
/// If a path parameter, a parameter of the query string or the body is invalid.
pub fn from_http<E: Endpoint>(
    path: &[String],
    query: Option<&str>,
    body: &[u8],
) -> Result<E, Rejection> {
    let path = E::Path::read(path)?;
    let query = E::Query::read(&ParsedParameters::parse(query.unwrap_or_default())?)?;
    Ok(E::from_parts(path, query, E::Body::decode(body)?))
}
