//! The lists of all endpoints. Listed endpoints are routed, documented, tested and shown in the README.

/// Calls a macro with every endpoint of the partner's API, as `method_name => RequestType`.
///
/// ```
/// macro_rules! count { ($($name:ident => $endpoint:ty,)+) => { [$(stringify!($name)),+].len() } }
/// assert_eq!(px_types::for_each_partner_endpoint!(count), 10);
/// ```
#[macro_export]
macro_rules! for_each_partner_endpoint {
    ($callback:ident) => {
        $callback! {
            authorize => $crate::partner::Authorize,
            token => $crate::partner::RequestToken,
            revoke => $crate::partner::Revoke,
            current_user => $crate::partner::GetCurrentUser,
            user => $crate::partner::GetUser,
            transactions => $crate::partner::ListTransactions,
            auth_token => $crate::partner::RequestAuthToken,
            send_otp => $crate::partner::SendOtp,
            two_factor => $crate::partner::ValidateTwoFactor,
            application_linked => $crate::partner::NotifyApplicationLinked,
        }
    };
}

/// Returns the descriptions of all endpoints of the partner's API, in the order of the contract.
#[must_use]
pub fn partner() -> Vec<super::Meta> {
    macro_rules! metas { ($($name:ident => $endpoint:ty,)+) => { vec![$(<$endpoint as super::Endpoint>::META),+] } }
    for_each_partner_endpoint!(metas)
}

/// Calls a macro with every endpoint of Plaid's API, as `method_name => RequestType`.
///
/// ```
/// macro_rules! count { ($($name:ident => $endpoint:ty,)+) => { [$(stringify!($name)),+].len() } }
/// assert_eq!(px_types::for_each_plaid_endpoint!(count), 16);
/// ```
#[macro_export]
macro_rules! for_each_plaid_endpoint {
    ($callback:ident) => {
        $callback! {
            notify_transactions => $crate::plaid::NewTransactionsNotification,
            notify_accounts => $crate::plaid::AccountsNotification,
            notify_tokens => $crate::plaid::TokensNotification,
            import => $crate::plaid::ImportItem,
            list_applications => $crate::plaid::ListApplications,
            unlink_application => $crate::plaid::UnlinkApplication,
            update_scopes => $crate::plaid::UpdateScopes,
            list_activity => $crate::plaid::ListActivity,
            application => $crate::plaid::GetApplication,
            create_link_token => $crate::plaid::CreateLinkToken,
            exchange_public_token => $crate::plaid::ExchangePublicToken,
            item => $crate::plaid::GetItem,
            remove_item => $crate::plaid::RemoveItem,
            update_webhook => $crate::plaid::UpdateWebhook,
            invalidate_token => $crate::plaid::InvalidateToken,
            verification_key => $crate::plaid::GetVerificationKey,
        }
    };
}

/// Returns the descriptions of all endpoints of Plaid's API, in the order of the contract.
#[must_use]
pub fn plaid() -> Vec<super::Meta> {
    macro_rules! metas { ($($name:ident => $endpoint:ty,)+) => { vec![$(<$endpoint as super::Endpoint>::META),+] } }
    for_each_plaid_endpoint!(metas)
}

/// Returns a table of endpoints in Markdown, for documents that must stay up to date.
#[must_use]
pub fn table(endpoints: &[super::Meta]) -> String {
    use super::Auth;
    let mut table = String::from(
        "| id | method and path | authentication | what it does |\n|---|---|---|---|\n",
    );
    for meta in endpoints {
        let auth = match meta.auth {
            Auth::None => "none".to_owned(),
            Auth::User => "the user, in a browser".to_owned(),
            Auth::Client => "client id and secret".to_owned(),
            Auth::Bearer(scope) => match scope.name() {
                Some(name) => format!("bearer token, scope `{name}`"),
                None => "bearer token".to_owned(),
            },
            Auth::Signature => "signature".to_owned(),
            Auth::PlaidClient => "client id and secret".to_owned(),
        };
        let (id, method, path, summary) = (meta.id, &meta.method, meta.path, meta.summary);
        table.push_str(&format!("| `{id}` | `{method} {path}` | {auth} | {summary} |\n"));
    }
    table
}
