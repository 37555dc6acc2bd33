//! The lists of all endpoints. What is listed here is routed, documented,
//! tested and shown in the README.

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

/// The description of every endpoint of the partner's API, in the order of the contract.
#[must_use]
pub fn partner() -> Vec<super::Meta> {
    macro_rules! metas { ($($name:ident => $endpoint:ty,)+) => { vec![$(<$endpoint as super::Endpoint>::META),+] } }
    for_each_partner_endpoint!(metas)
}
