//! Values that are one of a few words.

use reeltime_core::{OnDelete, PlanKind};

use super::text::{BadValue, deserialize_from_text};
use crate::watch::WatchMode;

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// All choices, as they are written.
            pub const WORDS: &'static [&'static str] = &[$($word),+];
        }

        impl std::str::FromStr for $name {
            type Err = BadValue;

            fn from_str(text: &str) -> Result<Self, BadValue> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(BadValue::new(text, "is not one of the choices", &Self::WORDS.join(" or "))),
                }
            }
        }

        deserialize_from_text!($name);
    };
}

deserialize_from_text!(WatchMode);

choice! {
    /// How log lines are written.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

choice! {
    /// Whether checksums travel with the parts.
    S3Checksums {
        /// Where the store takes them.
        Auto = "auto",
        /// Never.
        Off = "off",
    }
}

choice! {
    /// How part sizes develop; [`PlanKind`] as it is written.
    PartPlanChoice {
        /// [`PlanKind::Growing`].
        Growing = "growing",
        /// [`PlanKind::Uniform`].
        Uniform = "uniform",
    }
}

choice! {
    /// What becomes of a recording that is deleted meanwhile; [`OnDelete`] as it is written.
    OnDeleteChoice {
        /// [`OnDelete::Finish`].
        Finish = "finish",
        /// [`OnDelete::Abort`].
        Abort = "abort",
    }
}

impl From<OnDeleteChoice> for OnDelete {
    fn from(choice: OnDeleteChoice) -> Self {
        match choice {
            OnDeleteChoice::Finish => Self::Finish,
            OnDeleteChoice::Abort => Self::Abort,
        }
    }
}

impl From<PartPlanChoice> for PlanKind {
    fn from(choice: PartPlanChoice) -> Self {
        match choice {
            PartPlanChoice::Growing => Self::Growing,
            PartPlanChoice::Uniform => Self::Uniform,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_exactly_and_others_are_told_the_choices() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        let bad = "Json".parse::<LogFormat>().unwrap_err();
        assert_eq!(bad.to_string(), "\"Json\" is not one of the choices; write text or json");
    }

    #[test]
    fn part_plans_have_the_words_of_the_core() {
        for word in PartPlanChoice::WORDS {
            assert_eq!(PlanKind::from(word.parse::<PartPlanChoice>().unwrap()).as_str(), *word);
        }
    }
}
