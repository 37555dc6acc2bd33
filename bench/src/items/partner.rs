//! A partner in process that costs next to nothing: every user has the same rows, and its answers
//! are ready as text.

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

/// The one institution.
pub(crate) const INSTITUTION: &str = "bank";

/// Some hours after the last transaction was made, on the day after it.
pub(crate) fn now() -> Result<DateTime<Utc>, Failure> {
    Ok(format!("{}T09:00:00Z", data::end().plus_days(1)).parse()?)
}

/// The clock of everyone: it stood at that moment when it was first asked for.
pub(crate) fn clock() -> Result<Arc<SystemClock>, Failure> {
    static CLOCK: OnceLock<SystemClock> = OnceLock::new();
    let now = now()?;
    Ok(Arc::new(*CLOCK.get_or_init(|| SystemClock::starting_at(now))))
}

/// The partner.
#[derive(Debug)]
pub(crate) struct Shelf {
    user: Bytes,
    rows: Vec<Transaction>,
    /// So many of the newest ones change with each turn.
    changing: usize,
    turn: AtomicU64,
    /// The answer of the last window that was asked for, and its turn: most ask for the same.
    ready: Mutex<Option<(Asked, Bytes)>>,
}

/// A page of a window in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    start: Date,
    end: Date,
    offset: usize,
    limit: usize,
    turn: u64,
}

impl Asked {
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

impl Shelf {
    /// Rows, newest first, of which the first `changing` are others with each turn.
    pub(crate) fn new(rows: Vec<Transaction>, changing: usize) -> Result<Arc<Self>, Failure> {
        let user = serde_json::to_vec(&Bank::new(0).user())?.into();
        let (turn, ready) = (AtomicU64::new(0), Mutex::default());
        Ok(Arc::new(Self { user, rows, changing, turn, ready }))
    }

    /// The rows that change are others from now on.
    pub(crate) fn next_turn(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// The rows that change, as they are now.
    pub(crate) fn changed(&self) -> Vec<Transaction> {
        self.as_it_is(self.rows.iter().take(self.changing).cloned().collect())
    }

    fn as_it_is(&self, mut rows: Vec<Transaction>) -> Vec<Transaction> {
        let turn = self.turn.load(Ordering::Relaxed);
        for row in &mut rows {
            row.description = row.description.take().map(|text| format!("{text} {turn}"));
        }
        rows
    }

    fn page(&self, asked: Asked) -> Result<Bytes, serde_json::Error> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, bytes)) = &*ready
            && *of == asked
        {
            return Ok(bytes.clone());
        }
        let first = self.rows.partition_point(|row| row.date() > asked.end);
        let behind = self.rows.partition_point(|row| row.date() >= asked.start);
        let begin = (first + asked.offset).min(behind);
        let end = begin.saturating_add(asked.limit).min(behind);
        let changing = self.changing.clamp(begin, end);
        let mut rows = self.as_it_is(self.rows[begin..changing].to_vec());
        rows.extend_from_slice(&self.rows[changing..end]);
        let answer = TransactionsResponse::new((behind - first) as u64, rows);
        let bytes = Bytes::from(serde_json::to_vec(&answer)?);
        *ready = Some((asked, bytes.clone()));
        Ok(bytes)
    }
}

#[async_trait]
impl HttpTransport for Shelf {
    async fn send(
        &self,
        request: Request<Bytes>,
        _: &HttpLimits,
    ) -> Result<Response<Bytes>, TransportError> {
        let failed = |what: &str| TransportError::new(TransportErrorKind::Other, what.to_owned());
        let body = match request.uri().query() {
            None => self.user.clone(),
            Some(query) => {
                let asked = Asked::read(query, self.turn.load(Ordering::Relaxed));
                let asked = asked.ok_or_else(|| failed("no window"))?;
                self.page(asked).map_err(|_| failed("no JSON"))?
            }
        };
        let answer = Response::builder().header("content-type", "application/json").body(body);
        answer.map_err(|_| failed("no answer"))
    }
}

/// Partners of which the one is called that way, as much as anyone likes.
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

/// Longer than anything that is measured.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);
