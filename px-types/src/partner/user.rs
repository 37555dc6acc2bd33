use crate::{
    endpoint::{
        Endpoint, Meta, RequiredScope,
        codec::{Empty, json_responses},
    },
    fault::{Fault, Faults},
    message::message,
    model::{account::Account, identity::Identity, security::Security},
    primitive::id::{IdentityId, UserId},
};

/// `GET /users/{user_id}`: returns a user's accounts, account holders and securities.
///
/// Contract: `px.md` section 2.1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GetUser {
    /// The id of the user, who must be the principal of the token.
    pub user_id: UserId,
}

impl GetUser {
    /// Creates the request.
    #[must_use]
    pub fn new(user_id: UserId) -> Self {
        Self { user_id }
    }
}

impl Endpoint for GetUser {
    const META: Meta = Meta::get("user", "/users/{user_id}")
        .bearer(RequiredScope::Accounts)
        .summary("Returns a user's accounts, account holders and securities");
    type Path = (UserId,);
    type Query = ();
    type Body = Empty;
    type Response = UserAccountInfoResponse;

    fn into_parts(self) -> (Self::Path, (), Empty) {
        ((self.user_id,), (), Empty)
    }
    fn from_parts((user_id,): Self::Path, (): (), _: Empty) -> Self {
        Self { user_id }
    }
}

message! {
    /// All data of a user except the transactions.
    ///
    /// Contract: `px.md` section 2.1.
    pub struct UserAccountInfoResponse {
        required {
            /// The id of the identity of the signed-in user.
            user_identity_id: IdentityId,
            /// The identities that the accounts refer to; at least one.
            identities: Vec<Identity>,
            /// The securities that the holdings refer to.
            securities: Vec<Security>,
            /// The accounts that the user owns or has a non-owner interest in.
            accounts: Vec<Account>,
        }
        skipped {
            /// The faults that a tolerant reader repaired, ignored or set aside.
            faults: Faults,
        }
    }
}

impl UserAccountInfoResponse {
    /// Returns the faults that a [tolerant](crate::tolerant) reader repaired, ignored or set aside.
    ///
    /// Empty for a response that was constructed locally or that conforms to the contract.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

json_responses!(tolerant: UserAccountInfoResponse);
