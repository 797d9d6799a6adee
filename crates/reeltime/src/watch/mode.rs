//! How a source is watched.

use std::fmt;
use std::str::FromStr;

/// How changes below a source are noticed. The periodic scan comes with each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WatchMode {
    /// By the system's events where they work, by frequent scans where not.
    #[default]
    Auto,
    /// By the system's events; not being able to is an error at the start.
    Native,
    /// By frequent scans.
    Poll,
}

/// A mode that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not one of the choices; write auto or native or poll")]
pub struct UnknownMode(String);

impl FromStr for WatchMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "auto" => Ok(Self::Auto),
            "native" => Ok(Self::Native),
            "poll" => Ok(Self::Poll),
            other => Err(UnknownMode(other.to_owned())),
        }
    }
}

impl fmt::Display for WatchMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Poll => "poll",
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_is_read_as_it_is_written() {
        for mode in [WatchMode::Auto, WatchMode::Native, WatchMode::Poll] {
            assert_eq!(mode.to_string().parse::<WatchMode>().unwrap(), mode);
        }
        assert!("Auto".parse::<WatchMode>().unwrap_err().to_string().contains("auto or native or poll"));
    }
}
