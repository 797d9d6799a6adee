//! The system calls for children that the standard library does not offer.

#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// This process' user.
pub(super) fn user_id() -> u32 {
    // SAFETY: getuid takes nothing and cannot fail.
    unsafe { libc::getuid() }
}

/// Makes the child lead its own process group and, on Linux, die when the thread that spawns
/// it does.
pub(super) fn bind_to_parent(command: &mut Command) {
    command.process_group(0);
    #[cfg(target_os = "linux")]
    {
        let parent = std::process::id() as libc::pid_t;
        // SAFETY: the closure runs between fork and exec and makes only async-signal-safe
        // system calls; it neither allocates nor takes locks.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
                    return Err(io::Error::last_os_error());
                }
                // The parent may have died before the request was in place.
                if libc::getppid() != parent {
                    libc::_exit(1);
                }
                Ok(())
            });
        }
    }
}

/// Sends a signal to a child that is known not to have been reaped, and to it alone.
pub(super) fn signal_alone(child: u32, signal: i32) -> io::Result<()> {
    // SAFETY: kill has no memory effects; the number is that of an unreaped child.
    check(unsafe { libc::kill(child as libc::pid_t, signal) })
}

/// Sends a signal to a process group whose leader is known not to have been reaped.
pub(super) fn signal_group(leader: u32, signal: i32) -> io::Result<()> {
    // SAFETY: kill has no memory effects; the caller holds the group's leader unreaped, so the
    // number cannot belong to anybody else.
    check(unsafe { libc::kill(-(leader as libc::pid_t), signal) })
}

/// Blocks until the child has ended, and leaves it to be reaped.
pub(super) fn wait_until_ended(child: u32) -> io::Result<()> {
    loop {
        match wait(child, libc::WEXITED | libc::WNOWAIT) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

/// Whether the child has been stopped by a signal since this was last answered with yes.
pub(super) fn has_stopped(child: u32) -> io::Result<bool> {
    wait(child, libc::WSTOPPED | libc::WNOHANG)
}

fn wait(child: u32, options: i32) -> io::Result<bool> {
    // SAFETY: all-zero is a valid siginfo_t, and waitid writes to nothing else.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        check(libc::waitid(libc::P_PID, child as libc::id_t, &raw mut info, options))?;
        Ok(info.si_pid() != 0)
    }
}

fn check(result: i32) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has a function called when the process exits, unless a signal ends it.
pub(super) fn at_exit(call: extern "C" fn()) {
    // SAFETY: the function is part of this program and does not unwind.
    let refused = unsafe { libc::atexit(call) };
    assert_eq!(refused, 0, "there is room for a handler");
}
