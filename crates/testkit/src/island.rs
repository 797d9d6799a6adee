//! A network of its own for a program, with cables to this one that can be cut. Linux, as root.
//!
//! What is under way on a cable that is cut vanishes: nobody is told, as when a switch dies.
//! A machine that has no network name spaces skips the test, loudly.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::settings::skip;

/// A network name space. It ends with this, also when the test panics; what a killed test left
/// behind ends with the next test.
#[derive(Debug)]
pub struct Island {
    name: String,
    cables: Vec<Cable>,
}

/// Leads from an island to this network.
#[derive(Clone, Debug)]
pub struct Cable {
    /// Its end here.
    interface: String,
    /// The address of this machine at its end here.
    host: Ipv4Addr,
}

impl Cable {
    /// The address under which this machine is seen through it.
    pub fn host(&self) -> IpAddr {
        self.host.into()
    }

    /// Lets nothing through from now on.
    pub fn cut(&self) {
        must("ip", &["link", "set", "dev", &self.interface, "down"]);
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        must("ip", &["link", "set", "dev", &self.interface, "up"]);
    }
}

impl Island {
    /// One with so many cables. `None`, loudly, where there can be none.
    pub fn with_cables(count: u32) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_abandoned();
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("testkit-{process}-{number}");
        if let Err(why) = run("ip", &["netns", "add", &name]) {
            skip("network name space", &format!("none can be made here (is this root?): {why}"));
            return None;
        }
        let mut island = Self { name, cables: Vec::new() };
        must("ip", &["-n", &island.name, "link", "set", "dev", "lo", "up"]);
        for cable in 0..count {
            island.add_cable(process, number * count + cable);
        }
        Some(island)
    }

    fn add_cable(&mut self, process: u32, number: u32) {
        // Names have 15 characters at most. Two neighbours of each /30 have the addresses.
        let (here, there) = (format!("tk{process:x}x{number:x}"), format!("tk{process:x}y{number:x}"));
        let place = (process * 16 + number) % (1 << 14);
        let address = |last: u32| Ipv4Addr::from((10 << 24) + (213 << 16) + 4 * place + last);
        must("ip", &["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &self.name]);
        self.cables.push(Cable { interface: here.clone(), host: address(1) });
        must("ip", &["addr", "add", &format!("{}/30", address(1)), "dev", &here]);
        must("ip", &["link", "set", "dev", &here, "up"]);
        must("ip", &["-n", &self.name, "addr", "add", &format!("{}/30", address(2)), "dev", &there]);
        must("ip", &["-n", &self.name, "link", "set", "dev", &there, "up"]);
    }

    /// Its cables, in their order.
    pub fn cables(&self) -> &[Cable] {
        &self.cables
    }

    /// Makes a program in `dir` that is `program` on this island.
    pub fn inhabited_by(&self, program: &Path, dir: &Path) -> PathBuf {
        let path = dir.join(&self.name);
        let script = format!("#!/bin/sh\nexec nsenter --net=/run/netns/{} {} \"$@\"\n", self.name, program.display());
        fs::write(&path, script).expect("a script can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode can be set");
        path
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        remove(&self.name, self.cables.iter().map(|cable| cable.interface.as_str()));
    }
}

/// Removes the islands of processes that are no more. Their cables go with them.
fn remove_abandoned() {
    let Ok(entries) = fs::read_dir("/run/netns") else { return };
    for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let process = name.strip_prefix("testkit-").and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            remove(&name, std::iter::empty());
        }
    }
}

/// The cables first: the name space itself lives as long as a process in it.
fn remove<'a>(name: &str, cables: impl Iterator<Item = &'a str>) {
    let cables = cables.map(|cable| run("ip", &["link", "del", "dev", cable]));
    let mut refused: Vec<_> = cables.filter_map(Result::err).collect();
    refused.extend(run("ip", &["netns", "del", name]).err());
    assert!(refused.is_empty() || std::thread::panicking(), "{name} cannot be removed: {refused:?}");
}

fn must(program: &str, args: &[&str]) {
    run(program, args).unwrap_or_else(|why| panic!("{program} {args:?}: {why}"));
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => panic!("{program} cannot be run (Debian: apt-get install iproute2): {error}"),
    }
}
