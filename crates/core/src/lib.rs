//! The rules of reeltime, without clock, disk or network.
//!
//! A recording on its way to storage is a *stream*. Everything that is decided about a
//! stream is decided here, by the machine: observations go in as [`Input`]s, requests
//! come out as [`Action`]s, and somebody else carries them out. Nothing in this crate waits,
//! reads a clock or touches the outside, so that a million adversarial histories can be
//! tried in a minute.
//!
//! Times are given as [`Tick`]s: milliseconds of a clock that never runs backwards.

mod checksum;
mod file;
mod ids;
mod key;
mod machine;
mod part_plan;
mod part_table;
mod record;
mod state;
mod trouble;

pub use checksum::Crc64Nvme;
pub use file::{FileVersion, Observation, Writers};
pub use ids::{ByteRange, PartNumber, StreamId, Tick, WallTime};
pub use key::{ObjectKey, temp_suffix_of};
pub use machine::{
    Action, FRESH_MS, Input, Need, Now, ObjectFacts, OnDelete, Origin, PendingUpload, Policy, RemotePart,
    StreamMachine, WholeObject, plan_of,
};
pub use part_plan::{Limits, PartPlan, PlanKind};
pub use part_table::{Part, PartTable};
pub use record::{StreamRecord, UploadState};
pub use state::{Reason, State, UnknownName};
pub use trouble::Trouble;
