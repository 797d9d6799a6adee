//! Which server of the kind: the one that is installed, or one of another version.

use std::path::PathBuf;

use crate::servers::process::find_program;
use crate::settings::{Settings, skip};

/// A server program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RedisProgram {
    /// `$REELTIME_REDIS_SERVER`, or the `redis-server` in `PATH`: Redis 7 or newer, or Valkey.
    #[default]
    Installed,
    /// Redis 6.2, the oldest that is promised; without TLS.
    Redis62,
    /// Redis 8.
    Redis8,
    /// Valkey; without TLS.
    Valkey,
}

impl RedisProgram {
    /// This one, unless the machine cannot have it: then the test is to be skipped, which has
    /// been said.
    pub fn or_skip(self) -> Option<Self> {
        match Settings::get().unavailable_reason(self.name()) {
            None => Some(self),
            Some(why) => {
                skip(self.name(), &why);
                None
            }
        }
    }

    /// As `scripts/install-test-tools` calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Installed => "redis-server",
            Self::Redis62 => "redis-6.2",
            Self::Redis8 => "redis-8",
            Self::Valkey => "valkey",
        }
    }

    /// Where it is. Panics with what to do if it is missing.
    pub(super) fn path(self) -> PathBuf {
        let variable = match self {
            Self::Installed => "REELTIME_REDIS_SERVER",
            Self::Redis62 => "REELTIME_REDIS_6_2",
            Self::Redis8 => "REELTIME_REDIS_8",
            Self::Valkey => "REELTIME_VALKEY",
        };
        find_program(variable, &format!("bin/{}", self.name()), self.name())
    }
}
