//! What is known about the content of a recording, whoever read it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Who read the recording. The names are part of the metadata document.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Prober {
    /// The real `ffprobe`: everything that it says.
    #[serde(rename = "ffprobe")]
    Ffprobe,
    /// reeltime's own look into the boxes of an MP4 file: the fields that it knows, named and
    /// spelled as ffprobe does.
    #[serde(rename = "mp4-boxes")]
    Mp4Boxes,
}

/// What a prober said, in the shape of ffprobe's JSON.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProbeReport {
    /// Who said it.
    pub prober: Prober,
    /// ffprobe's `format` section, without `filename`: the recording was read through an open
    /// file, which has none.
    pub format: Map<String, Value>,
    /// ffprobe's `streams` section.
    pub streams: Vec<Value>,
}

impl ProbeReport {
    /// Length of the recording in seconds: what the format says, or else the longest stream.
    /// `None` if neither says it.
    pub fn duration_seconds(&self) -> Option<f64> {
        let of_streams = || self.streams.iter().filter_map(|stream| seconds(stream.get("duration"))).reduce(f64::max);
        seconds(self.format.get("duration")).or_else(of_streams)
    }
}

/// ffprobe writes seconds as text; `N/A` and the like are unknown.
fn seconds(value: Option<&Value>) -> Option<f64> {
    let seconds: f64 = value?.as_str()?.parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some(seconds)
}

/// What came of the attempt to read a recording.
#[derive(Clone, PartialEq, Debug)]
pub enum Probe {
    /// It could be read.
    Known(ProbeReport),
    /// It could not, for this reason. The recording is stored and described all the same.
    Unknown(String),
}
