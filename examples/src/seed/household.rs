//! A customer: the person, the accounts and the habits that decide each day.

use super::{
    Day, HISTORY_DAYS, names,
    rng::{Rng, label},
};

/// What kind of customer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// All account types, one joint, one with a non-owner interest.
    Everything,
    /// Checking, savings and a card.
    Plain,
    /// Two accounts and 100,000 transactions.
    Busy,
    /// Two accounts on which nothing ever happens.
    Empty,
    /// Some of the account types, by chance.
    Mixed,
}

impl Plan {
    /// Every plan with the name under which the database keeps it.
    const NAMES: [(Self, &str); 5] = [
        (Self::Everything, "everything"),
        (Self::Plain, "plain"),
        (Self::Busy, "busy"),
        (Self::Empty, "empty"),
        (Self::Mixed, "mixed"),
    ];

    /// The name under which the database keeps it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(plan, _)| *plan == self).map_or("", |(_, name)| name)
    }

    /// The plan of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(plan, _)| *plan)
    }
}

/// What an account is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The account for every day.
    Checking,
    /// Money put aside.
    Savings,
    /// A credit card.
    Card,
    /// The house.
    Mortgage,
    /// The studies.
    Student,
    /// The car, the kitchen.
    Consumer,
    /// Securities.
    Brokerage,
    /// Securities for old age.
    Retirement,
    /// A euro account with an IBAN.
    Euro,
    /// A parent's account, in which the user has an interest without owning it.
    Parent,
}

impl Kind {
    /// Whether a positive balance is owed.
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
pub struct Plot {
    /// The id of the account.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// The account number.
    pub number: String,
    /// The place of each owner among the people.
    pub owners: Vec<usize>,
    /// The place of each non-owner among the people.
    pub others: Vec<usize>,
    /// When it was opened.
    pub opened: Day,
}

/// A customer: the person, the accounts and the habits.
#[derive(Clone, Debug)]
pub struct Household {
    /// The bank's seed.
    pub seed: u64,
    /// The number of the household.
    pub number: u64,
    /// What kind of customer it is.
    pub plan: Plan,
    /// The first day of history.
    pub first: Day,
    /// The signed-in user first, then others whom the accounts name.
    pub people: Vec<Person>,
    /// The accounts.
    pub accounts: Vec<Plot>,
    /// Where they live.
    pub city: &'static names::City,
    /// Who pays the salary.
    pub employer: &'static str,
    /// Each of the two salaries of a month, in cents.
    pub salary: i64,
    /// The rent, in cents; 0 where there is a mortgage.
    pub rent: i64,
    /// How many purchases in a thousand go on the card.
    pub prefers_card: u64,
}

/// An id that no other thing of that seed has.
#[must_use]
pub fn id(prefix: &str, name: &[u64]) -> String {
    format!("{prefix}-{:016x}", Rng::new(name).bits())
}

impl Household {
    /// The household of a number. `start` is the bank's first day.
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
        self.accounts.push(Plot {
            id: id("acc", &[self.seed, label("account"), self.number, place]),
            kind,
            number: rng.digits(10),
            owners,
            others,
            opened: self.first - rng.range(60, 2_600),
        });
    }

    /// The place of the first account of a kind.
    #[must_use]
    pub fn find(&self, kind: Kind) -> Option<usize> {
        self.accounts.iter().position(|plot| plot.kind == kind)
    }

    /// The stream of a day for something that happens on it.
    #[must_use]
    pub fn rng(&self, what: &str, day: Day) -> Rng {
        Rng::new(&[self.seed, self.number, label(what), day.unsigned_abs()])
    }

    /// A stream that is the same on every day.
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
