//! reeltime puts recordings into S3-compatible storage while they are being recorded.
//!
//! Data flows one way: directory → `watch` → `supervisor` → `processor` ⇄ core → `storage` and
//! `checkpoint` → `metadata` → `events`.

mod asking;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod config;
pub mod events;
pub mod host;
pub mod http;
pub mod lease;
pub mod leftover;
pub mod listing;
pub mod metadata;
pub mod pacing;
pub mod printable;
pub mod process;
pub mod processor;
pub mod recording;
pub mod salvaging;
pub mod storage;
pub mod supervisor;
pub mod sweeping;
pub mod telemetry;
pub mod text_table;
pub mod uplink;
pub mod verifying;
pub mod view;
pub mod watch;
