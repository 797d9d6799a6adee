//! What is measured: one file for each scenario.

mod backlog;
mod bandwidth;
mod checkpoint;
mod daemon;
mod end_to_object;
mod live;
mod memory;
mod restart;
mod tls;
mod verification;

use std::path::PathBuf;

use tempfile::TempDir;

use crate::clients::Reeltime;
use crate::neighbours::{self, Neighbour};
use crate::report::{self, Page, Section};
use crate::target::{SinkOptions, Target, work_dir};
use crate::{Failure, Outcome, Plan};

/// A scenario: its number, what it is called, whether it needs to look into the sink, and how it is run.
struct Scenario {
    number: u32,
    title: &'static str,
    needs_sink: bool,
    run: fn(&Bench, &mut Section) -> Outcome<()>,
}

const SCENARIOS: &[Scenario] = &[
    Scenario { number: 1, title: "Backlog", needs_sink: false, run: backlog::run },
    Scenario { number: 2, title: "Memory", needs_sink: false, run: memory::run },
    Scenario { number: 3, title: "End of the recording → object", needs_sink: true, run: end_to_object::run },
    Scenario { number: 4, title: "Live lag", needs_sink: false, run: live::run },
    Scenario { number: 5, title: "Verification", needs_sink: false, run: verification::run },
    Scenario { number: 6, title: "Restart", needs_sink: false, run: restart::run },
    Scenario { number: 7, title: "TLS", needs_sink: true, run: tls::run },
    Scenario { number: 8, title: "Checkpoint", needs_sink: false, run: checkpoint::run },
    Scenario { number: 9, title: "Bandwidth", needs_sink: true, run: bandwidth::run },
];

/// What all scenarios have.
pub(crate) struct Bench<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) reeltime: Reeltime,
    pub(crate) neighbours: Vec<Neighbour>,
}

impl Bench<'_> {
    pub(crate) fn rounds(&self) -> u32 {
        if self.plan.smoke { 1 } else { self.plan.rounds }
    }

    /// A size, or a tiny one.
    pub(crate) fn size<T>(&self, full: T, tiny: T) -> T {
        if self.plan.smoke { tiny } else { full }
    }

    /// The store that was asked for, or a sink.
    pub(crate) fn target(&self) -> Outcome<Target> {
        match (&self.plan.against, &self.plan.bucket) {
            (Some(endpoint), Some(bucket)) => Target::at(endpoint, bucket),
            _ => Target::sink(SinkOptions::default()),
        }
    }

    /// A directory with one for recordings and one for everything else.
    pub(crate) fn room(&self) -> Outcome<Room> {
        let dir = work_dir(self.plan.work.as_deref())?;
        let (recordings, scratch) = (dir.path().join("recordings"), dir.path().join("scratch"));
        for made in [&recordings, &scratch] {
            std::fs::create_dir(made).map_err(|error| Failure::of("make", made, &error))?;
        }
        Ok(Room { recordings, scratch, _dir: dir })
    }
}

/// Where a scenario takes place; gone when dropped.
pub(crate) struct Room {
    pub(crate) recordings: PathBuf,
    pub(crate) scratch: PathBuf,
    _dir: TempDir,
}

impl Room {
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// A state file, which does not exist yet.
    pub(crate) fn state(&self) -> String {
        self.scratch.join("state/state.db").display().to_string()
    }
}

/// Runs those that were asked for, and writes the report.
pub(crate) fn run(plan: &Plan) -> Outcome<()> {
    if let Some(unknown) = plan.scenario.iter().find(|number| SCENARIOS.iter().all(|known| known.number != **number)) {
        let known: Vec<_> = SCENARIOS.iter().map(|known| format!("{} {}", known.number, known.title)).collect();
        return Err(Failure(format!("there is no scenario {unknown}: {}", known.join(", "))));
    }
    if cfg!(debug_assertions) && !plan.smoke {
        return Err(Failure(
            "a debug build measures nothing: cargo run --release -p bench, or scripts/bench".to_owned(),
        ));
    }
    let bench = Bench { plan, reeltime: Reeltime::find(plan.reeltime.as_deref())?, neighbours: neighbours::find() };
    for neighbour in &bench.neighbours {
        eprintln!("bench: {}: {}", neighbour.kind.name(), neighbour.version);
    }
    let page = Page::of_workspace();
    let is_wanted = |scenario: &&Scenario| plan.scenario.is_empty() || plan.scenario.contains(&scenario.number);
    for scenario in SCENARIOS.iter().filter(is_wanted) {
        if scenario.needs_sink && plan.against.is_some() {
            eprintln!("bench: LEFT OUT: {} needs to look into the sink", scenario.title);
            continue;
        }
        eprintln!("bench: {}. {}", scenario.number, scenario.title);
        let load = report::load();
        let mut section = Section::new(scenario.number, scenario.title);
        (scenario.run)(&bench, &mut section)?;
        let when = report::moment(&load);
        println!("{}", section.markdown(&when));
        if !plan.smoke {
            page.put_machine(&report::machine())?;
            page.put(&section, &when)?;
        }
    }
    Ok(())
}
