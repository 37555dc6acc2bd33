//! A fast partner in this process: every user has the same rows, and its responses are ready as
//! text.

use crate::{Failure, bank::Bank, data};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{Request, Response};
use px_client::PartnerClient;
use px_core::{HttpLimits, HttpTransport, SystemClock, TransportError, TransportErrorKind};
use px_items::partners::{FixedPartners, Partner};
use px_types::{
    Date, InstitutionId, model::transaction::Transaction, partner::TransactionsResponse,
};
use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The only institution.
pub(crate) const INSTITUTION: &str = "bank";

/// Returns a time some hours after the last transaction, on the next day.
pub(crate) fn now() -> Result<DateTime<Utc>, Failure> {
    Ok(format!("{}T09:00:00Z", data::end().plus_days(1)).parse()?)
}

/// Returns the common clock, which started at [`now`] on its first use.
pub(crate) fn clock() -> Result<Arc<SystemClock>, Failure> {
    static CLOCK: OnceLock<SystemClock> = OnceLock::new();
    let now = now()?;
    Ok(Arc::new(*CLOCK.get_or_init(|| SystemClock::starting_at(now))))
}

/// A partner with prepared responses.
#[derive(Debug)]
pub(crate) struct FastPartner {
    user: Bytes,
    rows: Vec<Transaction>,
    /// The number of newest rows that change with each turn.
    changing: usize,
    turn: AtomicU64,
    /// The response to the latest request, because most requests are equal.
    ready: Mutex<Option<(PageRequest, Bytes)>>,
}

/// A request for a page of a window in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PageRequest {
    start: Date,
    end: Date,
    offset: usize,
    limit: usize,
    turn: u64,
}

impl PageRequest {
    fn read(query: &str, turn: u64) -> Option<Self> {
        let field = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
        };
        Some(Self {
            start: field("start_date")?.parse().ok()?,
            end: field("end_date")?.parse().ok()?,
            offset: field("offset").map_or(Some(0), |text| text.parse().ok())?,
            limit: field("limit").map_or(Some(100), |text| text.parse().ok())?,
            turn,
        })
    }
}

impl FastPartner {
    /// Creates a partner with rows, newest first. The first `changing` rows change with each turn.
    pub(crate) fn new(rows: Vec<Transaction>, changing: usize) -> Result<Arc<Self>, Failure> {
        let user = serde_json::to_vec(&Bank::new(0).user())?.into();
        let (turn, ready) = (AtomicU64::new(0), Mutex::default());
        Ok(Arc::new(Self { user, rows, changing, turn, ready }))
    }

    /// Starts the next turn, with changed rows.
    pub(crate) fn next_turn(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the changing rows in the current turn.
    pub(crate) fn changed(&self) -> Vec<Transaction> {
        self.in_current_turn(self.rows.iter().take(self.changing).cloned().collect())
    }

    fn in_current_turn(&self, mut rows: Vec<Transaction>) -> Vec<Transaction> {
        let turn = self.turn.load(Ordering::Relaxed);
        for row in &mut rows {
            row.description = row.description.take().map(|text| format!("{text} {turn}"));
        }
        rows
    }

    fn page(&self, request: PageRequest) -> Result<Bytes, serde_json::Error> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, bytes)) = &*ready
            && *of == request
        {
            return Ok(bytes.clone());
        }
        let first = self.rows.partition_point(|row| row.date() > request.end);
        let after = self.rows.partition_point(|row| row.date() >= request.start);
        let begin = (first + request.offset).min(after);
        let end = begin.saturating_add(request.limit).min(after);
        let changing = self.changing.clamp(begin, end);
        let mut rows = self.in_current_turn(self.rows[begin..changing].to_vec());
        rows.extend_from_slice(&self.rows[changing..end]);
        let response = TransactionsResponse::new((after - first) as u64, rows);
        let bytes = Bytes::from(serde_json::to_vec(&response)?);
        *ready = Some((request, bytes.clone()));
        Ok(bytes)
    }
}

#[async_trait]
impl HttpTransport for FastPartner {
    async fn send(
        &self,
        http_request: Request<Bytes>,
        _: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        let failed = |what: &str| TransportError::new(TransportErrorKind::Other, what.to_owned());
        let body = match http_request.uri().query() {
            None => self.user.clone(),
            Some(query) => {
                let request = PageRequest::read(query, self.turn.load(Ordering::Relaxed));
                let request = request.ok_or_else(|| failed("no window"))?;
                self.page(request).map_err(|_| failed("no JSON"))?
            }
        };
        let response = Response::builder().header("content-type", "application/json").body(body);
        response.map_err(|_| failed("no response"))
    }
}

/// Returns partners with the only one at this URL, without rate or concurrency limits.
pub(crate) fn partners(
    base_url: &str,
    transport: impl HttpTransport + 'static,
) -> Result<(InstitutionId, FixedPartners), Failure> {
    let client = PartnerClient::builder(base_url, transport).clock(clock()?).build()?;
    let mut partner = Partner::new(client);
    (partner.budget.per_second, partner.budget.at_once) = (u32::MAX, 1000);
    let id = InstitutionId::new(INSTITUTION)?;
    Ok((id.clone(), FixedPartners::new().with(id, partner)))
}

/// Time limit of one turn, longer than any measurement.
pub(crate) const TURN_TIMEOUT: Duration = Duration::from_secs(600);
