//! The rules of a page of transactions (`px.md` sections 2.2 and 3.7).

use super::number;
use super::{
    Report,
    contract_limits::LimitCheck,
    rule,
    user::{check_security, check_unit, unique, unknown_value},
};
use crate::{
    model::{account::AccountType, location::GeoLocation, transaction::Transaction},
    partner::{Position, TransactionsQuery, TransactionsResponse, UserAccountInfoResponse},
    primitive::{
        currency::{CurrencyCode, Unit},
        date::Date,
        id::{AccountId, SecurityId},
    },
};
use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    fmt,
};

/// The context of a page: the request and the user's data.
///
/// Rules that depend on missing context are not checked.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PageContext<'a> {
    /// The request of the page.
    pub query: Option<&'a TransactionsQuery>,
    /// The user's accounts and securities.
    pub known: Option<&'a KnownIds>,
}

impl<'a> PageContext<'a> {
    /// Creates an empty context.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the request of the page.
    #[must_use]
    pub fn query(mut self, query: &'a TransactionsQuery) -> Self {
        self.query = Some(query);
        self
    }

    /// Sets the accounts and securities of the user.
    #[must_use]
    pub fn known(mut self, known: &'a KnownIds) -> Self {
        self.known = Some(known);
        self
    }
}

/// The ids of the accounts and securities in a user response.
#[derive(Clone, Debug, Default)]
pub struct KnownIds {
    accounts: HashMap<AccountId, AccountType>,
    securities: HashSet<SecurityId>,
}

impl KnownIds {
    /// Collects the ids from a user response.
    #[must_use]
    pub fn of(user: &UserAccountInfoResponse) -> Self {
        Self {
            accounts: user.accounts.iter().map(|a| (a.id.clone(), a.account_type())).collect(),
            securities: user.securities.iter().map(|s| s.id.clone()).collect(),
        }
    }
}

impl TransactionsResponse {
    /// Validates the page and returns all violations.
    ///
    /// Contract: `px.md` sections 2.2 and 3.8.
    #[must_use]
    pub fn validate(&self, context: &PageContext<'_>) -> Report {
        let mut report = Report::default();
        let securities =
            unique(&mut report, "securities", self.securities.iter().map(|s| s.id.as_str()));
        for (i, security) in self.securities.iter().enumerate() {
            check_security(&mut report, security, &format_args!("securities[{i}]"));
        }
        if let Some(query) = context.query {
            check_length(&mut report, self, query);
        }
        unique(&mut report, "transactions", self.transactions.iter().map(|t| t.id.as_str()));
        let window = context.query.map(|query| (query.start_date, query.end_date));
        let mut before: Option<(Date, &str)> = None;
        // A page usually has one currency, and the lookup of a currency is the most expensive check.
        let mut listed: Option<CurrencyCode> = None;
        let mut account_before: Option<(&AccountId, Option<&AccountType>)> = None;
        for (i, transaction) in self.transactions.iter().enumerate() {
            let at = format_args!("transactions[{i}]");
            let date = transaction.date();
            match &transaction.unit {
                Unit::Iso(code) if listed == Some(*code) => {}
                Unit::Iso(code) if code.is_known() => listed = Some(*code),
                unit => check_unit(&mut report, unit, &at),
            }
            check_dates(&mut report, transaction, date, window, &at);
            let id = transaction.id.as_str();
            if let Some((before, before_id)) = before
                && before.cmp(&date).then(id.cmp(before_id)) == Ordering::Less
            {
                report.error(
                    rule::ORDER,
                    format_args!("{at}"),
                    "out of order: newest date first, then by `id`, byte by byte",
                );
            }
            before = Some((date, id));
            LimitCheck::new(&mut report, &at).transaction(transaction);
            check_transaction(&mut report, transaction, &at);
            let Some(known) = context.known else {
                continue;
            };
            let account = match account_before {
                // Consecutive rows often belong to the same account.
                Some((id, account)) if *id == transaction.account_id => account,
                _ => known.accounts.get(&transaction.account_id),
            };
            account_before = Some((&transaction.account_id, account));
            match account {
                None => report.error(
                    rule::REFERENCE,
                    format_args!("{at}.account_id"),
                    "the account is not one of the user's",
                ),
                Some(kind) if *kind != transaction.kind => report.error(
                    rule::ACCOUNT_TYPE,
                    format_args!("{at}.type"),
                    "differs from the type of the account",
                ),
                Some(_) => {}
            }
            let security = transaction.investment.as_ref().and_then(|i| i.security_id.as_ref());
            if let Some(id) = security
                && !securities.contains(id.as_str())
                && !known.securities.contains(id)
            {
                report.error(
                    rule::REFERENCE,
                    format_args!("{at}.investment.security_id"),
                    "the security is neither on the page nor in the user's `securities`",
                );
            }
        }
        report
    }
}

fn check_length(report: &mut Report, page: &TransactionsResponse, query: &TransactionsQuery) {
    let length = page.transactions.len() as u64;
    if length > query.limit {
        report.error(rule::LIMIT, format_args!("transactions"), "the page is longer than `limit`");
    }
    let given = match query.position {
        Position::Offset(offset) if length > 0 => offset.saturating_add(length),
        _ => length,
    };
    if page.total < given {
        report.error(
            rule::TOTAL,
            format_args!("total"),
            "smaller than the number of transactions up to this page",
        );
    }
}

fn check_dates(
    report: &mut Report,
    transaction: &Transaction,
    date: Date,
    window: Option<(Date, Date)>,
    at: &fmt::Arguments<'_>,
) {
    if window.is_some_and(|(start, end)| !(start..=end).contains(&date)) {
        let field = match transaction.settled_at {
            Some(_) => "settled_at",
            None => "transacted_at",
        };
        report.error(rule::WINDOW, format_args!("{at}.{field}"), "outside the requested window");
    }
    if transaction.settled_at.is_some() && date < transaction.transacted_at.date() {
        report.error(
            rule::SETTLED_AFTER_MADE,
            format_args!("{at}.settled_at"),
            "before the date of `transacted_at`",
        );
    }
}

fn check_transaction(report: &mut Report, transaction: &Transaction, at: &fmt::Arguments<'_>) {
    unknown_value(report, transaction.kind.is_known(), at, "type");
    if let Some(code) = &transaction.code {
        unknown_value(report, code.is_known(), at, "code");
    }
    if let Some(details) = &transaction.investment {
        if transaction.kind.is_known() && transaction.kind != AccountType::Investment {
            report.error(
                rule::MISPLACED_FIELD,
                format_args!("{at}.investment"),
                "only a transaction of type `investment` has this field",
            );
        }
        unknown_value(report, details.kind.is_known(), at, "investment.type");
        let subtype = details.subtype.as_ref();
        let known = subtype.is_none_or(|subtype| subtype.is_known());
        unknown_value(report, known, at, "investment.subtype");
    }
    let Some(merchant) = &transaction.merchant else {
        return;
    };
    if merchant.mcc.as_deref().is_some_and(|mcc| !number::is_digits(mcc, 4)) {
        report.error(rule::MCC, format_args!("{at}.merchant.mcc"), "not four digits (ISO 18245)");
    }
    if let Some(location) = &merchant.location {
        check_location(report, location, &format_args!("{at}.merchant.location"));
    }
}

fn check_location(report: &mut Report, location: &GeoLocation, at: &fmt::Arguments<'_>) {
    if location.country.as_deref().is_some_and(|c| !number::is_country(c)) {
        report.error(
            rule::COUNTRY,
            format_args!("{at}.country"),
            "not two capital letters (ISO 3166-1)",
        );
    }
    let Some(point) = &location.coordinates else {
        return;
    };
    for (field, value, limit) in [("lat", point.lat, 90.0), ("lon", point.lon, 180.0)] {
        if value.abs() > limit {
            report.error(
                rule::COORDINATES,
                format_args!("{at}.coordinates.{field}"),
                "out of range, in degrees (WGS 84)",
            );
        }
    }
}
