//! What an MP4 or `QuickTime` file is, read from its boxes, where there is no ffprobe.
//!
//! Media data and the tables per sample are passed over, so neither memory nor reads depend on
//! the size of the recording, but for 16 bytes per fragment. The answer has ffprobe's shape and
//! spelling, with the fields that are known; a field that cannot be told is left out.

mod fragments;
mod sample_entry;
mod walk;

use std::collections::HashMap;
use std::fs::File;
use std::time::Instant;

use mp4_atom::{Atom, FourCC, Mdhd, Mehd, Moof, Moov, Mvhd, Tkhd, Trex};
use serde_json::{Map, Value, json};

use super::probe::{ProbeReport, Prober};
use fragments::{Fragments, Reach};
use walk::{BoxAt, Walk, array};

pub use walk::BoxError;

/// What ffprobe calls this family of formats.
const FORMAT_NAME: &str = "mov,mp4,m4a,3gp,3g2,mj2";

/// With what such a file begins.
const FIRST_BOXES: [&[u8; 4]; 11] =
    [b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"moof", b"sidx"];

/// Reads what `file` is, until `deadline` at the latest (a read that hangs does not see it).
/// Blocking. Has no effect on the file.
pub fn read(file: &File, deadline: Instant) -> Result<ProbeReport, BoxError> {
    let size = file.metadata()?.len();
    let mut walk = Walk::new(file, deadline);
    let (moov, fragments) = outline(&mut walk, size)?;
    let movie = Movie::read(&mut walk, moov, &fragments)?;

    let mut streams = Vec::new();
    for child in walk.children(moov)? {
        if child.kind == FourCC::new(b"trak")
            && let Some(track) = movie.track(&mut walk, child)?
        {
            streams.push(track);
        }
    }
    let longest = streams.iter().filter_map(|track| track.seconds).reduce(f64::max);
    let of_movie = (!movie.fragmented).then_some(movie.seconds).flatten();
    let duration = of_movie.or(longest).or(movie.seconds);

    let mut format = Map::new();
    format.insert("format_name".into(), json!(FORMAT_NAME));
    format.insert("nb_streams".into(), json!(streams.len()));
    format.insert("size".into(), json!(size.to_string()));
    if let Some(seconds) = duration {
        format.insert("duration".into(), json!(format!("{seconds:.6}")));
        if seconds > 0.0 {
            let bit_rate = (size as f64 * 8.0 / seconds) as u64;
            format.insert("bit_rate".into(), json!(bit_rate.to_string()));
        }
    }
    let streams = streams.into_iter().enumerate().map(|(index, track)| track.into_json(index)).collect();
    Ok(ProbeReport { prober: Prober::Mp4Boxes, format, streams })
}

/// The `moov` box and the fragments. A file that is cut off behind its `moov` is read as far as
/// it goes, as ffprobe does.
fn outline(walk: &mut Walk<'_>, size: u64) -> Result<(BoxAt, Fragments), BoxError> {
    let mut moov = None;
    let mut fragments = Fragments::default();
    let mut offset = 0;
    loop {
        let found = match walk.box_at(offset, size) {
            Ok(Some(found)) => found,
            Ok(None) if offset == 0 => return Err(BoxError::NotMp4),
            Ok(None) => break,
            Err(BoxError::Cut { kind, .. } | BoxError::Damaged { kind, .. }) if offset == 0 && !begins(kind) => {
                return Err(BoxError::NotMp4);
            }
            Err(BoxError::Cut { .. } | BoxError::Damaged { .. }) if moov.is_some() => break,
            Err(error) => return Err(error),
        };
        if offset == 0 && !begins(found.kind) {
            return Err(BoxError::NotMp4);
        }
        match found.kind {
            Moov::KIND => moov = moov.or(Some(found)),
            Moof::KIND => fragments.push(found),
            _ => {}
        }
        offset = found.end;
    }
    Ok((moov.ok_or(BoxError::NoMoov)?, fragments))
}

fn begins(kind: FourCC) -> bool {
    FIRST_BOXES.into_iter().any(|known| kind == FourCC::new(known))
}

/// What the movie header and the fragments say, for all tracks.
struct Movie {
    timescale: u32,
    seconds: Option<f64>,
    fragmented: bool,
    reaches: HashMap<u32, Reach>,
}

impl Movie {
    fn read(walk: &mut Walk<'_>, moov: BoxAt, fragments: &Fragments) -> Result<Self, BoxError> {
        let mvhd = walk.find(moov, &[b"mvhd"])?.ok_or_else(|| missing(moov, "mvhd"))?;
        let mvhd: Mvhd = walk.decode(mvhd)?;
        let mut seconds = seconds(mvhd.duration, mvhd.timescale);
        let mut default_durations = HashMap::new();
        let mvex = walk.find(moov, &[b"mvex"])?;
        if let Some(mvex) = mvex {
            for child in walk.children(mvex)? {
                match child.kind {
                    Trex::KIND => {
                        let trex: Trex = walk.decode(child)?;
                        default_durations.insert(trex.track_id, trex.default_sample_duration);
                    }
                    Mehd::KIND => {
                        let mehd: Mehd = walk.decode(child)?;
                        seconds = self::seconds(mehd.fragment_duration, mvhd.timescale).or(seconds);
                    }
                    _ => {}
                }
            }
        }
        let reaches = fragments.reaches(walk, &default_durations)?;
        Ok(Self { timescale: mvhd.timescale, seconds, fragmented: mvex.is_some(), reaches })
    }

    /// One track; `None` if the box has none in it.
    fn track(&self, walk: &mut Walk<'_>, trak: BoxAt) -> Result<Option<Track>, BoxError> {
        let (Some(tkhd), Some(mdia)) = (walk.find(trak, &[b"tkhd"])?, walk.find(trak, &[b"mdia"])?) else {
            return Ok(None);
        };
        let tkhd: Tkhd = walk.decode(tkhd)?;
        let mdhd = walk.find(mdia, &[b"mdhd"])?.ok_or_else(|| missing(mdia, "mdhd"))?;
        let mdhd: Mdhd = walk.decode(mdhd)?;
        let handler = match walk.find(mdia, &[b"hdlr"])? {
            // Read by hand: the name behind the type has two incompatible spellings.
            Some(hdlr) => array(&walk.head(hdlr, 12)?, 8),
            None => *b"\0\0\0\0",
        };
        let codec_type = sample_entry::codec_type(handler);
        let stbl = walk.find(mdia, &[b"minf", b"stbl"])?.ok_or_else(|| missing(mdia, "stbl"))?;
        let mut fields = match walk.find(stbl, &[b"stsd"])? {
            Some(stsd) => sample_entry::describe(&walk.body(stsd)?, codec_type),
            None => Map::new(),
        };
        let samples = match walk.find(stbl, &[b"stsz"])? {
            // Version, flags, the size of all samples; the table follows, and is not read.
            Some(stsz) => u32::from_be_bytes(array(&walk.head(stsz, 12)?, 8)),
            None => 0,
        };

        // The track header counts what is shown, after edits; the media header all there is.
        let of_header = seconds(tkhd.duration, self.timescale).or(seconds(mdhd.duration, mdhd.timescale));
        let of_fragments =
            self.reaches.get(&tkhd.track_id).and_then(|reach| seconds(reach.duration(samples > 0), mdhd.timescale));
        fields.insert("id".into(), json!(format!("0x{:x}", tkhd.track_id)));
        fields.insert("codec_type".into(), json!(codec_type));
        fields.insert("time_base".into(), json!(format!("1/{}", mdhd.timescale)));
        if !self.fragmented && samples > 0 {
            fields.insert("nb_frames".into(), json!(samples.to_string()));
        }
        Ok(Some(Track { fields, seconds: of_fragments.or(of_header) }))
    }
}

/// A track on its way to JSON.
struct Track {
    fields: Map<String, Value>,
    seconds: Option<f64>,
}

impl Track {
    fn into_json(mut self, index: usize) -> Value {
        self.fields.insert("index".into(), json!(index));
        if let Some(seconds) = self.seconds {
            self.fields.insert("duration".into(), json!(format!("{seconds:.6}")));
        }
        Value::Object(self.fields)
    }
}

/// `None` for the values that mean "unknown" in either size: 0 and all ones.
fn seconds(duration: u64, timescale: u32) -> Option<f64> {
    let unknown = [0, u64::from(u32::MAX), u64::MAX].contains(&duration) || timescale == 0;
    (!unknown).then(|| duration as f64 / f64::from(timescale))
}

fn missing(parent: BoxAt, child: &str) -> BoxError {
    BoxError::Damaged { kind: parent.kind, cause: format!("there is no {child} in it") }
}
