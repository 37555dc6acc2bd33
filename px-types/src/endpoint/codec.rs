//! Writing a request or an answer as HTTP, and reading it back.
//!
//! Both sides use the same two pairs of functions, so what one writes the other
//! reads: `from_http(to_http(x)) == x` for every endpoint.

use super::{
    Endpoint,
    parameters::{Pairs, PairsOut, ParameterError, Parameters},
    path::{PathParameters as _, fill_path},
};
use crate::{
    fault::Fault,
    primitive::id::InvalidId,
    tolerant::{Limits, Tolerated},
    wire::{self, DecodeError},
};
use http::{HeaderValue, Request, header};
use serde::{Serialize, de::DeserializeOwned};

/// What a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyKind {
    /// No body.
    Empty,
    /// `application/json`
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
}

impl BodyKind {
    /// The media type; `None` where there is no body.
    #[must_use]
    pub const fn media_type(self) -> Option<&'static str> {
        match self {
            Self::Empty => None,
            Self::Json => Some("application/json"),
            Self::Form => Some("application/x-www-form-urlencoded"),
        }
    }
}

/// A request's body.
pub trait RequestBody: Sized + Send {
    /// What it is on the wire.
    const KIND: BodyKind;

    /// Writes it.
    fn encode(&self) -> Vec<u8>;

    /// Reads it.
    ///
    /// # Errors
    /// When the bytes are not this body.
    fn decode(bytes: &[u8]) -> Result<Self, Rejection>;
}

/// No body.
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
        // Serde would take the values of the fields without their names, too.
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
        PairsOut::text_of(&self.0).into_bytes()
    }
    fn decode(bytes: &[u8]) -> Result<Self, Rejection> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Rejection::Body(DecodeError::new(".", "the form is not UTF-8")))?;
        Ok(Self(T::read(&Pairs::parse(text)?)?))
    }
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyKind {
    /// No body.
    Empty,
    /// A JSON body.
    Json,
    /// A redirect whose query carries the answer (the authorization endpoint).
    Redirect,
}

/// The answer of an endpoint when all is well.
pub trait Reply: Sized + Send {
    /// What it is on the wire.
    const KIND: ReplyKind;

    /// Writes it: a body, or the query of a redirect.
    fn encode(&self) -> Vec<u8>;

    /// Reads it.
    ///
    /// # Errors
    /// When the bytes are not this answer; the error names the path.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// Reads it [tolerantly](crate::tolerant). What is no JSON is read as by
    /// [`decode`](Self::decode).
    ///
    /// # Errors
    /// If it cannot be read even so; the error names the path.
    fn decode_tolerant(bytes: &[u8], _: &Limits<'_>) -> Result<Tolerated<Self>, DecodeError> {
        Self::decode(bytes).map(Tolerated::without_faults)
    }

    /// Adds a fault of the transfer to those that the response notes, if it has a place for them.
    fn note_fault(&mut self, _: Fault) {}
}

impl Reply for Empty {
    const KIND: ReplyKind = ReplyKind::Empty;
    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }
    fn decode(_: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

/// Makes messages the JSON answers of endpoints.
macro_rules! json_replies {
    ($($message:ty),+ $(,)?) => {$(
        impl $crate::tolerant::Tolerant for $message {}
        $crate::endpoint::codec::json_replies!(tolerant: $message);
    )+};
    (tolerant: $message:ty) => {
        impl $crate::endpoint::codec::Reply for $message {
            const KIND: $crate::endpoint::codec::ReplyKind = $crate::endpoint::codec::ReplyKind::Json;
            fn encode(&self) -> Vec<u8> {
                $crate::wire::encode(self)
            }
            fn decode(bytes: &[u8]) -> Result<Self, $crate::wire::DecodeError> {
                $crate::wire::decode(bytes)
            }
            fn decode_tolerant(
                bytes: &[u8],
                limits: &$crate::tolerant::Limits<'_>,
            ) -> Result<$crate::tolerant::Tolerated<Self>, $crate::wire::DecodeError> {
                $crate::tolerant::decode(bytes, limits)
            }
            fn note_fault(&mut self, fault: $crate::fault::Fault) {
                $crate::tolerant::Tolerant::note_fault(self, fault);
            }
        }
    };
}

pub(crate) use json_replies;

/// Why an HTTP request is not the request of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// A value in the path is no id.
    #[error("the path: {0}")]
    Path(#[from] InvalidId),
    /// A parameter of the query or the form.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// The body.
    #[error("the body, {0}")]
    Body(#[from] DecodeError),
}

/// Writes a request as HTTP, without a host and without authentication.
///
/// # Errors
/// When an id makes a path that HTTP cannot carry; ids that exist do not.
pub fn to_http<E: Endpoint>(request: E) -> Result<Request<Vec<u8>>, http::Error> {
    let (path, query, body) = request.into_parts();
    let mut target = fill_path(E::META.path, &path.write());
    let query = PairsOut::text_of(&query);
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

/// Reads a request whose path was matched already.
///
/// # Errors
/// When a path value, a parameter or the body is not the endpoint's.
pub fn from_http<E: Endpoint>(
    path: &[String],
    query: Option<&str>,
    body: &[u8],
) -> Result<E, Rejection> {
    let path = E::Path::read(path)?;
    let query = E::Query::read(&Pairs::parse(query.unwrap_or_default())?)?;
    Ok(E::from_parts(path, query, E::Body::decode(body)?))
}
