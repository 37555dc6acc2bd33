//! A page of transactions, limited to a grant.
//!
//! If the bank filters accounts, the page is requested from it directly. Otherwise, for a grant
//! over some of the accounts, the service reads the whole window and paginates it itself, so that
//! neither a row nor a count reveals accounts that are not permitted.

use crate::{
    Caller, Error, Partner, PermittedAccounts,
    guard::grant,
    service::window_cache::{Window, WindowCache},
};
use px_types::partner::{
    ListTransactions, MAX_LIMIT, Position, TransactionsQuery, TransactionsResponse,
};
use std::sync::Arc;

/// Maximum number of restarts if the window changes while it is read.
const MAX_RESTARTS: usize = 3;

/// Returns one page, limited to the grant.
pub(crate) async fn page(
    partner: &dyn Partner,
    caller: &Caller,
    request: ListTransactions,
    windows: &WindowCache,
) -> Result<TransactionsResponse, Error> {
    if *caller.accounts() == PermittedAccounts::All {
        return partner.transactions(caller, request).await;
    }
    if !partner.filters_accounts() {
        return filtered_page(partner, caller, request, windows).await;
    }
    let mut page = partner.transactions(caller, request).await?;
    if grant::filter_page(&mut page, &caller.grant) > 0 {
        // The bank's `total` counts rows that the grant does not cover, so the page is
        // unusable.
        return Err(Error::internal(
            "the partner declares that it filters accounts, but returned other accounts",
        ));
    }
    Ok(page)
}

/// Returns the page of the permitted rows of the window.
///
/// The first page reads the window from the bank. Later pages are taken from the cached window, so
/// that one pagination reads the window once.
async fn filtered_page(
    partner: &dyn Partner,
    caller: &Caller,
    request: ListTransactions,
    windows: &WindowCache,
) -> Result<TransactionsResponse, Error> {
    let Position::Offset(offset) = request.query.position else {
        // Pages of this service carry no cursor.
        return Err(Error::invalid_request(
            "The request is not valid: parameter `cursor`: unknown.",
        ));
    };
    let entry = windows.entry(&caller.grant, &request.query);
    // The lock is held while the window is read, so that concurrent requests do not read it
    // again.
    let mut cached = entry.lock().await;
    let window = match windows.fresh(&cached).filter(|_| offset > 0) {
        Some(window) => window,
        None => {
            let window = Arc::new(read_window(partner, caller, &request).await?);
            *cached = windows.cache(&window);
            window
        }
    };
    let page = window.page(offset, request.query.limit);
    if offset.saturating_add(request.query.limit) >= page.total {
        // This was the last page, so the window is not needed any more.
        windows.remove(&caller.grant, &request.query);
    }
    Ok(page)
}

async fn read_window(
    partner: &dyn Partner,
    caller: &Caller,
    request: &ListTransactions,
) -> Result<Window, Error> {
    for _ in 0..=MAX_RESTARTS {
        if let Some(window) = read_window_once(partner, caller, request).await? {
            return Ok(window);
        }
    }
    Err(Error::unavailable().with_source("the window changed during each of 4 attempts to read it"))
}

/// Reads the window once. Returns `None` if it changed meanwhile.
async fn read_window_once(
    partner: &dyn Partner,
    caller: &Caller,
    request: &ListTransactions,
) -> Result<Option<Window>, Error> {
    let mut window = Window::default();
    let (mut read, mut expected) = (0_u64, None);
    loop {
        let mut query = TransactionsQuery::new(request.query.start_date, request.query.end_date);
        query.limit = MAX_LIMIT;
        query.position = Position::Offset(read);
        let part = ListTransactions::new(request.user_id.clone(), query);
        let mut page = partner.transactions(caller, part).await?;
        if *expected.get_or_insert(page.total) != page.total {
            return Ok(None);
        }
        let rows = page.transactions.len() as u64;
        read += rows;
        grant::filter_page(&mut page, &caller.grant);
        window.transactions.append(&mut page.transactions);
        for security in page.securities {
            if !window.securities.iter().any(|cached| cached.id == security.id) {
                window.securities.push(security);
            }
        }
        if read >= page.total {
            return Ok((read == page.total).then_some(window));
        }
        if rows == 0 {
            return Ok(None);
        }
    }
}
