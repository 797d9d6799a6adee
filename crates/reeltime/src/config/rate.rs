//! Bandwidths.

use std::str::FromStr;

use super::size::{ByteSize, Multiply, multiply, split_unit};
use super::text::{BadValue, deserialize_from_text_or_number};

/// Bytes per second, as people write it: `20MiB/s`, `2.5MB/s`, `100Mbit/s`, `100Mbps`.
///
/// What is written as bits (`bit/s`, `bps`, always powers of 1000) becomes bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rate {
    /// Bytes per second.
    pub bytes_per_second: u64,
}

const INSTEAD: &str = "bytes such as 20MiB/s or 20MB/s, or bits such as 100Mbit/s";

impl FromStr for Rate {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = |what| BadValue::new(text, what, INSTEAD);
        let trimmed = text.trim();
        if trimmed.starts_with('-') {
            return Err(bad("is a negative rate"));
        }
        if let Some(bits) = bits(trimmed) {
            return match bits {
                Ok(bits) => Ok(Self { bytes_per_second: bits.div_ceil(8) }),
                Err(Multiply::NotANumber) => Err(bad("is not a rate")),
                Err(Multiply::Overflow) => Err(bad("is more than can be counted")),
            };
        }
        let size = trimmed.strip_suffix("/s").ok_or_else(|| bad("does not say per second"))?;
        let (_, unit) = split_unit(size);
        if unit.ends_with('b') {
            return Err(bad("may mean bits or bytes"));
        }
        let ByteSize(bytes_per_second) = size.parse().map_err(|_| bad("is not a rate"))?;
        Ok(Self { bytes_per_second })
    }
}

deserialize_from_text_or_number!(
    Rate,
    "a rate such as \"20MiB/s\" or \"100Mbit/s\", or a number of bytes per second",
    |bytes_per_second| Rate { bytes_per_second }
);

/// Bits per second, if the text names bits.
fn bits(text: &str) -> Option<Result<u64, Multiply>> {
    let text = text.strip_suffix("bit/s").or_else(|| text.strip_suffix("bps"))?;
    let (number, prefix) = split_unit(text);
    let per_unit = match prefix {
        "" => 1,
        "k" | "K" => 1_000,
        "M" | "m" => 1_000_000,
        "G" | "g" => 1_000_000_000,
        _ => return Some(Err(Multiply::NotANumber)),
    };
    Some(multiply(number, per_unit))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        let table = [
            ("20MiB/s", 20 << 20),
            ("20MB/s", 20_000_000),
            ("20M/s", 20 << 20),
            ("100Mbit/s", 12_500_000),
            ("100Mbps", 12_500_000),
            ("1Gbit/s", 125_000_000),
            ("2.5Mbit/s", 312_500),
            ("500 kB/s", 500_000),
            ("9bit/s", 2),
            ("800B/s", 800),
            ("0B/s", 0),
        ];
        for (text, bytes_per_second) in table {
            assert_eq!(text.parse(), Ok(Rate { bytes_per_second }), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        let table = [
            ("20MiB", "does not say per second"),
            ("", "does not say per second"),
            ("20Mb/s", "may mean bits or bytes"),
            ("20b/s", "may mean bits or bytes"),
            ("-1MB/s", "is a negative rate"),
            ("fast/s", "is not a rate"),
            ("Mbit/s", "is not a rate"),
            ("5Xbit/s", "is not a rate"),
            ("99999999999999999999Gbit/s", "is more than can be counted"),
        ];
        for (text, problem) in table {
            let bad = text.parse::<Rate>().unwrap_err();
            assert_eq!(bad.problem, format!("{text:?} {problem}"));
            assert!(bad.instead.contains("20MiB/s"));
        }
    }
}
