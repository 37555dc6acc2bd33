//! The scenario users: who they are and how each of them behaves.

use crate::seed::household::Plan;

/// What a user must answer in credentials mode, besides the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// Nothing.
    None,
    /// A code that is "sent" by a line on standard output.
    Otp,
    /// Security questions.
    Kba,
    /// A code by the secret below.
    Totp,
    /// Nothing helps: the user is locked out.
    Locked,
}

/// How the user's data behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// As it should.
    Good,
    /// Answers after three seconds.
    Slow,
    /// Answers 503 with `retry_at`.
    Down,
    /// Answers 500 on every third call.
    Flaky,
    /// Its tokens die after the first call.
    Revoked,
}

/// A scenario user.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The name to sign in with.
    pub username: &'static str,
    /// What kind of customer it is.
    pub plan: Plan,
    /// What must be answered in credentials mode.
    pub factor: Factor,
    /// How the data behaves.
    pub behaviour: Behaviour,
    /// What the user is for, in some words.
    pub about: &'static str,
}

const fn scenario(
    username: &'static str,
    plan: Plan,
    factor: Factor,
    behaviour: Behaviour,
    about: &'static str,
) -> Scenario {
    Scenario { username, plan, factor, behaviour, about }
}

/// The secret of `user_totp` in base32: SHA-1, six digits, 30 seconds.
pub const TOTP_SECRET: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";

/// The questions of `user_kba`: id, text, choices, answer.
pub const QUESTIONS: &[(&str, &str, &[&str], &str)] = &[
    ("pet", "What was the name of your first pet?", &[], "Biscuit"),
    (
        "street",
        "On which of these streets have you lived?",
        &["Alder Lane", "Mill Road", "Orchard Street", "None of these"],
        "Mill Road",
    ),
];

/// Every scenario user.
pub const SCENARIOS: &[Scenario] = &[
    scenario(
        "user_good",
        Plan::Everything,
        Factor::None,
        Behaviour::Good,
        "all account types, one joint, one as non-owner",
    ),
    scenario("user_otp", Plan::Plain, Factor::Otp, Behaviour::Good, "asks for a one-time code"),
    scenario("user_kba", Plan::Plain, Factor::Kba, Behaviour::Good, "asks security questions"),
    scenario(
        "user_totp",
        Plan::Plain,
        Factor::Totp,
        Behaviour::Good,
        "asks for a code of an authenticator",
    ),
    scenario("user_locked", Plan::Plain, Factor::Locked, Behaviour::Good, "cannot sign in"),
    scenario("user_empty", Plan::Empty, Factor::None, Behaviour::Good, "no transactions"),
    scenario("user_busy", Plan::Busy, Factor::None, Behaviour::Good, "100,000 transactions"),
    scenario("user_slow", Plan::Plain, Factor::None, Behaviour::Slow, "answers after 3 seconds"),
    scenario("user_down", Plan::Plain, Factor::None, Behaviour::Down, "503 with retry_at"),
    scenario(
        "user_flaky",
        Plan::Plain,
        Factor::None,
        Behaviour::Flaky,
        "every third call is a 500",
    ),
    scenario(
        "user_revoked",
        Plan::Plain,
        Factor::None,
        Behaviour::Revoked,
        "tokens die after the first data call",
    ),
];

/// The scenario of a user, if the name is of one.
#[must_use]
pub fn of(username: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.username == username)
}

/// How a user's data behaves.
#[must_use]
pub fn behaviour(username: &str) -> Behaviour {
    of(username).map_or(Behaviour::Good, |scenario| scenario.behaviour)
}

/// Whether a user is locked out.
#[must_use]
pub fn is_locked(username: &str) -> bool {
    of(username).is_some_and(|scenario| scenario.factor == Factor::Locked)
}
