//! Texts for users: messages, stop pages, products.

use px_types::model::product::Product;

/// The message of a page that is shown again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Message {
    /// The name or the password is wrong.
    Wrong,
    /// A code or an answer is wrong.
    WrongAnswer,
    /// The bank locked the user out.
    Locked,
    /// There were too many wrong passwords.
    Wait,
    /// The challenge has expired; the sign-in starts again.
    Again,
    /// No account is selected.
    NonePicked,
    /// Neither button was pressed.
    Undecided,
    /// The user declined at the bank.
    Declined(String),
    /// The bank refused, or the callback was not from it.
    Refused(String),
    /// The bank is unavailable.
    Unreachable(String),
    /// Another user of the bank signed in, not the user of the Item.
    AnotherUser(String),
    /// There is no such bank.
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

/// The reason for a page without a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum StopPage {
    /// The link token is unknown, expired or used. The page does not say which.
    NoToken,
    /// The visit has expired, or the request is from another browser or not from its page.
    Expired,
    /// The user cancelled.
    Cancelled,
    /// An operation of this service failed.
    Unavailable,
    /// The Item, application or bank of the visit does not exist any more.
    Gone,
}

impl StopPage {
    pub(super) fn texts(self) -> (&'static str, &'static str, &'static str) {
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

/// Describes products in display order. Unknown products are shown by their names.
pub(super) fn products(names: &[String]) -> Vec<String> {
    const TEXTS: [(Product, &str); 6] = [
        (Product::Transactions, "Transactions of the last two years and new ones"),
        (Product::Identity, "Your name, address, phone number and email"),
        (Product::Auth, "Account and routing numbers"),
        (Product::Investments, "Investments: what you hold and what it is worth"),
        (Product::Liabilities, "Loans and credit cards: rates, payments, due dates"),
        (Product::Statements, "Statements"),
    ];
    let mut texts = vec!["Names, types and balances of these accounts".to_owned()];
    for (product, text) in &TEXTS {
        if names.iter().any(|name| name == product.as_str()) {
            texts.push((*text).to_owned());
        }
    }
    let known = |name: &&String| TEXTS.iter().any(|(product, _)| product.as_str() == **name);
    texts.extend(names.iter().filter(|name| !known(name)).cloned());
    texts
}
