//! An account: what all have in common, and its kind with the fields of that kind.

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
    wire::{self, Held},
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
            /// Stable for the life of the account, over renames too.
            id: AccountId,
            /// The name by which the user knows it.
            name: String,
            /// Whether it can be used.
            status: AccountStatus,
            /// Who owns it; at least one, each in `identities`.
            owner_identity_ids: Vec<IdentityId>,
            /// depository: what the account holds; credit and loan: what is owed, positive;
            /// investment: its market value.
            current_balance: Amount,
        }
        optional {
            /// The name by which the institution knows it.
            official_name: String,
            /// The last 2–4 characters of the account number.
            display_mask: String,
            /// How it is owned.
            ownership_type: OwnershipType,
            /// When it was opened.
            opening_date: Date,
            /// When something last happened on it.
            last_activity_at: Iso8601,
            /// depository: current less holds; credit: what can still be spent.
            available_balance: Amount,
            /// Whether the law favours it for taxes.
            tax_advantaged: bool,
        }
        lists {
            /// Who has an interest in it without owning it; each in `identities`.
            non_owner_identity_ids: IdentityId,
        }
        flat {
            /// What the balances are counted in.
            unit: Unit,
            /// The type of the account, with what only that type has.
            kind: AccountKind,
        }
    }
}

impl Account {
    /// The type of the account.
    #[must_use]
    pub fn account_type(&self) -> AccountType {
        self.kind.account_type()
    }

    /// Everyone that the account refers to, owners first.
    pub fn identity_ids(&self) -> impl Iterator<Item = &IdentityId> {
        self.owner_identity_ids.iter().chain(&self.non_owner_identity_ids)
    }
}

open_enum! {
    /// The type of an account.
    pub enum AccountType {
        /// Money that the institution holds for the user.
        Depository = "depository",
        /// Money that the user may borrow again and again.
        Credit = "credit",
        /// Money that the user borrowed.
        Loan = "loan",
        /// Securities.
        Investment = "investment",
        /// None of the others.
        Other = "other",
    }
}

open_enum! {
    /// Whether an account can be used.
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
    /// How an account is owned.
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
    /// Money that the institution holds for the user.
    Depository(Depository),
    /// Money that the user may borrow again and again.
    Credit(Credit),
    /// Money that the user borrowed.
    Loan(Box<Loan>),
    /// Securities.
    Investment(Investment),
    /// None of the others.
    Other(Other),
    /// A type that this version does not know, kept whole.
    #[cfg_attr(feature = "openapi", schemars(skip))]
    Unknown(UnknownAccountKind),
}

message! {
    /// The fields of an `other` account.
    pub struct Other {
        required {
            /// What kind of account it is.
            subtype: OtherSubtype,
        }
    }
}

/// The fields of an account whose type this version does not know.
///
/// They are kept as read, but for JSON numbers beyond 64 bits: amounts are strings, so none
/// of the contract's own values is one.
///
/// `Debug` shows type and subtype alone: any other field may be an account number.
#[derive(Clone, PartialEq)]
pub struct UnknownAccountKind {
    account_type: AccountType,
    subtype: String,
    fields: Map<String, Value>,
}

impl UnknownAccountKind {
    /// The subtype as it was read.
    #[must_use]
    pub fn subtype(&self) -> &str {
        &self.subtype
    }

    /// Forgets every field but `type` and `subtype`, for a reader who may not see
    /// account numbers: in an unknown type any field could be one.
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
    /// The type of the account.
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

    /// The subtype, as the wire spells it.
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
        let not_json = || serde::de::Error::custom(wire::NOT_JSON);
        let fields = Held::deserialize(d)?;
        let account_type = AccountType::from(fields.tag("type")?);
        let subtype = fields.tag("subtype")?.to_owned();
        Ok(match account_type {
            AccountType::Depository => Self::Depository(wire::from_held(&fields)?),
            AccountType::Credit => Self::Credit(wire::from_held(&fields)?),
            AccountType::Loan => Self::Loan(wire::from_held(&fields)?),
            AccountType::Investment => Self::Investment(wire::from_held(&fields)?),
            AccountType::Other => Self::Other(wire::from_held(&fields)?),
            account_type => {
                let fields = fields.into_map().ok_or_else(not_json)?;
                Self::Unknown(UnknownAccountKind { account_type, subtype, fields })
            }
        })
    }
}
