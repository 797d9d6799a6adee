//! What the standard library does not offer of the system: the cost of a child, bytes that are
//! received without being copied, and signals. All unsafe code of the benchmark is here.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// Processor time of a process that has ended, with that of the children it has waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    /// The status as `wait` gives it.
    pub(crate) status: i32,
}

/// Waits until a child has ended, and leaves it as it is: its `/proc` entry can still be read.
#[allow(unsafe_code)]
pub(crate) fn wait_until_ended(pid: u32) -> io::Result<()> {
    retried(|| {
        // SAFETY: an all-zero siginfo is valid, and the call writes to nothing else.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` lives during the call.
        unsafe { libc::waitid(libc::P_PID, pid, &raw mut info, libc::WEXITED | libc::WNOWAIT) }
    })
}

/// Waits for a child and says what it has used.
#[allow(unsafe_code)]
pub(crate) fn reap(pid: u32) -> io::Result<Used> {
    // SAFETY: an all-zero rusage is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    // SAFETY: both live during the call.
    retried(|| unsafe { libc::wait4(pid as libc::pid_t, &raw mut status, 0, &raw mut usage) })?;
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    Ok(Used { user: time(usage.ru_utime), system: time(usage.ru_stime), status })
}

/// Sends a signal to a child that has not been reaped.
#[allow(unsafe_code)]
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: no memory is involved. It can only fail for a process that has ended.
    let _ = unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Lets a program end with the benchmark, also when that is killed (Linux).
#[allow(unsafe_code)]
pub(crate) fn bind_to_parent(command: &mut Command) {
    #[cfg(target_os = "linux")]
    // SAFETY: prctl is async-signal-safe, and nothing else happens between fork and exec.
    unsafe {
        command.pre_exec(|| retried(|| libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL)));
    }
}

/// Throws away up to `len` received bytes; answers how many, 0 at the end. With `MSG_TRUNC` the
/// kernel does not even copy them (tcp(7)).
#[allow(unsafe_code)]
pub(crate) fn receive_and_forget(stream: &TcpStream, scratch: &mut [u8], len: usize) -> io::Result<usize> {
    let flags = if cfg!(target_os = "linux") { libc::MSG_TRUNC } else { 0 };
    let len = if cfg!(target_os = "linux") { len } else { len.min(scratch.len()) };
    loop {
        // SAFETY: on Linux nothing is written for TCP with MSG_TRUNC, elsewhere `len` is within `scratch`.
        let got = unsafe { libc::recv(stream.as_raw_fd(), scratch.as_mut_ptr().cast(), len, flags) };
        match usize::try_from(got) {
            Ok(got) => return Ok(got),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// Ticks of `/proc/PID/stat` in a second.
#[allow(unsafe_code)]
pub(crate) fn ticks_per_second() -> f64 {
    // SAFETY: no memory is involved.
    (unsafe { libc::sysconf(libc::_SC_CLK_TCK) }) as f64
}

/// Allows this process, and those that it starts, as many open files as the system lets it.
#[allow(unsafe_code)]
pub(crate) fn raise_open_file_limit() {
    // SAFETY: an all-zero rlimit is valid and lives during the calls. A limit that cannot be raised shows
    // when a file cannot be opened.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            let _ = libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

fn retried(mut call: impl FnMut() -> i32) -> io::Result<()> {
    loop {
        if call() >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
