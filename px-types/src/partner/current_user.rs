use crate::{
    endpoint::{
        Endpoint, Meta, RequiredScope,
        codec::{Empty, json_responses},
    },
    primitive::id::UserId,
    wire,
};
use serde::{Deserialize, Serialize};

/// `GET /customers/current`: returns the principal of the token.
///
/// Contract: `px.md` section 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GetCurrentUser;

impl GetCurrentUser {
    /// Creates the request.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Endpoint for GetCurrentUser {
    const META: Meta = Meta::get("current_user", "/customers/current")
        .bearer(RequiredScope::Any)
        .summary("Returns the principal of the token");
    type Path = ();
    type Query = ();
    type Body = Empty;
    type Response = CurrentUserResponse;

    fn into_parts(self) -> ((), (), Empty) {
        ((), (), Empty)
    }
    fn from_parts((): (), (): (), _: Empty) -> Self {
        Self
    }
}

/// The principal of the token.
///
/// It is written as `user_id`, and read from `user_id` or else from `customerId`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct CurrentUserResponse {
    /// The id of the principal.
    pub user_id: UserId,
}

impl CurrentUserResponse {
    /// Creates the response.
    #[must_use]
    pub fn new(user_id: UserId) -> Self {
        Self { user_id }
    }
}

impl<'de> Deserialize<'de> for CurrentUserResponse {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default, deserialize_with = "wire::optional")]
            user_id: Option<UserId>,
            #[serde(default, rename = "customerId", deserialize_with = "wire::optional")]
            customer_id: Option<UserId>,
        }
        let found = Wire::deserialize(d)?;
        match found.user_id.or(found.customer_id) {
            Some(user_id) => Ok(Self { user_id }),
            None => Err(serde::de::Error::missing_field("user_id")),
        }
    }
}

json_responses!(CurrentUserResponse);
