//! What only a depository account has: the codes under which money reaches it.

use crate::{
    message::message,
    model::account_subtype::DepositorySubtype,
    primitive::{open_enum::open_enum, secret::AccountNumber},
    wire::{self, Held},
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;

message! {
    /// The fields of a `depository` account.
    ///
    /// Contract: `px.md` section 3.3.
    pub struct Depository {
        required {
            /// What kind of account it is.
            subtype: DepositorySubtype,
        }
        optional {
            /// One entry per payment network; `None` where the caller may not see them.
            transfer_codes: Vec<TransferCode>,
        }
    }
}

/// How one payment network reaches an account.
///
/// Contract: `px.md` section 3.3.
#[derive(Clone, PartialEq)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", schemars(tag = "network", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum TransferCode {
    /// Automated Clearing House, United States.
    Ach(Ach),
    /// Electronic funds transfer, Canada.
    Eft(Eft),
    /// Bacs, United Kingdom.
    Bacs(Bacs),
    /// An IBAN, with or without a BIC.
    International(International),
    /// A network that this version does not know, kept whole.
    #[cfg_attr(feature = "openapi", schemars(skip))]
    Unknown(UnknownTransferCode),
}

/// A transfer code of a network that this version does not know.
///
/// `Debug` shows the network alone: any other field may be an account number.
#[derive(Clone, PartialEq)]
pub struct UnknownTransferCode {
    network: PaymentNetwork,
    fields: Map<String, Value>,
}

impl UnknownTransferCode {
    /// The network as it was read.
    #[must_use]
    pub fn network(&self) -> &PaymentNetwork {
        &self.network
    }
}

impl fmt::Debug for UnknownTransferCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnknownTransferCode")
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TransferCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ach(code) => code.fmt(f),
            Self::Eft(code) => code.fmt(f),
            Self::Bacs(code) => code.fmt(f),
            Self::International(code) => code.fmt(f),
            Self::Unknown(code) => code.fmt(f),
        }
    }
}

open_enum! {
    /// A payment network.
    pub enum PaymentNetwork {
        /// Automated Clearing House, United States.
        Ach = "ach",
        /// Electronic funds transfer, Canada.
        Eft = "eft",
        /// Bacs, United Kingdom.
        Bacs = "bacs",
        /// An IBAN, with or without a BIC.
        International = "international",
    }
}

message! {
    /// A transfer code of the ACH network.
    pub struct Ach {
        required {
            /// The account number, or a token that stands for it.
            #[serde(deserialize_with = "wire::identifier")]
            account_number: AccountNumber,
            /// Nine digits with the ABA checksum.
            #[serde(deserialize_with = "wire::identifier")]
            routing_number: String,
            /// Whether money can be taken from the account.
            debit: bool,
            /// Whether money can be sent to the account.
            credit: bool,
        }
        optional {
            /// The routing number for wires, where it differs.
            wire_routing_number: String,
            /// Whether the account number is a token.
            tokenized: bool,
        }
    }
}

message! {
    /// A transfer code of the EFT network.
    pub struct Eft {
        required {
            /// The account number.
            #[serde(deserialize_with = "wire::identifier")]
            account_number: AccountNumber,
            /// Three digits.
            #[serde(deserialize_with = "wire::identifier")]
            institution_number: String,
            /// Five digits.
            #[serde(deserialize_with = "wire::identifier")]
            branch_number: String,
            /// Whether money can be taken from the account.
            debit: bool,
            /// Whether money can be sent to the account.
            credit: bool,
        }
    }
}

message! {
    /// A transfer code of the Bacs network.
    pub struct Bacs {
        required {
            /// Eight digits.
            #[serde(deserialize_with = "wire::identifier")]
            account_number: AccountNumber,
            /// Six digits.
            #[serde(deserialize_with = "wire::identifier")]
            sort_code: String,
            /// Whether money can be taken from the account.
            debit: bool,
            /// Whether money can be sent to the account.
            credit: bool,
        }
    }
}

message! {
    /// An IBAN, with its BIC where the partner gives one.
    pub struct International {
        required {
            /// ISO 13616, with its checksum.
            #[serde(deserialize_with = "wire::identifier")]
            iban: AccountNumber,
            /// Whether money can be taken from the account.
            debit: bool,
            /// Whether money can be sent to the account.
            credit: bool,
        }
        optional {
            /// ISO 9362.
            bic: String,
        }
    }
}

impl TransferCode {
    /// The network, as the wire spells it.
    #[must_use]
    pub fn network(&self) -> PaymentNetwork {
        match self {
            Self::Ach(_) => PaymentNetwork::Ach,
            Self::Eft(_) => PaymentNetwork::Eft,
            Self::Bacs(_) => PaymentNetwork::Bacs,
            Self::International(_) => PaymentNetwork::International,
            Self::Unknown(code) => code.network.clone(),
        }
    }
}

impl Serialize for TransferCode {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tagged<'a, T> {
            network: PaymentNetwork,
            #[serde(flatten)]
            code: &'a T,
        }
        let network = self.network();
        match self {
            Self::Ach(code) => Tagged { network, code }.serialize(s),
            Self::Eft(code) => Tagged { network, code }.serialize(s),
            Self::Bacs(code) => Tagged { network, code }.serialize(s),
            Self::International(code) => Tagged { network, code }.serialize(s),
            Self::Unknown(code) => code.fields.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for TransferCode {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let not_json = || serde::de::Error::custom(wire::NOT_JSON);
        let fields = Held::deserialize(d)?;
        let network = PaymentNetwork::from(fields.tag("network")?);
        Ok(match network {
            PaymentNetwork::Ach => Self::Ach(wire::from_held(&fields)?),
            PaymentNetwork::Eft => Self::Eft(wire::from_held(&fields)?),
            PaymentNetwork::Bacs => Self::Bacs(wire::from_held(&fields)?),
            PaymentNetwork::International => Self::International(wire::from_held(&fields)?),
            network => {
                let fields = fields.into_map().ok_or_else(not_json)?;
                Self::Unknown(UnknownTransferCode { network, fields })
            }
        })
    }
}
