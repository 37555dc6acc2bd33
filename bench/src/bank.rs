//! The bank after all servers: one user, with accounts and transactions in memory.

use crate::data;
use async_trait::async_trait;
use px_server::{Caller, Error, Partner};
use px_types::{
    Date,
    model::{
        account::{Account, AccountKind, AccountStatus},
        account_subtype::DepositorySubtype,
        depository::{Ach, Depository, TransferCode},
        identity::Identity,
        transaction::Transaction,
    },
    partner::{
        GetUser, ListTransactions, Position, TransactionsQuery, TransactionsResponse,
        UserAccountInfoResponse,
    },
};
use std::sync::Arc;

/// The only user.
pub(crate) const USER: &str = "user-ann";

/// A bank with everything in memory, in the order of the contract.
#[derive(Clone, Debug)]
pub(crate) struct Bank(Arc<Ledger>);

#[derive(Debug)]
struct Ledger {
    user: UserAccountInfoResponse,
    rows: Vec<Transaction>,
}

impl Bank {
    pub(crate) fn new(transactions: usize) -> Self {
        Self(Arc::new(Ledger { user: user(), rows: data::transactions(transactions) }))
    }

    /// Returns the accounts, for the service and for the handler without checks alike.
    pub(crate) fn user(&self) -> UserAccountInfoResponse {
        self.0.user.clone()
    }

    /// Returns a page by offset. Returns `None` for a query by cursor.
    pub(crate) fn page(&self, query: &TransactionsQuery) -> Option<TransactionsResponse> {
        let Position::Offset(offset) = query.position else {
            return None;
        };
        let rows = self.window(query.start_date, query.end_date);
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(rows.len());
        let end = begin.saturating_add(query.limit as usize).min(rows.len());
        Some(TransactionsResponse::new(rows.len() as u64, rows[begin..end].to_vec()))
    }

    fn window(&self, start: Date, end: Date) -> &[Transaction] {
        let rows = &self.0.rows;
        let first = rows.partition_point(|row| row.date() > end);
        let after = rows.partition_point(|row| row.date() >= start);
        &rows[first..after]
    }
}

#[async_trait]
impl Partner for Bank {
    async fn user(&self, _: &Caller, _: GetUser) -> Result<UserAccountInfoResponse, Error> {
        Ok(Self::user(self))
    }

    async fn transactions(
        &self,
        _: &Caller,
        request: ListTransactions,
    ) -> Result<TransactionsResponse, Error> {
        self.page(&request.query).ok_or_else(Error::cursor_expired)
    }

    // The grants here name all accounts of the user.
    fn filters_accounts(&self) -> bool {
        true
    }
}

fn user() -> UserAccountInfoResponse {
    let holder: px_types::IdentityId = "id-ann".parse().expect("a plain id");
    let mut identity = Identity::new(holder.clone(), "Ann Example");
    identity.email = Some("ann@example.com".to_owned());
    let accounts = data::ACCOUNTS.iter().enumerate().map(|(index, id)| {
        let mut depository = Depository::new(DepositorySubtype::Checking);
        let number = format!("00012345678{index}");
        depository.transfer_codes = Some(vec![TransferCode::Ach(Ach::new(
            px_types::AccountNumber::new(number),
            "021000021",
            true,
            true,
        ))]);
        let mut account = Account::new(
            id.parse::<px_types::AccountId>().expect("a plain id"),
            "Everyday",
            AccountStatus::Active,
            vec![holder.clone()],
            "1523.77".parse::<px_types::Amount>().expect("an amount"),
            px_types::Unit::iso("USD").expect("three letters"),
            AccountKind::Depository(depository),
        );
        account.display_mask = Some(format!("678{index}"));
        account
    });
    let accounts: Vec<_> = accounts.collect();
    UserAccountInfoResponse::new(holder, vec![identity], Vec::new(), accounts)
}
