//! The health of an Item.

use crate::{
    message::message,
    primitive::{date::Timestamp, id::AccountId, open_enum::open_enum},
};

message! {
    /// The health of an Item: whether its data is complete and up to date, and the issues if it is not.
    ///
    /// Each kind of issue occurs at most once. New kinds of issues are new values of
    /// [`HealthIssueKind`].
    ///
    /// Contract: `px.md` section 7.1.
    pub struct ItemHealth {
        required {
            /// The most severe state of all issues.
            state: HealthState,
        }
        optional {
            /// The time since which the Item has been in this state. `None` if it is healthy or the
            /// time is unknown.
            since: Timestamp,
        }
        lists {
            /// The issues, the most severe first.
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
            /// The time of the first observation, if known.
            since: Timestamp,
            /// The number of affected rows, accounts or attempts, depending on the kind.
            count: u64,
        }
        lists {
            /// The affected accounts; empty if the issue affects the whole Item.
            account_ids: AccountId,
            /// The paths in the partner's responses, at most 20.
            paths: HealthPath,
        }
    }
}

message! {
    /// A path in a partner's responses, with the number of faults there.
    pub struct HealthPath {
        required {
            /// The path without indices, such as `accounts[].transfer_codes[].routing_number`.
            path: String,
            /// The number of faults.
            count: u64,
        }
        optional {
            /// The id of the violated rule, such as `PX-AGG-014`.
            rule: String,
            /// A description of one of the faults, without values: `accounts[2].student.loan_status.type is
            /// null; expected a string; the object was ignored`.
            text: String,
        }
    }
}

open_enum! {
    /// The state of an Item's health, from the best to the most severe.
    pub enum HealthState {
        /// There are no issues.
        Healthy = "healthy",
        /// Data is available, but it is incomplete or out of date.
        Degraded = "degraded",
        /// Part of the data is on hold until an operator decides about it.
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
        /// The last update failed and will be retried; `count` is the number of consecutive failures.
        UpdateFailed = "update_failed",
        /// The partner serves fewer or more rows than its `total`; `count` is the difference.
        RowsLacking = "rows_lacking",
        /// Elements of the partner's responses were repaired or set aside; `count` is their number and
        /// `paths` has their paths.
        FaultyElements = "faulty_elements",
        /// A refresh returned tokens of another user, or no bearer tokens. They are stored separately and
        /// not used; `count` is the number of attempts.
        TokensApart = "tokens_apart",
        /// Known transactions were received with other ids; `count` is the number of rows on hold.
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
    /// Returns the state of an Item that has an issue of this kind.
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
    /// Creates the health of an Item from its issues.
    #[must_use]
    pub fn of_issues(mut issues: Vec<HealthIssue>) -> Self {
        issues.sort_by(|a, b| {
            let severity = |issue: &HealthIssue| issue.kind.state();
            severity(b).cmp(&severity(a)).then_with(|| a.kind.cmp(&b.kind))
        });
        let mut health = Self::new(HealthState::Healthy);
        if let Some(most_severe) = issues.first() {
            health.state = most_severe.kind.state();
            let same = issues.iter().filter(|issue| issue.kind.state() == health.state);
            health.since = same.filter_map(|issue| issue.since).min();
        }
        health.issues = issues;
        health
    }

    /// Returns the issue of a kind, or `None` if the Item has none.
    #[must_use]
    pub fn issue(&self, kind: &HealthIssueKind) -> Option<&HealthIssue> {
        self.issues.iter().find(|issue| issue.kind == *kind)
    }
}
