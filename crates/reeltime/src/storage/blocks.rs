//! Memory for bytes on their way, used again and again.
//!
//! A fresh block of this size is new memory from the system each time: page faults and zeroes
//! that cost as much as reading the file does. So blocks are kept, as many as a full uplink
//! needs.

use std::sync::{Mutex, PoisonError};

/// Bytes of a block: large enough to make system calls cheap, small enough to stay in a
/// processor's cache between reading, checksum and sending.
pub const BLOCK_BYTES: usize = 256 * 1024;

/// Blocks that are kept when nobody uses them.
const KEPT_BLOCKS: usize = 24;

static KEPT: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// A piece of a file of up to [`BLOCK_BYTES`].
#[derive(Debug)]
pub(super) struct Block {
    memory: Box<[u8]>,
    len: usize,
}

impl Block {
    /// A block of `len` bytes, at most [`BLOCK_BYTES`], of any content.
    pub(super) fn of(len: usize) -> Self {
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = kept.unwrap_or_else(|| vec![0; BLOCK_BYTES].into());
        Self { memory, len: len.min(BLOCK_BYTES) }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

impl AsMut<[u8]> for Block {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.len]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_BLOCKS {
            kept.push(std::mem::take(&mut self.memory));
        }
    }
}
