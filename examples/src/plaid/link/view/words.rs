//! What is said to users: faults, ends, products.

use px_types::model::product::Product;

/// What a page is shown again with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Message {
    /// The bank knows no such name and password.
    Wrong,
    /// A code or an answer is not right.
    WrongAnswer,
    /// The bank locked the user out.
    Locked,
    /// Too many wrong passwords.
    Wait,
    /// The challenge is over; the sign-in begins again.
    Again,
    /// Nothing was picked.
    NonePicked,
    /// Neither button was pressed.
    Undecided,
    /// The user did not let this service in at the bank.
    Declined(String),
    /// The bank refused, or what came back was not from it.
    Refused(String),
    /// The bank cannot answer.
    Unreachable(String),
    /// Another user of the bank signed in than the one whose accounts these are.
    AnotherUser(String),
    /// No such bank.
    NoSuchBank,
}

impl Message {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Wrong => "The username or password is not right. Please try again.".to_owned(),
            Self::WrongAnswer => "That is not right. Please try again.".to_owned(),
            Self::Locked => {
                "The bank has locked this profile. Call your bank to have it unlocked.".to_owned()
            }
            Self::Wait => "Too many attempts. Please wait a minute, then try again.".to_owned(),
            Self::Again => {
                "That took too long, or too many answers were wrong. Please sign in again."
                    .to_owned()
            }
            Self::NonePicked => "Select at least one account.".to_owned(),
            Self::Undecided => "Choose one of the two buttons.".to_owned(),
            Self::Declined(bank) => format!(
                "You did not give permission at {bank}. Nothing was shared. You can try again."
            ),
            Self::Refused(bank) => format!(
                "{bank} did not confirm this sign-in. Nothing was shared. Please try again."
            ),
            Self::Unreachable(bank) => {
                format!(
                    "{bank} cannot be reached at the moment. Please try again in a few minutes."
                )
            }
            Self::AnotherUser(bank) => format!(
                "These are the accounts of another customer of {bank}. Sign in as the one who connected them."
            ),
            Self::NoSuchBank => "Please select a bank of the list.".to_owned(),
        }
    }
}

/// Why there is no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Stop {
    /// The link token is unknown, expired, or was used: by whom, nobody is told.
    NoToken,
    /// The page is too old, or is another browser's, or the form is not from it.
    Expired,
    /// The user left.
    Cancelled,
    /// What this was about is gone or cannot be had now.
    Unavailable,
    /// The other side asks for what it may not.
    Gone,
}

impl Stop {
    pub(super) fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::NoToken => (
                "This link doesn’t work any more",
                "It was opened before, or it is too old. A link opens once and in one browser.",
                "Go back to where you came from and start again. Nothing was shared.",
            ),
            Self::Expired => (
                "This page has expired",
                "It was open for too long, or it was opened in another browser.",
                "Go back to where you came from and start again.",
            ),
            Self::Cancelled => (
                "Nothing was connected",
                "You left before the end, and nothing was shared.",
                "You can close this window.",
            ),
            Self::Unavailable => (
                "We’ll be right back",
                "This service cannot answer at the moment.",
                "Please try again in a few minutes.",
            ),
            Self::Gone => (
                "There is nothing to connect",
                "The connection that this was about has ended meanwhile.",
                "Go back to where you came from and start again.",
            ),
        }
    }
}

/// Products in words, the plainest first. What has no words here is shown by its name.
pub(super) fn products(names: &[String]) -> Vec<String> {
    const WORDS: [(Product, &str); 6] = [
        (Product::Transactions, "Transactions of the last two years and new ones"),
        (Product::Identity, "Your name, address, phone number and email"),
        (Product::Auth, "Account and routing numbers"),
        (Product::Investments, "Investments: what you hold and what it is worth"),
        (Product::Liabilities, "Loans and credit cards: rates, payments, due dates"),
        (Product::Statements, "Statements"),
    ];
    let mut said = vec!["Names, types and balances of these accounts".to_owned()];
    for (product, words) in &WORDS {
        if names.iter().any(|name| name == product.as_str()) {
            said.push((*words).to_owned());
        }
    }
    let known = |name: &&String| WORDS.iter().any(|(product, _)| product.as_str() == **name);
    said.extend(names.iter().filter(|name| !known(name)).cloned());
    said
}
