//! Commits that share a transaction.
//!
//! A commit is answered when it is on the disk, and a disk takes some milliseconds for that,
//! however much there is. So what waits for the writer goes in together: one of the waiting leads,
//! takes the others into its transaction, and all are answered when that is stored. One that fails
//! is taken back alone and does not concern the others.
//!
//! Whoever waits may give up; what it asked for may be stored all the same, as with any answer
//! that is lost.

use super::{
    LASTING,
    row::{Failure, Result},
};
use crate::store::{StoreError, StoreErrorKind};
use async_trait::async_trait;
use futures_util::{FutureExt as _, future::BoxFuture};
use sqlx::{Connection as _, SqliteConnection, SqlitePool};
use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// So many go in together at most.
const MOST: usize = 32;

/// How much a piece of work writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// It may follow others in their transaction, where SQLite keeps a copy of each page that it
    /// changes until it ended.
    Small,
    /// It begins a transaction of its own.
    Large,
}

/// The line before the writer.
#[derive(Debug, Default)]
pub(super) struct Line(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Box<dyn Job>>,
    /// Whether someone leads.
    led: bool,
}

impl Line {
    /// Does a piece of work in a transaction, and answers when it is on the disk.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        writer: &SqlitePool,
        size: Size,
        work: impl for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let task = Task { work: Some(work), size, done: None, answer };
        let leads = {
            let mut waiting = self.waiting();
            waiting.jobs.push_back(Box::new(task));
            !std::mem::replace(&mut waiting.led, true)
        };
        if leads {
            // A task of its own: whoever began it may give up waiting, the others do not.
            let lead = Lead { line: Arc::clone(self), ended: false };
            tokio::spawn(lead.work_off(writer.clone()));
        }
        answered.await.unwrap_or_else(|_| {
            let what = "the work on the database ended before it was done";
            Err(StoreError::new(StoreErrorKind::Unavailable, what).into())
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever leads, until nobody waits. One that is cut off, with its runtime, makes room for another.
struct Lead {
    line: Arc<Line>,
    ended: bool,
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.ended {
            self.line.waiting().led = false;
        }
    }
}

impl Lead {
    async fn work_off(mut self, writer: SqlitePool) {
        while let Some(first) = self.first() {
            let mut jobs = vec![first];
            let stored = AssertUnwindSafe(self.store(&writer, &mut jobs)).catch_unwind().await;
            // After a panic the answers are dropped with the jobs.
            let Ok(stored) = stored else { continue };
            let failed = stored.err().map(Arc::new);
            for job in jobs {
                job.settle(failed.as_ref());
            }
        }
    }

    /// The next that waits. If there is none, whoever comes now leads.
    fn first(&mut self) -> Option<Box<dyn Job>> {
        let mut waiting = self.line.waiting();
        let first = waiting.jobs.pop_front();
        if first.is_none() {
            waiting.led = false;
            self.ended = true;
        }
        first
    }

    /// One transaction of as many as wait. An error: nothing of it is stored.
    async fn store(
        &self,
        writer: &SqlitePool,
        jobs: &mut Vec<Box<dyn Job>>,
    ) -> Result<(), sqlx::Error> {
        let mut tx = writer.begin_with(LASTING).await?;
        for job in jobs.iter_mut() {
            if !job.run(&mut tx).await {
                return tx.rollback().await;
            }
        }
        while jobs.len() < MOST
            && let Some(mut job) = self.next_small()
        {
            let mut part = tx.begin().await?;
            let done = job.run(&mut part).await;
            jobs.push(job);
            match done {
                true => part.commit().await?,
                false => part.rollback().await?,
            }
        }
        tx.commit().await
    }

    fn next_small(&self) -> Option<Box<dyn Job>> {
        let mut waiting = self.line.waiting();
        waiting.jobs.pop_front_if(|job| job.size() == Size::Small)
    }
}

/// A piece of work, whatever it answers.
#[async_trait]
trait Job: Send + std::fmt::Debug {
    fn size(&self) -> Size;

    /// Does it. `false`: it failed, and is to be taken back.
    async fn run(&mut self, connection: &mut SqliteConnection) -> bool;

    /// Answers, once its transaction is stored or could not be.
    fn settle(self: Box<Self>, failed: Option<&Arc<sqlx::Error>>);
}

struct Task<T, W> {
    work: Option<W>,
    size: Size,
    done: Option<Result<T>>,
    answer: oneshot::Sender<Result<T>>,
}

impl<T, W> std::fmt::Debug for Task<T, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Task").field(&self.size).finish()
    }
}

#[async_trait]
impl<T, W> Job for Task<T, W>
where
    T: Send + 'static,
    W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send,
{
    fn size(&self) -> Size {
        self.size
    }

    async fn run(&mut self, connection: &mut SqliteConnection) -> bool {
        let Some(work) = self.work.take() else { return false };
        let done = work(connection).await;
        let good = done.is_ok();
        self.done = Some(done);
        good
    }

    fn settle(self: Box<Self>, failed: Option<&Arc<sqlx::Error>>) {
        let answer = match (self.done, failed) {
            (Some(Err(own)), _) => Err(own),
            (Some(done), None) => done,
            (_, failed) => Err(not_stored(failed)),
        };
        // Nobody may be waiting any more.
        let _ = self.answer.send(answer);
    }
}

fn not_stored(why: Option<&Arc<sqlx::Error>>) -> Failure {
    let what = "the database file cannot be used now; see that the disk has room and that no \
                other program locks it";
    let error = StoreError::new(StoreErrorKind::Unavailable, what);
    match why {
        Some(why) => error.caused_by(Arc::clone(why)).into(),
        None => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use sqlx::{Row as _, sqlite::SqlitePoolOptions};

    async fn place() -> (SqlitePool, Arc<Line>) {
        let pool = SqlitePoolOptions::new().max_connections(1).idle_timeout(None);
        let pool = pool.connect("sqlite::memory:").await.unwrap();
        sqlx::raw_sql("CREATE TABLE numbers (n INTEGER PRIMARY KEY)").execute(&pool).await.unwrap();
        (pool, Arc::default())
    }

    async fn put(tx: &mut SqliteConnection, n: i64) -> Result<i64> {
        sqlx::query("INSERT INTO numbers VALUES (?1)").bind(n).execute(tx).await?;
        Ok(n)
    }

    async fn all(pool: &SqlitePool) -> Vec<i64> {
        let rows = sqlx::query("SELECT n FROM numbers ORDER BY n").fetch_all(pool).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    #[tokio::test]
    async fn one_that_fails_takes_nothing_from_the_others() {
        let (pool, line) = place().await;
        // Each number comes twice: the second one of it fails, wherever in a transaction it comes.
        let writes = (0..200).map(|n| {
            let size = if n % 7 == 0 { Size::Large } else { Size::Small };
            line.write(&pool, size, move |tx| put(tx, n / 2).boxed())
        });
        let answers = join_all(writes).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 100);
        assert_eq!(all(&pool).await, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_failure_halfway_leaves_nothing_behind() {
        let (pool, line) = place().await;
        let half = |n| {
            line.write(&pool, Size::Small, move |tx| {
                let work = async move {
                    put(tx, n).await?;
                    put(tx, 0).await
                };
                work.boxed()
            })
        };
        let (zero, first, second) =
            tokio::join!(line.write(&pool, Size::Small, |tx| put(tx, 0).boxed()), half(1), half(2));
        assert!(zero.is_ok() && first.is_err() && second.is_err());
        assert_eq!(all(&pool).await, [0]);
    }

    #[tokio::test]
    async fn whoever_gives_up_or_panics_holds_up_nobody() {
        let (pool, line) = place().await;
        let given_up = line.write(&pool, Size::Small, |tx| put(tx, 1).boxed());
        assert!(given_up.now_or_never().is_none(), "it waits for the disk");
        let panicked = line.write(&pool, Size::Small, |_| {
            async { panic!("a fault of this program") as Result<()> }.boxed()
        });
        let (panicked, other) =
            tokio::join!(panicked, line.write(&pool, Size::Small, |tx| put(tx, 2).boxed()));
        // Who shared a transaction with a panic has to come again.
        assert!(panicked.is_err());
        if other.is_err() {
            line.write(&pool, Size::Small, |tx| put(tx, 2).boxed()).await.unwrap();
        }
        line.write(&pool, Size::Small, |tx| put(tx, 3).boxed()).await.unwrap();
        assert!(all(&pool).await.ends_with(&[2, 3]));
    }

    #[test]
    fn a_runtime_that_ends_takes_no_line_with_it() {
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let line = Arc::<Line>::default();
        let first = runtime();
        let (pool, _) = first.block_on(place());
        let write = line.write(&pool, Size::Small, |tx| put(tx, 1).boxed());
        first.block_on(async { write.now_or_never() });
        drop((first, pool));
        runtime().block_on(async {
            let (pool, _) = place().await;
            line.write(&pool, Size::Small, |tx| put(tx, 2).boxed()).await.unwrap();
            assert!(all(&pool).await.contains(&2));
        });
    }
}
