//! How long the tail of a recording may stay on this machine alone.

use std::str::FromStr;
use std::time::Duration;

use super::span::Span;
use super::text::{BadValue, deserialize_from_text};

/// When bytes behind the last full part are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TailFlush {
    /// At the end of the recording only.
    Off,
    /// At the latest this long after they were written; not zero.
    After(Duration),
}

impl TailFlush {
    /// The time, if there is one.
    pub fn after(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::After(after) => Some(after),
        }
    }
}

impl FromStr for TailFlush {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if text == "off" {
            return Ok(Self::Off);
        }
        match text.parse()? {
            Span(Duration::ZERO) => Err(BadValue::new(text, "would send the tail without end", "30s, or off")),
            Span(after) => Ok(Self::After(after)),
        }
    }
}

deserialize_from_text!(TailFlush);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_flush_is_a_time_or_off() {
        assert_eq!("off".parse(), Ok(TailFlush::Off));
        assert_eq!("30s".parse(), Ok(TailFlush::After(Duration::from_secs(30))));
        for bad in ["0s", "never", "Off", ""] {
            assert!(bad.parse::<TailFlush>().is_err(), "{bad}");
        }
    }
}
