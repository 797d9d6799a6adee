//! Stores that do not replace a part that is sent again.
//!
//! Nearly all do, and that is what makes rewritten heads and growing tails possible. On one that
//! does not, no byte of a recording is known to be the last word before its end. So nothing is
//! sent before the end, and each part once. If a part that the store has turns out to differ, the
//! upload is begun anew; the recording has ended then, so that this happens once for every time
//! that it ends.
//!
//! That a store is such a one shows when it refuses: also after a lost answer, when it has the
//! part already. Which it is is asked of its list of parts.

use super::{Course, StreamMachine};
use crate::{PartNumber, Tick, Trouble};

impl StreamMachine {
    /// The store has refused a part.
    pub(super) fn part_not_replaced(&mut self, number: PartNumber, now: Tick) {
        self.policy.replaces_parts = false;
        if self.not_replaced == Some(number) {
            // By its own list it does not have the part: it is something else that it refuses.
            return self.failed(Trouble::Denied, now);
        }
        self.not_replaced = Some(number);
        self.unreconciled = true;
    }

    /// Whether a part must not be sent, because the store has one of its number and keeps it.
    /// Begins anew if that is of no use any more.
    pub(super) fn must_stay(&mut self, number: PartNumber) -> bool {
        let stays = !self.policy.replaces_parts && self.table.get(number).is_some();
        if stays && self.ended.is_some() {
            self.course = Course::Restarting;
        }
        stays
    }
}
