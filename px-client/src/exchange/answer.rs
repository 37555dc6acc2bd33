//! What an answer means: the message that was asked for, or an error that says what came instead.

use super::{Core, Dialect, Failed, Outgoing, dialect::Said};
use crate::read_mode::{ReadMode, Unread};
use crate::{
    error::{Error, Kind},
    retry::{Failure, retry_after},
};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use px_core::{is_unpacked, text::printable};
use px_types::{Fault, endpoint::codec::ReplyKind, model::plaid_error::PlaidErrorType, rule, wire};

/// An answer that is what was asked for, as far as HTTP tells.
pub(crate) struct Answer {
    pub(crate) bytes: Bytes,
    /// What is wrong with its headers.
    pub(crate) faults: Vec<Fault>,
    status: StatusCode,
    request_id: Option<String>,
    dialect: Dialect,
}

impl Answer {
    /// The error when its bytes are not the message.
    pub(crate) fn not_understood(&self, operation: &'static str, unread: Unread) -> Error {
        unread
            .into_error(operation)
            .advice(self.dialect.fault_advice())
            .status_is(self.status)
            .request_id_is(self.request_id.clone())
    }
}

/// Tells a good answer from all others.
pub(super) fn judge(
    core: &Core,
    outgoing: &Outgoing,
    bearer: bool,
    answer: Response<Bytes>,
    scrub: &dyn Fn(&str) -> String,
) -> Result<Answer, Failed> {
    let (dialect, limits) = (core.dialect(), &core.limits);
    let (parts, body) = answer.into_parts();
    let status = parts.status;
    let mut faults = Vec::new();
    let mut form = Form::of(&parts.headers, &body, outgoing.read_mode, &mut faults);
    // Tokens that are not taken are lost, so the body counts for more than its media type.
    if outgoing.operation == "token"
        && outgoing.read_mode.is_tolerant()
        && !matches!(form, Form::Json | Form::Empty)
        && is_object(&body)
    {
        faults.push(Fault::of_header(
            header::CONTENT_TYPE.as_str(),
            rule::CONTENT_TYPE,
            "application/json",
        ));
        form = Form::Json;
    }
    // What the other side sends back may hold what it was sent in secret.
    let request_id =
        header_text(&parts.headers, "x-request-id").map(|id| printable(&scrub(&id), 64));
    let faults = std::cell::Cell::new(faults);
    let good = |bytes| {
        let faults = faults.take();
        Answer { bytes, faults, status, request_id: request_id.clone(), dialect }
    };
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
                Form::Json if wire::nesting(&body) <= limits.max_json_depth => {
                    return Ok(good(body));
                }
                Form::Json => {
                    let most = limits.max_json_depth;
                    let what =
                        format!("answered {code} with JSON nested deeper than {most} levels");
                    (what, dialect.fault_advice())
                }
                other => (
                    format!("answered {code} with {} instead of JSON", scrub(&other.name())),
                    dialect.base_url_advice(),
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
    let said = match form {
        Form::Json if wire::nesting(&body) <= limits.max_json_depth => dialect.read(&body),
        _ => Said::default(),
    };
    Err(refusal(core, outgoing, bearer, (status, &parts.headers, &form), said, scrub))
}

/// An answer whose status is no success.
fn refusal(
    core: &Core,
    outgoing: &Outgoing,
    bearer: bool,
    (status, headers, form): (StatusCode, &HeaderMap, &Form),
    said: Said,
    scrub: &dyn Fn(&str) -> String,
) -> Failed {
    let dialect = core.dialect();
    let clean =
        |text: &str, length| Some(printable(&scrub(text), length)).filter(|t| !t.is_empty());
    let entry = said.entry();
    let id = said.id.and_then(|id| match dialect.knows(&id) {
        true => Some(id),
        false => clean(&id, 64),
    });
    let error_type = said.error_type.and_then(|kind| match kind.is_known() {
        true => Some(kind),
        false => clean(kind.as_str(), 64).map(|kind| PlaidErrorType::from(&*kind)),
    });
    let message = said.message.and_then(|message| clean(&message, 200));
    let display_message = said.display_message.and_then(|message| clean(&message, 200));
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
        .and_then(|value| retry_after(&value, core.clock.now()))
        .max(said.retry_at);
    let unauthorized = status == StatusCode::UNAUTHORIZED;
    let kind = if unauthorized { Kind::Auth } else { Kind::Api };
    let request_id = header_text(headers, "x-request-id")
        .or(said.request_id)
        .map(|id| printable(&scrub(&id), 64))
        .filter(|id| !id.is_empty());
    let mut error = Error::new(kind, outgoing.operation, what)
        .advice(dialect.advice(status, id.as_deref(), bearer))
        .status_is(status)
        .retry_at_is(asked_for)
        .error_id_is(id)
        .request_id_is(request_id)
        .plaid_says(error_type, display_message, entry);
    if unauthorized && bearer {
        error = error.ending_token();
    }
    Failed { error, failure: Some(Failure::Status(code)), asked_for }
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
    /// Tells it from the headers. What only a tolerant reader takes is noted.
    fn of(headers: &HeaderMap, body: &[u8], mode: ReadMode, faults: &mut Vec<Fault>) -> Self {
        if body.is_empty() {
            return Self::Empty;
        }
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING) {
            let is_plain = encoding.as_bytes() == b"identity";
            let is_readable = is_plain || mode.is_tolerant() && is_unpacked(encoding);
            if !is_readable {
                return Self::Other("an encoding that was not asked for".into());
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

/// Whether a body begins as a JSON object does.
fn is_object(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    body.trim_ascii_start().first() == Some(&b'{')
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned();
    Some(text).filter(|text| !text.is_empty())
}
