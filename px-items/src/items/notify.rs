//! What partners tell: the entry points of their notifications.
//!
//! All entries of a batch are applied, or none; one call of the store for all of them.

use super::{Holder, Items, ItemsError, ItemsErrorKind, token};
use crate::store::{NotifyAsk, NotifyBatch, NotifyOutcome};
use px_types::{
    Date, InstitutionId, ItemAccessToken,
    plaid::{AccountsNotification, NewTransactionsNotification, TokenAction, TokensNotification},
    primitive::date::Iso8601,
};

impl Items {
    /// There are new transactions: each Item named is updated, from `new_since` at the latest.
    ///
    /// # Errors
    /// [`InvalidAccessToken`](ItemsErrorKind::InvalidAccessToken) with the index of an entry that
    /// names no Item of this institution. Nothing is updated then.
    pub async fn handle_transactions_notification(
        &self,
        institution: &InstitutionId,
        notification: &NewTransactionsNotification,
    ) -> Result<(), ItemsError> {
        let ask = NotifyAsk::Update { since: Some(since(notification.new_since)) };
        let tokens = notification.notifications.iter().map(|entry| &entry.access_token);
        self.notify(institution, tokens.map(|token| (token, ask))).await
    }

    /// Something happened to accounts: each Item named is updated.
    ///
    /// What happened is a hint: what is true is read.
    ///
    /// # Errors
    /// As [`handle_transactions_notification`](Self::handle_transactions_notification).
    pub async fn handle_accounts_notification(
        &self,
        institution: &InstitutionId,
        notification: &AccountsNotification,
    ) -> Result<(), ItemsError> {
        let tokens = notification.notifications.iter().map(|entry| &entry.access_token);
        self.notify(institution, tokens.map(|token| (token, NotifyAsk::Update { since: None })))
            .await
    }

    /// Tokens were revoked, or are to be refreshed now.
    ///
    /// # Errors
    /// As [`handle_transactions_notification`](Self::handle_transactions_notification), and
    /// [`InvalidField`](ItemsErrorKind::InvalidField) for an action that is not known.
    pub async fn handle_tokens_notification(
        &self,
        institution: &InstitutionId,
        notification: &TokensNotification,
    ) -> Result<(), ItemsError> {
        let mut asks = Vec::with_capacity(notification.notifications.len());
        for (index, entry) in notification.notifications.iter().enumerate() {
            let ask = match entry.action {
                TokenAction::Revoked => NotifyAsk::Revoked,
                TokenAction::Cycle => NotifyAsk::Cycle,
                _ => {
                    let field = format!("notifications[{index}].action");
                    return Err(ItemsError::invalid_field(&field, "is not known").at(index));
                }
            };
            asks.push((&entry.access_token, ask));
        }
        self.notify(institution, asks).await
    }

    async fn notify(
        &self,
        institution: &InstitutionId,
        asks: impl IntoIterator<Item = (&ItemAccessToken, NotifyAsk)>,
    ) -> Result<(), ItemsError> {
        let entries = asks.into_iter().map(|(token, ask)| (token::digest(token), ask)).collect();
        let batch = NotifyBatch::new(institution.clone(), entries, self.clock.now());
        let count = batch.entries.len();
        // To another caller every token of that institution is unknown, the first one too.
        if !self.is_caller(&Holder::Partner(institution.clone())) {
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
            "notifications[{index}].access_token names no Item of this institution; nothing was \
             updated"
        ),
    )
    .at(index)
}

/// The first date that can have something new.
fn since(new_since: Iso8601) -> Date {
    match new_since {
        Iso8601::Date(date) => date,
        // Transactions have the bank's dates. Its day may be the one before that of a moment
        // that was written in another zone.
        moment => moment.date().minus_days(1),
    }
}
