//! reeltime puts recordings into S3-compatible storage while they are being recorded.
//!
//! Data flows one way: directory → `watch` → `supervisor` → `processor` ⇄ core → `storage` and
//! `checkpoint` → `metadata` → `events`.

pub mod checkpoint;
pub mod events;
pub mod metadata;
pub mod pacing;
pub mod recording;
pub mod storage;
pub mod view;
pub mod watch;
