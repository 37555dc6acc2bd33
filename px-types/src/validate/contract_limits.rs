//! The limits of the contract that are stricter than those of the types: amounts and ids.

use super::{Report, rule};
use crate::{
    model::{
        account::{Account, AccountKind},
        identity::Identity,
        security::Security,
        transaction::Transaction,
    },
    primitive::{amount::Amount, id::CONTRACT_ID_BYTES},
};
use std::fmt;

/// Checks the limits of the contract in one entry of a list.
pub(super) struct LimitCheck<'r, 'p> {
    report: &'r mut Report,
    at: &'r fmt::Arguments<'p>,
}

impl<'r, 'p> LimitCheck<'r, 'p> {
    pub(super) fn new(report: &'r mut Report, at: &'r fmt::Arguments<'p>) -> Self {
        Self { report, at }
    }

    fn amount(&mut self, field: &str, amount: impl Into<Option<Amount>>) {
        let Some(amount) = amount.into().filter(|amount| !amount.is_conforming()) else {
            return;
        };
        let at = self.at;
        if amount.scale() > Amount::CONTRACT_SCALE {
            let text = "too many decimal places: at most 6";
            self.report.error(rule::DECIMAL_PLACES, format_args!("{at}.{field}"), text);
        } else {
            let text = "too many digits before the point: at most 22";
            self.report.error(rule::WIDE_AMOUNT, format_args!("{at}.{field}"), text);
        }
    }

    fn amounts<const N: usize>(&mut self, amounts: [(&str, Option<Amount>); N]) {
        for (field, amount) in amounts {
            self.amount(field, amount);
        }
    }

    fn id(&mut self, field: &str, id: &str) {
        if id.len() > CONTRACT_ID_BYTES {
            let at = self.at;
            let text = "an id has at most 255 bytes";
            self.report.error(rule::WIDE_ID, format_args!("{at}.{field}"), text);
        }
    }

    pub(super) fn transaction(&mut self, row: &Transaction) {
        self.id("id", row.id.as_str());
        self.id("account_id", row.account_id.as_str());
        self.amount("amount", row.amount);
        if let Some(details) = &row.investment {
            self.amount("investment.quantity", details.quantity);
            self.amount("investment.price", details.price);
            self.amount("investment.fees", details.fees);
            if let Some(id) = &details.security_id {
                self.id("investment.security_id", id.as_str());
            }
        }
    }

    pub(super) fn identity(&mut self, identity: &Identity) {
        self.id("id", identity.id.as_str());
    }

    pub(super) fn security(&mut self, security: &Security) {
        self.id("id", security.id.as_str());
        self.amount("current_price", security.current_price);
        self.amount("close_price", security.close_price);
    }

    pub(super) fn account(&mut self, account: &Account) {
        self.id("id", account.id.as_str());
        self.amount("current_balance", account.current_balance);
        self.amount("available_balance", account.available_balance);
        match &account.kind {
            AccountKind::Credit(kind) => {
                self.amounts([
                    ("credit_limit", kind.credit_limit),
                    ("last_payment_amount", kind.last_payment_amount),
                    ("last_statement_balance", kind.last_statement_balance),
                    ("minimum_payment_amount", kind.minimum_payment_amount),
                ]);
                for (i, apr) in kind.aprs.iter().enumerate() {
                    let field = format!("aprs[{i}].balance_subject_to_apr");
                    self.amount(&field, apr.balance_subject_to_apr);
                    let field = format!("aprs[{i}].interest_charge_amount");
                    self.amount(&field, apr.interest_charge_amount);
                }
            }
            AccountKind::Loan(kind) => {
                let fee = kind.mortgage.as_ref().and_then(|mortgage| mortgage.current_late_fee);
                self.amounts([
                    ("last_payment_amount", kind.last_payment_amount),
                    ("last_statement_balance", kind.last_statement_balance),
                    ("minimum_payment_amount", kind.minimum_payment_amount),
                    ("origination_principal_amount", kind.origination_principal_amount),
                    ("outstanding_interest_amount", kind.outstanding_interest_amount),
                    ("ytd_interest_paid", kind.ytd_interest_paid),
                    ("ytd_principal_paid", kind.ytd_principal_paid),
                    ("past_due_amount", kind.past_due_amount),
                    ("escrow_balance", kind.escrow_balance),
                    ("mortgage.current_late_fee", fee),
                ]);
            }
            AccountKind::Investment(kind) => {
                for (i, holding) in kind.holdings.iter().enumerate() {
                    let at = self.at;
                    let at = format_args!("{at}.holdings[{i}]");
                    let mut holding_at = LimitCheck { report: &mut *self.report, at: &at };
                    holding_at.id("security_id", holding.security_id.as_str());
                    holding_at.amounts([
                        ("quantity", Some(holding.quantity)),
                        ("institution_price", Some(holding.institution_price)),
                        ("institution_value", Some(holding.institution_value)),
                        ("cost_basis", holding.cost_basis),
                        ("vested_quantity", holding.vested_quantity),
                        ("vested_value", holding.vested_value),
                    ]);
                }
            }
            AccountKind::Depository(_) | AccountKind::Other(_) | AccountKind::Unknown(_) => {}
        }
    }
}
