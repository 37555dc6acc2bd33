//! What a bank implements: [`Partner`].

use crate::{Caller, Error};
use async_trait::async_trait;
use px_types::partner::{
    CurrentUserResponse, GetCurrentUser, GetUser, ListTransactions, NewApplicationLinkNotification,
    TransactionsResponse, UserAccountInfoResponse,
};

/// A bank, as its own code sees Plaid Exchange. Two methods make one that works.
///
/// When a method runs, the service has checked the token, that the path names the
/// token's principal, the scope and every parameter. What the method returns is cut down
/// to the grant before it leaves.
#[async_trait]
pub trait Partner: Send + Sync + 'static {
    /// Everything about a user but the transactions.
    async fn user(
        &self,
        caller: &Caller,
        request: GetUser,
    ) -> Result<UserAccountInfoResponse, Error>;

    /// A page of a user's transactions, newest date first, then by id.
    async fn transactions(
        &self,
        caller: &Caller,
        request: ListTransactions,
    ) -> Result<TransactionsResponse, Error>;

    /// Whose token it is.
    async fn current_user(
        &self,
        caller: &Caller,
        _request: GetCurrentUser,
    ) -> Result<CurrentUserResponse, Error> {
        Ok(CurrentUserResponse::new(caller.principal().clone()))
    }

    /// An application was linked to a user's Item, or unlinked. Offered once the service has a
    /// [`notifications`](crate::PartnerServiceBuilder::notifications) verifier, which has checked
    /// the signature when this runs.
    ///
    /// It comes at least once and in any order: insert or ignore by `notification_id`. On an error
    /// Plaid sends it again, for a day.
    async fn application_linked(
        &self,
        _notification: NewApplicationLinkNotification,
    ) -> Result<(), Error> {
        Err(Error::not_offered())
    }

    /// Whether [`transactions`](Self::transactions) leaves out accounts that
    /// [`Caller::accounts`] does not name, and counts `total` without them.
    ///
    /// A bank that says `false` is correct all the same: for a grant over some of the
    /// accounts the service reads the whole window by offset and pages it itself.
    fn filters_accounts(&self) -> bool {
        false
    }
}
