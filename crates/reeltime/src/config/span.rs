//! Lengths of time.

use std::str::FromStr;
use std::time::Duration;

use super::text::{BadValue, deserialize_from_text};

/// A length of time, as people write it: `2s`, `500ms`, `1m30s`, `1h`, `0`.
///
/// The units are `ms s m h d`, each at most once, from the larger to the smaller; a number
/// without a unit is refused, because nobody knows whether it means seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span(pub Duration);

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const INSTEAD: &str = "a time with its unit, such as 500ms, 2s, 1m30s or 1h";

/// Longer times than this are slips of the pen; it also keeps every sum of times in range.
const LONGEST_MS: u64 = 366 * 86_400_000;

impl FromStr for Span {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = |what| BadValue::new(text, what, INSTEAD);
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if rest.starts_with('-') {
            return Err(bad("is a negative time"));
        }
        if rest.is_empty() {
            return Err(bad("is not a time"));
        }
        let mut total_ms: u64 = 0;
        let mut smaller_units = &UNITS[..];
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| bad("has no unit"))?;
            let (number, after) = rest.split_at(digits);
            let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at(letters);
            let at = smaller_units.iter().position(|(name, _)| *name == unit).ok_or_else(|| bad("is not a time"))?;
            let number: u64 = match number {
                "" => return Err(bad("is not a time")),
                number => number.parse().map_err(|_| bad("is too long"))?,
            };
            total_ms = number
                .checked_mul(smaller_units[at].1)
                .and_then(|ms| ms.checked_add(total_ms))
                .filter(|ms| *ms <= LONGEST_MS)
                .ok_or_else(|| bad("is too long"))?;
            smaller_units = &smaller_units[at + 1..];
            rest = after.trim_start();
        }
        Ok(Self(Duration::from_millis(total_ms)))
    }
}

deserialize_from_text!(Span);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let table = [
            ("2s", 2_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("1h", 3_600_000),
            ("1d1h1m1s1ms", 90_061_001),
            ("90s", 90_000),
            ("0", 0),
            ("0s", 0),
        ];
        for (text, millis) in table {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(millis))), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let table = [
            ("30", "has no unit"),
            ("1m30", "has no unit"),
            ("", "is not a time"),
            ("s", "is not a time"),
            ("2 fortnights", "is not a time"),
            ("2S", "is not a time"),
            ("30s1m", "is not a time"),
            ("1s1s", "is not a time"),
            ("1.5s", "is not a time"),
            ("-2s", "is a negative time"),
            ("400d", "is too long"),
            ("99999999999999999999s", "is too long"),
            ("18446744073709551615d", "is too long"),
        ];
        for (text, problem) in table {
            assert_eq!(text.parse::<Span>().unwrap_err().problem, format!("{text:?} {problem}"));
        }
    }
}
