//! A page of transactions within a grant.
//!
//! A bank that leaves out what the grant does not cover is asked for the page. For any
//! other, when the grant covers some accounts only, the service reads the whole window and
//! pages it itself, so that neither a row nor a count tells of what is not permitted.

use crate::{
    Caller, Error, Partner, PermittedAccounts,
    guard::grant,
    service::windows::{Window, Windows},
};
use px_types::partner::{
    ListTransactions, MAX_LIMIT, Position, TransactionsQuery, TransactionsResponse,
};
use std::sync::Arc;

/// How often a window that changes while it is read is begun again.
const RESTARTS: usize = 3;

/// One page, cut down to the grant.
pub(crate) async fn page(
    partner: &dyn Partner,
    caller: &Caller,
    request: ListTransactions,
    windows: &Windows,
) -> Result<TransactionsResponse, Error> {
    if *caller.accounts() == PermittedAccounts::All {
        return partner.transactions(caller, request).await;
    }
    if !partner.filters_accounts() {
        return filtered_page(partner, caller, request, windows).await;
    }
    let mut page = partner.transactions(caller, request).await?;
    if grant::filter_page(&mut page, &caller.grant) > 0 {
        // Its `total` counts what the grant does not cover, so no part of the page can be trusted.
        return Err(Error::internal(
            "the partner says that it filters accounts, and answered with others",
        ));
    }
    Ok(page)
}

/// The page of the permitted rows of the window.
///
/// The first page reads the window from its beginning; those that follow soon are taken from what
/// it read, so that a whole pagination reads the window once.
async fn filtered_page(
    partner: &dyn Partner,
    caller: &Caller,
    request: ListTransactions,
    windows: &Windows,
) -> Result<TransactionsResponse, Error> {
    let Position::Offset(offset) = request.query.position else {
        // No page of ours ever gave a cursor.
        return Err(Error::invalid_request(
            "The request is not valid: parameter `cursor`: unknown.",
        ));
    };
    let entry = windows.entry(&caller.grant, &request.query);
    // One that reads keeps the others of this window waiting, so that they do not read it too.
    let mut known = entry.lock().await;
    let window = match windows.fresh(&known).filter(|_| offset > 0) {
        Some(window) => window,
        None => {
            let window = Arc::new(read_window(partner, caller, &request).await?);
            *known = windows.keep(&window);
            window
        }
    };
    let page = window.page(offset, request.query.limit);
    if offset.saturating_add(request.query.limit) >= page.total {
        // The last page: nothing that follows needs the window.
        windows.forget(&caller.grant, &request.query);
    }
    Ok(page)
}

async fn read_window(
    partner: &dyn Partner,
    caller: &Caller,
    request: &ListTransactions,
) -> Result<Window, Error> {
    for _ in 0..=RESTARTS {
        if let Some(window) = walk(partner, caller, request).await? {
            return Ok(window);
        }
    }
    Err(Error::unavailable().with_source("the window kept changing while it was read"))
}

/// Reads the window once; `None` if it changed meanwhile.
async fn walk(
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
            if !window.securities.iter().any(|known| known.id == security.id) {
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
