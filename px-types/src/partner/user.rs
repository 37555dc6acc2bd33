use crate::{
    endpoint::{
        Endpoint, Meta, RequiredScope,
        codec::{Empty, json_replies},
    },
    fault::{Fault, Faults},
    message::message,
    model::{account::Account, identity::Identity, security::Security},
    primitive::id::{IdentityId, UserId},
};

/// `GET /users/{user_id}`: a user's accounts, holders and securities.
///
/// Contract: `px.md` section 2.1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GetUser {
    /// The user, who must be the token's principal.
    pub user_id: UserId,
}

impl GetUser {
    /// Asks for one user.
    #[must_use]
    pub fn new(user_id: UserId) -> Self {
        Self { user_id }
    }
}

impl Endpoint for GetUser {
    const META: Meta = Meta::get("user", "/users/{user_id}")
        .bearer(RequiredScope::Accounts)
        .summary("A user's accounts, holders and securities");
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
    /// Everything about a user but the transactions.
    ///
    /// Contract: `px.md` section 2.1.
    pub struct UserAccountInfoResponse {
        required {
            /// The identity of the signed-in user.
            user_identity_id: IdentityId,
            /// Every identity that an account refers to; at least one.
            identities: Vec<Identity>,
            /// Every security that a holding refers to.
            securities: Vec<Security>,
            /// The accounts that the user owns or has a non-owner interest in.
            accounts: Vec<Account>,
        }
        unwritten {
            /// What a tolerant reader repaired, ignored or set aside in it.
            faults: Faults,
        }
    }
}

impl UserAccountInfoResponse {
    /// Returns what a [tolerant](crate::tolerant) reader repaired, ignored or set aside.
    ///
    /// Empty for a response that was built, or that conforms.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

json_replies!(tolerant: UserAccountInfoResponse);
