//! Named parameters of query strings and form bodies, parsed strictly.
//!
//! A parameter that is missing, malformed or given twice is an error that names the parameter.
//! Unknown parameters are ignored.

use super::path::{percent_decode, percent_encode};
use std::{fmt, str::FromStr};

/// An error in a query string or a form.
///
/// It names the parameter, but never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterError {
    parameter: Option<&'static str>,
    reason: String,
}

impl ParameterError {
    /// Creates an error of one parameter.
    pub fn new(parameter: &'static str, reason: impl Into<String>) -> Self {
        Self { parameter: Some(parameter), reason: reason.into() }
    }

    /// Returns the name of the invalid parameter, or `None` if the whole text is invalid.
    #[must_use]
    pub fn parameter(&self) -> Option<&'static str> {
        self.parameter
    }

    /// Returns the reason of the error.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parameter {
            Some(name) => write!(f, "parameter `{name}`: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for ParameterError {}

/// A set of named parameters.
pub trait Parameters: Sized + Send {
    /// Parses the parameters.
    ///
    /// # Errors
    /// If a parameter is missing, malformed, out of range or given twice.
    fn read(pairs: &ParsedParameters) -> Result<Self, ParameterError>;

    /// Writes the parameters.
    fn write(&self, out: &mut ParameterWriter);
}

impl Parameters for () {
    fn read(_: &ParsedParameters) -> Result<Self, ParameterError> {
        Ok(())
    }
    fn write(&self, _: &mut ParameterWriter) {}
}

/// Maximum number of parameters. A query string or a form with more is an error.
pub const MAX_PARAMETERS: usize = 1000;

/// Decoded parameters, as pairs of name and value.
#[derive(Clone)]
pub struct ParsedParameters(Vec<(String, String)>);

impl fmt::Debug for ParsedParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl ParsedParameters {
    /// Parses a query string or a form body: `name=value&…`.
    ///
    /// # Errors
    /// If the percent-encoding is malformed, a name or value is not UTF-8, or there are more than
    /// [`MAX_PARAMETERS`] parameters.
    pub fn parse(text: &str) -> Result<Self, ParameterError> {
        // Count before parsing: a parsed pair can take fifty times the memory of its encoded form.
        if text.split('&').filter(|pair| !pair.is_empty()).nth(MAX_PARAMETERS).is_some() {
            let reason = format!("there are more than {MAX_PARAMETERS} parameters");
            return Err(ParameterError { parameter: None, reason });
        }
        let broken = |name: &str| ParameterError {
            parameter: None,
            reason: match name {
                "" => "a parameter's name is not percent-encoded UTF-8".to_owned(),
                name => format!("parameter `{name}`: not percent-encoded UTF-8"),
            },
        };
        text.split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                let name = percent_decode(name, true).ok_or_else(|| broken(""))?;
                let value = percent_decode(value, true).ok_or_else(|| broken(quotable(&name)))?;
                Ok((name, value))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Returns the value of a parameter, or `None` if it is missing or empty.
    ///
    /// # Errors
    /// If the parameter is given twice.
    pub fn text(&self, name: &'static str) -> Result<Option<&str>, ParameterError> {
        let mut found = self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(ParameterError::new(name, "given twice")),
            (Some(""), None) | (None, None) => Ok(None),
            (Some(value), None) => Ok(Some(value)),
        }
    }

    /// Returns the value of a required parameter.
    ///
    /// # Errors
    /// If the parameter is missing, empty or given twice.
    pub fn required_text(&self, name: &'static str) -> Result<&str, ParameterError> {
        self.text(name)?.ok_or_else(|| ParameterError::new(name, "missing"))
    }

    /// Parses the value of a parameter. Returns `None` if it is missing or empty.
    ///
    /// # Errors
    /// If the parameter is given twice or malformed.
    pub fn value<T>(&self, name: &'static str) -> Result<Option<T>, ParameterError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.text(name)?
            .map(|text| text.parse().map_err(|e: T::Err| ParameterError::new(name, e.to_string())))
            .transpose()
    }

    /// Parses the value of a required parameter.
    ///
    /// # Errors
    /// If the parameter is missing, empty, given twice or malformed.
    pub fn required<T>(&self, name: &'static str) -> Result<T, ParameterError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        self.value(name)?.ok_or_else(|| ParameterError::new(name, "missing"))
    }

    /// Parses a whole number within a range. Returns `None` if the parameter is missing or empty.
    ///
    /// # Errors
    /// If the parameter is given twice, is not a whole number or is out of range.
    pub fn natural(
        &self,
        name: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, ParameterError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let refuse = || {
            let (low, high) = (range.start(), range.end());
            let what = match *high {
                u64::MAX => format!("not a whole number of at least {low}"),
                _ => format!("not a whole number from {low} to {high}"),
            };
            ParameterError::new(name, what)
        };
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|n| digits && range.contains(n));
        number.map(Some).ok_or_else(refuse)
    }
}

/// Returns a parameter name that is safe to quote in an error, or `?` for any other name.
fn quotable(name: &str) -> &str {
    let plain = name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain { name } else { "?" }
}

/// A writer of query strings and form bodies.
#[derive(Default)]
pub struct ParameterWriter(String);

impl fmt::Debug for ParameterWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairsOut(…)")
    }
}

impl ParameterWriter {
    /// Adds a parameter.
    pub fn push(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        percent_encode(name, &mut self.0);
        self.0.push('=');
        percent_encode(value, &mut self.0);
    }

    /// Adds a parameter if the value is `Some`.
    pub fn push_some(&mut self, name: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.push(name, &value.to_string());
        }
    }

    /// Returns a set of parameters as a query string or a form body.
    #[must_use]
    pub fn text_of(parameters: &impl Parameters) -> String {
        let mut out = Self::default();
        parameters.write(&mut out);
        out.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict() {
        let pairs = ParsedParameters::parse("limit=5&a=%20b+c&limit2=&a2").unwrap();
        assert_eq!(pairs.natural("limit", 1..=500).unwrap(), Some(5));
        assert_eq!(pairs.text("a").unwrap(), Some(" b c"));
        assert_eq!(pairs.text("limit2").unwrap(), None);
        assert!(ParsedParameters::parse("a=%zz").is_err());
        assert!(ParsedParameters::parse("a=%ff").is_err());
        for bad in [
            "limit=0",
            "limit=501",
            "limit=-1",
            "limit=+5",
            "limit=5.0",
            "limit=99999999999999999999",
            "limit=1&limit=1",
        ] {
            let error =
                ParsedParameters::parse(bad).unwrap().natural("limit", 1..=500).unwrap_err();
            assert_eq!(error.parameter(), Some("limit"), "{bad}");
        }
    }

    #[test]
    fn a_text_with_too_many_parameters_is_refused() {
        for pair in ["a&", "a=1&", "=&", "%41=%42&"] {
            let error = ParsedParameters::parse(&pair.repeat(MAX_PARAMETERS + 1)).unwrap_err();
            assert_eq!(error.to_string(), "there are more than 1000 parameters", "{pair}");
            assert_eq!(
                ParsedParameters::parse(&pair.repeat(MAX_PARAMETERS)).unwrap().0.len(),
                MAX_PARAMETERS
            );
        }
        assert_eq!(ParsedParameters::parse(&"&".repeat(MAX_PARAMETERS + 1)).unwrap().0.len(), 0);
    }

    /// Refusing 1 MiB of `a&` must not take 500 times as long as accepting the 2,000 bytes that are allowed.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "measures")]
    fn a_refusal_costs_no_more_than_what_is_accepted() {
        let fastest = |text: &str| {
            let once = |_| {
                let began = std::time::Instant::now();
                let _ = std::hint::black_box(ParsedParameters::parse(text));
                began.elapsed()
            };
            (0..20).map(once).min().unwrap()
        };
        let (accepted, refused) = ("a&".repeat(MAX_PARAMETERS), "a&".repeat(1 << 19));
        let (accepted, refused) = (fastest(&accepted), fastest(&refused));
        assert!(refused < accepted * 5, "{refused:?} against {accepted:?}");
    }
}
