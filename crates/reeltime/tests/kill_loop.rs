//! The built binary, killed again and again at random while several recordings are made: in the
//! end every object is its recording, and nothing is left over.
//!
//! The moments come from a seed that is printed; `REELTIME_SEED` takes it back. The kills are
//! not at the same instruction then, but in the same distribution.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testkit::daemon::Running;
use testkit::recorders::synthetic::{Finished, Recording, Style, Synthetic};

use world::{DEADLINE, LOCAL_PART, S3_PART, World, failures};

const KILLS: u32 = 15;

/// The generator of `xorshift64*`.
struct Random(u64);

impl Random {
    fn seeded(what: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var("REELTIME_SEED").map_or(now | 1, |seed| seed.parse().unwrap());
        println!("{what}: REELTIME_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

fn styles(part: u64) -> Vec<Style> {
    vec![
        Style::Append,
        Style::RewriteHead { head_bytes: 48, every_bytes: 2 * part },
        Style::TempThenRename { suffix: ".part".into() },
        Style::Preallocate { allocate: true, slack_bytes: part / 3 },
        Style::ShiftAtEnd { inserted_bytes: 1000 },
        Style::TruncateAndAgain { rounds: 2 },
    ]
}

/// Kills at a random moment of this run: after a random number of log lines, so that it depends
/// on how far reeltime has come and not on how fast the machine is. A run that has nothing more
/// to say is killed where it stands.
fn kill_somewhere(daemon: &Running, random: &mut Random) {
    let lines = 1 + random.below(25) as usize;
    let fraction = Duration::from_micros(random.below(30_000));
    let deadline = std::time::Instant::now() + Duration::from_millis(700);
    while daemon.events().len() < lines && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5)); // between two looks at the log
    }
    std::thread::sleep(fraction); // the random moment itself
    daemon.kill();
}

fn survives(world: &World, recordings: &[u64], bytes_per_second: u64) {
    let mut random = Random::seeded(&world.to());
    let part = world.part_bytes();
    let begin = |index: usize, parts: u64, style: Style| {
        Synthetic::into(world.path(&format!("{index}.mp4")), style, parts * part + part / 2)
            .seed(index as u64)
            .rate(bytes_per_second)
            .start()
    };
    let mut daemon = world.daemon().args(["--tail-flush", "300ms"]).start();
    let styles = styles(part);
    let mut running: Vec<Recording> = recordings
        .iter()
        .enumerate()
        .map(|(index, parts)| begin(index, *parts, styles[index % styles.len()].clone()))
        .collect();
    for kill in 0..KILLS {
        kill_somewhere(&daemon, &mut random);
        // Now and then the last recorders end while reeltime is down.
        if kill == KILLS - 1 || random.below(5) == 0 && running.len() > 2 {
            let keep = if kill == KILLS - 1 { 0 } else { running.len() - 1 };
            let ended: Vec<Finished> = running.drain(keep..).map(Recording::wait).collect();
            println!("kill {kill}: {} recordings ended meanwhile", ended.len());
        }
        daemon.restart();
    }
    drop(running);

    daemon.kill();
    let last = world.daemon().arg("--once").start();
    assert_eq!(last.wait_exit(DEADLINE).code(), Some(0), "everything is completed");
    assert_eq!(failures(&last), Vec::<String>::new());
    for index in 0..recordings.len() {
        let path = world.path(&format!("{index}.mp4"));
        let finished = Finished {
            size_bytes: path.metadata().unwrap().len(),
            sha256: testkit::digest::sha256_of(&path),
            closed_at: std::time::Instant::now(),
            path,
        };
        world.assert_identical(&finished);
    }
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn fifteen_kills_lose_nothing_in_a_directory() {
    survives(&World::local(), &[40, 35, 30, 25, 20, 15, 10, 5], 4 * LOCAL_PART);
}

#[test]
fn fifteen_kills_lose_nothing_in_a_bucket() {
    survives(&World::s3("kill-loop"), &[5, 4, 3, 3, 2, 2], 2 * S3_PART / 3);
}
