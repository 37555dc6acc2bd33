//! The events of a day. An [`Event`] is a transaction with its whole lifecycle.

use super::{
    Calendar, Day, codes,
    household::{Household, Kind, Plan, id},
    money::share,
    names,
    rng::{Rng, label},
    security::{CASH, LISTINGS},
};
use px_types::model::transaction::{
    InvestmentTransactionSubtype as Subtype, InvestmentTransactionType as Trade, TransactionCode,
};

/// The number of transactions of `user_busy` in two years.
pub const BUSY_TRANSACTIONS: i64 = 100_000;

/// A transaction with its whole lifecycle: made, pending, posted or vanished.
#[derive(Clone, Debug)]
pub struct Event {
    /// The id of the transaction, while it is pending and after.
    pub id: String,
    /// The index of the account in the household.
    pub account: usize,
    /// The day on which it was made.
    pub made: Day,
    /// The time of that day, if known.
    pub time: Option<(u8, u8, u8)>,
    /// The amount while it is pending, in minor units; positive leaves the account.
    pub amount: i64,
    /// The number of days until it posts or vanishes.
    pub pends: Day,
    /// The final outcome.
    pub end: End,
    /// The details.
    pub details: EventDetails,
}

/// The final outcome of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It posts with this amount.
    Posts(i64),
    /// It is released and vanishes.
    Vanishes,
}

/// The state of an event on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is not in the ledger: not made yet, or vanished.
    Absent,
    /// It has not posted yet.
    Pending(i64),
    /// It posted on this day with this amount.
    Posted(Day, i64),
}

impl Event {
    /// Returns the state at the end of a day.
    #[must_use]
    pub fn state(&self, today: Day) -> State {
        let posts = self.made + self.pends;
        match self.end {
            _ if today < self.made => State::Absent,
            _ if today < posts => State::Pending(self.amount),
            End::Posts(amount) => State::Posted(posts, amount),
            End::Vanishes => State::Absent,
        }
    }
}

/// The details of an event.
#[derive(Clone, Debug, Default)]
pub struct EventDetails {
    /// The bank's description.
    pub description: String,
    /// The transaction code.
    pub code: Option<TransactionCode>,
    /// The shop, and the store number if it has stores.
    pub shop: Option<(&'static names::Shop, Option<u32>)>,
    /// The biller's name and merchant category code.
    pub biller: Option<(&'static str, &'static str)>,
    /// The payment details.
    pub payment: Option<PaymentDetails>,
    /// The cheque number.
    pub cheque: Option<u32>,
    /// The details of a trade.
    pub trade: Option<TradeDetails>,
}

/// The details of a payment.
#[derive(Clone, Debug, Default)]
pub struct PaymentDetails {
    /// The payer.
    pub payer: Option<String>,
    /// The payee.
    pub payee: Option<String>,
    /// The payment method.
    pub method: &'static str,
    /// The reason.
    pub reason: Option<String>,
}

/// The details of a trade.
#[derive(Clone, Debug)]
pub struct TradeDetails {
    /// The index of the security in the listings.
    pub listing: usize,
    /// The type of the trade.
    pub kind: Trade,
    /// The subtype of the trade.
    pub subtype: Subtype,
    /// The quantity, in ten-thousandths of a unit.
    pub quantity: i64,
    /// The price, in cents.
    pub price: i64,
}

impl Household {
    /// Returns all events of a day, on all accounts.
    #[must_use]
    pub fn events(&self, day: Day) -> Vec<Event> {
        let mut out = Vec::new();
        match self.plan {
            Plan::Empty => {}
            Plan::Busy => self.busy_day(day, &mut out),
            _ => {
                let calendar = Calendar::of(day);
                self.purchases(day, &mut out);
                self.income(day, calendar, &mut out);
                self.bills(day, calendar, &mut out);
                self.saving(day, calendar, &mut out);
                self.card_payment(day, calendar, &mut out);
                self.loans(day, calendar, &mut out);
                self.trades(day, calendar, &mut out);
            }
        }
        out
    }

    /// Creates an event that posts at once with its original amount.
    fn plain(
        &self,
        stream: &str,
        account: usize,
        day: Day,
        amount: i64,
        details: EventDetails,
    ) -> Event {
        let name = [self.seed, label("event"), self.number, label(stream), account as u64];
        let name = [&name[..], &[day.unsigned_abs()]].concat();
        Event {
            id: id("txn", &name),
            account,
            made: day,
            time: None,
            amount,
            pends: 0,
            end: End::Posts(amount),
            details,
        }
    }

    fn income(&self, day: Day, calendar: Calendar, out: &mut Vec<Event>) {
        let Some(checking) = self.find(Kind::Checking) else { return };
        if calendar.day == 15 || calendar.month_ends {
            let details = EventDetails {
                description: format!("{} PAYROLL DIRECT DEP", self.employer.to_uppercase()),
                code: Some(TransactionCode::Payment),
                payment: Some(PaymentDetails {
                    payer: Some(self.employer.to_owned()),
                    method: "ACH",
                    reason: Some("Salary".to_owned()),
                    ..PaymentDetails::default()
                }),
                ..EventDetails::default()
            };
            out.push(self.plain("salary", checking, day, -self.salary, details));
        }
        if self.rng("cheque", day).chance(12) {
            let mut rng = self.rng("cheque number", day);
            let amount = rng.range(4_000, 38_000);
            let number = 1000 + (day - self.first).unsigned_abs() as u32 % 8000;
            let details = EventDetails {
                description: format!("CHECK {number}"),
                code: Some(TransactionCode::Cheque),
                cheque: Some(number),
                ..EventDetails::default()
            };
            out.push(self.plain("cheque", checking, day, amount, details));
        }
        if self.rng("atm", day).chance(45) {
            let mut rng = self.rng("atm amount", day);
            let details = EventDetails {
                description: format!(
                    "ATM WITHDRAWAL {} {}",
                    self.city.name.to_uppercase(),
                    rng.digits(5)
                ),
                code: Some(TransactionCode::Atm),
                ..EventDetails::default()
            };
            let amount = rng.range(1, 10) * 2_000;
            out.push(self.plain("atm", checking, day, amount, details));
        }
    }

    fn bills(&self, day: Day, calendar: Calendar, out: &mut Vec<Event>) {
        let Some(checking) = self.find(Kind::Checking) else { return };
        if calendar.day == 1 && self.rent > 0 {
            let details = EventDetails {
                description: "Rent".to_owned(),
                code: Some(TransactionCode::StandingOrder),
                payment: Some(PaymentDetails {
                    payee: Some("Halden Property Management".to_owned()),
                    method: "ACH",
                    reason: Some("Rent".to_owned()),
                    ..PaymentDetails::default()
                }),
                ..EventDetails::default()
            };
            out.push(self.plain("rent", checking, day, self.rent, details));
        }
        for bill in names::BILLS.iter().filter(|bill| bill.day == calendar.day) {
            let mut habit = self.habit(bill.name);
            if !habit.chance(800) {
                continue;
            }
            let usual = habit.range(bill.costs.0, bill.costs.1);
            let change = if bill.varies { self.rng(bill.name, day).range(-18, 22) } else { 0 };
            let details = EventDetails {
                description: format!("{} AUTOPAY", bill.name.to_uppercase()),
                code: Some(TransactionCode::DirectDebit),
                biller: Some((bill.name, bill.mcc)),
                ..EventDetails::default()
            };
            let mut event =
                self.plain(bill.name, checking, day, usual + share(usual, change, 100), details);
            event.pends = 1;
            out.push(event);
        }
    }

    fn saving(&self, day: Day, calendar: Calendar, out: &mut Vec<Event>) {
        for kind in [Kind::Savings, Kind::Parent, Kind::Euro] {
            let Some(account) = self.find(kind) else { continue };
            if calendar.month_ends {
                let interest = self.habit("interest").range(1_150, 4_900) + (day - self.first) * 2;
                let details = EventDetails {
                    description: "Interest paid".to_owned(),
                    code: Some(TransactionCode::Interest),
                    ..EventDetails::default()
                };
                out.push(self.plain("interest", account, day, -interest, details));
            }
        }
        if let (17, Some(from), Some(to)) =
            (calendar.day, self.find(Kind::Checking), self.find(Kind::Savings))
        {
            let amount = share(self.salary, 1, 8) / 100 * 100;
            self.transfer(
                "saving",
                day,
                from,
                to,
                amount,
                "Transfer to savings",
                "Transfer from checking",
                out,
            );
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "two sides of one transfer, each with its own text"
    )]
    fn transfer(
        &self,
        stream: &str,
        day: Day,
        from: usize,
        to: usize,
        amount: i64,
        text_from: &str,
        text_to: &str,
        out: &mut Vec<Event>,
    ) {
        for (account, amount, text) in [(from, amount, text_from), (to, -amount, text_to)] {
            let details = EventDetails {
                description: text.to_owned(),
                code: Some(TransactionCode::Transfer),
                payment: Some(PaymentDetails { method: "internal", ..PaymentDetails::default() }),
                ..EventDetails::default()
            };
            out.push(self.plain(stream, account, day, amount, details));
        }
    }

    fn card_payment(&self, day: Day, calendar: Calendar, out: &mut Vec<Event>) {
        let (24, Some(from), Some(card)) =
            (calendar.day, self.find(Kind::Checking), self.find(Kind::Card))
        else {
            return;
        };
        let amount = self.statement(day);
        if amount > 0 {
            self.transfer(
                "card",
                day,
                from,
                card,
                amount,
                "CREDIT CARD AUTOPAY",
                "PAYMENT - THANK YOU",
                out,
            );
        }
    }

    /// Returns the sum charged to the card in the month before a day's month.
    #[must_use]
    pub fn statement(&self, day: Day) -> i64 {
        let last = day - Day::from(Calendar::of(day).day);
        let first = last - Day::from(Calendar::of(last).day) + 1;
        let card = self.find(Kind::Card);
        let mut bought = Vec::new();
        (first..=last).for_each(|day| self.purchases(day, &mut bought));
        let charged = bought.iter().filter(|event| Some(event.account) == card);
        charged.map(|event| if let End::Posts(amount) = event.end { amount } else { 0 }).sum()
    }

    /// Returns the monthly payment on a debt, in cents.
    #[must_use]
    pub fn installment(&self, kind: Kind) -> i64 {
        let mut habit = self.habit("installment");
        match kind {
            Kind::Mortgage => habit.range(142_000, 231_000),
            Kind::Student => habit.range(18_000, 34_000),
            _ => habit.range(21_000, 47_000),
        }
    }

    fn loans(&self, day: Day, calendar: Calendar, out: &mut Vec<Event>) {
        let Some(checking) = self.find(Kind::Checking) else { return };
        let debts = [
            (Kind::Mortgage, 1, "MORTGAGE PAYMENT", 62),
            (Kind::Student, 10, "STUDENT LOAN PAYMENT", 38),
            (Kind::Consumer, 21, "LOAN PAYMENT", 22),
        ];
        for (kind, due, text, interest) in debts {
            let Some(account) = self.find(kind) else { continue };
            if calendar.day == due {
                let amount = self.installment(kind);
                self.transfer(text, day, checking, account, amount, text, "Payment received", out);
                let details = EventDetails {
                    description: "Interest charged".to_owned(),
                    code: Some(TransactionCode::Interest),
                    ..EventDetails::default()
                };
                out.push(self.plain(
                    "loan interest",
                    account,
                    day,
                    share(amount, interest, 100),
                    details,
                ));
            }
        }
    }

    fn trades(&self, day: Day, calendar: Calendar, out: &mut Vec<Event>) {
        if let Some(account) = self.find(Kind::Brokerage) {
            if calendar.day == 4 {
                let budget = self.habit("brokerage").range(20_000, 60_000);
                self.contribute(
                    account,
                    day,
                    budget,
                    "Deposit from checking",
                    Subtype::Deposit,
                    out,
                );
                if let Some(checking) = self.find(Kind::Checking) {
                    let details = EventDetails {
                        description: "Transfer to brokerage".to_owned(),
                        code: Some(TransactionCode::Transfer),
                        payment: Some(PaymentDetails {
                            method: "internal",
                            ..PaymentDetails::default()
                        }),
                        ..EventDetails::default()
                    };
                    out.push(self.plain("to brokerage", checking, day, budget, details));
                }
                let listing = if calendar.month.is_multiple_of(3) { 4 } else { 1 };
                self.buy(account, day, listing, budget, out);
            }
            if calendar.day == 20 && calendar.month.is_multiple_of(3) {
                let amount = self.rng("dividend", day).range(2_100, 9_800);
                let trade = TradeDetails {
                    listing: 1,
                    kind: Trade::Cash,
                    subtype: Subtype::Dividend,
                    quantity: 0,
                    price: 0,
                };
                out.push(self.traded("dividend", account, day, -amount, "Dividend LTMX", trade));
            }
        }
        if let Some(account) = self.find(Kind::Retirement)
            && (calendar.day == 15 || calendar.month_ends)
        {
            let amount = share(self.salary, 9, 100);
            self.contribute(
                account,
                day,
                amount,
                "Employee contribution",
                Subtype::Contribution,
                out,
            );
            self.buy(account, day, 3, amount, out);
        }
    }

    fn traded(
        &self,
        stream: &str,
        account: usize,
        day: Day,
        amount: i64,
        text: &str,
        trade: TradeDetails,
    ) -> Event {
        let details = EventDetails {
            description: text.to_owned(),
            trade: Some(trade),
            ..EventDetails::default()
        };
        self.plain(stream, account, day, amount, details)
    }

    fn contribute(
        &self,
        account: usize,
        day: Day,
        amount: i64,
        text: &str,
        subtype: Subtype,
        out: &mut Vec<Event>,
    ) {
        let trade = TradeDetails {
            listing: CASH,
            kind: Trade::Cash,
            subtype,
            quantity: amount * 100,
            price: 100,
        };
        out.push(self.traded("contribution", account, day, -amount, text, trade));
    }

    fn buy(&self, account: usize, day: Day, listing: usize, budget: i64, out: &mut Vec<Event>) {
        let price = LISTINGS[listing].price(day);
        let quantity = share(budget, 10_000, price);
        let amount = share(quantity, price, 10_000);
        let trade =
            TradeDetails { listing, kind: Trade::Buy, subtype: Subtype::Buy, quantity, price };
        let mut event = self.traded("buy", account, day, amount, "Buy", trade);
        event.pends = 1;
        out.push(event);
    }

    /// Returns the quantity of a listing bought up to a day, in ten-thousandths of a unit.
    #[must_use]
    pub fn bought(&self, account: usize, listing: usize, today: Day) -> i64 {
        let mut trades = Vec::new();
        (self.first..=today).for_each(|day| self.trades(day, Calendar::of(day), &mut trades));
        let posted = trades.iter().filter(|event| {
            event.account == account && matches!(event.state(today), State::Posted(..))
        });
        let deals = posted.filter_map(|event| event.details.trade.as_ref());
        deals
            .filter(|trade| trade.listing == listing && trade.kind == Trade::Buy)
            .map(|trade| trade.quantity)
            .sum()
    }

    fn busy_day(&self, day: Day, out: &mut Vec<Event>) {
        let history = super::HISTORY_DAYS;
        let place = day - self.first;
        let until = |days: i64| BUSY_TRANSACTIONS * days / history;
        let count = if (0..history).contains(&place) { until(place + 1) - until(place) } else { 5 };
        for n in 0..count {
            let mut rng = Rng::new(&[
                self.seed,
                self.number,
                label("busy"),
                day.unsigned_abs(),
                n.unsigned_abs(),
            ]);
            let shop = rng.pick(names::SHOPS);
            // Incoming and outgoing amounts are about equal, so that the balance stays about the
            // same.
            let is_incoming = n % 12 == 11;
            let amount =
                if is_incoming { -rng.range(24_000, 52_000) } else { rng.range(300, 6_000) };
            let account = if is_incoming || rng.chance(500) { 0 } else { 1 };
            let details = if is_incoming {
                EventDetails {
                    description: format!("CARD SETTLEMENT BATCH {}", rng.digits(6)),
                    code: Some(TransactionCode::Payment),
                    ..EventDetails::default()
                }
            } else {
                EventDetails {
                    description: format!(
                        "{} {}",
                        shop.name.to_uppercase(),
                        terminal_number(&mut rng)
                    ),
                    code: Some(TransactionCode::Purchase),
                    biller: Some((shop.name, shop.mcc)),
                    ..EventDetails::default()
                }
            };
            let (account, amount) =
                if n % 24 == 23 { (1, -rng.range(20_000, 40_000)) } else { (account, amount) };
            let mut event = self.plain("busy", account, day, amount, details);
            event.id = format!("txn-{:016x}", rng.bits());
            event.pends = rng.range(0, 2);
            out.push(event);
        }
    }
}

/// Returns the number that a terminal adds to its text.
fn terminal_number(rng: &mut Rng) -> String {
    codes::with_aba_check(&rng.digits(8))
}
