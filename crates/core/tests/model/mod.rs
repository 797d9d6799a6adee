//! A recording, a store, a checkpoint and the processes between them, as models.

mod chance;
mod checkpoint;
mod faults;
mod ledger;
mod owners;
mod process;
mod reading;
mod recorder;
mod requests;
mod seen;
mod store;
mod supervisor;
mod verdict;
mod world;

pub use seen::Seen;
pub use world::World;
