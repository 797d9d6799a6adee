//! Where a recorder has got to in a file that it allocated beforehand.
//!
//! Such a file has its final size from the start and is zero where nothing was written yet. The
//! answer is a hint for what is worth sending early, and nothing else: zeros may be content, and
//! the search looks at a few blocks only. Whatever was sent too early or not at all is found
//! when the file is verified before completion.
//!
//! The search costs O(log size) reads of one block. It assumes content up to the frontier and
//! zeros behind it, and survives exceptions to both: every power-of-two distance is probed,
//! and the farthest one with content wins.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What is read at once: the page size of the machine, below which a read is no cheaper.
const BLOCK_BYTES: u64 = 4096;

/// The offset behind the last byte that is probably content, at most `size`.
///
/// `from` is what the last search answered, or 0.
pub(super) fn content_end(file: &File, size: u64, from: u64) -> io::Result<u64> {
    let blocks = Blocks { file, size };
    let Some(last) = size.checked_sub(1).map(|offset| offset / BLOCK_BYTES) else { return Ok(0) };
    if blocks.end_of_content(last)?.is_some() {
        return Ok(size); // the ordinary recording: it grows as it is written
    }
    let start = from.min(size).saturating_sub(1) / BLOCK_BYTES;
    if let Some(end) = blocks.search(start, last)? {
        return Ok(end);
    }
    // Nothing even where the recorder had been: the name is used for a new recording.
    if start == 0 { Ok(0) } else { Ok(blocks.search(0, last)?.unwrap_or(0)) }
}

struct Blocks<'a> {
    file: &'a File,
    size: u64,
}

impl Blocks<'_> {
    /// Finds the frontier between `start` and `last`, the latter a block of zeros. `None` if no
    /// probe found anything.
    fn search(&self, start: u64, last: u64) -> io::Result<Option<u64>> {
        let mut content = None;
        let mut zeros = last;
        let mut distance = 0;
        while start + distance < last {
            let probe = start + distance;
            if let Some(end) = self.end_of_content(probe)? {
                content = Some((probe, end));
                zeros = last;
            } else if zeros == last && content.is_some() {
                zeros = probe;
            }
            distance = if distance == 0 { 1 } else { distance * 2 };
        }
        let Some((mut block, mut end)) = content else { return Ok(None) };
        while zeros - block > 1 {
            let middle = block + (zeros - block) / 2;
            match self.end_of_content(middle)? {
                Some(found) => (block, end) = (middle, found),
                None => zeros = middle,
            }
        }
        Ok(Some(end))
    }

    /// The offset behind the last byte of a block that is not zero; `None` if all are.
    fn end_of_content(&self, block: u64) -> io::Result<Option<u64>> {
        let offset = block * BLOCK_BYTES;
        let mut buffer = [0; BLOCK_BYTES as usize];
        let wanted = &mut buffer[..BLOCK_BYTES.min(self.size - offset) as usize];
        let mut filled = 0;
        while filled < wanted.len() {
            match self.file.read_at(&mut wanted[filled..], offset + filled as u64) {
                Ok(0) => break, // it became shorter; what is missing counts as zero
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(wanted.iter().rposition(|&byte| byte != 0).map(|at| offset + at as u64 + 1))
    }
}
