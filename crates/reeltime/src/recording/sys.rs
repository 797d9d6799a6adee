//! The system calls that the standard library does not have.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// The type number of the file system that an open file lies on (`statfs(2)`, `f_type`).
#[cfg(target_os = "linux")]
pub(crate) fn file_system_type(file: &File) -> io::Result<u32> {
    let mut answer = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open as long as `file` lives, and the kernel writes one `statfs`
    // into memory that is large enough for it.
    let result = unsafe { libc::fstatfs(file.as_raw_fd(), answer.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the whole structure has been written.
    let answer = unsafe { answer.assume_init() };
    // The numbers have 32 bits; the field's width and sign differ between architectures.
    Ok(answer.f_type as u32)
}

/// Takes a read lease (`Ok`: nobody has the file open for writing) and gives it back at once.
///
/// Fails with [`io::ErrorKind::WouldBlock`] if somebody has.
#[cfg(target_os = "linux")]
pub(super) fn try_read_lease(file: &File) -> io::Result<()> {
    ignore_lease_signal()?;
    set_lease(file, libc::F_RDLCK)?;
    set_lease(file, libc::F_UNLCK)
}

#[cfg(target_os = "linux")]
fn set_lease(file: &File, kind: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` lives; the call takes an integer and
    // touches no memory of ours.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the process deaf to SIGIO, which the kernel sends to the holder of a lease when
/// somebody wants to write: left alone, it ends the process.
#[cfg(target_os = "linux")]
fn ignore_lease_signal() -> io::Result<()> {
    static DEAF: std::sync::OnceLock<Result<(), i32>> = std::sync::OnceLock::new();
    let result = DEAF.get_or_init(|| {
        // SAFETY: ignoring a signal installs no handler, so nothing of ours runs in a signal's
        // context.
        if unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) } == libc::SIG_ERR {
            Err(io::Error::last_os_error().raw_os_error().unwrap_or(0))
        } else {
            Ok(())
        }
    });
    result.map_err(io::Error::from_raw_os_error)
}
