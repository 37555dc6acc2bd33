//! How strictly responses are read.

use crate::error::{Error, Kind};
use px_core::Clock;
use px_types::{
    DecodeError, Fault, FaultSeverity,
    endpoint::codec::Reply,
    tolerant::{Limits, Tolerated},
};
use std::time::Duration;

/// Time for reading one response tolerantly; after it, nothing more is repaired.
const TOLERANT_READ_TIMEOUT: Duration = Duration::from_secs(2);

/// How strictly the responses of a partner are read.
///
/// Contract: `px.md` section 2.2.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadMode {
    /// Readable elements are read; the response's `faults()` lists what was repaired, ignored or set
    /// aside.
    #[default]
    Tolerant,
    /// Like [`Tolerant`](Self::Tolerant), but a response that lacks an element or a list is an
    /// error. For programs that take what is missing for gone.
    Complete,
    /// A response that deviates from the contract is an error. For tests.
    Strict,
}

impl ReadMode {
    /// Whether deviations of headers are taken.
    pub(crate) fn is_tolerant(self) -> bool {
        self != Self::Strict
    }

    /// Reads a response. `noted` are the faults of its transfer.
    pub(crate) fn read<R: Reply>(
        self,
        operation: &'static str,
        bytes: &[u8],
        noted: Vec<Fault>,
        clock: &dyn Clock,
    ) -> Result<R, Unread> {
        if self == Self::Strict {
            return R::decode(bytes).map_err(Unread::Decode);
        }
        let begin = clock.elapsed();
        let out_of_time = || clock.elapsed().saturating_sub(begin) > TOLERANT_READ_TIMEOUT;
        let limits = Limits { out_of_time: &out_of_time, ..Limits::default() };
        let Tolerated { mut message, faults, .. } =
            R::decode_tolerant(bytes, &limits).map_err(Unread::Decode)?;
        if self == Self::Complete
            && let Some(fault) = faults.iter().find(|f| f.severity() == FaultSeverity::SetAside)
        {
            return Err(Unread::Incomplete(fault.to_string()));
        }
        for fault in faults.iter().chain(&noted) {
            tracing::debug!(operation, rule = fault.rule().id(), "{fault}");
        }
        for fault in noted {
            message.note_fault(fault);
        }
        Ok(message)
    }
}

/// Why a response was not read.
pub(crate) enum Unread {
    Decode(DecodeError),
    /// It lacks something; the text names the fault.
    Incomplete(String),
}

impl Unread {
    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        let what = match self {
            Self::Decode(error) => format!("the answer is not what the contract says, {error}"),
            Self::Incomplete(fault) => format!("the answer is not complete: {fault}"),
        };
        Error::new(Kind::Decode, operation, what)
    }
}
