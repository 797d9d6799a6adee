//! The large file over HTTPS.

use super::{Bench, backlog};
use crate::Outcome;
use crate::clients::Client;
use crate::files::Load;
use crate::report::{Bars, Section};
use crate::target::{SinkOptions, Target};

pub(super) fn run(bench: &Bench, section: &mut Section) -> Outcome<()> {
    section.say(
        "1 GiB in one file over HTTPS, as in the first scenario. The floor is a plain TLS sender: a loop of `read` \
         and `write` on one connection of rustls, the library that reeltime uses.",
    );
    let target = Target::sink(SinkOptions { tls: true, ..SinkOptions::default() })?;
    let load = Load { files: 1, file_bytes: bench.size(1 << 30, 24 << 20) };
    let mut clients = vec![Client::Floor, Client::Reeltime(bench.reeltime.clone())];
    clients.extend(bench.neighbours.iter().cloned().map(Client::Neighbour));
    let figures = backlog::measure(bench, &target, load, bench.rounds(), clients)?;
    backlog::table(section, &figures, load);
    let cpu = figures.iter().map(|one| (one.client.name(), &one.cpu)).collect();
    section.plot("tls", "CPU over HTTPS", Bars { title: "1 GiB over HTTPS: CPU", unit: "s/GiB", of: cpu }.svg());
    backlog::cpu_aim(section, "CPU in proportion to a plain TLS sender (stated)", &figures, f64::INFINITY);
    Ok(())
}
