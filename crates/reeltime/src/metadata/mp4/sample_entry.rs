//! The sample entry of a track: which codec, which picture or sound.
//!
//! Only the fixed fields are read (ISO/IEC 14496-12, 8.5.2 and 12; `QuickTime` File Format,
//! "Sound Sample Description"), so that a codec that nobody here knows is described as far as
//! that goes. Codecs are called what ffprobe calls them.

use mp4_atom::esds::DecoderSpecific;
use mp4_atom::{Atom, Mp4a};
use serde_json::{Map, Value, json};

use super::walk::array;

/// The kind of a track by its handler, in ffprobe's words.
pub(super) fn codec_type(handler: [u8; 4]) -> &'static str {
    match &handler {
        b"vide" => "video",
        b"soun" => "audio",
        b"sbtl" | b"subt" | b"text" | b"clcp" | b"subp" => "subtitle",
        _ => "data",
    }
}

/// What the content of an `stsd` box says of its first sample entry.
pub(super) fn describe(stsd: &[u8], codec_type: &str) -> Map<String, Value> {
    let mut fields = Map::new();
    // Version, flags and the count of entries come first.
    let Some(entry) = stsd.get(8..).filter(|entry| entry.len() >= 16) else { return fields };
    let tag: [u8; 4] = array(entry, 4);
    let mut name = codec_name(tag);
    if codec_type == "video" {
        fields.insert("width".into(), json!(u16::from_be_bytes(array(entry, 32))));
        fields.insert("height".into(), json!(u16::from_be_bytes(array(entry, 34))));
    } else if codec_type == "audio" {
        let mut sound = Sound::of_entry(tag, entry);
        if tag == *b"mp4a" {
            let config = entry.get(8..).and_then(|mut body| Mp4a::decode_body(&mut body).ok());
            let config = config.map(|mp4a| mp4a.esds.es_desc.dec_config);
            name = config.as_ref().and_then(|config| mpeg4_codec_name(config.object_type_indication));
            if name == Some("aac") {
                sound.refine(config.and_then(|config| config.dec_specific));
            }
        }
        if let Some(channels) = sound.channels {
            fields.insert("channels".into(), json!(channels));
        }
        fields.insert("sample_rate".into(), json!(sound.sample_rate.to_string()));
    }
    fields.insert("codec_tag_string".into(), json!(printable(tag)));
    if let Some(name) = name {
        fields.insert("codec_name".into(), json!(name));
    }
    fields
}

/// The sound of a track.
struct Sound {
    channels: Option<u32>,
    sample_rate: u32,
}

impl Sound {
    fn of_entry(tag: [u8; 4], entry: &[u8]) -> Self {
        if u16::from_be_bytes(array(entry, 16)) == 2 {
            // QuickTime's version 2, where the old fields have fixed values.
            let channels = Some(u32::from_be_bytes(array(entry, 48)));
            return Self { channels, sample_rate: f64::from_be_bytes(array(entry, 40)) as u32 };
        }
        // For these the field is a constant by specification or by custom, usually 2.
        let constant = [*b"mp4a", *b"ac-3", *b"ec-3"].contains(&tag);
        let channels = (!constant).then(|| u16::from_be_bytes(array(entry, 24)).into());
        Self { channels, sample_rate: u16::from_be_bytes(array(entry, 32)).into() }
    }

    /// Takes over what AAC's own configuration says (ISO/IEC 14496-3, tables 1.18 and 1.19).
    fn refine(&mut self, config: Option<DecoderSpecific>) {
        const RATES: [u32; 13] =
            [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
        let Some(config) = config else { return };
        if let Some(rate) = RATES.get(usize::from(config.freq_index)) {
            self.sample_rate = *rate;
        }
        self.channels = match config.chan_conf {
            channels @ 1..=6 => Some(channels.into()),
            7 => Some(8),
            _ => None, // said elsewhere
        };
    }
}

fn codec_name(tag: [u8; 4]) -> Option<&'static str> {
    Some(match &tag {
        b"avc1" | b"avc2" | b"avc3" | b"avc4" => "h264",
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => "hevc",
        b"vvc1" | b"vvi1" => "vvc",
        b"av01" => "av1",
        b"vp08" => "vp8",
        b"vp09" => "vp9",
        b"mp4v" => "mpeg4",
        b"jpeg" | b"mjpa" | b"mjpb" => "mjpeg",
        b"apch" | b"apcn" | b"apcs" | b"apco" | b"ap4h" | b"ap4x" => "prores",
        b"AVdn" | b"AVdh" => "dnxhd",
        b".mp3" => "mp3",
        b"Opus" => "opus",
        b"fLaC" => "flac",
        b"alac" => "alac",
        b"ac-3" => "ac3",
        b"ec-3" => "eac3",
        b"samr" => "amr_nb",
        b"sawb" => "amr_wb",
        b"ulaw" => "pcm_mulaw",
        b"alaw" => "pcm_alaw",
        b"sowt" => "pcm_s16le",
        b"twos" => "pcm_s16be",
        b"tx3g" => "mov_text",
        b"wvtt" => "webvtt",
        b"stpp" => "ttml",
        b"c608" => "eia_608",
        _ => return None,
    })
}

/// `mp4a` is any of several codecs; the object type says which (ISO/IEC 14496-1, table 5, and
/// the registration authority's list).
fn mpeg4_codec_name(object_type: u8) -> Option<&'static str> {
    Some(match object_type {
        0x40 | 0x66..=0x68 => "aac",
        0x69 | 0x6b => "mp3",
        0xa5 => "ac3",
        0xa6 => "eac3",
        0xa9 => "dts",
        0xad => "opus",
        0xdd => "vorbis",
        _ => return None,
    })
}

/// A tag as ffprobe prints it: what is not a usual character, as its number in brackets.
fn printable(tag: [u8; 4]) -> String {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b".- _".contains(&byte);
    tag.iter().map(|&byte| if usual(byte) { char::from(byte).to_string() } else { format!("[{byte}]") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_ends_too_early_is_described_as_far_as_it_goes() {
        for tag in [b"avc1", b"mp4a", b"lpcm"] {
            let mut stsd = [0; 8 + 64];
            stsd[12..16].copy_from_slice(tag);
            stsd[25] = 2; // the version of a sound description
            for len in 0..stsd.len() {
                for codec_type in ["video", "audio", "subtitle", "data"] {
                    let fields = describe(&stsd[..len], codec_type);
                    assert_eq!(fields.is_empty(), len < 24, "{len} {fields:?}");
                }
            }
        }
    }

    #[test]
    fn a_quicktime_sound_description_of_version_2_has_its_own_fields() {
        let mut stsd = [0; 8 + 72];
        stsd[12..16].copy_from_slice(b"lpcm");
        stsd[25] = 2;
        stsd[48..56].copy_from_slice(&192_000f64.to_be_bytes());
        stsd[56..60].copy_from_slice(&6u32.to_be_bytes());
        let fields = describe(&stsd, "audio");
        assert_eq!(fields["sample_rate"], "192000");
        assert_eq!(fields["channels"], 6);
    }

    #[test]
    fn unusual_tags_are_printed_as_ffprobe_does() {
        assert_eq!(printable(*b"ac-3"), "ac-3");
        assert_eq!(printable([0, b'[', 200, b' ']), "[0][91][200] ");
    }
}
