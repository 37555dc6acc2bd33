//! Accounts of all types, their currencies and their securities.

use super::{Amount, Dice, Ledger, Listing, amount, identity_id};
use crate::bank::{Habit, Style};
use chrono::{DateTime, Utc};
use px_types::{
    AccountId, SecurityId, Unit,
    model::{
        account::{Account, AccountKind, AccountStatus, AccountType, Other},
        account_subtype::{
            CreditSubtype, DepositorySubtype, InvestmentSubtype, LoanSubtype, OtherSubtype,
        },
        credit::Credit,
        depository::{Ach, Depository, TransferCode},
        investment::{Holding, Investment},
        loan::Loan,
        security::{Security, SecurityType},
        transaction::{InvestmentDetails, InvestmentTransactionType, Transaction},
    },
};

/// Units of the accounts of a user with many products.
const UNITS: [&str; 4] = ["USD", "EUR", "JPY", "BTC"];

impl Ledger {
    pub(super) fn open_account(
        &mut self,
        now: DateTime<Utc>,
        style: &Style,
        dice: &mut Dice,
    ) -> AccountId {
        self.next += 1;
        let id = AccountId::new(format!("{}-a{}", self.user, self.next)).unwrap();
        let wide = style.has(Habit::Wide);
        let unit = if wide { some_unit(dice) } else { Unit::iso("USD").unwrap() };
        let kind = match if wide { dice.below(5) } else { 0 } {
            0 => AccountKind::Credit(Credit::new(CreditSubtype::CreditCard)),
            1 => AccountKind::Depository(depository(self.next)),
            2 => AccountKind::Loan(Box::new(Loan::new(LoanSubtype::Auto))),
            3 => {
                let holdings = self.holdings(&unit, dice);
                AccountKind::Investment(Investment::new(InvestmentSubtype::Brokerage, holdings))
            }
            _ => AccountKind::Other(Other::new(OtherSubtype::Other)),
        };
        let mut account = Account::new(
            id.clone(),
            format!("Account {}", self.next),
            AccountStatus::Active,
            vec![identity_id(&self.user)],
            amount(dice.below(100_000)),
            unit,
            kind,
        );
        account.display_mask = Some(format!("{:04}", 1000 + self.next));
        self.accounts.insert(id.clone(), Listing { account, listed: true, since: now });
        id
    }

    fn holdings(&mut self, unit: &Unit, dice: &mut Dice) -> Vec<Holding> {
        (0..dice.between(0, 4))
            .map(|_| {
                let id = self.security(unit, dice);
                let (price, value) = (amount(dice.between(1, 9000)), amount(dice.below(900_000)));
                Holding::new(id, whole(dice.between(1, 90)), price, value, unit.clone())
            })
            .collect()
    }

    fn security(&mut self, unit: &Unit, dice: &mut Dice) -> SecurityId {
        self.next += 1;
        let id = SecurityId::new(format!("{}-s{}", self.user, self.next)).unwrap();
        let kind = if dice.chance(500) { SecurityType::Equity } else { SecurityType::Etf };
        let mut security = Security::new(id.clone(), kind, unit.clone());
        security.name = Some(format!("Security {}", self.next));
        security.close_price = Some(amount(dice.between(1, 9000)));
        self.securities.insert(id.clone(), security);
        id
    }

    /// Adds the fields that only transactions of investment accounts have.
    pub(super) fn invest(&mut self, row: &mut Transaction, dice: &mut Dice) {
        if row.kind != AccountType::Investment {
            return;
        }
        let known: Vec<_> = self.securities.keys().cloned().collect();
        let known = dice.chance(600).then(|| dice.pick(&known).cloned()).flatten();
        let unit = row.unit.clone();
        let id = known.unwrap_or_else(|| self.security(&unit, dice));
        let quantity = whole(dice.between(1, 40));
        let mut details = InvestmentDetails::new(InvestmentTransactionType::Buy, quantity);
        details.security_id = Some(id);
        row.investment = Some(details);
    }

    /// Changes a price.
    pub(super) fn change_price(&mut self, dice: &mut Dice) -> Option<String> {
        let ids: Vec<_> = self.securities.keys().cloned().collect();
        let id = dice.pick(&ids)?;
        self.securities.get_mut(id)?.close_price = Some(amount(dice.between(1, 9000)));
        Some(format!("security {id} has another price"))
    }
}

fn some_unit(dice: &mut Dice) -> Unit {
    let code = dice.pick(&UNITS).copied().unwrap_or("USD");
    match code {
        "BTC" => Unit::NonIso("BTC".into()),
        code => Unit::iso(code).unwrap(),
    }
}

fn depository(number: u64) -> Depository {
    let mut depository = Depository::new(DepositorySubtype::Checking);
    let account_number = px_types::AccountNumber::new(format!("{:08}", 10_000_000 + number));
    let code = Ach::new(account_number, "021000021".to_owned(), true, true);
    depository.transfer_codes = Some(vec![TransferCode::Ach(code)]);
    depository
}

fn whole(number: u64) -> Amount {
    number.to_string().parse().unwrap()
}
