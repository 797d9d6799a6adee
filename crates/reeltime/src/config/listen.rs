//! Where HTTP is served.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use super::text::{BadValue, deserialize_from_text};

/// The address of dashboard, API, metrics and health.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listen {
    /// No HTTP.
    Off,
    /// This address; port 0 is any free port.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = match text.strip_prefix("localhost:") {
            Some(port) => port.parse().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).ok(),
            None => text.parse().ok(),
        };
        let instead = "ADDRESS:PORT such as 127.0.0.1:8420, 0.0.0.0:8420 or [::]:8420, or off";
        address.map(Self::At).ok_or_else(|| BadValue::new(text, "is not an address with a port", instead))
    }
}

deserialize_from_text!(Listen);

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for text in ["127.0.0.1:8420", "0.0.0.0:1", "[::1]:8420", "off"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        assert_eq!("localhost:8420".parse::<Listen>().unwrap().to_string(), "127.0.0.1:8420");
    }

    #[test]
    fn what_has_no_port_or_no_address_is_refused() {
        for text in ["", "127.0.0.1", ":8420", "8420", "localhost:", "localhost:99999", "::1:x", "example.org:80"] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
