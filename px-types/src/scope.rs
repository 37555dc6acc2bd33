//! OAuth scopes and sets of scopes.
//!
//! Contract: `px.md` section 4; grammar: RFC 6749 section 3.3.

use std::{borrow::Cow, collections::BTreeSet, fmt, str::FromStr};

/// An error for a text that is not a valid scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a scope: printable ASCII without space, quote and backslash")]
pub struct InvalidScope;

/// An OAuth scope. The default scopes are constants; a partner may define others.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(Cow<'static, str>);

impl Scope {
    /// Access to accounts and balances.
    pub const ACCOUNTS: Self = Self(Cow::Borrowed("accounts"));
    /// Access to all data of the account holders beyond id and name.
    pub const IDENTITY: Self = Self(Cow::Borrowed("identity"));
    /// Access to account and routing numbers.
    pub const AUTH: Self = Self(Cow::Borrowed("auth"));
    /// Access to transactions.
    pub const TRANSACTIONS: Self = Self(Cow::Borrowed("transactions"));
    /// Issuance of a refresh token.
    pub const OFFLINE_ACCESS: Self = Self(Cow::Borrowed("offline_access"));

    /// Creates a scope from a text.
    ///
    /// # Errors
    /// If the text is empty, or has characters that RFC 6749 does not allow in a scope.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidScope> {
        let text = text.into();
        let good = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if text.is_empty() || !text.bytes().all(good) {
            return Err(InvalidScope);
        }
        Ok(Self(Cow::Owned(text)))
    }

    /// Returns the scope as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of scopes. It is written as scopes separated by spaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeSet(BTreeSet<Scope>);

impl ScopeSet {
    /// Returns the default scopes.
    #[must_use]
    pub fn defaults() -> Self {
        [Scope::ACCOUNTS, Scope::IDENTITY, Scope::AUTH, Scope::TRANSACTIONS, Scope::OFFLINE_ACCESS]
            .into_iter()
            .collect()
    }

    /// Returns whether the set contains a scope.
    #[must_use]
    pub fn contains(&self, scope: &Scope) -> bool {
        self.0.contains(scope)
    }

    /// Returns whether the set contains a scope with this name.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        self.0.iter().any(|scope| scope.as_str() == name)
    }

    /// Returns whether all scopes of this set are in the other set.
    #[must_use]
    pub fn is_subset(&self, of: &Self) -> bool {
        self.0.is_subset(&of.0)
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the scopes, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

impl FromStr for ScopeSet {
    type Err = InvalidScope;
    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        text.split(' ').filter(|word| !word.is_empty()).map(Scope::new).collect()
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl serde::Serialize for ScopeSet {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for ScopeSet {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        crate::wire::from_text(d, "scopes separated by spaces (a string)", str::parse)
    }
}
