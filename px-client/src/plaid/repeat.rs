//! The calls that are repeated although Plaid may have processed them. One table for all endpoints.

/// The endpoints of Plaid, whether a call is repeated, and the reason.
const CALLS: [(&str, bool, &str); 16] = [
    (
        "notify_transactions",
        true,
        "a repeated notification causes at most one more update of an Item",
    ),
    ("notify_accounts", true, "a repeated notification causes at most one more update of an Item"),
    ("notify_tokens", true, "a token is deleted once, and a second refresh is harmless"),
    ("import", false, "each import issues another access token"),
    ("list_applications", true, "reads"),
    ("unlink_application", true, "an unlinked application stays unlinked"),
    ("update_scopes", true, "replaces all scopes"),
    ("list_activity", true, "reads"),
    ("application", true, "reads"),
    ("create_link_token", false, "each call creates another token"),
    ("exchange_public_token", false, "a public token can be exchanged only once"),
    ("item", true, "reads"),
    ("remove_item", true, "a removed Item stays removed"),
    ("update_webhook", true, "replaces the address"),
    ("invalidate_token", false, "the new token is returned only once, and the old one has ended"),
    ("verification_key", true, "reads"),
];

/// Returns whether a call of an endpoint is repeated although Plaid may have processed it.
///
/// [`PlaidClient`](crate::PlaidClient) uses it.
///
/// Calls that only read are repeated, and calls that have the same effect when made twice. A call that
/// certainly did not reach Plaid is always repeated.
///
/// | repeated | not repeated, with the reason |
/// |---|---|
/// | every call that only reads; `notify_transactions`, `notify_accounts`, `notify_tokens`, `unlink_application`, `update_scopes`, `remove_item`, `update_webhook` | `import`: each issues another token; `create_link_token`: each creates another token; `exchange_public_token`: a public token can be exchanged only once; `invalidate_token`: the new token is returned only once |
///
/// ```
/// assert!(px_client::is_repeated("notify_transactions"));
/// assert!(!px_client::is_repeated("import"));
/// ```
#[must_use]
pub fn is_repeated(endpoint_id: &str) -> bool {
    CALLS.iter().any(|(id, repeated, _)| *id == endpoint_id && *repeated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_endpoint_in_the_order_of_the_contract() {
        let endpoints: Vec<_> =
            px_types::endpoint::list::plaid().iter().map(|meta| meta.id).collect();
        assert_eq!(CALLS.map(|(id, ..)| id).as_slice(), endpoints);
        assert!(CALLS.iter().all(|(_, _, why)| !why.is_empty()));
        assert!(!is_repeated("transactions"));
    }
}
