//! The fields of depository accounts: their transfer codes.

use crate::{
    message::message,
    model::account_subtype::DepositorySubtype,
    primitive::{open_enum::open_enum, secret::AccountNumber},
    wire::{self, BufferedValue},
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
            /// The subtype.
            subtype: DepositorySubtype,
        }
        optional {
            /// The transfer codes, one per payment network; `None` if the client may not see them.
            transfer_codes: Vec<TransferCode>,
        }
    }
}

/// The account numbers of an account in one payment network.
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
    /// An IBAN with an optional BIC.
    International(International),
    /// A network that this version does not know, with all its fields.
    #[cfg_attr(feature = "openapi", schemars(skip))]
    Unknown(UnknownTransferCode),
}

/// A transfer code of a network that this version does not know.
///
/// `Debug` shows only the network, because any other field may be an account number.
#[derive(Clone, PartialEq)]
pub struct UnknownTransferCode {
    network: PaymentNetwork,
    fields: Map<String, Value>,
}

impl UnknownTransferCode {
    /// Returns the network as it was read.
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
        /// An IBAN with an optional BIC.
        International = "international",
    }
}

message! {
    /// A transfer code of the ACH network.
    pub struct Ach {
        required {
            /// The account number, or a token that replaces it.
            #[serde(deserialize_with = "wire::identifier")]
            account_number: AccountNumber,
            /// The routing number: nine digits with the ABA checksum.
            #[serde(deserialize_with = "wire::identifier")]
            routing_number: String,
            /// Whether the account can be debited.
            debit: bool,
            /// Whether the account can be credited.
            credit: bool,
        }
        optional {
            /// The routing number for wire transfers, if it differs.
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
            /// The institution number, three digits.
            #[serde(deserialize_with = "wire::identifier")]
            institution_number: String,
            /// The branch number, five digits.
            #[serde(deserialize_with = "wire::identifier")]
            branch_number: String,
            /// Whether the account can be debited.
            debit: bool,
            /// Whether the account can be credited.
            credit: bool,
        }
    }
}

message! {
    /// A transfer code of the Bacs network.
    pub struct Bacs {
        required {
            /// The account number, eight digits.
            #[serde(deserialize_with = "wire::identifier")]
            account_number: AccountNumber,
            /// The sort code, six digits.
            #[serde(deserialize_with = "wire::identifier")]
            sort_code: String,
            /// Whether the account can be debited.
            debit: bool,
            /// Whether the account can be credited.
            credit: bool,
        }
    }
}

message! {
    /// An IBAN with an optional BIC.
    pub struct International {
        required {
            /// The IBAN of ISO 13616, with its checksum.
            #[serde(deserialize_with = "wire::identifier")]
            iban: AccountNumber,
            /// Whether the account can be debited.
            debit: bool,
            /// Whether the account can be credited.
            credit: bool,
        }
        optional {
            /// The BIC of ISO 9362.
            bic: String,
        }
    }
}

impl TransferCode {
    /// Returns the payment network.
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
        let fields = BufferedValue::deserialize(d)?;
        let network = PaymentNetwork::from(fields.tag("network")?);
        Ok(match network {
            PaymentNetwork::Ach => Self::Ach(wire::from_buffered(&fields)?),
            PaymentNetwork::Eft => Self::Eft(wire::from_buffered(&fields)?),
            PaymentNetwork::Bacs => Self::Bacs(wire::from_buffered(&fields)?),
            PaymentNetwork::International => Self::International(wire::from_buffered(&fields)?),
            network => {
                let fields = fields.into_map()?;
                Self::Unknown(UnknownTransferCode { network, fields })
            }
        })
    }
}
