//! The rules of a user response (`px.md` sections 2.1 and 3.1–3.6).

use super::{Report, contract_limits::LimitCheck, number, rule};
use crate::{
    model::{
        account::{Account, AccountKind, AccountStatus},
        account_subtype::types_of_subtype,
        depository::TransferCode,
        loan::Loan,
        security::Security,
    },
    partner::UserAccountInfoResponse,
    primitive::currency::Unit,
    scope::{Scope, ScopeSet},
};
use std::{
    collections::{BTreeSet, HashSet},
    fmt,
};

/// The context of a user response: the permissions of the client, as far as rules depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserContext {
    /// Whether the client may see `transfer_codes`, so that they are required.
    pub transfer_codes: bool,
}

impl UserContext {
    /// Creates the context of a client that may see everything.
    #[must_use]
    pub fn full() -> Self {
        Self { transfer_codes: true }
    }

    /// Creates the context of a token with these scopes.
    #[must_use]
    pub fn for_scopes(scopes: &ScopeSet) -> Self {
        Self { transfer_codes: scopes.contains(&Scope::AUTH) }
    }
}

impl Default for UserContext {
    fn default() -> Self {
        Self::full()
    }
}

impl UserAccountInfoResponse {
    /// Validates the response and returns all violations.
    ///
    /// Contract: `px.md` section 3.8.
    #[must_use]
    pub fn validate(&self, context: &UserContext) -> Report {
        let mut report = Report::default();
        let identities =
            unique(&mut report, "identities", self.identities.iter().map(|i| i.id.as_str()));
        let securities =
            unique(&mut report, "securities", self.securities.iter().map(|s| s.id.as_str()));
        unique(&mut report, "accounts", self.accounts.iter().map(|a| a.id.as_str()));
        if self.identities.is_empty() {
            report.error(
                rule::IDENTITIES_PRESENT,
                format_args!("identities"),
                "there must be at least one identity",
            );
        }
        if !identities.contains(self.user_identity_id.as_str()) {
            report.error(
                rule::REFERENCE,
                format_args!("user_identity_id"),
                "the identity is not in `identities`",
            );
        }
        for (i, identity) in self.identities.iter().enumerate() {
            LimitCheck::new(&mut report, &format_args!("identities[{i}]")).identity(identity);
        }
        for (i, security) in self.securities.iter().enumerate() {
            check_security(&mut report, security, &format_args!("securities[{i}]"));
        }
        for (i, account) in self.accounts.iter().enumerate() {
            let at = format_args!("accounts[{i}]");
            check_account(&mut report, account, context, &at);
            for (list, ids) in [
                ("owner_identity_ids", &account.owner_identity_ids),
                ("non_owner_identity_ids", &account.non_owner_identity_ids),
            ] {
                for (k, id) in ids.iter().enumerate() {
                    if !identities.contains(id.as_str()) {
                        report.error(
                            rule::REFERENCE,
                            format_args!("{at}.{list}[{k}]"),
                            "the identity is not in `identities`",
                        );
                    }
                }
            }
            if let AccountKind::Investment(kind) = &account.kind {
                for (k, holding) in kind.holdings.iter().enumerate() {
                    check_unit(&mut report, &holding.unit, &format_args!("{at}.holdings[{k}]"));
                    if !securities.contains(holding.security_id.as_str()) {
                        report.error(
                            rule::REFERENCE,
                            format_args!("{at}.holdings[{k}].security_id"),
                            "the security is not in `securities`",
                        );
                    }
                }
            }
        }
        report
    }
}

/// A set of ids. For few ids, such as the accounts of a user, a tree is faster than a hash set.
pub(super) enum Ids<'a> {
    Few(BTreeSet<&'a str>),
    Many(HashSet<&'a str>),
}

impl<'a> Ids<'a> {
    fn for_about(count: usize) -> Self {
        match count {
            0..=16 => Self::Few(BTreeSet::new()),
            _ => Self::Many(HashSet::with_capacity(count)),
        }
    }

    fn insert(&mut self, id: &'a str) -> bool {
        match self {
            Self::Few(ids) => ids.insert(id),
            Self::Many(ids) => ids.insert(id),
        }
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        match self {
            Self::Few(ids) => ids.contains(id),
            Self::Many(ids) => ids.contains(id),
        }
    }
}

/// Returns the ids of a collection, and reports repeated ids.
pub(super) fn unique<'a>(
    report: &mut Report,
    collection: &str,
    ids: impl ExactSizeIterator<Item = &'a str>,
) -> Ids<'a> {
    let mut seen = Ids::for_about(ids.len());
    for (i, id) in ids.enumerate() {
        if !seen.insert(id) {
            report.error(
                rule::UNIQUE_ID,
                format_args!("{collection}[{i}].id"),
                "an entry before this one has the same id",
            );
        }
    }
    seen
}

pub(super) fn check_unit(report: &mut Report, unit: &Unit, at: &fmt::Arguments<'_>) {
    match unit {
        Unit::Iso(code) if !code.is_known() => report.error(
            rule::KNOWN_CURRENCY,
            format_args!("{at}.currency"),
            "ISO 4217 does not list the code; other units belong in `non_iso_currency`",
        ),
        Unit::NonIso(text) if Unit::iso(text).is_ok_and(|unit| is_current(&unit)) => report.error(
            rule::ISO_MONEY,
            format_args!("{at}.non_iso_currency"),
            "ISO 4217 lists the code; it belongs in `currency`",
        ),
        _ => {}
    }
}

/// Returns whether a unit is a current ISO 4217 currency. Withdrawn codes may be names of other units.
fn is_current(unit: &Unit) -> bool {
    matches!(unit, Unit::Iso(code) if code.is_known() && !code.is_withdrawn())
}

pub(super) fn check_security(report: &mut Report, security: &Security, at: &fmt::Arguments<'_>) {
    LimitCheck::new(report, at).security(security);
    check_unit(report, &security.unit, at);
    unknown_value(report, security.kind.is_known(), at, "type");
    if security.isin.as_deref().is_some_and(|isin| !number::is_isin(isin)) {
        report.error(
            rule::ISIN,
            format_args!("{at}.isin"),
            "not an ISIN: twelve characters, the last a check digit (ISO 6166)",
        );
    }
}

/// Reports a value that the contract does not list.
pub(super) fn unknown_value(
    report: &mut Report,
    known: bool,
    at: &fmt::Arguments<'_>,
    field: &str,
) {
    if !known {
        report.hint(
            rule::UNKNOWN_VALUE,
            format_args!("{at}.{field}"),
            "the contract does not list the value",
        );
    }
}

fn check_account(
    report: &mut Report,
    account: &Account,
    context: &UserContext,
    at: &fmt::Arguments<'_>,
) {
    LimitCheck::new(report, at).account(account);
    check_unit(report, &account.unit, at);
    unknown_value(report, account.status.is_known(), at, "status");
    if let Some(ownership) = &account.ownership_type {
        unknown_value(report, ownership.is_known(), at, "ownership_type");
    }
    if account.owner_identity_ids.is_empty() {
        report.error(
            rule::OWNERS_PRESENT,
            format_args!("{at}.owner_identity_ids"),
            "an account has at least one owner",
        );
    }
    if let Some(mask) = &account.display_mask
        && !(2..=4).contains(&mask.chars().count())
    {
        report.error(
            rule::DISPLAY_MASK,
            format_args!("{at}.display_mask"),
            "a mask has the last 2–4 characters of the account number",
        );
    }
    let owed = matches!(account.kind, AccountKind::Credit(_) | AccountKind::Loan(_));
    if owed && account.current_balance.decimal().is_sign_negative() && !is_zero(account) {
        report.hint(
            rule::BALANCE_SIGN,
            format_args!("{at}.current_balance"),
            "the amount owed is negative, so the institution owes the user",
        );
    }
    check_subtype(report, account, at);
    match &account.kind {
        AccountKind::Depository(kind) => {
            match &kind.transfer_codes {
                None if context.transfer_codes => report.error(
                    rule::TRANSFER_CODES_PRESENT,
                    format_args!("{at}.transfer_codes"),
                    "a depository account has transfer codes",
                ),
                Some(codes)
                    if context.transfer_codes
                        && codes.is_empty()
                        && account.status == AccountStatus::Active =>
                {
                    report.error(
                        rule::TRANSFER_CODES_PRESENT,
                        format_args!("{at}.transfer_codes"),
                        "an active depository account has at least one transfer code",
                    );
                }
                _ => {}
            }
            for (i, code) in kind.transfer_codes.iter().flatten().enumerate() {
                check_transfer_code(report, code, &format_args!("{at}.transfer_codes[{i}]"));
            }
        }
        AccountKind::Credit(kind) => {
            for (i, apr) in kind.aprs.iter().enumerate() {
                let at = format_args!("{at}.aprs[{i}]");
                unknown_value(report, apr.kind.is_known(), &at, "type");
            }
        }
        AccountKind::Loan(loan) => check_loan(report, loan, at),
        AccountKind::Unknown(_) => report.hint(
            rule::UNKNOWN_TYPE,
            format_args!("{at}.type"),
            "the contract does not list the type; the rules of the type were not applied",
        ),
        AccountKind::Investment(_) | AccountKind::Other(_) => {}
    }
}

fn is_zero(account: &Account) -> bool {
    account.current_balance.decimal().is_zero()
}

fn check_subtype(report: &mut Report, account: &Account, at: &fmt::Arguments<'_>) {
    let known = match &account.kind {
        AccountKind::Depository(kind) => kind.subtype.is_known(),
        AccountKind::Credit(kind) => kind.subtype.is_known(),
        AccountKind::Loan(kind) => kind.subtype.is_known(),
        AccountKind::Investment(kind) => kind.subtype.is_known(),
        AccountKind::Other(kind) => kind.subtype.is_known(),
        AccountKind::Unknown(_) => return,
    };
    if known {
        return;
    }
    let types = types_of_subtype(account.kind.subtype());
    if types.is_empty() {
        unknown_value(report, false, at, "subtype");
    } else {
        report.error(
            rule::SUBTYPE,
            format_args!("{at}.subtype"),
            format!("the subtype belongs to type {}", types.join(" or ")),
        );
    }
}

fn check_loan(report: &mut Report, loan: &Loan, at: &fmt::Arguments<'_>) {
    for (field, present) in
        [("mortgage", loan.mortgage.is_some()), ("student", loan.student.is_some())]
    {
        // The fields of an unknown subtype are not known.
        if present && loan.subtype.is_known() && loan.subtype.as_str() != field {
            report.error(
                rule::MISPLACED_FIELD,
                format_args!("{at}.{field}"),
                "only a loan of the subtype with this name has this field",
            );
        }
    }
    let rate = loan.interest_rate.as_ref().and_then(|r| r.kind.as_ref());
    if rate.is_some_and(|kind| !kind.is_known()) {
        unknown_value(report, false, at, "interest_rate.type");
    }
    if let Some(student) = &loan.student {
        let status = student.loan_status.as_ref();
        if status.is_some_and(|status| !status.kind.is_known()) {
            unknown_value(report, false, at, "student.loan_status.type");
        }
        let plan = student.repayment_plan.as_ref();
        if plan.is_some_and(|plan| !plan.kind.is_known()) {
            unknown_value(report, false, at, "student.repayment_plan.type");
        }
    }
}

fn check_transfer_code(report: &mut Report, code: &TransferCode, at: &fmt::Arguments<'_>) {
    let mut form = |good: bool, rule, field: &str, text: &'static str| {
        if !good {
            report.error(rule, format_args!("{at}.{field}"), text);
        }
    };
    const ROUTING: &str = "not a routing number: nine digits, the last a check digit (ABA)";
    match code {
        TransferCode::Ach(code) => {
            let good = number::is_routing_number(&code.routing_number);
            form(good, rule::ROUTING_NUMBER, "routing_number", ROUTING);
            let wire = code.wire_routing_number.as_deref();
            let good = wire.is_none_or(number::is_routing_number);
            form(good, rule::ROUTING_NUMBER, "wire_routing_number", ROUTING);
        }
        TransferCode::Eft(code) => {
            let good = number::is_digits(&code.institution_number, 3);
            form(good, rule::EFT_DIGITS, "institution_number", "not three digits");
            let good = number::is_digits(&code.branch_number, 5);
            form(good, rule::EFT_DIGITS, "branch_number", "not five digits");
        }
        TransferCode::Bacs(code) => {
            let good = number::is_digits(code.account_number.expose(), 8);
            form(good, rule::BACS_DIGITS, "account_number", "not eight digits");
            let good = number::is_digits(&code.sort_code, 6);
            form(good, rule::BACS_DIGITS, "sort_code", "not six digits");
        }
        TransferCode::International(code) => {
            let text = "not an IBAN: capital letters and digits with two check digits (ISO 13616)";
            let good = number::is_iban(code.iban.expose());
            form(good, rule::IBAN, "iban", text);
            let text = "not a BIC: eight or eleven capital letters and digits (ISO 9362)";
            let good = code.bic.as_deref().is_none_or(number::is_bic);
            form(good, rule::BIC, "bic", text);
        }
        TransferCode::Unknown(_) => report.hint(
            rule::UNKNOWN_NETWORK,
            format_args!("{at}.network"),
            "the contract does not list the network; its rules were not applied",
        ),
    }
}
