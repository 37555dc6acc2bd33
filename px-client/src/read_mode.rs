//! The strictness of reading responses.

use crate::error::{Error, ErrorKind};
use px_core::Clock;
use px_types::{
    DecodeError, Fault, FaultSeverity,
    endpoint::codec::ResponseBody,
    tolerant::{Limits, WithFaults},
};
use std::time::Duration;

/// Maximum time for reading one response tolerantly. After it, nothing more is repaired.
const TOLERANT_READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The strictness with which a partner's responses are read.
///
/// Contract: `px.md` section 2.2.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadMode {
    /// Everything readable is read. The response's `faults()` lists what was repaired, ignored or set aside.
    #[default]
    Tolerant,
    /// Like [`Tolerant`](Self::Tolerant), but a response from which an element or a list was set aside is an
    /// error. For programs that treat missing elements as deleted.
    Complete,
    /// A response that deviates from the contract is an error. For tests.
    Strict,
}

impl ReadMode {
    /// Returns whether deviations of headers are accepted.
    pub(crate) fn is_tolerant(self) -> bool {
        self != Self::Strict
    }

    /// Reads a response. `transfer_faults` are the faults of its headers.
    pub(crate) fn read<R: ResponseBody>(
        self,
        operation: &'static str,
        bytes: &[u8],
        transfer_faults: Vec<Fault>,
        clock: &dyn Clock,
    ) -> Result<R, ReadFailure> {
        if self == Self::Strict {
            return R::decode(bytes).map_err(ReadFailure::Decode);
        }
        let begin = clock.elapsed();
        let out_of_time = || clock.elapsed().saturating_sub(begin) > TOLERANT_READ_TIMEOUT;
        let limits = Limits { out_of_time: &out_of_time, ..Limits::default() };
        let WithFaults { mut message, faults, .. } =
            R::decode_tolerant(bytes, &limits).map_err(ReadFailure::Decode)?;
        if self == Self::Complete
            && let Some(fault) = faults.iter().find(|f| f.severity() == FaultSeverity::SetAside)
        {
            return Err(ReadFailure::Incomplete(fault.to_string()));
        }
        for fault in faults.iter().chain(&transfer_faults) {
            tracing::debug!(operation, rule = fault.rule().id(), "{fault}");
        }
        for fault in transfer_faults {
            message.note_fault(fault);
        }
        Ok(message)
    }
}

/// The reason why a response was not read.
pub(crate) enum ReadFailure {
    Decode(DecodeError),
    /// Something was set aside; the text names the fault.
    Incomplete(String),
}

impl ReadFailure {
    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        let what = match self {
            Self::Decode(error) => format!("the response does not match the contract, {error}"),
            Self::Incomplete(fault) => format!("the response is incomplete: {fault}"),
        };
        Error::new(ErrorKind::Decode, operation, what)
    }
}
