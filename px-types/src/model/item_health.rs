//! The health of an Item.

use crate::{
    message::message,
    primitive::{date::Timestamp, id::AccountId, open_enum::open_enum},
};

message! {
    /// The health of an Item: whether its data is complete and current, and if not, why.
    ///
    /// One object for everything that is reported about an Item. Each kind of issue occurs at
    /// most once; a version that reports a new kind adds a value to [`HealthIssueKind`].
    ///
    /// Contract: `px.md` section 7.1.
    pub struct ItemHealth {
        required {
            /// The gravest state among the issues.
            state: HealthState,
        }
        optional {
            /// The time since which the Item has been in this state, if it is known and the Item
            /// is not healthy.
            since: Timestamp,
        }
        lists {
            /// The issues, the gravest first.
            issues: HealthIssue,
        }
    }
}

message! {
    /// One issue of an Item.
    pub struct HealthIssue {
        required {
            /// The kind of the issue.
            kind: HealthIssueKind,
        }
        optional {
            /// The time of the first observation, if it is known.
            since: Timestamp,
            /// The number of things that are affected: rows, accounts, failed attempts. The kind
            /// says which.
            count: u64,
        }
        lists {
            /// The accounts that are affected; none if the issue affects the whole Item.
            account_ids: AccountId,
            /// The places in the partner's responses, at most 20.
            paths: HealthPath,
        }
    }
}

message! {
    /// A place in a partner's responses and the number of faults there.
    pub struct HealthPath {
        required {
            /// The path without indices, such as `accounts[].transfer_codes[].routing_number`.
            path: String,
            /// The number of faults.
            count: u64,
        }
        optional {
            /// The rule that is broken, `PX-AGG-014`.
            rule: String,
            /// One of the faults in words, without a value: `accounts[2].student.loan_status.type is
            /// null; expected a string; the object was ignored`.
            text: String,
        }
    }
}

open_enum! {
    /// The state of an Item's health, from the best to the gravest.
    pub enum HealthState {
        /// Nothing is wrong.
        Healthy = "healthy",
        /// Data is served, but it is incomplete or out of date.
        Degraded = "degraded",
        /// Part of the data is not imported until an operator decides what it is.
        DecisionPending = "decision_pending",
        /// Updates cannot finish.
        Stalled = "stalled",
        /// The user must authorize again.
        LoginRequired = "login_required",
    }
}

open_enum! {
    /// The kind of an issue.
    pub enum HealthIssueKind {
        /// The last update failed and is tried again; `count` is the number of failures in a row.
        UpdateFailed = "update_failed",
        /// The partner serves fewer or more rows than its `total` says; `count` is the difference.
        RowsLacking = "rows_lacking",
        /// Elements of the partner's responses were repaired or set aside; `count` and `paths` say
        /// how many and where.
        FaultyElements = "faulty_elements",
        /// The partner gave tokens of another user, or no bearer tokens, when tokens were refreshed.
        /// They are kept apart and not used; `count` is the number of attempts.
        TokensApart = "tokens_apart",
        /// Known transactions came under other ids; `count` is the number of rows on hold.
        TransactionIdsChanged = "transaction_ids_changed",
        /// Accounts are on hold because they resemble accounts that are no longer listed; `count`
        /// is their number.
        AccountIdsChanged = "account_ids_changed",
        /// The partner's response may be the data of another customer; none of it is imported.
        AnotherCustomer = "another_customer",
        /// The initial fetch or the update cannot finish.
        CannotFinish = "cannot_finish",
        /// The partner refuses the tokens.
        LoginRequired = "login_required",
    }
}

impl HealthIssueKind {
    /// Returns the state that an issue of this kind puts an Item in.
    #[must_use]
    pub fn state(&self) -> HealthState {
        match self {
            Self::TransactionIdsChanged | Self::AccountIdsChanged | Self::AnotherCustomer => {
                HealthState::DecisionPending
            }
            Self::CannotFinish => HealthState::Stalled,
            Self::LoginRequired => HealthState::LoginRequired,
            Self::UpdateFailed
            | Self::RowsLacking
            | Self::FaultyElements
            | Self::TokensApart
            | Self::_Unknown(_) => HealthState::Degraded,
        }
    }
}

impl ItemHealth {
    /// Returns the health of an Item with these issues.
    #[must_use]
    pub fn of_issues(mut issues: Vec<HealthIssue>) -> Self {
        issues.sort_by(|a, b| {
            let gravity = |issue: &HealthIssue| issue.kind.state();
            gravity(b).cmp(&gravity(a)).then_with(|| a.kind.cmp(&b.kind))
        });
        let mut health = Self::new(HealthState::Healthy);
        if let Some(gravest) = issues.first() {
            health.state = gravest.kind.state();
            let same = issues.iter().filter(|issue| issue.kind.state() == health.state);
            health.since = same.filter_map(|issue| issue.since).min();
        }
        health.issues = issues;
        health
    }

    /// Returns the issue of a kind.
    #[must_use]
    pub fn issue(&self, kind: &HealthIssueKind) -> Option<&HealthIssue> {
        self.issues.iter().find(|issue| issue.kind == *kind)
    }
}
