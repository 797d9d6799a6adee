//! Media types.

use reeltime_core::ObjectKey;

/// The media type of an object, by its name's extension.
pub fn content_type(key: &ObjectKey) -> &'static str {
    let extension = key.as_path().extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match extension.as_str() {
        "mp4" | "m4v" | "cmfv" => "video/mp4",
        "m4a" | "cmfa" => "audio/mp4",
        "mov" => "video/quicktime",
        "mkv" => "video/x-matroska",
        "webm" => "video/webm",
        "ts" | "mts" | "m2ts" => "video/mp2t",
        "flv" => "video/x-flv",
        "avi" => "video/x-msvideo",
        "mxf" => "application/mxf",
        "ogg" | "ogv" => "video/ogg",
        "mp3" => "audio/mpeg",
        "aac" => "audio/aac",
        "flac" => "audio/flac",
        "wav" => "audio/wav",
        "json" => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_follows_the_extension() {
        for (name, media_type) in [
            ("a/b.mp4", "video/mp4"),
            ("a.MP4", "video/mp4"),
            ("a.mkv", "video/x-matroska"),
            ("mp4", "application/octet-stream"),
            ("a.b/c", "application/octet-stream"),
        ] {
            assert_eq!(content_type(&ObjectKey::from_bytes(name.into())), media_type, "{name}");
        }
    }
}
