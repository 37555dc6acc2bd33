//! A generated customer: the people, the accounts and the habits that determine each day.

use super::{
    Day, HISTORY_DAYS, names,
    rng::{Rng, label},
};

/// The kind of customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// All account types, one joint, one with a non-owner interest.
    Everything,
    /// Checking, savings and a card.
    Plain,
    /// Two accounts and 100,000 transactions.
    Busy,
    /// Two accounts without transactions.
    Empty,
    /// A random selection of account types.
    Mixed,
}

impl Plan {
    /// Every plan with its name in the database.
    const NAMES: [(Self, &str); 5] = [
        (Self::Everything, "everything"),
        (Self::Plain, "plain"),
        (Self::Busy, "busy"),
        (Self::Empty, "empty"),
        (Self::Mixed, "mixed"),
    ];

    /// Returns the name in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(plan, _)| *plan == self).map_or("", |(_, name)| name)
    }

    /// Returns the plan of a name. Returns `None` for an unknown name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(plan, _)| *plan)
    }
}

/// The kind of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A checking account.
    Checking,
    /// A savings account.
    Savings,
    /// A credit card.
    Card,
    /// A mortgage.
    Mortgage,
    /// A student loan.
    Student,
    /// A consumer loan.
    Consumer,
    /// A brokerage account.
    Brokerage,
    /// A retirement account.
    Retirement,
    /// A euro account with an IBAN.
    Euro,
    /// A parent's account, which the user can access without owning it.
    Parent,
}

impl Kind {
    /// Returns whether a positive balance is a debt.
    #[must_use]
    pub fn is_debt(self) -> bool {
        matches!(self, Self::Card | Self::Mortgage | Self::Student | Self::Consumer)
    }
}

/// A person.
#[derive(Clone, Debug)]
pub struct Person {
    /// The id of the identity.
    pub id: String,
    /// First name.
    pub first: &'static str,
    /// Last name.
    pub last: &'static str,
    /// Street and number.
    pub street: String,
    /// Phone number.
    pub phone: String,
}

/// An account of a household.
#[derive(Clone, Debug)]
pub struct HouseholdAccount {
    /// The id of the account.
    pub id: String,
    /// The kind.
    pub kind: Kind,
    /// The account number.
    pub number: String,
    /// The indices of the owners in the people.
    pub owners: Vec<usize>,
    /// The indices of the non-owners in the people.
    pub others: Vec<usize>,
    /// The day on which it was opened.
    pub opened: Day,
}

/// A generated customer: the people, the accounts and the habits.
#[derive(Clone, Debug)]
pub struct Household {
    /// The bank's seed.
    pub seed: u64,
    /// The number of the household.
    pub number: u64,
    /// The kind of customer.
    pub plan: Plan,
    /// The first day of history.
    pub first: Day,
    /// The people: the user first, then others that the accounts name.
    pub people: Vec<Person>,
    /// The accounts.
    pub accounts: Vec<HouseholdAccount>,
    /// The city of residence.
    pub city: &'static names::City,
    /// The employer.
    pub employer: &'static str,
    /// Each of the two salaries of a month, in cents.
    pub salary: i64,
    /// The rent, in cents; 0 where there is a mortgage.
    pub rent: i64,
    /// The number of purchases in a thousand that use the card.
    pub prefers_card: u64,
}

/// Returns an id that is unique for a seed.
#[must_use]
pub fn id(prefix: &str, name: &[u64]) -> String {
    format!("{prefix}-{:016x}", Rng::new(name).bits())
}

impl Household {
    /// Creates the household of a number. `start` is the bank's first day.
    #[must_use]
    pub fn new(seed: u64, number: u64, plan: Plan, start: Day) -> Self {
        let mut rng = Rng::new(&[seed, label("household"), number]);
        let city = rng.pick(names::CITIES);
        let last = *rng.pick(names::LAST);
        let count = if plan == Plan::Everything { 3 } else { 1 };
        let people = (0..count)
            .map(|n| Person {
                id: id("per", &[seed, label("person"), number, n]),
                first: names::FIRST[(rng.below(8) + 8 * n) as usize % names::FIRST.len()],
                last,
                street: format!("{} {}", rng.range(2, 480), rng.pick(names::STREETS)),
                phone: format!("+1 212 555 01{}", rng.digits(2)),
            })
            .collect();
        let mut household = Self {
            seed,
            number,
            plan,
            first: start - (HISTORY_DAYS - 1),
            people,
            accounts: Vec::new(),
            city,
            employer: *rng.pick(names::EMPLOYERS),
            salary: rng.range(1_800, 3_400) * 100 + rng.range(0, 99),
            rent: rng.range(1_100, 1_900) * 100,
            prefers_card: rng.range(350, 750).unsigned_abs(),
        };
        for kind in kinds(plan, &mut rng) {
            household.open(kind, &mut rng);
        }
        if household.find(Kind::Mortgage).is_some() {
            household.rent = 0;
        }
        household
    }

    fn open(&mut self, kind: Kind, rng: &mut Rng) {
        let place = self.accounts.len() as u64;
        let everything = self.plan == Plan::Everything;
        let (owners, others) = match kind {
            Kind::Checking if everything => (vec![0, 1], vec![]),
            Kind::Parent => (vec![2], vec![0]),
            _ => (vec![0], vec![]),
        };
        self.accounts.push(HouseholdAccount {
            id: id("acc", &[self.seed, label("account"), self.number, place]),
            kind,
            number: rng.digits(10),
            owners,
            others,
            opened: self.first - rng.range(60, 2_600),
        });
    }

    /// Returns the index of the first account of a kind.
    #[must_use]
    pub fn find(&self, kind: Kind) -> Option<usize> {
        self.accounts.iter().position(|spec| spec.kind == kind)
    }

    /// Returns the random stream of a kind of event on a day.
    #[must_use]
    pub fn rng(&self, what: &str, day: Day) -> Rng {
        Rng::new(&[self.seed, self.number, label(what), day.unsigned_abs()])
    }

    /// Returns a random stream that is the same on every day.
    #[must_use]
    pub fn habit(&self, what: &str) -> Rng {
        Rng::new(&[self.seed, self.number, label(what)])
    }
}

fn kinds(plan: Plan, rng: &mut Rng) -> Vec<Kind> {
    use Kind::{
        Brokerage, Card, Checking, Consumer, Euro, Mortgage, Parent, Retirement, Savings, Student,
    };
    match plan {
        Plan::Everything => vec![
            Checking, Savings, Card, Mortgage, Student, Consumer, Brokerage, Retirement, Parent,
        ],
        Plan::Plain => vec![Checking, Savings, Card],
        Plan::Busy => vec![Checking, Card],
        Plan::Empty => vec![Checking, Savings],
        Plan::Mixed => {
            let mut kinds = vec![Checking];
            let some = [
                (Savings, 800),
                (Card, 850),
                (Mortgage, 300),
                (Student, 250),
                (Consumer, 250),
                (Brokerage, 350),
                (Retirement, 400),
                (Euro, 200),
            ];
            kinds.extend(
                some.into_iter().filter(|(_, odds)| rng.chance(*odds)).map(|(kind, _)| kind),
            );
            kinds
        }
    }
}
