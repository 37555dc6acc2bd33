//! The enums have the values of the contract.

use px_types::{
    model::{
        account_subtype::*, activity::*, plaid_error::PlaidErrorType, product::Product,
        security::SecurityType, student::*, transaction::*,
    },
    primitive::open_enum::OpenEnum,
};
use serde_json::Value;

fn check<E: OpenEnum>(values: &Value) {
    let wanted: Vec<&str> =
        values.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert_eq!(E::KNOWN, wanted);
    for value in wanted {
        assert!(E::from(value).is_known());
        assert_eq!(E::from(value).as_str(), value);
    }
    assert!(!E::from("a new value").is_known());
    assert_eq!(E::from("a new value").as_str(), "a new value");
}

#[test]
fn every_value_of_the_contract_is_known_and_no_other() {
    let enums: Value = serde_json::from_str(include_str!("../fixtures/enums.json")).unwrap();
    check::<DepositorySubtype>(&enums["account_subtypes"]["depository"]);
    check::<CreditSubtype>(&enums["account_subtypes"]["credit"]);
    check::<LoanSubtype>(&enums["account_subtypes"]["loan"]);
    check::<InvestmentSubtype>(&enums["account_subtypes"]["investment"]);
    check::<OtherSubtype>(&enums["account_subtypes"]["other"]);
    check::<InvestmentTransactionType>(&enums["investment_transaction_type"]);
    check::<InvestmentTransactionSubtype>(&enums["investment_transaction_subtype"]);
    check::<SecurityType>(&enums["security_type"]);
    check::<TransactionCode>(&enums["transaction_code"]);
    check::<StudentLoanStatusType>(&enums["student_loan_status"]);
    check::<StudentRepaymentPlanType>(&enums["student_repayment_plan"]);
    check::<Product>(&enums["products"]);
    check::<PlaidErrorType>(&enums["plaid_error_type"]);
    check::<ActivityType>(&enums["activity_type"]);
    check::<ActivityState>(&enums["activity_state"]);
    assert_eq!(enums.as_object().unwrap().len(), 11);
}
