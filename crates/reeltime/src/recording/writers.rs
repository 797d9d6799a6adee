//! Who has a recording open for writing.
//!
//! The kernel grants a read lease on a file only while nobody has it open for writing, in
//! whatever container or name space, by whatever name. It counts files that are mapped
//! writable after their descriptor was closed. Taken and given back at once, a lease is a
//! cheap question; a writer that opens the file in just that instant waits until it is given
//! back (or gets `EWOULDBLOCK`, if it opens with `O_NONBLOCK`).
//!
//! Leases need the file's owner or `CAP_LEASE`, and a file system that has them. Where the
//! kernel does not answer, the processes' descriptors are searched. A writer that is found
//! there is certain; that there is none is certain only for who sees every process. (A mapping
//! whose descriptor is closed is not found that way.)
//!
//! On network file systems neither knows the writers of other machines, and a refused lease
//! may only mean that the server gave no delegation: leases are not asked there, and nobody
//! found means [`Writers::Unknowable`].

use std::fs::File;

use reeltime_core::Writers;

use crate::watch::fs_kind::FsKind;

/// Asks the kernel, and if it does not answer, looks for writers itself.
#[cfg(target_os = "linux")]
pub(super) fn ask(file: &File, fs: FsKind) -> Writers {
    if fs.is_remote() {
        return match processes::search(file) {
            Writers::Open => Writers::Open,
            _ => Writers::Unknowable,
        };
    }
    match super::sys::try_read_lease(file) {
        Ok(()) => Writers::None,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Writers::Open,
        Err(_) => processes::search(file),
    }
}

/// There is no such question on this system.
#[cfg(not(target_os = "linux"))]
pub(super) fn ask(_file: &File, _fs: FsKind) -> Writers {
    Writers::Unknowable
}

#[cfg(target_os = "linux")]
pub(super) mod processes {
    //! The search through `/proc/*/fd`.

    use std::ffi::OsStr;
    use std::fs::{self, File};
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use reeltime_core::Writers;

    /// The inode number of the first pid name space (`PROC_PID_INIT_INO` in the kernel's
    /// `proc_ns.h`): who is in it can see every process.
    const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

    /// Looks for a descriptor of any process that could write to `file`.
    pub(in crate::recording) fn search(file: &File) -> Writers {
        search_in(Path::new("/proc"), file, sees_every_process())
    }

    /// The same for what is below `proc`; `complete`: it shows every process.
    pub(in crate::recording) fn search_in(proc: &Path, file: &File, complete: bool) -> Writers {
        let Ok(wanted) = file.metadata() else { return Writers::Unknowable };
        let identity = (wanted.dev(), wanted.ino());
        let mut all_seen = complete;
        let Ok(processes) = fs::read_dir(proc) else { return Writers::Unknowable };
        for process in processes {
            let Ok(process) = process else {
                all_seen = false;
                continue;
            };
            if !is_number(&process.file_name()) {
                continue;
            }
            match writes(&process.path(), identity) {
                Ok(true) => return Writers::Open,
                Ok(false) => {}
                Err(error) if is_gone(&error) => {}
                Err(_) => all_seen = false,
            }
        }
        if all_seen { Writers::None } else { Writers::Unknowable }
    }

    /// Whether `/proc` shows every process: it is that of the first name space, and hides
    /// nobody's (`hidepid`), not even those of process 1.
    fn sees_every_process() -> bool {
        fs::read_link("/proc/self/ns/pid").is_ok_and(|name| name == Path::new(FIRST_PID_NAMESPACE))
            && fs::read_dir("/proc/1/fd").is_ok()
    }

    fn writes(process: &Path, identity: (u64, u64)) -> io::Result<bool> {
        for descriptor in fs::read_dir(process.join("fd"))? {
            let number = descriptor?.file_name();
            let info = match fs::read_to_string(process.join("fdinfo").join(&number)) {
                Ok(info) => info,
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(error),
            };
            // The file itself is looked at last: that may block, if it is some dead server's.
            if !may_write(&info) || field(&info, "ino:").is_some_and(|ino| ino != identity.1.to_string()) {
                continue;
            }
            match fs::metadata(process.join("fd").join(&number)) {
                Ok(found) if (found.dev(), found.ino()) == identity => return Ok(true),
                Ok(_) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Whether the `flags:` of a descriptor allow writing. They are octal, as given to `open`.
    fn may_write(info: &str) -> bool {
        let flags = field(info, "flags:").and_then(|flags| i32::from_str_radix(flags, 8).ok());
        flags.is_some_and(|flags| flags & libc::O_PATH == 0 && flags & libc::O_ACCMODE != libc::O_RDONLY)
    }

    fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
        info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
    }

    fn is_number(name: &OsStr) -> bool {
        name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
    }

    /// Whether an error only says that a process or descriptor has ended meanwhile.
    fn is_gone(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
    }
}
