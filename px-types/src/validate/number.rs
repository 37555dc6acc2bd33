//! Formats and checksums of bank and security identifiers.

fn digits(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|b| b.is_ascii_digit())
}

/// Returns whether a text consists of `count` digits.
pub(super) fn is_digits(text: &str, count: usize) -> bool {
    digits(text, count)
}

/// Returns whether a text is a routing number: nine digits with the ABA checksum.
pub(super) fn is_routing_number(text: &str) -> bool {
    let sum: u32 = text
        .bytes()
        .zip([3, 7, 1].into_iter().cycle())
        .map(|(b, weight)| u32::from(b.wrapping_sub(b'0')) * weight)
        .sum();
    digits(text, 9) && sum > 0 && sum.is_multiple_of(10)
}

/// Returns whether a text is an IBAN (ISO 13616). Checks format and checksum, but not the length per
/// country.
pub(super) fn is_iban(text: &str) -> bool {
    let bytes = text.as_bytes();
    if !(15..=34).contains(&bytes.len())
        || !bytes[..2].iter().all(u8::is_ascii_uppercase)
        || !bytes[2..4].iter().all(u8::is_ascii_digit)
    {
        return false;
    }
    let moved = bytes[4..].iter().chain(&bytes[..4]);
    let rest = moved.copied().try_fold(0_u32, |rest, byte| match byte {
        b'0'..=b'9' => Some((rest * 10 + u32::from(byte - b'0')) % 97),
        b'A'..=b'Z' => Some((rest * 100 + u32::from(byte - b'A') + 10) % 97),
        _ => None,
    });
    rest == Some(1)
}

/// Returns whether a text has the format of a BIC (ISO 9362).
pub(super) fn is_bic(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!(bytes.len(), 8 | 11)
        && bytes.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        && bytes[4..6].iter().all(u8::is_ascii_uppercase)
}

/// Returns whether a text is an ISIN (ISO 6166): format and checksum.
pub(super) fn is_isin(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() != 12
        || !bytes[..2].iter().all(u8::is_ascii_uppercase)
        || !bytes[11].is_ascii_digit()
    {
        return false;
    }
    // The Luhn checksum. A letter counts as two digits: A is 10, Z is 35.
    let (mut sum, mut double) = (0_u32, false);
    let mut add = |digit: u32| {
        let value = if double { digit * 2 } else { digit };
        sum += value / 10 + value % 10;
        double = !double;
    };
    for byte in bytes.iter().rev() {
        match byte {
            b'0'..=b'9' => add(u32::from(byte - b'0')),
            b'A'..=b'Z' => {
                let value = u32::from(byte - b'A') + 10;
                add(value % 10);
                add(value / 10);
            }
            _ => return false,
        }
    }
    sum.is_multiple_of(10)
}

/// Returns whether a text has the format of a country code (ISO 3166-1 alpha-2).
pub(super) fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums() {
        for good in ["021000021", "011401533", "122105155"] {
            assert!(is_routing_number(good), "{good}");
        }
        for bad in ["021000022", "02100002", "0210000211", "000000000", "02100002a", ""] {
            assert!(!is_routing_number(bad), "{bad}");
        }
        for good in ["GB82WEST12345698765432", "DE89370400440532013000", "NO9386011117947"] {
            assert!(is_iban(good), "{good}");
        }
        for bad in [
            "GB82WEST12345698765433",
            "gb82west12345698765432",
            "GB82 WEST 1234 5698 7654 32",
            "GB",
            "",
            "é",
            "DE89é70400440532013000",
        ] {
            assert!(!is_iban(bad), "{bad}");
        }
        for good in ["US0378331005", "AU0000XVGZA3", "GB0002634946"] {
            assert!(is_isin(good), "{good}");
        }
        for bad in ["US0378331004", "US037833100", "us0378331005", "", "US03783310é"] {
            assert!(!is_isin(bad), "{bad}");
        }
        assert!(is_bic("DEUTDEFF") && is_bic("DEUTDEFF500") && is_bic("N26XDEB1"));
        assert!(!is_bic("DEUTDEFF5") && !is_bic("DEUT1EFF") && !is_bic("deutdeff") && !is_bic(""));
    }
}
