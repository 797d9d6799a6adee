//! reeltime puts recordings into S3-compatible storage while they are being recorded.
//!
//! Data flows one way: directory → `watch` → `supervisor` → `processor` ⇄ core → `storage` and
//! `checkpoint` → `metadata` → `events`.

pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod events;
pub mod http;
pub mod listing;
pub mod pacing;
pub mod printable;
pub mod storage;
pub mod telemetry;
pub mod text_table;
pub mod view;
pub mod watch;
