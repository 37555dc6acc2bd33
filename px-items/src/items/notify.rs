//! Entry points of the partners' notifications.
//!
//! All entries of a batch are applied, or none: one call of the store for all of them.

use super::{Items, ItemsError, ItemsErrorKind, TokenOwner, token};
use crate::store::{NotificationRequest, NotifyBatch, NotifyOutcome};
use px_types::{
    Date, InstitutionId, ItemAccessToken,
    plaid::{AccountsNotification, NewTransactionsNotification, TokenAction, TokensNotification},
    primitive::date::Iso8601,
};

impl Items {
    /// Handles new transactions: schedules an update of each named Item that reads at least from
    /// `new_since`.
    ///
    /// # Errors
    /// - [`InvalidAccessToken`](ItemsErrorKind::InvalidAccessToken), with the index of the entry,
    ///   if an entry names no Item of this institution; then nothing is updated;
    /// - [`Unavailable`](ItemsErrorKind::Unavailable) or [`Internal`](ItemsErrorKind::Internal) if
    ///   the store fails.
    pub async fn handle_transactions_notification(
        &self,
        institution: &InstitutionId,
        notification: &NewTransactionsNotification,
    ) -> Result<(), ItemsError> {
        let request = NotificationRequest::Update { since: Some(since(notification.new_since)) };
        let tokens = notification.notifications.iter().map(|entry| &entry.access_token);
        self.notify(institution, tokens.map(|token| (token, request))).await
    }

    /// Handles events of accounts: schedules an update of each named Item.
    ///
    /// The event itself is only a hint. The update reads the actual state.
    ///
    /// # Errors
    /// See [`handle_transactions_notification`](Self::handle_transactions_notification).
    pub async fn handle_accounts_notification(
        &self,
        institution: &InstitutionId,
        notification: &AccountsNotification,
    ) -> Result<(), ItemsError> {
        let tokens = notification.notifications.iter().map(|entry| &entry.access_token);
        self.notify(
            institution,
            tokens.map(|token| (token, NotificationRequest::Update { since: None })),
        )
        .await
    }

    /// Handles tokens that were revoked, or that are to be refreshed now.
    ///
    /// # Errors
    /// See [`handle_transactions_notification`](Self::handle_transactions_notification).
    /// Additionally [`InvalidField`](ItemsErrorKind::InvalidField) for an unknown action.
    pub async fn handle_tokens_notification(
        &self,
        institution: &InstitutionId,
        notification: &TokensNotification,
    ) -> Result<(), ItemsError> {
        let mut requests = Vec::with_capacity(notification.notifications.len());
        for (index, entry) in notification.notifications.iter().enumerate() {
            let request = match entry.action {
                TokenAction::Revoked => NotificationRequest::Revoked,
                TokenAction::Cycle => NotificationRequest::Cycle,
                _ => {
                    let field = format!("notifications[{index}].action");
                    return Err(ItemsError::invalid_field(&field, "is unknown").at(index));
                }
            };
            requests.push((&entry.access_token, request));
        }
        self.notify(institution, requests).await
    }

    async fn notify(
        &self,
        institution: &InstitutionId,
        requests: impl IntoIterator<Item = (&ItemAccessToken, NotificationRequest)>,
    ) -> Result<(), ItemsError> {
        let entries =
            requests.into_iter().map(|(token, request)| (token::digest(token), request)).collect();
        let batch = NotifyBatch::new(institution.clone(), entries, self.clock.now());
        let count = batch.entries.len();
        // To another caller every token of that institution is unknown, the first one too.
        if !self.is_caller(&TokenOwner::Partner(institution.clone())) {
            return Err(unknown(0));
        }
        match self.store.notify(&batch).await? {
            NotifyOutcome::Applied => {
                tracing::debug!(%institution, count, "notified");
                Ok(())
            }
            NotifyOutcome::Unknown(index) => Err(unknown(index)),
        }
    }
}

fn unknown(index: usize) -> ItemsError {
    ItemsError::new(
        ItemsErrorKind::InvalidAccessToken,
        format!(
            "notifications[{index}].access_token names no Item of this institution; invalid_decision was \
             updated"
        ),
    )
    .at(index)
}

/// Returns the first date that may have new transactions.
fn since(new_since: Iso8601) -> Date {
    match new_since {
        Iso8601::Date(date) => date,
        // Transactions have the bank's dates. The bank's day may be the one before the date of a
        // timestamp that was written in another zone.
        moment => moment.date().minus_days(1),
    }
}
