//! The built binary at its own limits: very many recordings, full and vanishing disks, few open
//! files, few watches, and clocks that jump. It goes on, and says what an operator can do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod catalogue;
mod clocks;
mod full_disk;
mod open_files;
mod sources;
mod watches;
#[path = "../world/mod.rs"]
mod world;
