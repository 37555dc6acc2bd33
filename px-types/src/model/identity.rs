//! An identity: a person or an organisation that accounts refer to.

use crate::{
    message::message,
    model::location::Address,
    primitive::{id::IdentityId, open_enum::open_enum},
};

message! {
    /// A holder of accounts: basic (id, name, email) or full (all of it).
    ///
    /// Contract: `px.md` section 3.1.
    pub struct Identity {
        required {
            /// Stable for the life of the identity.
            id: IdentityId,
            /// The name.
            name: String,
        }
        optional {
            /// The email address.
            email: String,
        }
        lists {
            /// Every name on file, `name` first.
            names: String,
            /// Every email address on file.
            emails: Email,
            /// Every phone number on file.
            phone_numbers: PhoneNumber,
            /// Every postal address on file.
            addresses: Address,
        }
    }
}

message! {
    /// An email address on file.
    pub struct Email {
        required {
            /// The address.
            address: String,
        }
        optional {
            /// What it is used for.
            #[serde(rename = "type")]
            kind: EmailType,
            /// Whether it is the main one.
            primary: bool,
        }
    }
}

message! {
    /// A phone number on file.
    pub struct PhoneNumber {
        required {
            /// The number.
            number: String,
        }
        optional {
            /// Where it rings.
            #[serde(rename = "type")]
            kind: PhoneNumberType,
            /// Whether it is the main one.
            primary: bool,
        }
    }
}

open_enum! {
    /// What an email address is used for.
    pub enum EmailType {
        Primary = "primary",
        Secondary = "secondary",
        Other = "other",
    }
}

open_enum! {
    /// Where a phone number rings.
    pub enum PhoneNumberType {
        Home = "home",
        Work = "work",
        Office = "office",
        Mobile = "mobile",
        Mobile1 = "mobile1",
        Other = "other",
    }
}
