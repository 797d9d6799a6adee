//! The scripts: each change is one of them, and so is done wholly or not at all.
//!
//! All keys of a script belong to one stream, and so to one slot of a cluster.
//! A script answers `1`, or the state, epoch and node that it found instead; nothing of these
//! if there is no such stream.
//!
//! A replica runs scripts too, up to their first write, and what it has may be old, or nothing
//! while it is given its data anew. Who believed that would leave his stream to another owner
//! that there is not. So a script that refuses writes first, without effect.

use std::sync::LazyLock;

use redis::{Cmd, Script, cmd};

/// A script that servers know by its digest, once they have seen it.
pub(super) struct Lua {
    source: &'static str,
    script: Script,
}

macro_rules! lua {
    ($($name:ident = $file:literal)+) => {
        $(pub(super) static $name: LazyLock<Lua> = LazyLock::new(|| Lua::new(include_str!(concat!("scripts/", $file))));)+
    };
}

lua! {
    CLAIM = "claim.lua"
    CREATE = "create.lua"
    FORGET = "forget.lua"
    HEARTBEAT = "heartbeat.lua"
    LEAVE = "leave.lua"
    RECORD_PART = "record_part.lua"
    RELEASE = "release.lua"
    RESERVE = "reserve.lua"
    TRANSITION = "transition.lua"
}

/// A call of a script.
pub(super) struct Call {
    script: &'static Lua,
    keys: Vec<String>,
    args: Vec<Vec<u8>>,
}

impl Lua {
    fn new(source: &'static str) -> Self {
        Self { source, script: Script::new(source) }
    }

    /// Calls it with these keys, without arguments so far.
    pub(super) fn on(&'static self, keys: impl IntoIterator<Item = String>) -> Call {
        Call { script: self, keys: keys.into_iter().collect(), args: Vec::new() }
    }
}

impl Call {
    /// Adds an argument.
    pub(super) fn arg(mut self, arg: impl Into<Vec<u8>>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub(super) fn args(mut self, args: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.args.extend(args);
        self
    }

    /// The short command, for a server that knows the script.
    pub(super) fn by_digest(&self) -> Cmd {
        self.command("EVALSHA", self.script.script.get_hash())
    }

    /// The long command, from which a server learns it.
    pub(super) fn in_full(&self) -> Cmd {
        self.command("EVAL", self.script.source)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(script).arg(self.keys.len());
        for key in &self.keys {
            command.arg(key);
        }
        for arg in &self.args {
            command.arg(arg.as_slice());
        }
        command
    }
}
