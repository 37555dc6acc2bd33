//! The classification of responses: the expected message, or an error that describes the response.

use super::{Core, Dialect, FailedAttempt, Outgoing, dialect::ErrorBody};
use crate::read_mode::{ReadFailure, ReadMode};
use crate::{
    error::{Error, ErrorKind},
    retry::{Failure, retry_after},
};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use px_core::{is_identity_encoding, text::printable};
use px_types::{
    Fault, endpoint::codec::ResponseKind, model::plaid_error::PlaidErrorType, rule, wire,
};

/// A response of the expected kind, by its status and headers.
pub(crate) struct ApiResponse {
    pub(crate) bytes: Bytes,
    /// The faults of its headers.
    pub(crate) faults: Vec<Fault>,
    status: StatusCode,
    request_id: Option<String>,
    dialect: Dialect,
}

impl ApiResponse {
    /// Returns the error for a body that is not the expected message.
    pub(crate) fn unreadable(&self, operation: &'static str, failure: ReadFailure) -> Error {
        failure
            .into_error(operation)
            .with_advice(self.dialect.fault_advice())
            .with_status(self.status)
            .with_request_id(self.request_id.clone())
    }
}

/// Classifies a response: the expected message, or an error.
pub(super) fn classify(
    core: &Core,
    outgoing: &Outgoing,
    bearer: bool,
    response: Response<Bytes>,
    scrub: &dyn Fn(&str) -> String,
) -> Result<ApiResponse, FailedAttempt> {
    let (dialect, limits) = (core.dialect(), &core.limits);
    let (parts, body) = response.into_parts();
    let status = parts.status;
    let mut faults = Vec::new();
    let mut body_kind = BodyKind::of(&parts.headers, &body, outgoing.read_mode, &mut faults);
    // Tokens that are not accepted are lost, so for a token response the body counts more than its media
    // type.
    if outgoing.operation == "token"
        && outgoing.read_mode.is_tolerant()
        && !matches!(body_kind, BodyKind::Json | BodyKind::Empty)
        && is_object(&body)
    {
        faults.push(Fault::of_header(
            header::CONTENT_TYPE.as_str(),
            rule::CONTENT_TYPE,
            "application/json",
        ));
        body_kind = BodyKind::Json;
    }
    // The other side's text may contain secrets of the request.
    let request_id =
        header_text(&parts.headers, "x-request-id").map(|id| printable(&scrub(&id), 64));
    let faults = std::cell::Cell::new(faults);
    let good = |bytes| {
        let faults = faults.take();
        ApiResponse { bytes, faults, status, request_id: request_id.clone(), dialect }
    };
    match outgoing.reply {
        ResponseKind::Redirect if status.is_redirection() => {
            let location = header_text(&parts.headers, header::LOCATION.as_str());
            let location = location.unwrap_or_default();
            let query = location.split_once('?').map_or("", |(_, query)| query);
            let query = query.split('#').next().unwrap_or_default();
            return Ok(good(Bytes::copy_from_slice(query.as_bytes())));
        }
        ResponseKind::Empty if status.is_success() => return Ok(good(Bytes::new())),
        ResponseKind::Json if status.is_success() => {
            let code = status.as_u16();
            let (what, advice) = match body_kind {
                BodyKind::Json if wire::nesting(&body) <= limits.max_json_depth => {
                    return Ok(good(body));
                }
                BodyKind::Json => {
                    let most = limits.max_json_depth;
                    let what =
                        format!("returned {code} with JSON nested deeper than {most} levels");
                    (what, dialect.fault_advice())
                }
                other => (
                    format!("returned {code} with {} instead of JSON", scrub(&other.name())),
                    dialect.base_url_advice(),
                ),
            };
            let error = Error::new(ErrorKind::Decode, outgoing.operation, what)
                .with_advice(advice)
                .with_status(status)
                .with_request_id(request_id);
            return Err(FailedAttempt::permanent(error));
        }
        _ => {}
    }
    let error_body = match body_kind {
        BodyKind::Json if wire::nesting(&body) <= limits.max_json_depth => dialect.read(&body),
        _ => ErrorBody::default(),
    };
    Err(refusal(core, outgoing, bearer, (status, &parts.headers, &body_kind), error_body, scrub))
}

/// Returns the error for a response with a status that is not a success.
fn refusal(
    core: &Core,
    outgoing: &Outgoing,
    bearer: bool,
    (status, headers, body_kind): (StatusCode, &HeaderMap, &BodyKind),
    error_body: ErrorBody,
    scrub: &dyn Fn(&str) -> String,
) -> FailedAttempt {
    let dialect = core.dialect();
    let clean =
        |text: &str, length| Some(printable(&scrub(text), length)).filter(|t| !t.is_empty());
    let entry = error_body.entry();
    let id = error_body.id.and_then(|id| match dialect.knows(&id) {
        true => Some(id),
        false => clean(&id, 64),
    });
    let error_type = error_body.error_type.and_then(|kind| match kind.is_known() {
        true => Some(kind),
        false => clean(kind.as_str(), 64).map(|kind| PlaidErrorType::from(&*kind)),
    });
    let message = error_body.message.and_then(|message| clean(&message, 200));
    let display_message = error_body.display_message.and_then(|message| clean(&message, 200));
    let code = status.as_u16();
    let mut what = match (&id, body_kind) {
        _ if status.is_redirection() => format!("returned {code}, a redirect"),
        (Some(id), _) => format!("returned {code} {id}"),
        (None, BodyKind::Json) => format!("returned {code} without an error body of the contract"),
        (None, BodyKind::Empty) => format!("returned {code} with an empty body"),
        (None, body_kind) => {
            format!("returned {code} with {} instead of JSON", scrub(&body_kind.name()))
        }
    };
    if let Some(message) = message {
        what.push_str(&format!(" ({message})"));
    }
    let retry_at = header_text(headers, header::RETRY_AFTER.as_str())
        .and_then(|value| retry_after(&value, core.clock.now()))
        .max(error_body.retry_at);
    let unauthorized = status == StatusCode::UNAUTHORIZED;
    let kind = if unauthorized { ErrorKind::Auth } else { ErrorKind::Api };
    let request_id = header_text(headers, "x-request-id")
        .or(error_body.request_id)
        .map(|id| printable(&scrub(&id), 64))
        .filter(|id| !id.is_empty());
    let mut error = Error::new(kind, outgoing.operation, what)
        .with_advice(dialect.advice(status, id.as_deref(), bearer))
        .with_status(status)
        .with_retry_at(retry_at)
        .with_error_id(id)
        .with_request_id(request_id)
        .with_plaid_fields(error_type, display_message, entry);
    if unauthorized && bearer {
        error = error.with_ended_token();
    }
    FailedAttempt { error, failure: Some(Failure::Status(code)), retry_at }
}

/// The kind of a body, by its headers.
enum BodyKind {
    Json,
    Html,
    Empty,
    Untyped,
    Other(String),
}

impl BodyKind {
    /// Determines the kind from the headers.
    ///
    /// Deviations that only a tolerant reader accepts are added to `faults`.
    fn of(headers: &HeaderMap, body: &[u8], mode: ReadMode, faults: &mut Vec<Fault>) -> Self {
        if body.is_empty() {
            return Self::Empty;
        }
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING) {
            let is_plain = encoding.as_bytes() == b"identity";
            let is_readable = is_plain || mode.is_tolerant() && is_identity_encoding(encoding);
            if !is_readable {
                return Self::Other("an encoding that was not requested".into());
            }
            if !is_plain {
                let (name, rule) = (header::CONTENT_ENCODING, rule::CONTENT_ENCODING);
                faults.push(Fault::of_header(name.as_str(), rule, "no such header"));
            }
        }
        let types: Vec<_> = headers.get_all(header::CONTENT_TYPE).iter().collect();
        let essence = match types.as_slice() {
            [one] => String::from_utf8_lossy(one.as_bytes()),
            [] => return Self::Untyped,
            _ => return Self::Other("two content types".into()),
        };
        let essence = essence.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/json" => Self::Json,
            "text/json" if mode.is_tolerant() => {
                let (name, rule) = (header::CONTENT_TYPE, rule::CONTENT_TYPE);
                faults.push(Fault::of_header(name.as_str(), rule, "application/json"));
                Self::Json
            }
            "text/html" | "application/xhtml+xml" => Self::Html,
            json if json.starts_with("application/") && json.ends_with("+json") => Self::Json,
            // Unchanged, because a secret with other upper and lower case would not be found in it.
            _ => Self::Other(printable(essence, 60)),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Json => "JSON".into(),
            Self::Html => "an HTML page".into(),
            Self::Empty => "an empty body".into(),
            Self::Untyped => "a body without a content type".into(),
            Self::Other(essence) if essence.is_empty() => "a body without a content type".into(),
            Self::Other(essence) => format!("a body of {essence}"),
        }
    }
}

/// Returns whether a body begins like a JSON object.
fn is_object(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    body.trim_ascii_start().first() == Some(&b'{')
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned();
    Some(text).filter(|text| !text.is_empty())
}
