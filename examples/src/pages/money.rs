//! Display format of amounts.

use px_types::{Amount, Unit};

/// Formats an amount with its unit: `$1,234.50`, `1,234.50 CZK`.
pub(crate) fn readable(amount: Amount, unit: &Unit) -> String {
    let text = amount.to_string();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("−", digits),
        None => ("", text.as_str()),
    };
    let (whole, fraction) =
        digits.split_once('.').map_or((digits, ""), |(whole, rest)| (whole, rest));
    let mut grouped = String::new();
    for (n, digit) in whole.chars().enumerate() {
        if n > 0 && (whole.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let point = if fraction.is_empty() { "" } else { "." };
    match unit.as_str() {
        "USD" => format!("{sign}${grouped}{point}{fraction}"),
        "EUR" => format!("{sign}€{grouped}{point}{fraction}"),
        code => format!("{sign}{grouped}{point}{fraction} {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let show =
            |amount: &str, unit| readable(amount.parse().unwrap(), &Unit::iso(unit).unwrap());
        assert_eq!(show("1234567.50", "USD"), "$1,234,567.50");
        assert_eq!(show("-999", "USD"), "−$999");
        assert_eq!(show("31056.10", "CZK"), "31,056.10 CZK");
    }
}
