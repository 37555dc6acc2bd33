//! Which calls are repeated when they may have been done already. One table, for all endpoints.

/// The endpoints of Plaid, whether a call is repeated, and why.
const CALLS: [(&str, bool, &str); 16] = [
    ("notify_transactions", true, "told twice, an Item is updated once more at the most"),
    ("notify_accounts", true, "told twice, an Item is updated once more at the most"),
    ("notify_tokens", true, "a token is deleted once, and a second refresh does no harm"),
    ("import", false, "each import gives out another access token"),
    ("list_applications", true, "reads"),
    ("unlink_application", true, "an application that is gone stays gone"),
    ("update_scopes", true, "sets the whole of them"),
    ("list_activity", true, "reads"),
    ("application", true, "reads"),
    ("create_link_token", false, "each call makes another token"),
    ("exchange_public_token", false, "a public token serves once"),
    ("item", true, "reads"),
    ("remove_item", true, "an Item that is gone stays gone"),
    ("update_webhook", true, "sets the whole of it"),
    ("invalidate_token", false, "the new token is told once, and the old one is dead then"),
    ("verification_key", true, "reads"),
];

/// Whether [`PlaidClient`](crate::PlaidClient) repeats a call of an endpoint that Plaid may have
/// done already.
///
/// Those that read are repeated, and those whose second time leaves all as the first did. Every
/// call is repeated that surely did not reach Plaid.
///
/// | repeated | not repeated, and why |
/// |---|---|
/// | every one that reads; `notify_transactions`, `notify_accounts`, `notify_tokens`, `unlink_application`, `update_scopes`, `remove_item`, `update_webhook` | `import`: each gives out another token; `create_link_token`: each makes another token; `exchange_public_token`: a public token serves once; `invalidate_token`: the new token is told once |
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
