//! TCP ports that stay a test's own, also while its server is down.
//!
//! Binding port 0 and closing it again is a race: until the server binds it, any outgoing
//! connection of the machine may be given the same number, and another test may be too. So
//! ports are taken from below the range that the kernel hands out by itself, and a file lock
//! per number keeps the tests of all processes apart for as long as the [`Port`] lives.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below Linux' default `ip_local_port_range`, above the well-known services.
const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// A TCP port on 127.0.0.1 that no other test uses while this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Takes a port that nobody listens on.
    pub fn reserve() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let span = LAST - FIRST + 1;
        // Processes start at different numbers, so that they rarely meet.
        let begin = (std::process::id().wrapping_mul(7919) % u32::from(span)) as u16;
        let directory = lock_directory();
        for _ in 0..span {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % span;
            let number = FIRST + (begin + step) % span;
            let path = directory.join(number.to_string());
            let Ok(lock) = OpenOptions::new().create(true).truncate(false).write(true).open(path) else { continue };
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("no free TCP port between {FIRST} and {LAST} on 127.0.0.1");
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:number`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

fn lock_directory() -> PathBuf {
    // Per user: another user's lock files could not be opened for writing. Not below TMPDIR: all
    // tests of the machine have the same ports.
    let directory = PathBuf::from(format!("/tmp/reeltime-testkit-ports-{}", super::signals::user_id()));
    std::fs::create_dir_all(&directory)
        .unwrap_or_else(|error| panic!("cannot create {} for port locks: {error}", directory.display()));
    directory
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_port_is_given_out_once_while_it_is_held() {
        let ports: Vec<_> = (0..50).map(|_| Port::reserve()).collect();
        let distinct: HashSet<_> = ports.iter().map(Port::number).collect();
        assert_eq!(distinct.len(), ports.len());
    }

    #[test]
    fn a_port_whose_lock_is_held_elsewhere_is_passed_over() {
        let held = Port::reserve();
        let file = OpenOptions::new().write(true).open(lock_directory().join(held.number().to_string())).unwrap();
        assert!(file.try_lock().is_err(), "the lock lives as long as the port");
        drop(held);
        assert!(file.try_lock().is_ok(), "and no longer");
    }
}
