//! What an answer means: the message that was asked for, or an error that says what came instead.

use super::exchange::{Failed, Outgoing};
use crate::{
    error::{Error, Kind, printable},
    retry::{Failure, retry_after},
    transport::Limits,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, Response, StatusCode, header};
use px_types::{Auth, DecodeError, ErrorResponse, endpoint::codec::ReplyKind, error_id, wire};

/// An answer that is what was asked for, as far as HTTP tells.
pub(crate) struct Answer {
    pub(crate) bytes: Bytes,
    status: StatusCode,
    request_id: Option<String>,
}

impl Answer {
    /// The error when its bytes are not the message.
    pub(crate) fn not_understood(&self, operation: &'static str, error: &DecodeError) -> Error {
        let what = format!("the answer is not what the contract says, {error}");
        Error::new(Kind::Decode, operation, what)
            .advice("this is a fault of the partner; tell them")
            .status_is(self.status)
            .request_id_is(self.request_id.clone())
    }
}

/// Tells a good answer from all others.
pub(super) fn judge(
    outgoing: &Outgoing,
    answer: Response<Bytes>,
    limits: &Limits,
    now: DateTime<Utc>,
    scrub: impl Fn(&str) -> String,
) -> Result<Answer, Failed> {
    let (parts, body) = answer.into_parts();
    let status = parts.status;
    let form = Form::of(&parts.headers, &body);
    // What a partner sends back may hold what it was sent in secret.
    let request_id =
        header_text(&parts.headers, "x-request-id").map(|id| printable(&scrub(&id), 64));
    let good = |bytes| Answer { bytes, status, request_id: request_id.clone() };
    match outgoing.reply {
        ReplyKind::Redirect if status.is_redirection() => {
            let location = header_text(&parts.headers, header::LOCATION.as_str());
            let location = location.unwrap_or_default();
            let query = location.split_once('?').map_or("", |(_, query)| query);
            let query = query.split('#').next().unwrap_or_default();
            return Ok(good(Bytes::copy_from_slice(query.as_bytes())));
        }
        ReplyKind::Empty if status.is_success() => return Ok(good(Bytes::new())),
        ReplyKind::Json if status.is_success() => {
            let code = status.as_u16();
            let (what, advice) = match form {
                Form::Json if wire::nesting(&body) <= limits.nesting => return Ok(good(body)),
                Form::Json => {
                    let most = limits.nesting;
                    let what =
                        format!("answered {code} with JSON nested deeper than {most} levels");
                    (what, "this is a fault of the partner; tell them")
                }
                other => (
                    format!("answered {code} with {} instead of JSON", scrub(&other.name())),
                    "check that the base URL is the partner's API",
                ),
            };
            let error = Error::new(Kind::Decode, outgoing.operation, what)
                .advice(advice)
                .status_is(status)
                .request_id_is(request_id);
            return Err(Failed::for_good(error));
        }
        _ => {}
    }
    Err(refusal(outgoing, status, &parts.headers, &form, &body, limits, now, scrub))
}

/// An answer whose status is no success.
#[allow(clippy::too_many_arguments, reason = "one place calls it, with all there is of an answer")]
fn refusal(
    outgoing: &Outgoing,
    status: StatusCode,
    headers: &HeaderMap,
    form: &Form,
    body: &[u8],
    limits: &Limits,
    now: DateTime<Utc>,
    scrub: impl Fn(&str) -> String,
) -> Failed {
    let said = match form {
        Form::Json if wire::nesting(body) <= limits.nesting => Said::read(body),
        _ => Said::default(),
    };
    let clean =
        |text: &str, length| Some(printable(&scrub(text), length)).filter(|t| !t.is_empty());
    let id = said.id.and_then(|id| match KNOWN_IDS.contains(&&*id) {
        // A user may be called `user_locked`; that is no reason to hide the id.
        true => Some(id),
        false => clean(&id, 64),
    });
    let message = said.message.and_then(|message| clean(&message, 200));
    let code = status.as_u16();
    let mut what = match (&id, form) {
        _ if status.is_redirection() => format!("answered {code}, a redirect"),
        (Some(id), _) => format!("answered {code} {id}"),
        (None, Form::Json) => format!("answered {code} without an error body of the contract"),
        (None, Form::Empty) => format!("answered {code} with an empty body"),
        (None, form) => format!("answered {code} with {} instead of JSON", scrub(&form.name())),
    };
    if let Some(message) = message {
        what.push_str(&format!(" ({message})"));
    }
    let asked_for = header_text(headers, header::RETRY_AFTER.as_str())
        .and_then(|value| retry_after(&value, now))
        .max(said.retry_at);
    let bearer = matches!(outgoing.auth, Auth::Bearer(_));
    let unauthorized = status == StatusCode::UNAUTHORIZED;
    let kind = if unauthorized { Kind::Auth } else { Kind::Api };
    let request_id = header_text(headers, "x-request-id")
        .or(said.request_id)
        .map(|id| printable(&scrub(&id), 64))
        .filter(|id| !id.is_empty());
    let mut error = Error::new(kind, outgoing.operation, what)
        .advice(advice(status, id.as_deref(), bearer))
        .status_is(status)
        .retry_at_is(asked_for)
        .error_id_is(id)
        .request_id_is(request_id);
    if unauthorized && bearer {
        error = error.ending_token();
    }
    Failed { error, failure: Some(Failure::Status(code)), asked_for }
}

/// The ids of the contract and of RFC 6749 that advice or callers go by.
const KNOWN_IDS: [&str; 23] = [
    error_id::INVALID_REQUEST,
    error_id::INVALID_TOKEN,
    error_id::INSUFFICIENT_SCOPE,
    error_id::FORBIDDEN,
    error_id::NOT_FOUND,
    error_id::METHOD_NOT_ALLOWED,
    error_id::PAYLOAD_TOO_LARGE,
    error_id::UNSUPPORTED_MEDIA_TYPE,
    error_id::HEADERS_TOO_LARGE,
    error_id::TOO_MANY_REQUESTS,
    error_id::CURSOR_EXPIRED,
    error_id::WINDOW_TOO_LONG,
    error_id::INTERNAL_ERROR,
    error_id::INSTITUTION_UNAVAILABLE,
    error_id::INVALID_CLIENT,
    error_id::INVALID_CREDENTIALS,
    error_id::INVALID_CHALLENGE,
    error_id::USER_LOCKED,
    "invalid_grant",
    "invalid_scope",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_token_type",
];

/// What to do about a refusal.
fn advice(status: StatusCode, id: Option<&str>, bearer: bool) -> &'static str {
    match (status.as_u16(), id) {
        (_, Some(error_id::INVALID_CREDENTIALS)) => "check the user's name and password",
        (_, Some(error_id::INVALID_CHALLENGE)) => "check the answer, or sign in again",
        (_, Some(error_id::USER_LOCKED)) => "the user must ask the institution to be let in again",
        (_, Some(error_id::INVALID_CLIENT)) => "check the client id and secret",
        (_, Some("invalid_grant")) => "get a new authorization of the user",
        (401, _) if bearer => "the token is dead; get a new authorization of the user",
        (401, _) => "check the client id and secret",
        (403, _) => "the token does not allow this; check the user id and the scopes",
        (404, _) => "check the base URL; the partner may not offer this",
        (300..=399, _) => "redirects are never followed; check the base URL",
        (408 | 429 | 500..=599, _) => "try again later",
        _ => "the request is at fault; correct it before it is sent again",
    }
}

/// What the body of a refusal says.
#[derive(Default)]
struct Said {
    id: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
    retry_at: Option<DateTime<Utc>>,
}

impl Said {
    /// Reads an error body of the contract, or one of RFC 6749, leniently.
    fn read(body: &[u8]) -> Self {
        if let Ok(read) = wire::decode::<ErrorResponse>(body) {
            return Self {
                id: Some(read.error.id),
                message: Some(read.error.message),
                request_id: read.request_id,
                retry_at: read.retry_at.map(px_types::Timestamp::utc),
            };
        }
        let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else {
            return Self::default();
        };
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let error = &body["error"];
        Self {
            id: text(error).or_else(|| text(&error["id"])),
            message: text(&body["error_description"]).or_else(|| text(&error["message"])),
            request_id: text(&body["request_id"]),
            retry_at: body["retry_at"]
                .as_str()
                .and_then(|at| at.parse::<px_types::Timestamp>().ok())
                .map(px_types::Timestamp::utc),
        }
    }
}

/// What a body is, as far as can be told without reading it.
enum Form {
    Json,
    Html,
    Empty,
    Untyped,
    Other(String),
}

impl Form {
    fn of(headers: &HeaderMap, body: &[u8]) -> Self {
        if body.is_empty() {
            return Self::Empty;
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
            "text/html" | "application/xhtml+xml" => Self::Html,
            json if json.starts_with("application/") && json.ends_with("+json") => Self::Json,
            // As it came: a secret in other letters would not be found in it.
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

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned();
    Some(text).filter(|text| !text.is_empty())
}
