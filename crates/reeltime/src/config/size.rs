//! Numbers of bytes.

use std::fmt;
use std::str::FromStr;

use super::text::{BadValue, deserialize_from_text_or_number};

/// A number of bytes, as people write it: `8MiB`, `5MB`, `1g`, `8388608`.
///
/// `KiB MiB GiB TiB` are powers of 1024, `kB MB GB TB` of 1000; a single letter is a power of
/// 1024, as `dd` and `ls` have it. Upper and lower case are the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByteSize(pub u64);

const INSTEAD: &str = "a size such as 8MiB, 5MB or 1g, or a plain number of bytes";

impl FromStr for ByteSize {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = |what| BadValue::new(text, what, INSTEAD);
        if text.trim().starts_with('-') {
            return Err(bad("is a negative size"));
        }
        let (number, unit) = split_unit(text);
        let bytes_per_unit = bytes_per_unit(unit).ok_or_else(|| bad("is not a size"))?;
        match multiply(number, bytes_per_unit) {
            Ok(bytes) => Ok(Self(bytes)),
            Err(Multiply::NotANumber) => Err(bad("is not a size")),
            Err(Multiply::Overflow) => Err(bad("is more bytes than can be counted")),
        }
    }
}

deserialize_from_text_or_number!(ByteSize, "a size such as \"8MiB\", or a number of bytes", ByteSize);

impl fmt::Display for ByteSize {
    /// The shortest exact way to write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 8] = [
            (1 << 40, "TiB"),
            (1_000_000_000_000, "TB"),
            (1 << 30, "GiB"),
            (1_000_000_000, "GB"),
            (1 << 20, "MiB"),
            (1_000_000, "MB"),
            (1 << 10, "KiB"),
            (1_000, "kB"),
        ];
        match UNITS.into_iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

/// A text as the digits (and dot) that it begins with, and what follows.
pub(super) fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

fn bytes_per_unit(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let (letter, rest) = match unit.chars().next() {
        None | Some('b') => return (unit.len() <= 1).then_some(1),
        Some(letter) => unit.split_at(letter.len_utf8()),
    };
    let exponent = match letter {
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    match rest {
        "" | "ib" => Some(1024_u64.pow(exponent)),
        "b" => Some(1000_u64.pow(exponent)),
        _ => None,
    }
}

/// Why a decimal number could not be multiplied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Multiply {
    NotANumber,
    Overflow,
}

/// `number`, a decimal with or without a fraction, times `unit`, rounded down.
pub(super) fn multiply(number: &str, unit: u64) -> Result<u64, Multiply> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || fraction.len() > 9 {
        return Err(Multiply::NotANumber);
    }
    let whole: u64 = whole.parse().map_err(|_| Multiply::Overflow)?;
    let fraction_digits: u64 = fraction.parse().map_err(|_| Multiply::NotANumber)?;
    let part = u128::from(fraction_digits) * u128::from(unit) / 10_u128.pow(fraction.len() as u32);
    let product = u128::from(whole) * u128::from(unit) + part;
    u64::try_from(product).map_err(|_| Multiply::Overflow)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let table = [
            ("8MiB", 8 << 20),
            ("8mib", 8 << 20),
            ("8 MiB", 8 << 20),
            ("5MB", 5_000_000),
            ("1g", 1 << 30),
            ("64K", 64 << 10),
            ("1kB", 1000),
            ("2TiB", 2 << 40),
            ("1.5GiB", 3 << 29),
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in table {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        let garbage =
            ["", " ", "MiB", "8 apples", "8MiBs", "8bb", "8xib", "1.2.3", ".5m", "5.", "0x10", "8é", "é", "+8"];
        for text in garbage {
            let bad = text.parse::<ByteSize>().unwrap_err();
            assert_eq!(bad.problem, format!("{text:?} is not a size"));
            assert!(bad.instead.contains("8MiB"), "{bad}");
        }
        assert_eq!("-8MiB".parse::<ByteSize>().unwrap_err().problem, "\"-8MiB\" is a negative size");
        for text in ["18446744073709551616", "16777216TiB", "99999999999999999999g"] {
            let bad = text.parse::<ByteSize>().unwrap_err();
            assert_eq!(bad.problem, format!("{text:?} is more bytes than can be counted"));
        }
    }

    #[test]
    fn a_size_is_shown_exactly() {
        for (bytes, text) in
            [(8 << 20, "8MiB"), (5_000_000, "5MB"), (1025, "1025 bytes"), (0, "0 bytes"), (1 << 40, "1TiB")]
        {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }
}
