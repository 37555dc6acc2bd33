//! The records of the connected-apps page, in the bank's database.
//!
//! The notifications to Plaid are in [`notifications`](super::notifications). A commit survives a
//! crash of the program. The database is not synced at each commit, so a power failure may lose the
//! last ones.

use super::{Ledger, LedgerError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use px_client::portal::{
    Disconnection, DisconnectionState, Notice, NoticeKind, NoticeOutcome, PortalStore,
};
use px_types::{ApplicationId, ItemAccessToken, UserId, model::application::ConnectedApplication};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::SqliteConnection;
use std::error::Error as StdError;

type BoxError = Box<dyn StdError + Send + Sync>;
type StoreResult<T> = Result<T, BoxError>;

/// The store of the connected-apps page, in the bank's database.
#[derive(Clone, Debug)]
pub struct SqlitePortal(Ledger);

impl SqlitePortal {
    /// Creates the store of a ledger.
    #[must_use]
    pub fn new(ledger: Ledger) -> Self {
        Self(ledger)
    }

    async fn tx(&self) -> StoreResult<sqlx::Transaction<'static, sqlx::Sqlite>> {
        Ok(self.0.write().await?)
    }
}

impl Ledger {
    /// Stores the time until which a customer who was sent to Plaid's page can consent there.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn note_pending_link(&self, user: &UserId, ends: DateTime<Utc>) -> super::Result<()> {
        let sql = "INSERT INTO pending_links (user_id, ends) VALUES (?, ?)
            ON CONFLICT (user_id) DO UPDATE SET ends = excluded.ends";
        let query = sqlx::query(sql).bind(user.as_str()).bind(ends.timestamp_millis());
        query.execute(self.pool()).await?;
        Ok(())
    }

    /// Deletes the stored time of a customer who was sent to Plaid's page.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn forget_pending_link(&self, user: &UserId) -> super::Result<()> {
        let query = sqlx::query("DELETE FROM pending_links WHERE user_id = ?").bind(user.as_str());
        query.execute(self.pool()).await?;
        Ok(())
    }

    /// Returns at most 100 customers with expired link tokens.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn ended_links(&self, now: DateTime<Utc>) -> super::Result<Vec<UserId>> {
        let sql = "SELECT user_id FROM pending_links WHERE ends <= ? ORDER BY ends LIMIT 100";
        let query = sqlx::query_scalar(sql).bind(now.timestamp_millis());
        let ids: Vec<String> = query.fetch_all(self.pool()).await?;
        ids.into_iter().map(|id| UserId::new(id).map_err(|_| LedgerError::NotABank)).collect()
    }

    /// Opens the sealed token of a customer's Item.
    pub(super) fn unseal_token(
        &self,
        user: &UserId,
        sealed: &str,
    ) -> super::Result<ItemAccessToken> {
        self.unseal(sealed, &token_row(user)).map(ItemAccessToken::new)
    }
}

/// Returns the row name to which a customer's sealed token is bound.
fn token_row(user: &UserId) -> String {
    format!("the token of {user}")
}

/// Decodes a row's body. The error does not contain customer data.
fn read<T: DeserializeOwned>(body: &str) -> StoreResult<T> {
    serde_json::from_str(body)
        .map_err(|error| format!("a record cannot be read: {:?}", error.classify()).into())
}

fn read_all<T: DeserializeOwned>(bodies: &[String]) -> StoreResult<Vec<T>> {
    bodies.iter().map(|body| read(body)).collect()
}

fn text<T: Serialize>(record: &T) -> StoreResult<String> {
    Ok(serde_json::to_string(record)?)
}

#[async_trait]
impl PortalStore for SqlitePortal {
    async fn token(&self, user: &UserId) -> StoreResult<Option<ItemAccessToken>> {
        let sql = "SELECT token FROM plaid_tokens WHERE user_id = ?";
        let found: Option<String> =
            sqlx::query_scalar(sql).bind(user.as_str()).fetch_optional(self.0.pool()).await?;
        Ok(found.map(|sealed| self.0.unseal_token(user, &sealed)).transpose()?)
    }

    async fn save_token(
        &self,
        user: &UserId,
        token: &ItemAccessToken,
    ) -> StoreResult<ItemAccessToken> {
        let sql = "INSERT INTO plaid_tokens (user_id, token) VALUES (?, ?)
            ON CONFLICT (user_id) DO UPDATE SET token = token RETURNING token";
        let sealed = self.0.seal(token.expose(), &token_row(user))?;
        let query = sqlx::query_scalar(sql).bind(user.as_str()).bind(sealed);
        let stored: String = query.fetch_one(self.0.pool()).await?;
        Ok(self.0.unseal_token(user, &stored)?)
    }

    async fn delete_token(&self, user: &UserId, token: &ItemAccessToken) -> StoreResult<()> {
        let mut tx = self.tx().await?;
        let sql = "SELECT token FROM plaid_tokens WHERE user_id = ?";
        let found: Option<String> =
            sqlx::query_scalar(sql).bind(user.as_str()).fetch_optional(&mut *tx).await?;
        let Some(sealed) = found else { return Ok(()) };
        if self.0.unseal_token(user, &sealed)? == *token {
            let query = sqlx::query("DELETE FROM plaid_tokens WHERE user_id = ?");
            query.bind(user.as_str()).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn applications(&self, user: &UserId) -> StoreResult<Vec<ConnectedApplication>> {
        let sql = "SELECT body FROM connected_applications WHERE user_id = ? ORDER BY place";
        let bodies: Vec<String> =
            sqlx::query_scalar(sql).bind(user.as_str()).fetch_all(self.0.pool()).await?;
        read_all(&bodies)
    }

    async fn save_applications(
        &self,
        user: &UserId,
        applications: &[ConnectedApplication],
    ) -> StoreResult<()> {
        let mut tx = self.tx().await?;
        let sql = "DELETE FROM connected_applications WHERE user_id = ?";
        sqlx::query(sql).bind(user.as_str()).execute(&mut *tx).await?;
        for (place, application) in (0_i64..).zip(applications) {
            put_application(&mut tx, user, place, application).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn disconnections(&self, user: &UserId) -> StoreResult<Vec<Disconnection>> {
        let sql = "SELECT body FROM disconnections WHERE user_id = ? ORDER BY application_id";
        let bodies: Vec<String> =
            sqlx::query_scalar(sql).bind(user.as_str()).fetch_all(self.0.pool()).await?;
        read_all(&bodies)
    }

    async fn save_disconnection(&self, disconnection: &Disconnection) -> StoreResult<()> {
        let due = match disconnection.state {
            DisconnectionState::Pending { next_try, .. } => Some(next_try.utc().timestamp_millis()),
            DisconnectionState::Done { .. } => None,
        };
        let sql = "INSERT INTO disconnections (user_id, application_id, due, body)
            VALUES (?, ?, ?, ?) ON CONFLICT (user_id, application_id)
            DO UPDATE SET due = excluded.due, body = excluded.body";
        let query = sqlx::query(sql)
            .bind(disconnection.user_id.as_str())
            .bind(disconnection.application_id.as_str())
            .bind(due)
            .bind(text(disconnection)?);
        query.execute(self.0.pool()).await?;
        Ok(())
    }

    async fn delete_disconnection(
        &self,
        user: &UserId,
        application: &ApplicationId,
    ) -> StoreResult<()> {
        let sql = "DELETE FROM disconnections WHERE user_id = ? AND application_id = ?";
        let query = sqlx::query(sql).bind(user.as_str()).bind(application.as_str());
        query.execute(self.0.pool()).await?;
        Ok(())
    }

    async fn due_disconnections(
        &self,
        now: DateTime<Utc>,
        at_most: usize,
    ) -> StoreResult<Vec<Disconnection>> {
        let sql = "SELECT body FROM disconnections WHERE due <= ? ORDER BY due LIMIT ?";
        let query = sqlx::query_scalar(sql).bind(now.timestamp_millis());
        let query = query.bind(i64::try_from(at_most)?);
        let bodies: Vec<String> = query.fetch_all(self.0.pool()).await?;
        read_all(&bodies)
    }

    async fn add_notice(&self, notice: &Notice) -> StoreResult<NoticeOutcome> {
        let user = &notice.user_id;
        let mut tx = self.tx().await?;
        let sql = "SELECT count(*) FROM users WHERE user_id = ?";
        let known: i64 = sqlx::query_scalar(sql).bind(user.as_str()).fetch_one(&mut *tx).await?;
        if known == 0 {
            return Err("a notification names a customer that does not exist".into());
        }
        let is_latest = is_latest(&mut tx, notice).await?;
        let sql = "INSERT INTO notices (notification_id, user_id, occurred, seen, body)
            VALUES (?, ?, ?, 0, ?) ON CONFLICT (notification_id) DO NOTHING";
        let query = sqlx::query(sql)
            .bind(notice.notification_id.as_str())
            .bind(user.as_str())
            .bind(notice.occurred_at.utc().timestamp_micros())
            .bind(text(notice)?);
        let is_new = query.execute(&mut *tx).await?.rows_affected() > 0;
        if is_new && is_latest {
            apply(&mut tx, notice).await?;
        }
        tx.commit().await?;
        Ok(NoticeOutcome { is_new, is_latest })
    }

    async fn notices(&self, user: &UserId, at_most: usize) -> StoreResult<Vec<Notice>> {
        let sql = "SELECT body, seen FROM notices WHERE user_id = ?
            ORDER BY occurred DESC, notification_id DESC LIMIT ?";
        let query = sqlx::query_as(sql).bind(user.as_str()).bind(i64::try_from(at_most)?);
        let rows: Vec<(String, bool)> = query.fetch_all(self.0.pool()).await?;
        let notice = |(body, seen): &(String, bool)| {
            let mut notice: Notice = read(body)?;
            notice.read = *seen;
            Ok(notice)
        };
        rows.iter().map(notice).collect()
    }

    async fn mark_notices_read(&self, user: &UserId) -> StoreResult<()> {
        let sql = "UPDATE notices SET seen = 1 WHERE user_id = ? AND seen = 0";
        sqlx::query(sql).bind(user.as_str()).execute(self.0.pool()).await?;
        Ok(())
    }
}

async fn put_application(
    connection: &mut SqliteConnection,
    user: &UserId,
    place: i64,
    application: &ConnectedApplication,
) -> StoreResult<()> {
    let sql = "INSERT INTO connected_applications (user_id, place, application_id, body)
        VALUES (?, ?, ?, ?) ON CONFLICT (user_id, application_id)
        DO UPDATE SET place = excluded.place, body = excluded.body";
    let query = sqlx::query(sql)
        .bind(user.as_str())
        .bind(place)
        .bind(application.application_id.as_str())
        .bind(text(application)?);
    query.execute(connection).await.map_err(LedgerError::from)?;
    Ok(())
}

/// Returns whether the bank knows nothing later about a notice's application.
async fn is_latest(connection: &mut SqliteConnection, notice: &Notice) -> StoreResult<bool> {
    let user = &notice.user_id;
    // Earlier notices do not count, and a customer may have many.
    let sql = "SELECT body FROM notices WHERE user_id = ? AND occurred >= ?";
    let query = sqlx::query_scalar(sql).bind(user.as_str());
    let query = query.bind(notice.occurred_at.utc().timestamp_micros());
    let bodies: Vec<String> = query.fetch_all(&mut *connection).await?;
    let notices: Vec<Notice> = read_all(&bodies)?;
    let sql = "SELECT body FROM disconnections WHERE user_id = ?";
    let query = sqlx::query_scalar(sql).bind(user.as_str());
    let bodies: Vec<String> = query.fetch_all(&mut *connection).await?;
    let disconnections: Vec<Disconnection> = read_all(&bodies)?;
    Ok(notice.is_latest(&notices, &disconnections))
}

/// Updates the list of the user's applications according to a notice.
async fn apply(connection: &mut SqliteConnection, notice: &Notice) -> StoreResult<()> {
    let (user, id) = (&notice.user_id, &notice.application.application_id);
    let sql = "DELETE FROM connected_applications WHERE user_id = ? AND application_id = ?";
    sqlx::query(sql).bind(user.as_str()).bind(id.as_str()).execute(&mut *connection).await?;
    if notice.kind == NoticeKind::Linked {
        let sql = "SELECT coalesce(max(place) + 1, 0) FROM connected_applications
            WHERE user_id = ?";
        let query = sqlx::query_scalar(sql).bind(user.as_str());
        let place: i64 = query.fetch_one(&mut *connection).await?;
        put_application(connection, user, place, &notice.application).await?;
    }
    Ok(())
}
