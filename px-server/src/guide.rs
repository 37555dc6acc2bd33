//! Guides: step-by-step instructions for one task each.
//!
//! | task | guide |
//! |---|---|
//! | Serve PX with the tokens of the bank's own identity provider | [`identity_provider`] |

pub mod identity_provider {
    #![doc = include_str!("guide/identity_provider.md")]

    pub mod keycloak {
        #![doc = include_str!("guide/identity_provider/keycloak.md")]
    }

    pub mod ory_hydra {
        #![doc = include_str!("guide/identity_provider/ory_hydra.md")]
    }

    pub mod okta {
        #![doc = include_str!("guide/identity_provider/okta.md")]
    }

    pub mod auth0 {
        #![doc = include_str!("guide/identity_provider/auth0.md")]
    }

    pub mod entra_id {
        #![doc = include_str!("guide/identity_provider/entra_id.md")]
    }

    pub mod ping {
        #![doc = include_str!("guide/identity_provider/ping.md")]
    }

    pub mod forgerock {
        #![doc = include_str!("guide/identity_provider/forgerock.md")]
    }

    pub mod rfc9068 {
        #![doc = include_str!("guide/identity_provider/rfc9068.md")]
    }
}
