//! The accounts and people of a household as PX messages, on a given day.

use super::{
    Calendar, Day, HISTORY_DAYS, codes, date_of,
    household::{Household, HouseholdAccount, Kind, Person},
    money::{cents, share},
    security::{CASH, LISTINGS, Listing},
};
use px_types::{
    AccountId, Amount, Date, IdentityId, Rate, SecurityId, Unit,
    model::{
        account::{Account, AccountKind, AccountStatus, AccountType, OwnershipType},
        account_subtype::{CreditSubtype, DepositorySubtype, InvestmentSubtype, LoanSubtype},
        credit::{Apr, AprType, Credit},
        depository::{Ach, Depository, International, TransferCode},
        identity::{Email, EmailType, Identity, PhoneNumber, PhoneNumberType},
        investment::{Holding, Investment},
        loan::{InterestRate, InterestRateType, Loan, Mortgage},
        location::Address,
        security::Security,
        student::{
            PslfStatus, Student, StudentLoanStatus, StudentLoanStatusType, StudentRepaymentPlan,
            StudentRepaymentPlanType,
        },
    },
};

/// Sums over the transactions of an account, in minor units.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// The balance before the first transaction.
    pub opening: i64,
    /// The sum of posted transactions; positive amounts left the account.
    pub posted: i64,
    /// The sum of pending transactions that would leave the account.
    pub held: i64,
}

impl Kind {
    /// Returns the account type on the wire.
    #[must_use]
    pub fn account_type(self) -> AccountType {
        match self {
            Self::Checking | Self::Savings | Self::Euro | Self::Parent => AccountType::Depository,
            Self::Card => AccountType::Credit,
            Self::Mortgage | Self::Student | Self::Consumer => AccountType::Loan,
            Self::Brokerage | Self::Retirement => AccountType::Investment,
        }
    }

    /// Returns the currency of the account.
    #[must_use]
    pub fn currency(self) -> &'static str {
        if self == Self::Euro { "EUR" } else { "USD" }
    }

    /// Returns the user's name for the account, and the bank's.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Checking => ("Everyday Checking", "Larkfield Everyday Checking"),
            Self::Savings => ("Rainy Day Savings", "Larkfield Growth Savings"),
            Self::Card => ("Larkfield Visa", "Larkfield Rewards Visa Signature"),
            Self::Mortgage => ("Home loan", "Larkfield 30-Year Fixed Mortgage"),
            Self::Student => ("Student loan", "Larkfield Education Loan"),
            Self::Consumer => ("Personal loan", "Larkfield Installment Loan"),
            Self::Brokerage => ("Brokerage", "Larkfield Invest Individual Brokerage"),
            Self::Retirement => ("401(k)", "Larkfield Retirement 401(k) Plan"),
            Self::Euro => ("Euro account", "Larkfield Euro Cash Management"),
            Self::Parent => ("Mom's savings", "Larkfield Growth Savings"),
        }
    }

    /// Returns a usual balance, and the lowest balance within the first two years.
    fn balances(self) -> (i64, i64) {
        match self {
            Self::Checking => (412_055, 361_240),
            Self::Savings => (1_250_000, 500_000),
            Self::Euro => (318_400, 100_000),
            Self::Parent => (2_760_915, 500_000),
            Self::Card => (98_275, 60_000),
            Self::Mortgage => (31_450_000, 22_000_000),
            Self::Student => (2_640_000, 1_100_000),
            Self::Consumer => (1_480_000, 310_000),
            Self::Brokerage => (225_430, 20_000),
            Self::Retirement => (40_120, 10_000),
        }
    }
}

impl Household {
    /// Returns opening balances with which no account runs dry within the history.
    #[must_use]
    pub fn openings(&self, history: &[(usize, Day, i64)]) -> Vec<i64> {
        let mut by_day = history.to_vec();
        by_day.sort_unstable_by_key(|(account, day, _)| (*account, *day));
        let places = self.accounts.iter().enumerate();
        let opening = places.map(|(place, spec)| {
            let (usual, least) = spec.kind.balances();
            let usual = usual + self.habit(&spec.id).range(0, usual / 3);
            let sign = if spec.kind.is_debt() { 1 } else { -1 };
            let mut balance = 0;
            let changes = by_day.iter().filter(|(account, ..)| *account == place);
            let lowest = changes.fold(0, |lowest, (_, _, minor)| {
                balance += sign * minor;
                balance.min(lowest)
            });
            usual.max(least - lowest)
        });
        opening.collect()
    }

    /// Returns the people as identities.
    #[must_use]
    pub fn identities(&self, email: &str) -> Vec<Identity> {
        let people = self.people.iter().enumerate();
        people
            .filter_map(|(place, person)| {
                let own = (place == 0).then(|| email.to_owned());
                let address = own.unwrap_or_else(|| {
                    format!("{}.{}@mail.example", person.first, person.last).to_lowercase()
                });
                self.identity(person, address)
            })
            .collect()
    }

    fn identity(&self, person: &Person, address: String) -> Option<Identity> {
        let name = format!("{} {}", person.first, person.last);
        let mut identity = Identity::new(IdentityId::new(&person.id).ok()?, name.clone());
        identity.names = vec![name, format!("{}. {}", &person.first[..1], person.last)];
        identity.email = Some(address.clone());
        let mut email = Email::new(address);
        email.kind = Some(EmailType::Primary);
        email.primary = Some(true);
        identity.emails = vec![email];
        let mut phone = PhoneNumber::new(person.phone.clone());
        phone.kind = Some(PhoneNumberType::Mobile);
        phone.primary = Some(true);
        identity.phone_numbers = vec![phone];
        let mut home = self.address(&person.street);
        home.primary = Some(true);
        identity.addresses = vec![home];
        Some(identity)
    }

    fn address(&self, street: &str) -> Address {
        let mut address = Address::new();
        address.street = Some(street.to_owned());
        address.city = Some(self.city.name.to_owned());
        address.region = Some(self.city.region.to_owned());
        address.postal_code = Some(self.city.postal_code.to_owned());
        address.country = Some("US".to_owned());
        address
    }

    /// Returns the securities of the bank on a day.
    #[must_use]
    pub fn securities(today: Day) -> Vec<Security> {
        LISTINGS.iter().filter_map(|listing| listing.message(today)).collect()
    }

    /// Returns an account as of a day. Returns `None` if there is no such account.
    #[must_use]
    pub fn account(&self, place: usize, today: Day, sums: Sums) -> Option<Account> {
        let spec = self.accounts.get(place)?;
        let owners = spec.owners.iter().map(|n| IdentityId::new(&self.people[*n].id));
        let others = spec.others.iter().map(|n| IdentityId::new(&self.people[*n].id));
        let (name, official) = spec.kind.names();
        let sign = if spec.kind.is_debt() { 1 } else { -1 };
        let balance = sums.opening + sign * sums.posted;
        let (kind, current, available) = match spec.kind.account_type() {
            AccountType::Credit => {
                let (credit, limit) = self.credit(today, balance)?;
                (AccountKind::Credit(credit), balance, Some(limit - balance - sums.held))
            }
            AccountType::Loan => {
                let loan = self.loan(spec, today, balance)?;
                (AccountKind::Loan(Box::new(loan)), balance, None)
            }
            AccountType::Investment => {
                let (investment, value) = self.investment(place, today, balance)?;
                (AccountKind::Investment(investment), value, None)
            }
            _ => {
                let depository = depository(spec)?;
                (AccountKind::Depository(depository), balance, Some(balance - sums.held))
            }
        };
        let mut account = Account::new(
            AccountId::new(&spec.id).ok()?,
            name,
            AccountStatus::Active,
            owners.collect::<Result<Vec<_>, _>>().ok()?,
            cents(current),
            Unit::iso(spec.kind.currency()).ok()?,
            kind,
        );
        account.non_owner_identity_ids = others.collect::<Result<_, _>>().ok()?;
        account.official_name = Some(official.to_owned());
        account.display_mask = Some(spec.number[spec.number.len() - 4..].to_owned());
        account.ownership_type = Some(match spec.owners.len() {
            1 => OwnershipType::Individual,
            _ => OwnershipType::Joint,
        });
        account.opening_date = Some(date_of(spec.opened));
        account.available_balance = available.map(cents);
        account.tax_advantaged = Some(spec.kind == Kind::Retirement);
        Some(account)
    }

    fn credit(&self, today: Day, owed: i64) -> Option<(Credit, i64)> {
        let mut credit = Credit::new(CreditSubtype::CreditCard);
        // A card with high spending has a matching limit.
        let limit = (owed.max(0) * 2 / 500_000 + 2) * 500_000;
        let paid = last_of_month(today, 24);
        let statement = month_end_before(today);
        let balance = self.statement(paid);
        credit.credit_limit = Some(cents(limit));
        credit.is_overdue = Some(false);
        credit.last_payment_amount = Some(cents(balance));
        credit.last_payment_date = Some(date_of(paid));
        credit.last_statement_issue_date = Some(date_of(statement));
        let charged = self.statement(statement + 1);
        credit.last_statement_balance = Some(cents(charged));
        credit.minimum_payment_amount = Some(cents(share(charged, 3, 100).max(2_500)));
        credit.next_payment_due_date = Some(next_of_month(today, 24));
        let mut purchases = Apr::new("21.99".parse::<Rate>().ok()?, AprType::PurchaseApr);
        purchases.balance_subject_to_apr = Some(cents(0));
        purchases.interest_charge_amount = Some(cents(0));
        let cash = Apr::new("26.99".parse::<Rate>().ok()?, AprType::CashApr);
        credit.aprs = vec![purchases, cash];
        Some((credit, limit))
    }

    fn loan(&self, spec: &HouseholdAccount, today: Day, owed: i64) -> Option<Loan> {
        let (subtype, due, rate, years) = match spec.kind {
            Kind::Mortgage => (LoanSubtype::Mortgage, 1, "6.125", 30),
            Kind::Student => (LoanSubtype::Student, 10, "5.28", 10),
            _ => (LoanSubtype::Consumer, 21, "9.9", 5),
        };
        let payment = self.installment(spec.kind);
        let mut loan = Loan::new(subtype);
        let paid = last_of_month(today, due);
        loan.is_overdue = Some(false);
        loan.last_payment_amount = Some(cents(payment));
        loan.last_payment_date = Some(date_of(paid));
        loan.minimum_payment_amount = Some(cents(payment));
        loan.next_payment_due_date = Some(next_of_month(today, due));
        loan.last_statement_issue_date = Some(date_of(month_end_before(today)));
        loan.last_statement_balance = Some(cents(owed));
        let mut interest = InterestRate::new(rate.parse::<Rate>().ok()?);
        interest.kind = Some(InterestRateType::Fixed);
        loan.interest_rate = Some(interest);
        loan.origination_date = Some(date_of(spec.opened));
        loan.maturity_date = Some(date_of(spec.opened + years * 365));
        // The debt two years ago plus the principal paid in the years before.
        let months = (self.first - spec.opened) / 30;
        let origin = (sums_to_thousands(owed) + payment * months / 2) / 100_000 * 100_000;
        loan.origination_principal_amount = Some(cents(origin.max(owed)));
        loan.outstanding_interest_amount = Some(cents(share(payment, 1, 10)));
        let months = i64::from(Calendar::of(today).month);
        loan.ytd_interest_paid = Some(cents(share(payment * months, 40, 100)));
        loan.ytd_principal_paid = Some(cents(share(payment * months, 60, 100)));
        loan.past_due_amount = Some(cents(0));
        match spec.kind {
            Kind::Mortgage => {
                loan.escrow_balance = Some(cents(share(payment, 2, 1)));
                let mut mortgage = Mortgage::new();
                mortgage.loan_type_description = Some("conventional".to_owned());
                mortgage.loan_term = Some("30 year".to_owned());
                mortgage.has_pmi = Some(false);
                mortgage.has_prepayment_penalty = Some(false);
                mortgage.current_late_fee = Some(cents(0));
                mortgage.property_address = Some(self.address(&self.people[0].street));
                loan.mortgage = Some(mortgage);
            }
            Kind::Student => loan.student = Some(self.student(spec)),
            _ => {}
        }
        Some(loan)
    }

    fn student(&self, spec: &HouseholdAccount) -> Student {
        let mut student = Student::new();
        let ends = date_of(spec.opened + 10 * 365);
        student.loan_name = Some("Direct Unsubsidized".to_owned());
        let mut status = StudentLoanStatus::new(StudentLoanStatusType::Repayment);
        status.end_date = Some(ends);
        student.loan_status = Some(status);
        let mut plan = StudentRepaymentPlan::new(StudentRepaymentPlanType::Standard);
        plan.description = Some("Standard repayment over ten years".to_owned());
        student.repayment_plan = Some(plan);
        student.guarantor = Some("Department of Education".to_owned());
        student.expected_payoff_date = Some(ends);
        student.sequence_number = Some("1".to_owned());
        student.payment_reference_number = Some(spec.number.clone());
        student.servicer_address = Some(self.address("100 Campus Way"));
        student.disbursement_dates = vec![date_of(spec.opened), date_of(spec.opened + 180)];
        let mut pslf = PslfStatus::new();
        pslf.payments_made = Some(((self.first - spec.opened) / 30).unsigned_abs().min(119));
        pslf.payments_remaining = Some(120 - pslf.payments_made.unwrap_or(0));
        student.pslf_status = Some(pslf);
        student
    }

    fn investment(&self, place: usize, today: Day, cash: i64) -> Option<(Investment, i64)> {
        let brokerage = self.accounts[place].kind == Kind::Brokerage;
        // Holdings before the history began, in ten-thousandths of a unit.
        let held: &[(usize, i64)] = match brokerage {
            true => &[(1, 1_205_000), (2, 8_411_250), (4, 320_000), (5, 450_000), (6, 100_000)],
            false => &[(3, 14_882_310)],
        };
        let subtype = match brokerage {
            true => InvestmentSubtype::Brokerage,
            false => InvestmentSubtype::Plan401k,
        };
        let mut holdings = vec![holding(&LISTINGS[CASH], cash * 100, today)?];
        let mut value = cash;
        for (listing, before) in held {
            let quantity = before + self.bought(place, *listing, today);
            let listing = &LISTINGS[*listing];
            value += share(quantity, listing.price(today), 10_000);
            let mut holding = holding(listing, quantity, today)?;
            let paid = share(quantity, listing.price(self.first - HISTORY_DAYS), 10_000);
            holding.cost_basis = Some(cents(paid));
            if !brokerage {
                let vested = share(quantity, 4, 5);
                holding.vested_quantity = Some(super::money::amount(vested, 4));
                holding.vested_value = Some(cents(share(vested, listing.price(today), 10_000)));
            }
            holdings.push(holding);
        }
        Some((Investment::new(subtype, holdings), value))
    }
}

fn sums_to_thousands(owed: i64) -> i64 {
    owed / 100_000 * 100_000 + 400_000
}

fn holding(listing: &Listing, quantity: i64, today: Day) -> Option<Holding> {
    let price = listing.price(today);
    let value = share(quantity, price, 10_000);
    let mut holding = Holding::new(
        SecurityId::new(listing.id).ok()?,
        super::money::amount(quantity, 4),
        cents(price),
        cents(value),
        Unit::iso("USD").ok()?,
    );
    holding.institution_price_as_of = Some(date_of(today).into());
    Some(holding)
}

fn depository(spec: &HouseholdAccount) -> Option<Depository> {
    let subtype = match spec.kind {
        Kind::Checking => DepositorySubtype::Checking,
        Kind::Euro => DepositorySubtype::CashManagement,
        _ => DepositorySubtype::Savings,
    };
    let number = |text: String| px_types::AccountNumber::new(text);
    let code = if spec.kind == Kind::Euro {
        let iban = codes::iban("DE", &format!("50010517{}", spec.number));
        let mut code = International::new(number(iban), true, true);
        code.bic = Some("LRKFDEFF".to_owned());
        TransferCode::International(code)
    } else {
        let mut ach = Ach::new(number(spec.number.clone()), codes::routing_number(), true, true);
        ach.tokenized = Some(false);
        TransferCode::Ach(ach)
    };
    let mut depository = Depository::new(subtype);
    depository.transfer_codes = Some(vec![code]);
    Some(depository)
}

/// Returns the latest day up to today with this day of the month.
fn last_of_month(today: Day, day: u32) -> Day {
    (0..32).map(|back| today - back).find(|at| Calendar::of(*at).day == day).unwrap_or(today)
}

fn next_of_month(today: Day, day: u32) -> Date {
    let next = (1..33).map(|on| today + on).find(|at| Calendar::of(*at).day == day);
    date_of(next.unwrap_or(today))
}

fn month_end_before(today: Day) -> Day {
    today - Day::from(Calendar::of(today).day)
}

/// Returns the balance of an imported account after one more transaction. Returns `None` on
/// overflow.
#[must_use]
pub fn moved(balance: Amount, kind: &AccountType, posted: Amount) -> Option<Amount> {
    match kind {
        AccountType::Credit | AccountType::Loan => balance.checked_add(posted),
        _ => balance.checked_sub(posted),
    }
}
