//! Accounts: the fields of all accounts, and the fields of each type.

use crate::{
    message::message,
    model::{
        account_subtype::OtherSubtype, credit::Credit, depository::Depository,
        investment::Investment, loan::Loan,
    },
    primitive::{
        amount::Amount,
        currency::Unit,
        date::{Date, Iso8601},
        id::{AccountId, IdentityId},
        open_enum::open_enum,
    },
    wire::{self, BufferedValue},
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;

message! {
    /// An account of a user.
    ///
    /// Contract: `px.md` section 3.2.
    pub struct Account {
        required {
            /// The id. It never changes, even if the account is renamed.
            id: AccountId,
            /// The name that the user sees.
            name: String,
            /// The status.
            status: AccountStatus,
            /// The owners, at least one. Each is listed in `identities`.
            owner_identity_ids: Vec<IdentityId>,
            /// The balance. Depository: the money in the account. Credit and loan: the amount owed, as a
            /// positive number. Investment: the market value.
            current_balance: Amount,
        }
        optional {
            /// The official name that the institution uses.
            official_name: String,
            /// The last 2–4 characters of the account number.
            display_mask: String,
            /// The form of ownership.
            ownership_type: OwnershipType,
            /// The date on which the account was opened.
            opening_date: Date,
            /// The time of the last activity.
            last_activity_at: Iso8601,
            /// The available balance. Depository: the current balance less holds. Credit: the amount that
            /// can still be spent.
            available_balance: Amount,
            /// Whether the account is tax-advantaged.
            tax_advantaged: bool,
        }
        lists {
            /// The identities with an interest in the account who do not own it. Each is listed in
            /// `identities`.
            non_owner_identity_ids: IdentityId,
        }
        flat {
            /// The unit of the balances.
            unit: Unit,
            /// The type of the account, with the fields that only this type has.
            kind: AccountKind,
        }
    }
}

impl Account {
    /// Returns the type of the account.
    #[must_use]
    pub fn account_type(&self) -> AccountType {
        self.kind.account_type()
    }

    /// Returns the ids of all identities that the account refers to, owners first.
    pub fn identity_ids(&self) -> impl Iterator<Item = &IdentityId> {
        self.owner_identity_ids.iter().chain(&self.non_owner_identity_ids)
    }
}

open_enum! {
    /// The type of an account.
    pub enum AccountType {
        /// A deposit account.
        Depository = "depository",
        /// A revolving credit account.
        Credit = "credit",
        /// A loan.
        Loan = "loan",
        /// An account with securities.
        Investment = "investment",
        /// An account of another type.
        Other = "other",
    }
}

open_enum! {
    /// The status of an account.
    pub enum AccountStatus {
        Active = "active",
        Inactive = "inactive",
        PendingOpen = "pending_open",
        PendingClose = "pending_close",
        Closed = "closed",
        Restricted = "restricted",
    }
}

open_enum! {
    /// The form of ownership of an account.
    pub enum OwnershipType {
        Individual = "individual",
        Joint = "joint",
        Association = "association",
        Trust = "trust",
    }
}

/// The type of an account, with the fields that only that type has.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(tag = "type", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum AccountKind {
    /// A deposit account.
    Depository(Depository),
    /// A revolving credit account.
    Credit(Credit),
    /// A loan.
    Loan(Box<Loan>),
    /// An account with securities.
    Investment(Investment),
    /// An account of another type.
    Other(Other),
    /// A type that this version does not know, with all its fields.
    #[cfg_attr(feature = "openapi", schemars(skip))]
    Unknown(UnknownAccountKind),
}

message! {
    /// The fields of an `other` account.
    pub struct Other {
        required {
            /// The subtype.
            subtype: OtherSubtype,
        }
    }
}

/// The fields of an account of a type that this version does not know.
///
/// The fields are kept as they were read, except that JSON numbers beyond 64 bits are rounded. The
/// contract itself has no such numbers: amounts are strings.
///
/// `Debug` shows only type and subtype, because any other field may be an account number.
#[derive(Clone, PartialEq)]
pub struct UnknownAccountKind {
    account_type: AccountType,
    subtype: String,
    fields: Map<String, Value>,
}

impl UnknownAccountKind {
    /// Returns the subtype as it was read.
    #[must_use]
    pub fn subtype(&self) -> &str {
        &self.subtype
    }

    /// Removes all fields except `type` and `subtype`.
    ///
    /// Use it for clients that may not see account numbers: in an unknown type any field could be one.
    pub fn clear_fields(&mut self) {
        self.fields.retain(|name, _| matches!(name.as_str(), "type" | "subtype"));
    }
}

impl fmt::Debug for UnknownAccountKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnknownAccountKind")
            .field("type", &self.account_type)
            .field("subtype", &self.subtype)
            .finish_non_exhaustive()
    }
}

impl AccountKind {
    /// Returns the type of the account.
    #[must_use]
    pub fn account_type(&self) -> AccountType {
        match self {
            Self::Depository(_) => AccountType::Depository,
            Self::Credit(_) => AccountType::Credit,
            Self::Loan(_) => AccountType::Loan,
            Self::Investment(_) => AccountType::Investment,
            Self::Other(_) => AccountType::Other,
            Self::Unknown(kind) => kind.account_type.clone(),
        }
    }

    /// Returns the subtype in its wire form.
    #[must_use]
    pub fn subtype(&self) -> &str {
        match self {
            Self::Depository(kind) => kind.subtype.as_str(),
            Self::Credit(kind) => kind.subtype.as_str(),
            Self::Loan(kind) => kind.subtype.as_str(),
            Self::Investment(kind) => kind.subtype.as_str(),
            Self::Other(kind) => kind.subtype.as_str(),
            Self::Unknown(kind) => &kind.subtype,
        }
    }
}

impl Serialize for AccountKind {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tagged<'a, T> {
            r#type: AccountType,
            #[serde(flatten)]
            kind: &'a T,
        }
        let r#type = self.account_type();
        match self {
            Self::Depository(kind) => Tagged { r#type, kind }.serialize(s),
            Self::Credit(kind) => Tagged { r#type, kind }.serialize(s),
            Self::Loan(kind) => Tagged { r#type, kind }.serialize(s),
            Self::Investment(kind) => Tagged { r#type, kind }.serialize(s),
            Self::Other(kind) => Tagged { r#type, kind }.serialize(s),
            Self::Unknown(kind) => kind.fields.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for AccountKind {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let fields = BufferedValue::deserialize(d)?;
        let account_type = AccountType::from(fields.tag("type")?);
        let subtype = fields.tag("subtype")?.to_owned();
        Ok(match account_type {
            AccountType::Depository => Self::Depository(wire::from_buffered(&fields)?),
            AccountType::Credit => Self::Credit(wire::from_buffered(&fields)?),
            AccountType::Loan => Self::Loan(wire::from_buffered(&fields)?),
            AccountType::Investment => Self::Investment(wire::from_buffered(&fields)?),
            AccountType::Other => Self::Other(wire::from_buffered(&fields)?),
            account_type => {
                let fields = fields.into_map()?;
                Self::Unknown(UnknownAccountKind { account_type, subtype, fields })
            }
        })
    }
}
