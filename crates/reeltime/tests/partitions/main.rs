//! The built binary when the store and the state are away together, come and go, or cannot be
//! reached: it waits for both, asks each of them no more often than they can bear, and loses
//! nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod away;
mod crowds;
mod networks;
#[path = "../world/mod.rs"]
mod world;
