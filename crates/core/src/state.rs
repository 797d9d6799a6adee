//! The states of a stream, and why one failed.

use std::fmt;
use std::str::FromStr;

/// Where a stream is on its way. In the checkpoint store a stream is in exactly one state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Being recorded and uploaded.
    Active,
    /// The recording has ended; what is missing is sent and verified.
    PendingCompletion,
    /// The object is there, verified and described. Remembered for ever.
    Completed,
    /// Given up, for a [`Reason`].
    Failed,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Active, Self::PendingCompletion, Self::Completed, Self::Failed];

    /// The name in checkpoints, metrics and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::PendingCompletion => "pending_completion",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Whether a stream may go from here to `next`.
    ///
    /// The way is `active → pending_completion → completed`. Back to `active` leads what goes
    /// on being recorded: before completion, or after it (a new object follows), and a failed
    /// stream whose file can be read again. A completed stream does not fail.
    pub const fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Active, Self::Completed)
            | (Self::Completed | Self::Failed, Self::PendingCompletion | Self::Failed) => {
                matches!((self, next), (Self::Failed, Self::Failed))
            }
            (Self::Failed, Self::Completed) => false,
            _ => true,
        }
    }

    /// The states that lead from here to `to`, which is the last one: those in between were
    /// passed while nobody could write them down.
    pub fn way_to(self, to: Self) -> Vec<Self> {
        let mut way = Vec::new();
        let mut at = self;
        while !at.may_become(to) {
            at = if at == Self::Active { Self::PendingCompletion } else { Self::Active };
            way.push(at);
        }
        way.push(to);
        way
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownName)
    }
}

/// Why a stream failed. Outages are no reason: they are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// The file is gone, and nobody holds it open any more.
    SourceMissing,
    /// The file cannot be read.
    SourceUnreadable,
    /// Another file has taken the name.
    SourceReplaced,
    /// Another recording has the same object key.
    KeyTaken,
    /// Larger than the store, with its limits on parts, can hold.
    TooLarge,
    /// The store refuses the object for good (its key is too long, for example).
    Refused,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::SourceMissing,
        Self::SourceUnreadable,
        Self::SourceReplaced,
        Self::KeyTaken,
        Self::TooLarge,
        Self::Refused,
    ];

    /// The name in checkpoints, metrics and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SourceMissing => "source_missing",
            Self::SourceUnreadable => "source_unreadable",
            Self::SourceReplaced => "source_replaced",
            Self::KeyTaken => "key_taken",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
        }
    }

    /// What an operator can do about it.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::SourceMissing => {
                "the file was removed before it was uploaded; if it still exists elsewhere, put it back under its name"
            }
            Self::SourceUnreadable => {
                "make the file readable for the user that runs reeltime (chmod, chown); it is tried again when its mode changes, and at the next start"
            }
            Self::SourceReplaced => "another file has taken the name and is uploaded in its place",
            Self::KeyTaken => "rename one of the two files: they would become the same object",
            Self::TooLarge => "choose a larger --part-size, or a store that allows more parts",
            Self::Refused => "the store's answer is in the log; the file stays where it is",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or(UnknownName)
    }
}

/// A name that is none of the known ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownName;

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown name")
    }
}

impl std::error::Error for UnknownName {}

#[cfg(test)]
mod tests {
    use super::State::{Active, Completed, Failed, PendingCompletion};
    use super::*;

    #[test]
    fn nothing_is_completed_without_having_been_pending() {
        let allowed: Vec<_> = State::ALL
            .into_iter()
            .flat_map(|from| State::ALL.into_iter().map(move |to| (from, to)))
            .filter(|(from, to)| from != to && from.may_become(*to))
            .collect();
        assert_eq!(
            allowed,
            [
                (Active, PendingCompletion),
                (Active, Failed),
                (PendingCompletion, Active),
                (PendingCompletion, Completed),
                (PendingCompletion, Failed),
                (Completed, Active),
                (Failed, Active),
            ]
        );
        assert!(State::ALL.into_iter().all(|state| state.may_become(state)));
    }

    #[test]
    fn states_that_were_passed_unseen_are_passed_one_after_the_other() {
        assert_eq!(Active.way_to(Active), [Active]);
        assert_eq!(Active.way_to(Completed), [PendingCompletion, Completed]);
        assert_eq!(Failed.way_to(Completed), [Active, PendingCompletion, Completed]);
        assert_eq!(Completed.way_to(Failed), [Active, Failed]);
        for (from, to) in State::ALL.into_iter().flat_map(|from| State::ALL.into_iter().map(move |to| (from, to))) {
            let mut at = from;
            for next in from.way_to(to) {
                assert!(at.may_become(next), "{from} to {to}: {at} may not become {next}");
                at = next;
            }
            assert_eq!(at, to);
        }
    }

    #[test]
    fn names_read_back() {
        assert!(State::ALL.into_iter().all(|state| state.as_str().parse() == Ok(state)));
        assert!(Reason::ALL.into_iter().all(|reason| reason.as_str().parse() == Ok(reason)));
        assert_eq!("done".parse::<State>(), Err(UnknownName));
    }
}
