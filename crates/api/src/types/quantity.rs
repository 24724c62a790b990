//! Amounts.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ParseError;

/// An amount of something, such as `5Gi` or `500m`. Compared by amount: `1Gi` equals `1024Mi`.
///
/// Kept as nano units, the finest that Kubernetes knows; what is finer is rounded up.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Quantity {
    text: String,
    nanos: i128,
}

const NANO: i128 = 1_000_000_000;

impl Quantity {
    /// The text that it was parsed from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is above zero.
    pub fn is_positive(&self) -> bool {
        self.nanos > 0
    }

    /// The amount in whole units (bytes, cores), rounded up.
    pub fn units(&self) -> i128 {
        self.nanos.div_euclid(NANO) + i128::from(self.nanos.rem_euclid(NANO) > 0)
    }
}

/// The factor of a suffix in nano units, as numerator and denominator.
fn factor(suffix: &str) -> Option<i128> {
    const KI: i128 = 1024;
    const K: i128 = 1000;
    Some(match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => NANO,
        "k" => NANO * K,
        "M" => NANO * K.pow(2),
        "G" => NANO * K.pow(3),
        "T" => NANO * K.pow(4),
        "P" => NANO * K.pow(5),
        "E" => NANO * K.pow(6),
        "Ki" => NANO * KI,
        "Mi" => NANO * KI.pow(2),
        "Gi" => NANO * KI.pow(3),
        "Ti" => NANO * KI.pow(4),
        "Pi" => NANO * KI.pow(5),
        "Ei" => NANO * KI.pow(6),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_i128.checked_pow(u32::try_from(power.checked_add(9)?).ok()?)?
        }
    })
}

fn parse_nanos(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || text.len() > 64 {
        return None;
    }
    let factor = factor(suffix)?;
    let digits = |digits: &str| match digits {
        "" => Some(0),
        digits => digits.parse::<i128>().ok(),
    };
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = digits(fraction)?.checked_mul(factor)?;
    let rounded = part.div_euclid(scale) + i128::from(part.rem_euclid(scale) > 0);
    let nanos = digits(whole)?.checked_mul(factor)?.checked_add(rounded)?;
    Some(if negative { -nanos } else { nanos })
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_nanos(text)
            .map(|nanos| Self {
                text: text.to_owned(),
                nanos,
            })
            .ok_or(ParseError::Quantity)
    }
}

impl TryFrom<String> for Quantity {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Quantity> for String {
    fn from(quantity: Quantity) -> Self {
        quantity.text
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().expect("an amount")
    }

    #[test]
    fn amounts_compare_by_amount() {
        for (left, right) in [
            ("1Gi", "1024Mi"),
            ("0.5", "500m"),
            ("1e3", "1k"),
            ("1E3", "1000"),
            ("1E", "1e18"),
            ("1.5Gi", "1536Mi"),
            (".5", "500m"),
            ("5.", "5"),
            ("+1", "1"),
            ("100n", "0.1u"),
        ] {
            assert_eq!(quantity(left), quantity(right), "{left} {right}");
        }
        assert!(quantity("5Gi") < quantity("5.5Gi"));
        assert!(quantity("5G") < quantity("5Gi"));
        assert!(quantity("-1") < quantity("0"));
        assert!(!quantity("0").is_positive());
        assert_eq!(quantity("1500m").units(), 2);
        assert_eq!(quantity("5Gi").units(), 5_368_709_120);
    }

    #[test]
    fn not_amounts() {
        for bad in [
            "",
            ".",
            "-",
            "Gi",
            "5gi",
            "5GB",
            "5 Gi",
            "1.2.3",
            "1e",
            "1e99",
            "five",
            "0x10",
            "1,5",
            "--1",
            "5K",
            &"9".repeat(40),
        ] {
            assert_eq!(bad.parse::<Quantity>(), Err(ParseError::Quantity), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            if let Ok(quantity) = text.parse::<Quantity>() {
                prop_assert_eq!(quantity.as_str(), text);
            }
        }

        #[test]
        fn order_is_that_of_numbers(a in 0_u32.., b in 0_u32.., suffix in "(|k|Mi|Gi|m)") {
            let (left, right) = (quantity(&format!("{a}{suffix}")), quantity(&format!("{b}{suffix}")));
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        }
    }
}
