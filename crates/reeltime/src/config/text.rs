//! Values that people write as text: on the command line, in a variable, in a file.
//!
//! Every such type has a `FromStr` whose error is a [`BadValue`], and deserializes through it,
//! so that a wrong value is said in the same words wherever it stands.

use std::fmt;

/// Stands between what is wrong and what to write instead. A deserializer keeps nothing of an
/// error but its text; [`BadValue::parts_of`] takes that apart again.
const INSTEAD: &str = "; write ";

/// A text that is not a value of its type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadValue {
    /// What is wrong with it.
    pub problem: String,
    /// What may be written instead, with examples.
    pub instead: String,
}

impl BadValue {
    /// `found` is not `what`; `instead` is what to write.
    pub fn new(found: &str, what: &str, instead: &str) -> Self {
        Self { problem: format!("{found:?} {what}"), instead: instead.to_owned() }
    }

    /// The problem and the hint in an error's text; the hint is empty if it has none.
    pub fn parts_of(text: &str) -> (String, String) {
        match text.split_once(INSTEAD) {
            Some((problem, instead)) => (problem.to_owned(), format!("write {instead}")),
            None => (text.to_owned(), String::new()),
        }
    }
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{INSTEAD}{}", self.problem, self.instead)
    }
}

impl std::error::Error for BadValue {}

/// Gives a `FromStr` type a `Deserialize` that reads its text.
macro_rules! deserialize_from_text {
    ($type:ty) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Gives a `FromStr` type a `Deserialize` that reads its text, or a whole number by `$from`.
macro_rules! deserialize_from_text_or_number {
    ($type:ty, $expected:literal, $from:expr) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
                        Ok($from(number))
                    }

                    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
                        match u64::try_from(number) {
                            Ok(number) => Ok($from(number)),
                            Err(_) => self.visit_str(&number.to_string()),
                        }
                    }
                }

                deserializer.deserialize_any(Visitor)
            }
        }
    };
}

pub(crate) use {deserialize_from_text, deserialize_from_text_or_number};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_and_hint_are_found_again_in_the_text() {
        let bad = BadValue::new("8 apples", "is not a size", "8MiB or 5MB");
        assert_eq!(
            BadValue::parts_of(&bad.to_string()),
            ("\"8 apples\" is not a size".to_owned(), "write 8MiB or 5MB".to_owned())
        );
        assert_eq!(BadValue::parts_of("invalid type"), ("invalid type".to_owned(), String::new()));
    }
}
