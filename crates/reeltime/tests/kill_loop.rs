//! The built binary, killed (and now and then frozen) again and again at random while several
//! recordings are made: in the end every object is its recording, and nothing is left over. Also
//! where its state is lost on the way; then what is left over of an upload is less than a part.
//!
//! `REELTIME_KILLS` sets how often each test kills; 15 unless told.
//!
//! The moments come from a seed that is printed; `REELTIME_SEED` takes it back. The kills are
//! not at the same instruction then, but in the same distribution.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use testkit::daemon::Running;
use testkit::recorders::synthetic::{Finished, Recording, Style, Synthetic};
use testkit::servers::Provider;

use world::{DEADLINE, LOCAL_PART, S3_PART, World, failures};

fn kills() -> u32 {
    std::env::var("REELTIME_KILLS").map_or(15, |kills| kills.parse().expect("REELTIME_KILLS is a number"))
}

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

/// Stands still for a while, and goes on.
fn freeze_somewhere(daemon: &Running, random: &mut Random) {
    daemon.process().freeze();
    std::thread::sleep(Duration::from_millis(random.below(1_500))); // the time that it misses
    daemon.process().thaw();
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Kept,
    /// Now and then everything is lost with the process.
    Lost,
}

fn survives(world: &World, recordings: &[u64], bytes_per_second: u64, state: State) {
    let mut random = Random::seeded(&world.to());
    let part = world.part_bytes();
    let styles = styles(part);
    let mut begun = 0;
    let mut begin = || {
        let (parts, style) = (recordings[begun % recordings.len()], styles[begun % styles.len()].clone());
        let recording = Synthetic::into(world.path(&format!("{begun}.mp4")), style, parts * part + part / 2)
            .seed(begun as u64)
            .rate(bytes_per_second)
            .start();
        begun += 1;
        recording
    };
    let mut daemon = world.daemon().args(["--tail-flush", "300ms"]).start();
    let mut running: Vec<Recording> = recordings.iter().map(|_| begin()).collect();
    let (kills, mut freezes, mut losses) = (kills(), 0, 0);
    for kill in 1..=kills {
        if random.below(6) == 0 {
            freeze_somewhere(&daemon, &mut random);
            freezes += 1;
        }
        kill_somewhere(&daemon, &mut random);
        // Now and then a recorder ends while reeltime is down, and in the end all of them do.
        if kill == kills {
            running.drain(..).for_each(|recording| drop(recording.wait()));
        } else if random.below(5) == 0 && running.len() > 2 {
            running.pop().map(Recording::wait);
            // The last kills are for what is there.
            if kills - kill > 15 {
                running.insert(0, begin());
            }
        }
        if state == State::Lost && random.below(5) == 0 {
            world.state.lose_everything();
            losses += 1;
        }
        daemon.restart();
    }
    println!("{}: {kills} kills, {freezes} freezes, {losses} losses, {begun} recordings", world.to());
    daemon.kill();
    let keys = everything_arrived(world, begun);
    // Whose an upload without any full part is, only the state could have told.
    let left = if state == State::Lost { world.recognisable_leftovers(&keys) } else { world.leftovers() };
    assert_eq!(left, Vec::<String>::new());
}

/// A last run completes what is left; then every object is its recording. Answers their keys.
fn everything_arrived(world: &World, begun: usize) -> Vec<String> {
    let last = world.daemon().arg("--once").start();
    assert_eq!(last.wait_exit(DEADLINE).code(), Some(0), "everything is completed");
    assert_eq!(failures(&last), Vec::<String>::new());
    let keys: Vec<_> = (0..begun).map(|index| format!("{index}.mp4")).collect();
    for key in &keys {
        let path = world.path(key);
        let finished = Finished {
            size_bytes: path.metadata().unwrap().len(),
            sha256: testkit::digest::sha256_of(&path),
            closed_at: std::time::Instant::now(),
            path,
        };
        world.assert_identical(&finished);
    }
    keys
}

const LOCAL: [u64; 8] = [40, 35, 30, 25, 20, 15, 10, 5];
const S3: [u64; 6] = [5, 4, 3, 3, 2, 2];

#[test]
fn kills_lose_nothing_in_a_directory() {
    survives(&World::local(), &LOCAL, 4 * LOCAL_PART, State::Kept);
}

#[test]
fn kills_with_the_state_lose_nothing_in_a_directory() {
    survives(&World::local(), &LOCAL, 4 * LOCAL_PART, State::Lost);
}

#[test]
fn kills_lose_nothing_in_a_bucket() {
    survives(&World::s3("kill-loop"), &S3, 2 * S3_PART / 3, State::Kept);
}

testkit::on_every_store! {
    kills_lose_nothing_with_the_state_in_redis
    kills_with_the_state_lose_nothing
    nodes_that_go_and_come_lose_nothing
}

fn kills_lose_nothing_with_the_state_in_redis(provider: Provider) {
    survives(&World::at(provider), &S3, 2 * S3_PART / 3, State::Kept);
}

fn kills_with_the_state_lose_nothing(provider: Provider) {
    survives(&World::at(provider), &S3, 2 * S3_PART / 3, State::Lost);
}

/// Two nodes with one directory. One after the other is killed, stopped, or frozen for longer than
/// its lease lasts, and the other one has its recordings meanwhile.
fn nodes_that_go_and_come_lose_nothing(provider: Provider) {
    let world = World::at(provider);
    let Some(redis) = world.state.redis() else { return };
    let mut random = Random::seeded(&format!("{} two nodes", world.to()));
    let styles = styles(S3_PART);
    let mut begun = 0;
    let mut begin = || {
        let style = styles[begun % styles.len()].clone();
        let size = S3[begun % S3.len()] * S3_PART + S3_PART / 2;
        let path = world.path(&format!("{begun}.mp4"));
        let recording = Synthetic::into(path, style, size).seed(begun as u64).rate(S3_PART).start();
        begun += 1;
        recording
    };
    let names = ["test", "other"];
    let mut nodes = names.map(|name| world.node(name).args(["--tail-flush", "300ms"]).start());
    let mut running: Vec<Recording> = S3.iter().map(|_| begin()).collect();
    let (kills, mut takeovers) = (kills(), 0);
    for turn in 1..=kills {
        let has_something =
            |name: &str| world.state.streams().iter().any(|told| told.node == name && told.state == "active");
        let at = random.below(2) as usize;
        let at = if has_something(names[at]) { at } else { 1 - at };
        let (one, other) = (&nodes[at], &nodes[1 - at]);
        let inherited = |node: &Running| {
            node.events().iter().filter(|line| line.message().is_some_and(|text| text.contains("is gone: "))).count()
        };
        let before = inherited(other);
        // What would otherwise take as long as a lease lasts.
        let end_its_lease = || redis.client().command(&["DEL", &redis.key(&format!("node:{}", names[at]))]);
        let is_taken = match random.below(4) {
            0 => {
                kill_somewhere(one, &mut random);
                false
            }
            1 => {
                one.terminate(DEADLINE);
                true
            }
            2 => {
                kill_somewhere(one, &mut random);
                end_its_lease();
                true
            }
            _ => {
                one.process().freeze();
                end_its_lease();
                true
            }
        };
        if is_taken {
            // It may have completed what it had.
            let deadline = std::time::Instant::now() + Duration::from_secs(5);
            while inherited(other) == before && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20)); // between two looks at the log
            }
            takeovers += inherited(other) - before;
        }
        if one.process().exited().is_none() {
            one.process().thaw();
        } else {
            nodes[at].restart();
        }
        if turn < kills && random.below(2) == 0 && running.len() > 2 {
            running.pop().map(Recording::wait);
            if kills - turn > 4 {
                running.insert(0, begin());
            }
        }
    }
    running.drain(..).for_each(|recording| drop(recording.wait()));
    assert!(takeovers > 0 || kills < 10, "in {kills} turns no node took over what the other had");
    println!("{}: {kills} turns, {takeovers} takeovers, {begun} recordings", world.to());
    for (node, name) in nodes.iter().zip(names) {
        node.kill();
        redis.client().command(&["DEL", &redis.key(&format!("node:{name}"))]);
    }
    let keys = everything_arrived(&world, begun);
    // A node that is replaced in the very moment in which it begins an upload, and killed before it
    // can abort that, leaves it, which costs nothing without parts.
    println!("{}: left without parts: {:?}", world.to(), world.leftovers());
    assert_eq!(world.leftovers_with_parts(&keys), Vec::<String>::new());
}
