//! File systems of a test's own, to be filled, made read-only and taken away. Linux, as root.
//!
//! A machine that does not let a test mount anything skips it, loudly.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::settings::skip;

/// Something that is mounted, until it is dropped.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// An empty one of this size, in memory, at a directory that is made where it is missing.
    /// `None`, loudly, where nothing may be mounted.
    pub fn in_memory(at: &Path, size_bytes: u64) -> Option<Self> {
        Self::mount(at, &["-t", "tmpfs", "-o", &format!("size={size_bytes}"), "tmpfs"])
    }

    /// The content of the directory `of`, at another one: what is kept when it is unmounted. `None`,
    /// loudly, where nothing may be mounted.
    pub fn showing(of: &Path, at: &Path) -> Option<Self> {
        Self::mount(at, &["--bind", of.to_str().expect("paths of tests are UTF-8")])
    }

    fn mount(at: &Path, args: &[&str]) -> Option<Self> {
        fs::create_dir_all(at).expect("a directory can be made");
        let output = Command::new("mount").args(args).arg(at).output().expect("mount can be run");
        if output.status.success() {
            return Some(Self { at: at.to_owned() });
        }
        let why = String::from_utf8_lossy(&output.stderr);
        skip("mount", &format!("nothing can be mounted here (is this root?): {}", why.trim()));
        None
    }

    /// Takes all the space that is left. It is given back when the answer is dropped.
    pub fn fill(&self) -> Filling {
        let path = self.at.join("filling");
        let mut file = File::create(&path).expect("a file can be made");
        let mut block: &[u8] = &[1; 16 * 1024];
        loop {
            match file.write_all(block) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull && block.len() > 1 => block = &block[..1],
                Err(error) if error.kind() == ErrorKind::StorageFull => return Filling(path),
                Err(error) => panic!("{} cannot be filled: {error}", self.at.display()),
            }
        }
    }

    /// Nobody can write to it any more, though who has a file open there for writing must have
    /// closed it.
    pub fn make_read_only(&self) {
        run("mount", &["-o", "remount,bind,ro"], &self.at);
    }

    /// It can be written to again.
    pub fn make_writable(&self) {
        run("mount", &["-o", "remount,bind,rw"], &self.at);
    }
}

impl Drop for Disk {
    /// Takes it away, also from under whoever has files open there: they keep those.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = Command::new("umount").arg("--lazy").arg(&self.at).status(); // the test has failed already
        } else {
            run("umount", &["--lazy"], &self.at);
        }
    }
}

/// A file that fills a disk, until it is dropped.
#[derive(Debug)]
pub struct Filling(PathBuf);

impl Drop for Filling {
    fn drop(&mut self) {
        let removed = fs::remove_file(&self.0);
        assert!(removed.is_ok() || std::thread::panicking(), "{} cannot be removed: {removed:?}", self.0.display());
    }
}

fn run(program: &str, args: &[&str], at: &Path) {
    let output = Command::new(program).args(args).arg(at).output().expect("it was run before");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
