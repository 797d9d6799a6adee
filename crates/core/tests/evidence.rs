//! What a stream may take for proof that bytes are its own and in the store, and what it may not:
//! marks, sizes, uploads that it did not begin, answers of long ago.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use reeltime_core::{
    Action, Crc64Nvme, FileVersion, Input, Limits, Now, ObjectFacts, ObjectKey, Observation, Origin, Part, PartNumber,
    PartPlan, PartTable, PendingUpload, PlanKind, Policy, RemotePart, State, StreamId, StreamMachine, StreamRecord,
    Tick, Trouble, UploadState, WallTime, Writers,
};

const PART_BYTES: u64 = 8;
const HOUR_MS: u64 = 3_600_000;
/// Of a loop that drives a machine, so that one that never ends is a failure.
const ROUNDS: usize = 60;

const LIMITS: Limits = Limits { max_parts: 80, min_part_bytes: 5, max_part_bytes: 32, max_object_bytes: 4_000 };

fn policy() -> Policy {
    Policy {
        close_grace_ms: 100,
        idle_timeout_ms: 5_000,
        tail_flush_ms: None,
        parallel_parts: 4,
        single_request_bytes: 0,
        plan_kind: PlanKind::Uniform,
    }
}

fn key() -> ObjectKey {
    ObjectKey::from_bytes(b"a.mp4".to_vec())
}

fn record(upload: UploadState, state: State) -> StreamRecord {
    StreamRecord {
        id: StreamId(uuid::Uuid::from_u128(7)),
        node: "n".to_owned(),
        epoch: 1,
        source: "/r".into(),
        path: "/r/a.mp4".into(),
        key: key(),
        state,
        reason: None,
        generation: 1,
        upload,
        plan: PartPlan::new(PlanKind::Uniform, PART_BYTES, LIMITS).unwrap(),
        version: None,
        size_bytes: 0,
        etag: None,
        checksum: None,
        started_at: WallTime(0),
        completed_at: None,
    }
}

/// A machine, its clock, and everything that it asked for.
struct Bench {
    machine: StreamMachine,
    tick: u64,
    asked: Vec<Action>,
}

impl Bench {
    fn with(machine: StreamMachine) -> Self {
        Self { machine, tick: 1 << 30, asked: Vec::new() }
    }

    /// A recording that was just found and is in the checkpoint.
    fn found() -> Self {
        let record = record(UploadState::None, State::Active);
        let mut bench = Self::with(StreamMachine::new(policy(), record, false, Origin::Present));
        bench.give(Input::Start);
        bench.give(Input::Saved);
        bench
    }

    fn give(&mut self, input: Input) -> Vec<Action> {
        self.tick += 10;
        let now = Now { tick: Tick(self.tick), wall: WallTime(self.tick as i64) };
        let actions = self.machine.handle(input, now);
        self.asked.extend(actions.iter().cloned());
        actions
    }

    fn wake_after(&mut self, ms: u64) -> Vec<Action> {
        self.tick += ms;
        self.give(Input::Woken)
    }

    /// Answers what is asked for until the machine is done (`true`), or for [`ROUNDS`]; it is
    /// woken `pause_ms` later whenever nothing is left to answer.
    fn drive(&mut self, mut todo: Vec<Action>, pause_ms: u64, mut answer: impl FnMut(Action) -> Option<Input>) -> bool {
        for _ in 0..ROUNDS {
            let mut next = Vec::new();
            for action in todo.drain(..) {
                if matches!(action, Action::Done) {
                    return true;
                }
                if let Some(input) = answer(action) {
                    next.extend(self.give(input));
                }
            }
            if next.is_empty() {
                next = self.wake_after(pause_ms);
            }
            todo = next;
        }
        false
    }
}

fn seen(size: u64, writers: Writers, age_ms: u64) -> Observation {
    let version = FileVersion { size, mtime_ns: 1, ctime_ns: 1, inode: 7 };
    Observation { version, content_end: size, writers, linked: true, age_ms }
}

fn part(etag: &str, crc: Option<Crc64Nvme>) -> Part {
    let etag = etag.to_owned();
    Part { size_bytes: PART_BYTES, etag, crc, stored_at: WallTime(0), uploads: 1, proven: None, dirty: false }
}

fn number(number: u32) -> PartNumber {
    PartNumber::new(number).unwrap()
}

fn remote(of: u32) -> RemotePart {
    let etag = format!("e{of}");
    RemotePart { number: number(of), size_bytes: PART_BYTES, etag, crc: None, stored_at: WallTime(0) }
}

fn pending(upload_id: &str) -> PendingUpload {
    PendingUpload { key: key(), upload_id: upload_id.to_owned(), initiated: WallTime(5) }
}

#[test]
fn being_refused_the_list_of_uploads_is_not_held_against_the_upload_that_is_found_later() {
    let mut bench = Bench::found();
    bench.give(Input::Observed(seen(17, Writers::Open, 10)));
    bench.give(Input::HeadAnswered(None));
    for _ in 0..3 {
        bench.give(Input::Failed(Trouble::Denied));
        bench.wake_after(60_000);
    }
    bench.give(Input::UploadsListed(vec![pending("ours")]));
    bench.give(Input::PartsListed(vec![remote(1), remote(2)]));
    bench.give(Input::Saved);
    let aborted = bench.asked.iter().any(|action| matches!(action, Action::Abort { .. }));
    assert!(!aborted, "everything would be sent again: {:#?}", bench.asked);
}

#[test]
fn the_mark_of_a_stream_does_not_make_an_object_of_other_bytes_its_own() {
    let mut table = PartTable::default();
    table.insert(number(1), part("mine1", Some(Crc64Nvme::of(b"AAAAAAAA"))));
    table.insert(number(2), part("mine2", Some(Crc64Nvme::of(b"BBBBBBBB"))));
    let record = record(UploadState::Open { id: "u".to_owned() }, State::PendingCompletion);
    let token = record.token();
    let mut bench = Bench::with(StreamMachine::restored(policy(), record, table, false));
    bench.give(Input::Start);
    bench.give(Input::Observed(seen(16, Writers::None, 60_000)));
    bench.give(Input::Failed(Trouble::NoSuchUpload));
    bench.wake_after(10_000);
    // Another stream took the upload up and completed it with bytes of its own: the same size,
    // and the mark of the one that began it. The store tells no CRC64NVME.
    let theirs = ObjectFacts { size_bytes: 16, etag: "theirs-2".to_owned(), crc: None, token: Some(token) };
    let todo = bench.give(Input::HeadAnswered(Some(theirs)));
    let done = bench.drive(todo, 5_000, |action| match action {
        Action::Observe { .. } => Some(Input::Observed(seen(16, Writers::None, 120_000))),
        Action::VerifyPart { number, etag, crc, .. } => Some(Input::PartVerified {
            number,
            etag,
            crc: crc.unwrap(),
            matches: true,
            read_at: seen(16, Writers::None, 0).version,
        }),
        Action::Save(_) => Some(Input::Saved),
        Action::Describe(_) => Some(Input::Described),
        _ => None,
    });
    assert!(!done, "completed with the bytes of another file: {:#?}", bench.asked);
}

#[test]
fn an_upload_that_may_be_anybodys_is_not_aborted_by_a_stream_that_gives_up() {
    let mut bench = Bench::found();
    bench.give(Input::SourceMissing);
    bench.give(Input::HeadAnswered(None));
    bench.wake_after(1_000);
    // Of this key, just begun: without a part, nothing tells whose it is.
    bench.give(Input::UploadsListed(vec![pending("foreign")]));
    bench.give(Input::PartsListed(vec![]));
    bench.give(Input::Saved);
    let aborted = bench.asked.iter().any(|action| matches!(action, Action::Abort { .. }));
    assert!(!aborted, "{:#?}", bench.asked);
}

#[test]
fn an_older_object_of_the_same_size_does_not_hold_up_a_live_recording() {
    // Preallocated to the size of the object that had its name before.
    let written = |count: u64, writers| Observation {
        version: FileVersion { size: 100, mtime_ns: count as i64, ctime_ns: count as i64, inode: 7 },
        content_end: count.min(100),
        writers,
        linked: true,
        age_ms: 5,
    };
    let mut bench = Bench::found();
    bench.give(Input::Observed(written(1, Writers::Open)));
    bench.tick += 300;
    bench.give(Input::Touched);
    bench.give(Input::Observed(written(2, Writers::NotAsked)));
    // The store's answer comes after the second look at the file.
    let asked_before = bench.asked.len();
    let older = ObjectFacts { size_bytes: 100, etag: "older".to_owned(), crc: None, token: None };
    bench.give(Input::HeadAnswered(Some(older)));
    for count in 3..200 {
        bench.tick += 60; // never is there a pause as long as the grace
        bench.give(Input::Touched);
        bench.tick += 30;
        let asks_writers = bench.asked[asked_before..].iter().rev().find_map(|action| match action {
            Action::Observe { ask_writers } => Some(*ask_writers),
            _ => None,
        });
        let writers = if asks_writers == Some(true) { Writers::Open } else { Writers::NotAsked };
        bench.give(Input::Observed(written(count, writers)));
    }
    let asked = &bench.asked[asked_before..];
    assert!(
        asked.iter().any(|action| matches!(action, Action::ListUploads | Action::SendPart { .. } | Action::Save(_))),
        "no upload was begun in 20 s of recording: {asked:#?}"
    );
}

#[test]
fn an_object_that_took_days_to_compare_is_asked_for_again_before_it_is_relied_upon() {
    let version = seen(16, Writers::None, 0).version;
    let mut bench = Bench::found();
    bench.give(Input::Observed(seen(16, Writers::None, 60_000)));
    let object = ObjectFacts { size_bytes: 16, etag: "e".to_owned(), crc: None, token: None };
    let mut todo = bench.give(Input::HeadAnswered(Some(object)));
    todo.extend(bench.wake_after(1_000));
    let (mut unreadable, mut heads) = (20, 0);
    let done = bench.drive(todo, HOUR_MS, |action| match action {
        Action::Observe { .. } => Some(Input::Observed(seen(16, Writers::None, 120_000))),
        Action::CompareObject { .. } if unreadable > 0 => {
            unreadable -= 1;
            Some(Input::Failed(Trouble::SourceUnreadable))
        }
        Action::CompareObject { .. } => Some(Input::ObjectCompared {
            parts: Some(vec![(number(1), part("e", None)), (number(2), part("e", None))]),
            read_at: version,
        }),
        Action::VerifyPart { number, etag, .. } => {
            Some(Input::PartVerified { number, etag, crc: Crc64Nvme::of(b"x"), matches: true, read_at: version })
        }
        Action::Save(_) => Some(Input::Saved),
        Action::Describe(_) => Some(Input::Described),
        Action::Head => {
            heads += 1;
            Some(Input::HeadAnswered(None)) // it was deleted meanwhile
        }
        _ => None,
    });
    assert_eq!(unreadable, 0, "it was compared in the end");
    assert!(!done || heads > 0, "completed by an answer of days ago: {:#?}", bench.asked);
}
