//! A page of transactions within a grant.
//!
//! A bank that leaves out what the grant does not cover is asked for the page. For any
//! other, when the grant covers some accounts only, the service reads the whole window and
//! pages it itself, so that neither a row nor a count tells of what is not permitted.

use crate::{Caller, Error, Partner, PermittedAccounts, guard::grant};
use px_types::partner::{
    ListTransactions, MAX_LIMIT, Position, TransactionsQuery, TransactionsResponse,
};

/// How often a window that changes while it is read is begun again.
const RESTARTS: usize = 3;

/// One page, cut down to the grant.
pub(crate) async fn page(
    partner: &dyn Partner,
    caller: &Caller,
    request: ListTransactions,
) -> Result<TransactionsResponse, Error> {
    if *caller.accounts() == PermittedAccounts::All {
        return partner.transactions(caller, request).await;
    }
    if !partner.filters_accounts() {
        return filtered_page(partner, caller, request).await;
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

/// The page of the permitted rows, found by reading the window from its beginning.
async fn filtered_page(
    partner: &dyn Partner,
    caller: &Caller,
    request: ListTransactions,
) -> Result<TransactionsResponse, Error> {
    let Position::Offset(offset) = request.query.position else {
        // No page of ours ever gave a cursor.
        return Err(Error::invalid_request(
            "The request is not valid: parameter `cursor`: unknown.",
        ));
    };
    for _ in 0..=RESTARTS {
        if let Some(page) = walk(partner, caller, &request, offset).await? {
            return Ok(page);
        }
    }
    Err(Error::unavailable().with_source("the window kept changing while it was read"))
}

/// Reads the window once; `None` when it changed meanwhile.
async fn walk(
    partner: &dyn Partner,
    caller: &Caller,
    request: &ListTransactions,
    offset: u64,
) -> Result<Option<TransactionsResponse>, Error> {
    let mut permitted = TransactionsResponse::new(0_u64, Vec::new());
    let (mut read, mut expected) = (0_u64, None);
    let end = offset.saturating_add(request.query.limit);
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
        for transaction in page.transactions {
            if (offset..end).contains(&permitted.total) {
                permitted.transactions.push(transaction);
            }
            permitted.total += 1;
        }
        for security in page.securities {
            if !permitted.securities.iter().any(|known| known.id == security.id) {
                permitted.securities.push(security);
            }
        }
        if read >= page.total {
            grant::filter_page(&mut permitted, &caller.grant);
            return Ok((read == page.total).then_some(permitted));
        }
        if rows == 0 {
            return Ok(None);
        }
    }
}
