//! One thing to tell Plaid, as it is kept until Plaid has it.

use px_types::{
    AccountId, ItemAccessToken, UserId,
    plaid::{AccountEvent, TokenAction},
    primitive::date::Iso8601,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing to tell Plaid.
///
/// `Debug` masks the token; serialized it is plain, for a store that keeps secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Entry {
    /// An account has new transactions.
    #[non_exhaustive]
    Transactions {
        /// The Item's token at Plaid.
        access_token: ItemAccessToken,
        /// The account.
        account_id: AccountId,
        /// Since when there are new ones.
        new_since: Iso8601,
        /// Whose Item it is, where the bank says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_id: Option<UserId>,
    },
    /// Something happened to an account.
    #[non_exhaustive]
    Account {
        /// The Item's token at Plaid.
        access_token: ItemAccessToken,
        /// The account.
        account_id: AccountId,
        /// What happened to it.
        event: AccountEvent,
        /// Whose Item it is, where the bank says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_id: Option<UserId>,
    },
    /// The partner's tokens for an Item ended, or are to be refreshed.
    #[non_exhaustive]
    Token {
        /// The Item's token at Plaid.
        access_token: ItemAccessToken,
        /// What to do with the partner's tokens.
        action: TokenAction,
        /// Whose Item it is, where the bank says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_id: Option<UserId>,
    },
}

impl Entry {
    /// An account has transactions that were booked at that moment or later.
    #[must_use]
    pub fn transactions(
        access_token: ItemAccessToken,
        account_id: AccountId,
        new_since: impl Into<Iso8601>,
    ) -> Self {
        Self::Transactions { access_token, account_id, new_since: new_since.into(), user_id: None }
    }

    /// Something happened to an account.
    #[must_use]
    pub fn account(
        access_token: ItemAccessToken,
        account_id: AccountId,
        event: AccountEvent,
    ) -> Self {
        Self::Account { access_token, account_id, event, user_id: None }
    }

    /// The partner's tokens for an Item ended, or are to be refreshed.
    #[must_use]
    pub fn token(access_token: ItemAccessToken, action: TokenAction) -> Self {
        Self::Token { access_token, action, user_id: None }
    }

    /// Says whose Item it is. [`PresentToken`](super::PresentToken) asks by it for a new token
    /// when the one here has been replaced; Plaid does not hear of it.
    #[must_use]
    pub fn of(mut self, user: UserId) -> Self {
        match &mut self {
            Self::Transactions { user_id, .. }
            | Self::Account { user_id, .. }
            | Self::Token { user_id, .. } => *user_id = Some(user),
        }
        self
    }

    /// Whose Item it is, where the bank said so.
    #[must_use]
    pub fn user_id(&self) -> Option<&UserId> {
        match self {
            Self::Transactions { user_id, .. }
            | Self::Account { user_id, .. }
            | Self::Token { user_id, .. } => user_id.as_ref(),
        }
    }

    /// The same, told under another token of its Item.
    pub(super) fn renew(&mut self, token: ItemAccessToken) {
        match self {
            Self::Transactions { access_token, .. }
            | Self::Account { access_token, .. }
            | Self::Token { access_token, .. } => *access_token = token,
        }
    }

    /// The way that it goes.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Transactions { .. } => Lane::Transactions,
            Self::Account { .. } => Lane::Accounts,
            Self::Token { .. } => Lane::Tokens,
        }
    }

    /// The Item's token at Plaid.
    #[must_use]
    pub fn access_token(&self) -> &ItemAccessToken {
        match self {
            Self::Transactions { access_token, .. }
            | Self::Account { access_token, .. }
            | Self::Token { access_token, .. } => access_token,
        }
    }
}

/// The way that an entry goes: one for each of Plaid's endpoints for notifications.
///
/// What is held up on one does not hold up the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Lane {
    /// `POST /items/transactions/notify`
    Transactions,
    /// `POST /items/accounts/notify`
    Accounts,
    /// `POST /items/tokens/notify`
    Tokens,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Transactions, Self::Accounts, Self::Tokens];

    /// The lane in one word, for a column of a table or a label of a metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transactions => "transactions",
            Self::Accounts => "accounts",
            Self::Tokens => "tokens",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_a_store_and_hides_its_token() {
        let token = || ItemAccessToken::new("access-s3cret");
        let account = || AccountId::new("a").unwrap();
        for (entry, text) in [
            (
                Entry::transactions(token(), account(), "2024-01-02".parse::<Iso8601>().unwrap()),
                r#"{"kind":"transactions","access_token":"access-s3cret","account_id":"a","new_since":"2024-01-02"}"#,
            ),
            (
                Entry::account(token(), account(), AccountEvent::Closed),
                r#"{"kind":"account","access_token":"access-s3cret","account_id":"a","event":"closed"}"#,
            ),
            (
                Entry::token(token(), TokenAction::Cycle),
                r#"{"kind":"token","access_token":"access-s3cret","action":"cycle"}"#,
            ),
            (
                Entry::token(token(), TokenAction::Cycle).of(UserId::new("u").unwrap()),
                r#"{"kind":"token","access_token":"access-s3cret","action":"cycle","user_id":"u"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&entry).unwrap(), text);
            assert_eq!(serde_json::from_str::<Entry>(text).unwrap(), entry);
            assert!(!format!("{entry:?}").contains("s3cret"));
        }
    }
}
