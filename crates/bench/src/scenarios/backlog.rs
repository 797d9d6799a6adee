//! Everything is there already, and goes as fast as it can.

use super::Bench;
use crate::Outcome;
use crate::clients::Client;
use crate::files::{Load, let_settle};
use crate::meter::Cost;
use crate::report::{Bars, Section};
use crate::rounds::Samples;
use crate::target::Target;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Whoever takes longer than this has one turn only.
const LONG_SECONDS: f64 = 60.0;

/// A client's figures, round by round.
pub(super) struct Figures {
    pub(super) client: Client,
    pub(super) wall: Samples,
    pub(super) cpu: Samples,
    children: Samples,
    peak: Samples,
}

pub(super) fn run(bench: &Bench, section: &mut Section) -> Outcome<()> {
    section.say(&format!(
        "`reeltime run --once` and the neighbours, parts of 8 MiB and 8 at a time, into a sink that discards the \
         bytes. CPU is user and system seconds of the client per GiB, without its children; the floor is a plain \
         loop of `read` and `send`. Median of all rounds, in turns, with the least and the largest; whoever takes more than a minute has \
         one turn only. Neighbours: {}.",
        bench.neighbours.iter().map(|one| format!("{} ({})", one.kind.name(), one.version)).collect::<Vec<_>>().join(", ")
    ));
    let target = bench.target()?;
    let loads = [
        ("large", "1 GiB in one file", bench.rounds(), Load { files: 1, file_bytes: bench.size(GIB, 24 * MIB) }),
        (
            "many",
            "4 GiB in 400 files",
            bench.rounds().min(3),
            Load { files: bench.size(400, 4), file_bytes: bench.size(4 * GIB / 400, 9 * MIB) },
        ),
        (
            "small",
            "10,000 files of 64 KiB",
            bench.rounds().min(3),
            Load { files: bench.size(10_000, 20), file_bytes: 64 << 10 },
        ),
    ];
    for (name, title, rounds, load) in loads {
        let mut clients = vec![Client::Floor, Client::Reeltime(bench.reeltime.clone())];
        if load.files > 1 {
            clients.push(Client::Reeltime(bench.reeltime.without_ffprobe()));
        }
        clients.extend(bench.neighbours.iter().cloned().map(Client::Neighbour));
        let figures = measure(bench, &target, load, rounds, clients)?;
        section.say(&format!("### {title}"));
        table(section, &figures, load);
        let wall = figures.iter().map(|one| (one.client.name(), &one.wall)).collect();
        section.plot(name, title, Bars { title: &format!("{title}: wall time"), unit: "s", of: wall }.svg());
        if name == "large" {
            cpu_aim(section, "CPU ≤ 1.4 × the floor for the large file", &figures, 1.4);
        }
        wall_aim(section, title, &figures);
    }
    Ok(())
}

/// Every client in turn, as often as there are rounds.
pub(super) fn measure(
    bench: &Bench,
    target: &Target,
    load: Load,
    rounds: u32,
    clients: Vec<Client>,
) -> Outcome<Vec<Figures>> {
    let room = bench.room()?;
    load.write(&room.recordings)?;
    let_settle(&room.recordings)?;
    let empty = |client| Figures {
        client,
        wall: Samples::default(),
        cpu: Samples::default(),
        children: Samples::default(),
        peak: Samples::default(),
    };
    let mut figures: Vec<_> = clients.into_iter().map(empty).collect();
    for round in 0..rounds as usize {
        let count = figures.len();
        // Nobody always comes after the same one.
        for at in (0..count).map(|at| (at + round) % count) {
            let one = &mut figures[at];
            if !one.wall.is_empty() && one.wall.max() > LONG_SECONDS {
                continue;
            }
            let cost = one.client.send(&room.recordings, target, &room.scratch)?;
            eprintln!(
                "bench:   round {}: {}: {:.2} s, CPU {:.2} s + {:.2} s",
                round + 1,
                one.client.name(),
                cost.wall_seconds,
                cost.cpu_seconds,
                cost.children_cpu_seconds
            );
            one.note(&cost, load);
        }
    }
    Ok(figures)
}

impl Figures {
    fn note(&mut self, cost: &Cost, load: Load) {
        let gib = load.total_bytes() as f64 / GIB as f64;
        self.wall.push(cost.wall_seconds);
        self.cpu.push(cost.cpu_seconds / gib);
        self.children.push(cost.children_cpu_seconds / gib);
        self.peak.push(cost.peak_bytes as f64 / MIB as f64);
    }
}

pub(super) fn table(section: &mut Section, figures: &[Figures], load: Load) {
    let floor = &figures[0];
    let rows: Vec<_> = figures
        .iter()
        .map(|one| {
            let files_per_second = load.files as f64 / one.wall.median();
            let rate = load.total_bytes() as f64 / MIB as f64 / one.wall.median();
            vec![
                one.client.name().to_owned(),
                one.wall.shown(2),
                if load.files >= 1000 { format!("{files_per_second:.0} files/s") } else { format!("{rate:.0} MiB/s") },
                one.cpu.shown(2),
                one.cpu.over(&floor.cpu).shown(2),
                format!("{:.2}", one.children.median()),
                format!("{:.0}", one.peak.max()),
            ]
        })
        .collect();
    let head = ["", "wall s", "", "CPU s/GiB", "× the floor", "children's CPU s/GiB", "peak RSS MiB"];
    section.table(&head, &rows);
}

pub(super) fn cpu_aim(section: &mut Section, wanted: &str, figures: &[Figures], limit: f64) {
    let Some(reeltime) = figures.iter().find(|one| one.client.name() == "reeltime") else { return };
    let ratio = reeltime.cpu.over(&figures[0].cpu);
    section.aim(wanted, &format!("{} ×", ratio.shown(2)), ratio.median() <= limit);
}

/// Ahead of every neighbour.
fn wall_aim(section: &mut Section, title: &str, figures: &[Figures]) {
    let Some(reeltime) = figures.iter().find(|one| one.client.name() == "reeltime") else { return };
    let neighbours = figures.iter().filter(|one| matches!(one.client, Client::Neighbour(_)));
    let ratios: Vec<_> =
        neighbours.map(|one| (one.client.name().to_owned(), one.wall.over(&reeltime.wall).median())).collect();
    if ratios.is_empty() {
        return;
    }
    let measured: Vec<_> = ratios.iter().map(|(name, ratio)| format!("{name} {ratio:.2} ×")).collect();
    let is_met = !ratios.is_empty() && ratios.iter().all(|(_, ratio)| *ratio > 1.0);
    section.aim(&format!("{title}: ahead of every neighbour"), &format!("its time: {}", measured.join(", ")), is_met);
}
