//! Numbers with checksums: routing numbers, IBANs and ISINs.

/// Returns the bank's routing number: nine digits with the ABA checksum.
#[must_use]
pub fn routing_number() -> String {
    with_aba_check("26709318")
}

/// Adds the ABA check digit to eight digits.
#[must_use]
pub fn with_aba_check(digits: &str) -> String {
    let sum: u32 = digits
        .bytes()
        .zip([3, 7, 1].into_iter().cycle())
        .map(|(digit, weight)| u32::from(digit.wrapping_sub(b'0')) * weight)
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

/// Returns an IBAN with its check digits (ISO 13616).
#[must_use]
pub fn iban(country: &str, bban: &str) -> String {
    let remainder = format!("{bban}{country}00").chars().fold(0_u32, |rest, c| {
        let value = c.to_digit(36).unwrap_or(0);
        let shift = if value > 9 { 100 } else { 10 };
        (rest * shift + value) % 97
    });
    format!("{country}{:02}{bban}", 98 - remainder)
}

/// Returns an ISIN with its check digit (ISO 6166) from a country code and nine characters.
#[must_use]
pub fn isin(country: &str, nsin: &str) -> String {
    let body = format!("{country}{nsin}");
    let digits: Vec<u32> = body
        .chars()
        .filter_map(|c| c.to_digit(36))
        .flat_map(|value| if value > 9 { vec![value / 10, value % 10] } else { vec![value] })
        .collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, digit)| {
            let value = if i % 2 == 0 { digit * 2 } else { *digit };
            value / 10 + value % 10
        })
        .sum();
    format!("{body}{}", (10 - sum % 10) % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_known_numbers() {
        assert_eq!(with_aba_check("01140153"), "011401533");
        assert_eq!(iban("DE", "370400440532013000"), "DE89370400440532013000");
        assert_eq!(iban("GB", "NWBK60161331926819"), "GB29NWBK60161331926819");
        assert_eq!(isin("US", "037833100"), "US0378331005");
    }
}
