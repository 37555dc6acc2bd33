//! The trait that a bank implements: [`Partner`].

use crate::{Caller, Error};
use async_trait::async_trait;
use px_types::partner::{
    CurrentUserResponse, GetCurrentUser, GetUser, ListTransactions, NewApplicationLinkNotification,
    TransactionsResponse, UserAccountInfoResponse,
};

/// A bank's own code behind the Plaid Exchange API. Two methods are required.
///
/// Before a method runs, the service has checked the token, that the user in the path is the
/// token's principal, the scope, and every parameter. Before a response is sent, the service
/// removes everything that the grant does not cover.
#[async_trait]
pub trait Partner: Send + Sync + 'static {
    /// Returns the identities, accounts and securities of a user.
    ///
    /// # Errors
    /// Any [`Error`] that the bank's code reports. Use [`Error::unavailable`] if its systems
    /// are not reachable, and [`Error::internal`] for a fault of its own.
    async fn user(
        &self,
        caller: &Caller,
        request: GetUser,
    ) -> Result<UserAccountInfoResponse, Error>;

    /// Returns a page of a user's transactions, ordered by date (newest first), then by id.
    ///
    /// # Errors
    /// [`Error::cursor_expired`] if the cursor is no longer known, [`Error::window_too_long`]
    /// if the bank does not serve windows of that length, and any other [`Error`] as for
    /// [`user`](Self::user).
    async fn transactions(
        &self,
        caller: &Caller,
        request: ListTransactions,
    ) -> Result<TransactionsResponse, Error>;

    /// Returns the principal of the token. The default implementation takes it from the grant.
    ///
    /// # Errors
    /// Any [`Error`] that the bank's code reports; the default implementation returns none.
    async fn current_user(
        &self,
        caller: &Caller,
        _request: GetCurrentUser,
    ) -> Result<CurrentUserResponse, Error> {
        Ok(CurrentUserResponse::new(caller.principal().clone()))
    }

    /// Handles the notification that an application was linked to a user's Item, or unlinked.
    ///
    /// Called only if the service has a verifier for
    /// [`notifications`](crate::PartnerServiceBuilder::notifications), which has checked the
    /// signature before this method runs.
    ///
    /// Notifications arrive at least once and in any order: insert or ignore by
    /// `notification_id`. If this method returns an error, Plaid repeats the notification for a
    /// day.
    ///
    /// # Errors
    /// Any [`Error`] that the bank's code reports; the default implementation returns
    /// [`Error::not_offered`].
    async fn application_linked(
        &self,
        _notification: NewApplicationLinkNotification,
    ) -> Result<(), Error> {
        Err(Error::not_offered())
    }

    /// Returns whether [`transactions`](Self::transactions) omits accounts that
    /// [`Caller::accounts`] does not permit, and counts `total` without them.
    ///
    /// Returning `false`, the default, is always correct: for a grant over some of the
    /// accounts, the service then reads the whole window by offset and paginates it itself.
    fn filters_accounts(&self) -> bool {
        false
    }
}
