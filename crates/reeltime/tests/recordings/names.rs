//! Names that break programs.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use testkit::recorders::synthetic::{Style, Synthetic};

use crate::world::{World, wait_completed};

pub fn blanks_quotes_and_bytes_that_are_no_text(world: &World) {
    let long = format!("{}.mp4", "ü".repeat(60));
    let names: [&[u8]; 7] = [
        b" leading and trailing /the 'one' and \"the other\" \xc3\xbc\xff 5%.mp4",
        b"-rf.mp4",
        b"a;b&c=d?e#f+g%20h$(i)`j`\\k<l>|*[m]{n}.mp4",
        b"a:b@c~^!,.mp4",
        b"..mp4",
        b"dots/.../...mp4",
        long.as_bytes(),
    ];
    are_uploaded(world, &names);
    // Said here once more, without the program's own function.
    let coded = " leading and trailing /the 'one' and \"the other\" \u{fc}%FF 5%25.mp4";
    assert!(world.keys().iter().any(|key| key == coded), "{:?}", world.keys());
}

pub fn a_line_break(world: &World) {
    are_uploaded(world, &[b"line\nbreak\r\n\t/ 'a' \"b\" \xff\n.mp4"]);
}

fn are_uploaded(world: &World, names: &[&[u8]]) {
    let daemon = world.run(&[]);
    for (name, seed) in names.iter().zip(1..) {
        let name = path_of(name);
        let path = world.path(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let size = if seed == 1 { world.part_bytes() * 3 / 2 } else { 5000 };
        let finished = Synthetic::into(&path, Style::Append, size).seed(seed).start().wait();
        wait_completed(&daemon, &path, 1);
        world.assert_is(&name, &finished.sha256, size);
        let document = world.document(&name);
        assert_eq!(document["original_path"], path.to_string_lossy().as_ref());
        assert_eq!(document["original_path_bytes"].is_string(), path.to_str().is_none(), "{document}");
    }
    assert_eq!(world.keys().len(), names.len(), "{:?}", world.keys());
}

fn path_of(name: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(name)).to_owned()
}
