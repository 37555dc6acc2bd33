//! Identities: the persons and organisations that accounts refer to.

use crate::{
    message::message,
    model::location::Address,
    primitive::{id::IdentityId, open_enum::open_enum},
};

message! {
    /// An account holder: a basic identity (id, name, email) or a full one (all fields).
    ///
    /// Contract: `px.md` section 3.1.
    pub struct Identity {
        required {
            /// The id. It never changes.
            id: IdentityId,
            /// The name.
            name: String,
        }
        optional {
            /// The email address.
            email: String,
        }
        lists {
            /// All names on file, `name` first.
            names: String,
            /// All email addresses on file.
            emails: Email,
            /// All phone numbers on file.
            phone_numbers: PhoneNumber,
            /// All postal addresses on file.
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
            /// The type of the address.
            #[serde(rename = "type")]
            kind: EmailType,
            /// Whether this is the primary one.
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
            /// The type of the number.
            #[serde(rename = "type")]
            kind: PhoneNumberType,
            /// Whether this is the primary one.
            primary: bool,
        }
    }
}

open_enum! {
    /// The type of an email address.
    pub enum EmailType {
        Primary = "primary",
        Secondary = "secondary",
        Other = "other",
    }
}

open_enum! {
    /// The type of a phone number.
    pub enum PhoneNumberType {
        Home = "home",
        Work = "work",
        Office = "office",
        Mobile = "mobile",
        Mobile1 = "mobile1",
        Other = "other",
    }
}
