//! Group commit: concurrent commits share a transaction.
//!
//! A commit returns once it is on the disk. That takes some milliseconds, regardless of the amount
//! of data. Jobs that wait for the writer are therefore stored together: one task takes them from
//! the queue into its transaction, and all of them return when it is stored. A job that fails is
//! rolled back alone and does not affect the others.
//!
//! A caller may stop waiting. Its job may be stored nevertheless, as with any lost response.

use super::{
    BEGIN_DURABLE,
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

/// Maximum number of jobs in one transaction.
const MAX_JOBS: usize = 32;

/// The amount of data that a job writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobSize {
    /// The job may follow others in their transaction, where SQLite keeps a copy of each changed
    /// page until the job ends.
    Small,
    /// The job begins a transaction of its own.
    Large,
}

/// The queue of jobs that wait for the writer.
#[derive(Debug, Default)]
pub(super) struct WriteQueue(Mutex<QueueState>);

#[derive(Debug, Default)]
struct QueueState {
    jobs: VecDeque<Box<dyn Job>>,
    /// Whether a task is processing the queue.
    is_running: bool,
}

impl WriteQueue {
    /// Runs a job in a transaction. Returns when it is on the disk.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        writer: &SqlitePool,
        size: JobSize,
        work: impl for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let task = Task { work: Some(work), size, done: None, sender };
        let starts_runner = {
            let mut state = self.state();
            state.jobs.push_back(Box::new(task));
            !std::mem::replace(&mut state.is_running, true)
        };
        if starts_runner {
            // The task is independent of its caller: the caller may stop waiting, but other callers
            // do not.
            let runner = QueueRunner { queue: Arc::clone(self), ended: false };
            tokio::spawn(runner.run_all(writer.clone()));
        }
        receiver.await.unwrap_or_else(|_| {
            let what = "the database job ended without a result";
            Err(StoreError::new(StoreErrorKind::Unavailable, what).into())
        })
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that processes the queue until it is empty. If it is dropped with its runtime, the next
/// job starts another one.
struct QueueRunner {
    queue: Arc<WriteQueue>,
    ended: bool,
}

impl Drop for QueueRunner {
    fn drop(&mut self) {
        if !self.ended {
            self.queue.state().is_running = false;
        }
    }
}

impl QueueRunner {
    async fn run_all(mut self, writer: SqlitePool) {
        while let Some(first) = self.next_job() {
            let mut jobs = vec![first];
            let stored = AssertUnwindSafe(self.store(&writer, &mut jobs)).catch_unwind().await;
            // After a panic, the jobs are dropped together with the senders of their results.
            let Ok(stored) = stored else { continue };
            let failed = stored.err().map(Arc::new);
            for job in jobs {
                job.settle(failed.as_ref());
            }
        }
    }

    /// Takes the next job. If there is none, the task ends, and the next job starts another one.
    fn next_job(&mut self) -> Option<Box<dyn Job>> {
        let mut state = self.queue.state();
        let first = state.jobs.pop_front();
        if first.is_none() {
            state.is_running = false;
            self.ended = true;
        }
        first
    }

    /// Runs as many jobs as are waiting in one transaction. If it fails, none of them is stored.
    async fn store(
        &self,
        writer: &SqlitePool,
        jobs: &mut Vec<Box<dyn Job>>,
    ) -> Result<(), sqlx::Error> {
        let mut tx = writer.begin_with(BEGIN_DURABLE).await?;
        for job in jobs.iter_mut() {
            if !job.run(&mut tx).await {
                return tx.rollback().await;
            }
        }
        while jobs.len() < MAX_JOBS
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
        let mut state = self.queue.state();
        state.jobs.pop_front_if(|job| job.size() == JobSize::Small)
    }
}

/// A job with any type of result.
#[async_trait]
trait Job: Send + std::fmt::Debug {
    fn size(&self) -> JobSize;

    /// Runs the job. Returns `false` if it failed and must be rolled back.
    async fn run(&mut self, connection: &mut SqliteConnection) -> bool;

    /// Sends the result, once the transaction has been stored or has failed.
    fn settle(self: Box<Self>, failed: Option<&Arc<sqlx::Error>>);
}

struct Task<T, W> {
    work: Option<W>,
    size: JobSize,
    done: Option<Result<T>>,
    sender: oneshot::Sender<Result<T>>,
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
    fn size(&self) -> JobSize {
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
        let result = match (self.done, failed) {
            (Some(Err(own)), _) => Err(own),
            (Some(done), None) => done,
            (_, failed) => Err(not_stored(failed)),
        };
        // The caller may have stopped waiting.
        let _ = self.sender.send(result);
    }
}

fn not_stored(why: Option<&Arc<sqlx::Error>>) -> Failure {
    let what = "the database file cannot be used; check that the disk is not full and that no \
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

    async fn setup() -> (SqlitePool, Arc<WriteQueue>) {
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
        let (pool, queue) = setup().await;
        // Each number occurs twice: the second insert fails, wherever it is in a transaction.
        let writes = (0..200).map(|n| {
            let size = if n % 7 == 0 { JobSize::Large } else { JobSize::Small };
            queue.write(&pool, size, move |tx| put(tx, n / 2).boxed())
        });
        let results = join_all(writes).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 100);
        assert_eq!(all(&pool).await, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_failure_halfway_leaves_nothing_behind() {
        let (pool, queue) = setup().await;
        let half = |n| {
            queue.write(&pool, JobSize::Small, move |tx| {
                let work = async move {
                    put(tx, n).await?;
                    put(tx, 0).await
                };
                work.boxed()
            })
        };
        let (zero, first, second) = tokio::join!(
            queue.write(&pool, JobSize::Small, |tx| put(tx, 0).boxed()),
            half(1),
            half(2)
        );
        assert!(zero.is_ok() && first.is_err() && second.is_err());
        assert_eq!(all(&pool).await, [0]);
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_or_panics_delays_no_other() {
        let (pool, queue) = setup().await;
        let given_up = queue.write(&pool, JobSize::Small, |tx| put(tx, 1).boxed());
        assert!(given_up.now_or_never().is_none(), "the write is not on the disk yet");
        let panicked = queue.write(&pool, JobSize::Small, |_| {
            async { panic!("a program error") as Result<()> }.boxed()
        });
        let (panicked, other) =
            tokio::join!(panicked, queue.write(&pool, JobSize::Small, |tx| put(tx, 2).boxed()));
        // A job that shared a transaction with a panicking one must be repeated.
        assert!(panicked.is_err());
        if other.is_err() {
            queue.write(&pool, JobSize::Small, |tx| put(tx, 2).boxed()).await.unwrap();
        }
        queue.write(&pool, JobSize::Small, |tx| put(tx, 3).boxed()).await.unwrap();
        assert!(all(&pool).await.ends_with(&[2, 3]));
    }

    #[test]
    fn a_runtime_that_ends_takes_no_line_with_it() {
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let queue = Arc::<WriteQueue>::default();
        let first = runtime();
        let (pool, _) = first.block_on(setup());
        let write = queue.write(&pool, JobSize::Small, |tx| put(tx, 1).boxed());
        first.block_on(async { write.now_or_never() });
        drop((first, pool));
        runtime().block_on(async {
            let (pool, _) = setup().await;
            queue.write(&pool, JobSize::Small, |tx| put(tx, 2).boxed()).await.unwrap();
            assert!(all(&pool).await.contains(&2));
        });
    }
}
