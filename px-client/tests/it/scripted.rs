//! A partner in this process that serves rows by cursor or offset.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::Full;
use px_client::{PartnerClient, RetryPolicy};
use px_core::{Clock as _, InProcessTransport, SystemClock};
use px_types::{
    AccessToken, AccountId, Amount, Date, TransactionId, Unit, UserId,
    endpoint::codec::{self, ResponseBody as _},
    model::{account::AccountType, transaction::Transaction},
    partner::{ListTransactions, Position, TransactionsResponse},
};
use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

pub(crate) fn day(n: u64) -> Date {
    Date::from_ymd(2022, 1, 1).unwrap().plus_days(n)
}

pub(crate) fn row(id: usize, date: Date) -> Transaction {
    let mut row = Transaction::new(
        TransactionId::new(format!("t{id:08}")).unwrap(),
        AccountId::new("a").unwrap(),
        "12.340".parse::<Amount>().unwrap(),
        date,
        AccountType::Depository,
        Unit::iso("USD").unwrap(),
    );
    row.settled_at = Some(date.into());
    row
}

pub(crate) fn user_id() -> UserId {
    UserId::new("u").unwrap()
}

/// A function of the number of the request and the rows.
type Hook = dyn Fn(usize, &Mutex<Vec<Transaction>>) + Send + Sync;

/// The settings of the partner.
#[derive(Clone)]
pub(crate) struct Bank {
    pub(crate) rows: Arc<Mutex<Vec<Transaction>>>,
    pub(crate) cursors: bool,
    pub(crate) longest: Option<u64>,
    pub(crate) ignore_dates: bool,
    pub(crate) delay: Duration,
    pub(crate) requests: Arc<AtomicUsize>,
    pub(crate) at_once: Arc<AtomicUsize>,
    pub(crate) most_at_once: Arc<AtomicUsize>,
    /// Responds with 429 while more than this number of requests are served.
    pub(crate) bears: usize,
    /// Runs before each response.
    pub(crate) hook: Arc<Hook>,
}

impl Bank {
    /// Returns that many rows, spread over days.
    pub(crate) fn new(count: usize, days: u64) -> Self {
        let rows = (0..count).map(|i| row(i, day(i as u64 * days / count.max(1) as u64)));
        Self {
            rows: Arc::new(Mutex::new(rows.collect())),
            cursors: true,
            longest: None,
            ignore_dates: false,
            delay: Duration::ZERO,
            requests: Arc::default(),
            at_once: Arc::default(),
            most_at_once: Arc::default(),
            bears: usize::MAX,
            hook: Arc::new(|_, _| {}),
        }
    }

    pub(crate) fn client(&self) -> PartnerClient {
        let clock = SystemClock::starting_at(DateTime::<Utc>::UNIX_EPOCH);
        PartnerClient::builder("http://bank.test", InProcessTransport::new(self.clone()))
            .token(AccessToken::new("t"))
            .clock(Arc::new(clock))
            .retry(RetryPolicy::default())
            .random(Arc::new(px_core::SeededRandom::new(1)))
            .build()
            .unwrap()
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn respond(&self, request: &Request<Full<Bytes>>) -> Response<Full<Bytes>> {
        let refuse = |status: u16, id: &str| {
            let body = format!(r#"{{"error":{{"id":"{id}","message":"m"}}}}"#);
            Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .body(Full::from(body))
                .unwrap()
        };
        if self.at_once.load(Ordering::SeqCst) > self.bears {
            return refuse(429, "too_many_requests");
        }
        let query = request.uri().query();
        let requested: ListTransactions = codec::from_http(&["u".into()], query, b"").unwrap();
        let query = requested.query;
        let days = query.end_date.days_since(query.start_date) as u64 + 1;
        if self.longest.is_some_and(|longest| days > longest) {
            return refuse(400, "window_too_long");
        }
        let window = query.start_date..=query.end_date;
        let rows = self.rows.lock().unwrap();
        let mut found: Vec<_> =
            rows.iter().filter(|row| self.ignore_dates || window.contains(&row.date())).collect();
        found.sort_by(|a, b| b.date().cmp(&a.date()).then(a.id.cmp(&b.id)));
        let from = match &query.position {
            Position::Offset(offset) => *offset as usize,
            Position::Cursor(cursor) => cursor.parse().unwrap(),
        };
        let page: Vec<_> =
            found.iter().skip(from).take(query.limit as usize).copied().cloned().collect();
        let end = from + page.len();
        let mut response = TransactionsResponse::new(found.len() as u64, page);
        if self.cursors && end < found.len() {
            response.next_cursor = Some(end.to_string());
        }
        Response::builder()
            .header("content-type", "application/json")
            .body(Full::from(response.encode()))
            .unwrap()
    }
}

impl tower_service::Service<Request<Full<Bytes>>> for Bank {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let bank = self.clone();
        Box::pin(async move {
            let number = bank.requests.fetch_add(1, Ordering::SeqCst);
            let _in_flight = InFlight::new(&bank);
            (bank.hook)(number, &bank.rows);
            let response = bank.respond(&request);
            SystemClock::new().sleep(bank.delay).await;
            Ok(response)
        })
    }
}

/// A request that the bank is processing, counted until it ends or is aborted.
struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(bank: &Bank) -> Self {
        let now = bank.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        bank.most_at_once.fetch_max(now, Ordering::SeqCst);
        Self(Arc::clone(&bank.at_once))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
