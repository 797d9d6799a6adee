//! Things that write recordings, in all the ways that recorders are known to do it.

pub mod ffmpeg;
pub mod synthetic;

pub use ffmpeg::{Container, Ffmpeg, FfmpegRecording};
pub use synthetic::{Finished, Recording, Style, Synthetic};
