//! An event to notify Plaid of, as it is stored until Plaid accepts it.

use px_types::{
    AccountId, ItemAccessToken, UserId,
    plaid::{AccountEvent, TokenAction},
    primitive::date::Iso8601,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An event to notify Plaid of.
///
/// `Debug` masks the token. The serialized form has it in plain text, for a store that protects
/// secrets.
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
        /// Time or date of the earliest new transaction.
        new_since: Iso8601,
        /// The user of the Item, if the bank named one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_id: Option<UserId>,
    },
    /// An event of an account.
    #[non_exhaustive]
    Account {
        /// The Item's token at Plaid.
        access_token: ItemAccessToken,
        /// The account.
        account_id: AccountId,
        /// The event.
        event: AccountEvent,
        /// The user of the Item, if the bank named one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_id: Option<UserId>,
    },
    /// The partner's tokens for an Item ended, or must be refreshed.
    #[non_exhaustive]
    Token {
        /// The Item's token at Plaid.
        access_token: ItemAccessToken,
        /// The action on the partner's tokens.
        action: TokenAction,
        /// The user of the Item, if the bank named one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_id: Option<UserId>,
    },
}

impl Entry {
    /// Returns an entry: an account has transactions that were booked at `new_since` or later.
    #[must_use]
    pub fn transactions(
        access_token: ItemAccessToken,
        account_id: AccountId,
        new_since: impl Into<Iso8601>,
    ) -> Self {
        Self::Transactions { access_token, account_id, new_since: new_since.into(), user_id: None }
    }

    /// Returns an entry: an event of an account.
    #[must_use]
    pub fn account(
        access_token: ItemAccessToken,
        account_id: AccountId,
        event: AccountEvent,
    ) -> Self {
        Self::Account { access_token, account_id, event, user_id: None }
    }

    /// Returns an entry: the partner's tokens for an Item ended, or must be refreshed.
    #[must_use]
    pub fn token(access_token: ItemAccessToken, action: TokenAction) -> Self {
        Self::Token { access_token, action, user_id: None }
    }

    /// Adds the user of the Item. The user is not sent to Plaid.
    ///
    /// With it, [`CurrentTokenSource`](super::CurrentTokenSource) can find the current token if this one was
    /// replaced.
    #[must_use]
    pub fn of(mut self, user: UserId) -> Self {
        match &mut self {
            Self::Transactions { user_id, .. }
            | Self::Account { user_id, .. }
            | Self::Token { user_id, .. } => *user_id = Some(user),
        }
        self
    }

    /// Returns the user of the Item, if the bank named one.
    #[must_use]
    pub fn user_id(&self) -> Option<&UserId> {
        match self {
            Self::Transactions { user_id, .. }
            | Self::Account { user_id, .. }
            | Self::Token { user_id, .. } => user_id.as_ref(),
        }
    }

    /// Replaces the token with another one of the same Item.
    pub(super) fn replace_token(&mut self, token: ItemAccessToken) {
        match self {
            Self::Transactions { access_token, .. }
            | Self::Account { access_token, .. }
            | Self::Token { access_token, .. } => *access_token = token,
        }
    }

    /// Returns the lane of the entry.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Transactions { .. } => Lane::Transactions,
            Self::Account { .. } => Lane::Accounts,
            Self::Token { .. } => Lane::Tokens,
        }
    }

    /// Returns the Item's token at Plaid.
    #[must_use]
    pub fn access_token(&self) -> &ItemAccessToken {
        match self {
            Self::Transactions { access_token, .. }
            | Self::Account { access_token, .. }
            | Self::Token { access_token, .. } => access_token,
        }
    }
}

/// A queue of entries: one for each of Plaid's notification endpoints.
///
/// A lane that waits does not delay the others.
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
    /// All lanes.
    pub const ALL: [Self; 3] = [Self::Transactions, Self::Accounts, Self::Tokens];

    /// Returns the name of the lane, for a table column or a metric label.
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
