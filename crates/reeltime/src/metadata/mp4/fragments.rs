//! How long a fragmented recording is: the decode times of its first and its last fragments.
//!
//! Counted from its own first fragment. ffprobe counts from time zero, which is long before the
//! recording where the recorder keeps the times of the camera's stream.

use std::collections::{HashMap, VecDeque};

use mp4_atom::{Moof, Traf, TrunSamples};

use super::walk::{BoxAt, BoxError, Walk};

/// Fragments that are read at either end. Recorders may write one per track, so that a few in a
/// row belong to the same track; the ones in between say nothing more.
const FIRST: usize = 16;
const LAST: usize = 64;

/// The fragments at both ends of a file.
#[derive(Default)]
pub(super) struct Fragments {
    first: Vec<BoxAt>,
    last: VecDeque<BoxAt>,
}

/// From where to where the fragments of a track reach, in the track's time units.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    /// `None` if the track is not in the first fragments.
    start: Option<u64>,
    end: u64,
}

impl Reach {
    /// How long the track is. Where its first samples are in the `moov` itself (`from_zero`),
    /// the fragments continue them.
    pub(super) fn duration(self, from_zero: bool) -> u64 {
        let start = if from_zero { 0 } else { self.start.unwrap_or(0) };
        self.end.saturating_sub(start)
    }
}

impl Fragments {
    /// Notes the next `moof` box.
    pub(super) fn push(&mut self, moof: BoxAt) {
        if self.first.len() < FIRST {
            self.first.push(moof);
            return;
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(moof);
    }

    /// The reach of every track, given the sample duration that `trex` has for it. Tracks whose
    /// fragments do not say their decode time are left out.
    pub(super) fn reaches(
        &self,
        walk: &mut Walk<'_>,
        default_durations: &HashMap<u32, u32>,
    ) -> Result<HashMap<u32, Reach>, BoxError> {
        let mut reaches: HashMap<u32, Reach> = HashMap::new();
        let first = self.first.iter().map(|moof| (moof, true));
        for (moof, is_first) in first.chain(self.last.iter().map(|moof| (moof, false))) {
            for traf in &walk.decode::<Moof>(*moof)?.traf {
                let track = traf.tfhd.track_id;
                let Some(tfdt) = &traf.tfdt else { continue };
                let start = tfdt.base_media_decode_time;
                let end = start.saturating_add(duration(traf, default_durations.get(&track).copied()));
                let new = Reach { start: is_first.then_some(start), end };
                reaches.entry(track).and_modify(|reach| reach.end = reach.end.max(end)).or_insert(new);
            }
        }
        Ok(reaches)
    }
}

fn duration(traf: &Traf, trex_default: Option<u32>) -> u64 {
    let default = u64::from(traf.tfhd.default_sample_duration.or(trex_default).unwrap_or(0));
    let of_run = |samples: &TrunSamples| match samples {
        TrunSamples::Inherited { count, .. } => default * u64::from(*count),
        TrunSamples::Explicit(samples) => samples.iter().map(|sample| sample.duration.map_or(default, u64::from)).sum(),
    };
    traf.trun.iter().map(|trun| of_run(&trun.samples)).fold(0, u64::saturating_add)
}
