//! What the figures were measured on.

use std::fs;
use std::process::Command;

/// A description of the machine, and of what it was built with, in a few lines.
pub(crate) fn describe() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let model = field("/proc/cpuinfo", "model name").unwrap_or("an unknown processor".to_owned());
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let gib = memory.trim_end_matches(" kB").parse::<f64>().map_or(0.0, |kib| kib / 1024.0 / 1024.0);
    let kernel = said("uname", &["-sr"]);
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("?").trim_matches('"');
    let rust = said("rustc", &["--version"]);
    let profile = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    let virtual_machine = said("systemd-detect-virt", &[]);
    let virtual_machine = if virtual_machine.is_empty() { String::new() } else { format!(" ({virtual_machine})") };
    format!("{cpus} cores of {model}{virtual_machine}, {gib:.0} GiB · {system}, {kernel} · {rust}, {profile}")
}

/// When a section was measured, of what, and how busy the machine was with other things.
pub(crate) fn moment(load_before: &str) -> String {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    let commit = said("git", &["-C", &testkit::workspace_root().display().to_string(), "log", "-1", "--format=%h"]);
    format!("*Measured {now} at {commit}; load average of the machine before: {load_before}.*")
}

/// The load average of the last minute.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or("unknown").to_owned()
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
