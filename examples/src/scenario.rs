//! The scenario users and their behaviour.

use crate::seed::household::Plan;

/// The second factor of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// No second factor.
    None,
    /// A one-time code, which is "sent" by a line on standard output.
    Otp,
    /// Security questions.
    Kba,
    /// A code from [`TOTP_SECRET`].
    Totp,
    /// No sign-in succeeds: the user is locked out.
    Locked,
}

/// The behaviour of a user's data requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Requests succeed.
    Good,
    /// Responds after three seconds.
    Slow,
    /// Responds 503 with `retry_at`.
    Down,
    /// Responds 500 to every third request.
    Flaky,
    /// The user's tokens are revoked after the first request.
    Revoked,
}

/// A scenario user.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The username.
    pub username: &'static str,
    /// The kind of customer.
    pub plan: Plan,
    /// The second factor.
    pub factor: Factor,
    /// The behaviour of data requests.
    pub behaviour: Behaviour,
    /// A short description of the scenario.
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

/// The TOTP secret of `user_totp` in base32: SHA-1, six digits, 30 seconds.
pub const TOTP_SECRET: &str = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP";

/// The security questions of `user_kba`: id, text, choices, answer.
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
    scenario("user_otp", Plan::Plain, Factor::Otp, Behaviour::Good, "requires a one-time code"),
    scenario(
        "user_kba",
        Plan::Plain,
        Factor::Kba,
        Behaviour::Good,
        "requires answers to security questions",
    ),
    scenario(
        "user_totp",
        Plan::Plain,
        Factor::Totp,
        Behaviour::Good,
        "requires a code from an authenticator app",
    ),
    scenario("user_locked", Plan::Plain, Factor::Locked, Behaviour::Good, "cannot sign in"),
    scenario("user_empty", Plan::Empty, Factor::None, Behaviour::Good, "no transactions"),
    scenario("user_busy", Plan::Busy, Factor::None, Behaviour::Good, "100,000 transactions"),
    scenario("user_slow", Plan::Plain, Factor::None, Behaviour::Slow, "responds after 3 seconds"),
    scenario("user_down", Plan::Plain, Factor::None, Behaviour::Down, "503 with retry_at"),
    scenario(
        "user_flaky",
        Plan::Plain,
        Factor::None,
        Behaviour::Flaky,
        "every third request fails with 500",
    ),
    scenario(
        "user_revoked",
        Plan::Plain,
        Factor::None,
        Behaviour::Revoked,
        "tokens are revoked after the first data request",
    ),
];

/// Returns the scenario of a username. Returns `None` if it is not a scenario user.
#[must_use]
pub fn of(username: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.username == username)
}

/// Returns the behaviour of a user's data requests.
#[must_use]
pub fn behaviour(username: &str) -> Behaviour {
    of(username).map_or(Behaviour::Good, |scenario| scenario.behaviour)
}

/// Returns whether a user is locked out.
#[must_use]
pub fn is_locked(username: &str) -> bool {
    of(username).is_some_and(|scenario| scenario.factor == Factor::Locked)
}
