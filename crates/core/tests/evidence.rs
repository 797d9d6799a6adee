//! What the store says is believed as far as it proves something, and what it may have of others
//! is left to them.

#![allow(clippy::unwrap_used, missing_docs)]

use reeltime_core::{
    Action, Crc64Nvme, FileVersion, Input, Limits, Now, ObjectFacts, ObjectKey, Observation, OnDelete, Origin, Part,
    PartNumber, PartPlan, PartTable, PendingUpload, PlanKind, Policy, Reason, RemotePart, State, StreamId,
    StreamMachine, StreamRecord, Tick, Trouble, UploadState, WallTime, Writers,
};

const LIMITS: Limits = Limits { max_parts: 80, min_part_bytes: 5, max_part_bytes: 32, max_object_bytes: 4_000 };
const POLICY: Policy = Policy {
    close_grace_ms: 100,
    idle_timeout_ms: 5_000,
    tail_flush_ms: None,
    parallel_parts: 4,
    single_request_bytes: 0,
    plan_kind: PlanKind::Uniform,
    replaces_parts: true,
    on_delete: OnDelete::Finish,
};

fn record(upload: UploadState, state: State) -> StreamRecord {
    StreamRecord {
        id: StreamId(uuid::Uuid::from_u128(7)),
        node: "n".to_owned(),
        epoch: 1,
        source: "/r".into(),
        source_mark: "7.2.0".into(),
        destination: "s3://archive/studio".into(),
        path: "/r/a.mp4".into(),
        key: ObjectKey::from_bytes(b"a.mp4".to_vec()),
        state,
        reason: None,
        generation: 1,
        upload,
        plan: PartPlan::new(PlanKind::Uniform, 8, LIMITS).unwrap(),
        version: None,
        size_bytes: 0,
        etag: None,
        checksum: None,
        started_at: WallTime(0),
        completed_at: None,
    }
}

/// A machine, and the time.
struct Bench {
    machine: StreamMachine,
    tick: u64,
}

impl Bench {
    /// A recording that was there before the process, and that the checkpoint does not know.
    fn present() -> Self {
        let record = record(UploadState::None, State::Active);
        let mut bench = Self::of(StreamMachine::new(POLICY, record, false, Origin::Present));
        bench.give(Input::Start);
        bench.give(Input::Saved);
        bench
    }

    fn of(machine: StreamMachine) -> Self {
        Self { machine, tick: 1 << 30 }
    }

    fn give(&mut self, input: Input) -> Vec<Action> {
        self.tick += 10;
        self.machine.handle(input, Now { tick: Tick(self.tick), wall: WallTime(self.tick as i64) })
    }

    fn wake_after(&mut self, millis: u64) -> Vec<Action> {
        self.tick += millis;
        self.give(Input::Woken)
    }

    /// Answers what is asked for by `answer`, until nothing more is or the stream is done; `true`
    /// if it is. What `answer` does not answer is left open.
    fn goes_to_its_end(&mut self, mut asked: Vec<Action>, mut answer: impl FnMut(&Action) -> Option<Input>) -> bool {
        for _ in 0..200 {
            if asked.contains(&Action::Done) {
                return true;
            }
            let answers: Vec<_> = asked.iter().filter_map(&mut answer).collect();
            asked = answers.into_iter().flat_map(|input| self.give(input)).collect();
            if asked.is_empty() {
                asked = self.wake_after(5_000);
            }
        }
        false
    }
}

/// A file of this size that has been quiet for a minute.
fn seen(size: u64, writers: Writers) -> Observation {
    let version = FileVersion { size, mtime_ns: 1, ctime_ns: 1, inode: 7 };
    Observation { version, content_end: size, age_ms: 60_000, writers, linked: true }
}

fn number(number: u32) -> PartNumber {
    PartNumber::new(number).unwrap()
}

fn part(bytes: &[u8]) -> Part {
    Part {
        size_bytes: bytes.len() as u64,
        etag: format!("{:?}", Crc64Nvme::of(bytes)),
        crc: Some(Crc64Nvme::of(bytes)),
        stored_at: WallTime(0),
        uploads: 1,
        proven: None,
        dirty: false,
    }
}

fn remote(nth: u32, size_bytes: u64) -> RemotePart {
    RemotePart { number: number(nth), size_bytes, etag: format!("e{nth}"), crc: None, stored_at: WallTime(0) }
}

fn upload(id: &str) -> PendingUpload {
    let key = ObjectKey::from_bytes(b"a.mp4".to_vec());
    PendingUpload { key, upload_id: id.to_owned(), initiated: WallTime(5) }
}

fn object(size_bytes: u64, token: Option<String>) -> ObjectFacts {
    ObjectFacts { size_bytes, etag: "an-etag".to_owned(), crc: None, token }
}

fn aborts(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Abort { .. }))
}

#[test]
fn a_list_that_was_denied_for_a_while_is_not_held_against_the_upload_that_it_names() {
    let mut bench = Bench::present();
    bench.give(Input::Observed(seen(17, Writers::Open)));
    bench.give(Input::HeadAnswered(None));
    for _ in 0..3 {
        bench.give(Input::Failed(Trouble::Denied));
        bench.wake_after(60_000);
    }
    bench.give(Input::UploadsListed(vec![upload("u")]));
    let mut asked = bench.give(Input::PartsListed(vec![remote(1, 8), remote(2, 8)]));
    asked.extend(bench.give(Input::Saved));
    assert!(!aborts(&asked), "{asked:?}");
    assert_eq!(bench.machine.record().upload, UploadState::Open { id: "u".to_owned() });
}

/// Whoever took the upload up has completed it with his own bytes: the object bears this stream's
/// mark and has its size, and the store tells no checksum.
#[test]
fn the_mark_alone_does_not_make_an_object_ours() {
    let mut table = PartTable::default();
    table.insert(number(1), part(b"AAAAAAAA"));
    table.insert(number(2), part(b"BBBBBBBB"));
    let record = record(UploadState::Open { id: "u".to_owned() }, State::PendingCompletion);
    let marked = object(16, Some(record.token()));
    let mut bench = Bench::of(StreamMachine::restored(POLICY, record, table, false));
    bench.give(Input::Start);
    bench.give(Input::Observed(seen(16, Writers::None)));
    bench.give(Input::Failed(Trouble::NoSuchUpload));
    bench.wake_after(10_000);
    let asked = bench.give(Input::HeadAnswered(Some(marked)));
    let mut compared = false;
    let is_done = bench.goes_to_its_end(asked, |action| match action {
        Action::Observe { .. } => Some(Input::Observed(seen(16, Writers::None))),
        Action::VerifyPart { number, etag, crc, .. } => Some(Input::PartVerified {
            number: *number,
            etag: etag.clone(),
            crc: crc.unwrap(),
            matches: true,
            read_at: seen(16, Writers::None).version,
        }),
        Action::CompareObject { .. } => {
            compared = true;
            Some(Input::ObjectCompared { parts: None, read_at: seen(16, Writers::None).version })
        }
        Action::Save(_) => Some(Input::Saved),
        Action::Describe(_) => Some(Input::Described),
        _ => None,
    });
    assert!(compared, "the file is read");
    assert!(!is_done, "the object is another's, and was completed as this recording");
}

#[test]
fn an_upload_that_somebody_has_just_begun_is_not_aborted_with_a_missing_recording() {
    let mut bench = Bench::present();
    let mut asked = bench.give(Input::SourceMissing);
    asked.extend(bench.give(Input::HeadAnswered(None)));
    asked.extend(bench.wake_after(1_000));
    asked.extend(bench.give(Input::UploadsListed(vec![upload("somebody's")])));
    asked.extend(bench.give(Input::PartsListed(Vec::new())));
    asked.extend(bench.give(Input::Saved));
    assert!(!aborts(&asked), "{asked:?}");
}

/// A preallocated recording has the size of the object that had its name before, and is written
/// all the time. The store's answer comes after the second look.
#[test]
fn an_object_of_the_same_size_does_not_keep_a_live_recording_from_being_uploaded() {
    let look = |at: u64, writers| Observation {
        version: FileVersion { size: 100, mtime_ns: at as i64, ctime_ns: at as i64, inode: 7 },
        content_end: at.min(100),
        age_ms: 5,
        writers,
        linked: true,
    };
    let mut bench = Bench::present();
    bench.give(Input::Observed(look(1, Writers::Open)));
    bench.tick += 300;
    bench.give(Input::Touched);
    bench.give(Input::Observed(look(2, Writers::NotAsked)));
    let mut asked = bench.give(Input::HeadAnswered(Some(object(100, None))));
    for at in 3..200 {
        bench.tick += 60; // without a pause of the grace
        asked.extend(bench.give(Input::Touched));
        bench.tick += 30;
        let asks_writers = asked.iter().rev().find_map(|action| match action {
            Action::Observe { ask_writers } => Some(*ask_writers),
            _ => None,
        });
        let writers = if asks_writers == Some(true) { Writers::Open } else { Writers::NotAsked };
        asked.extend(bench.give(Input::Observed(look(at, writers))));
    }
    assert!(asked.contains(&Action::ListUploads), "the way to the upload: {asked:?}");
}

/// The disk cannot be read for hours; by then the object may be gone.
#[test]
fn an_object_that_was_compared_is_asked_for_once_more() {
    let mut bench = Bench::present();
    bench.give(Input::Observed(seen(16, Writers::None)));
    let mut asked = bench.give(Input::HeadAnswered(Some(object(16, None))));
    asked.extend(bench.wake_after(1_000));
    let (mut unreadable, mut asked_again) = (20, false);
    let is_done = bench.goes_to_its_end(asked, |action| match action {
        Action::Observe { .. } => Some(Input::Observed(seen(16, Writers::None))),
        Action::CompareObject { .. } if unreadable > 0 => {
            unreadable -= 1;
            Some(Input::Failed(Trouble::SourceUnreadable))
        }
        Action::CompareObject { .. } => Some(Input::ObjectCompared {
            parts: Some(vec![(number(1), part(b"AAAAAAAA")), (number(2), part(b"BBBBBBBB"))]),
            read_at: seen(16, Writers::None).version,
        }),
        Action::Save(_) => Some(Input::Saved),
        Action::Describe(_) => Some(Input::Described),
        Action::Head => {
            asked_again = true;
            Some(Input::HeadAnswered(None))
        }
        _ => None,
    });
    assert!(asked_again && !is_done, "asked again: {asked_again}; completed: {is_done}");
}

fn taken(upload_id: &str) -> Input {
    Input::ObjectTaken { upload: UploadState::Open { id: upload_id.to_owned() } }
}

fn sends(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::SendPart { .. }))
}

fn saves(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Save(_) | Action::Create { .. } | Action::Note { .. }))
}

/// A recording that goes on, with an upload asked for that is answered with `u`, if it is.
fn appeared(is_answered: bool) -> (Bench, Vec<Action>) {
    let record = record(UploadState::None, State::Active);
    let mut bench = Bench::of(StreamMachine::new(POLICY, record, false, Origin::Appeared));
    bench.give(Input::Start);
    bench.give(Input::Observed(seen(17, Writers::Open)));
    let mut asked = bench.give(Input::Saved);
    while asked.iter().any(|action| matches!(action, Action::Save(_))) {
        asked = bench.give(Input::Saved);
    }
    assert!(asked.iter().any(|action| matches!(action, Action::CreateUpload { .. })), "{asked:?}");
    if is_answered {
        let first = bench.give(Input::UploadCreated { upload_id: "u".to_owned(), abort_at: None });
        assert!(first.iter().all(|action| matches!(action, Action::Save(_))), "nothing before it is noted: {first:?}");
        asked = bench.give(Input::Saved);
    }
    (bench, asked)
}

#[test]
fn no_part_is_sent_to_an_upload_that_is_not_noted_yet() {
    let (_, asked) = appeared(true);
    assert!(sends(&asked), "{asked:?}");
}

/// Whoever has adopted an upload and is replaced before that is noted must not have changed it: who
/// comes next tells by its parts whose it is.
#[test]
fn no_part_is_sent_to_an_upload_that_was_found_before_that_is_noted() {
    let found_begun = {
        let mut bench = begun();
        bench.give(Input::Observed(seen(17, Writers::Open)));
        bench.give(Input::UploadsListed(vec![upload("ours")]));
        let asked = bench.give(Input::PartsListed(Vec::new()));
        (bench, asked)
    };
    let found_unknown = {
        let mut bench = Bench::present();
        bench.give(Input::Observed(seen(17, Writers::Open)));
        bench.give(Input::HeadAnswered(None));
        bench.give(Input::UploadsListed(vec![upload("ours")]));
        let asked = bench.give(Input::PartsListed(vec![remote(1, 8)]));
        (bench, asked)
    };
    for (mut bench, asked) in [found_begun, found_unknown] {
        assert!(saves(&asked) && !sends(&asked), "{asked:?}");
        assert!(!sends(&bench.wake_after(60_000)));
        let asked = bench.give(Input::Saved);
        assert!(sends(&asked), "{asked:?}");
    }
}

/// Another stream may be in the checkpoint in its place, and the upload be left to that.
#[test]
fn no_part_is_sent_to_an_upload_that_was_forgotten_before_it_is_noted_again() {
    let creates = |asked: &[Action]| asked.iter().any(|action| matches!(action, Action::Create { .. }));
    let open = UploadState::Open { id: "ours".to_owned() };
    let mut bench =
        Bench::of(StreamMachine::restored(POLICY, record(open, State::Active), PartTable::default(), false));
    bench.give(Input::Start);
    bench.give(Input::PartsListed(Vec::new()));
    // Before anything is under way, or while a new name is being saved.
    let mut renamed = Bench { machine: bench.machine.clone(), tick: bench.tick };
    let asked = bench.give(Input::Forgotten);
    assert!(creates(&asked), "{asked:?}");
    assert!(!sends(&bench.give(Input::Observed(seen(17, Writers::Open)))));
    assert!(sends(&bench.give(Input::Saved)));

    let (path, key) = ("/r/a.mp4".into(), ObjectKey::from_bytes(b"a.mp4".to_vec()));
    let asked = renamed.give(Input::Renamed { path, key, temp_name: false, final_name: false });
    assert!(saves(&asked), "{asked:?}");
    renamed.give(Input::Forgotten);
    renamed.give(Input::Observed(seen(17, Writers::Open)));
    let asked = renamed.give(Input::Saved);
    assert!(creates(&asked) && !sends(&asked), "{asked:?}");
    assert!(sends(&renamed.give(Input::Saved)));
}

#[test]
fn a_recording_whose_object_is_anothers_takes_its_upload_back_after_its_parts_and_writes_nothing() {
    let (mut bench, asked) = appeared(true);
    let sent: Vec<_> = asked
        .iter()
        .filter_map(|action| if let Action::SendPart { number, .. } = action { Some(*number) } else { None })
        .collect();
    assert!(!sent.is_empty(), "{asked:?}");
    let mut asked = bench.give(taken("theirs"));
    for number in sent {
        assert!(!aborts(&asked) && !saves(&asked), "a part is under way: {asked:?}");
        asked = bench.give(Input::PartStored { number, generation: 1, part: part(b"12345678") });
    }
    assert_eq!(asked, [Action::Abort { upload_id: "u".to_owned() }]);
    let asked = bench.give(Input::Failed(Trouble::NoSuchUpload));
    assert!(!saves(&asked) && !asked.contains(&Action::CreateUpload { for_copies: false }), "{asked:?}");
    let asked = if asked.contains(&Action::Retire) { asked } else { bench.wake_after(60_000) };
    assert_eq!(asked, [Action::Retire]);
}

#[test]
fn an_upload_that_was_asked_for_as_its_object_was_anothers_is_taken_back_too() {
    let (mut bench, _) = appeared(false);
    assert_eq!(bench.give(taken("theirs")), []);
    let asked = bench.give(Input::UploadCreated { upload_id: "u".to_owned(), abort_at: None });
    assert_eq!(asked, [Action::Abort { upload_id: "u".to_owned() }]);
    assert_eq!(bench.give(Input::UploadAborted), [Action::Retire]);
}

#[test]
fn an_upload_that_was_found_and_is_the_others_is_left_to_it() {
    let mut bench = Bench::present();
    bench.give(Input::Observed(seen(17, Writers::Open)));
    bench.give(Input::HeadAnswered(None));
    bench.give(Input::UploadsListed(vec![upload("theirs")]));
    let remote = |nth: u32| RemotePart {
        number: number(nth),
        size_bytes: 8,
        etag: format!("e{nth}"),
        crc: None,
        stored_at: WallTime(5),
    };
    let asked = bench.give(Input::PartsListed(vec![remote(1), remote(2)]));
    assert!(saves(&asked), "{asked:?}");
    // The checkpoint may not have their upload yet.
    let mut early = Bench { machine: bench.machine.clone(), tick: bench.tick };
    assert_eq!(early.give(Input::ObjectTaken { upload: UploadState::None }), [Action::Retire]);
    assert_eq!(bench.give(taken("theirs")), [Action::Retire]);
}

/// A stream whose upload was begun, and whose process did not hear which one it is.
fn begun() -> Bench {
    let record = record(UploadState::Creating { since: WallTime(0) }, State::Active);
    let mut bench = Bench::of(StreamMachine::restored(POLICY, record, PartTable::default(), false));
    bench.give(Input::Start);
    bench
}

fn lists_parts_of(id: &str) -> Action {
    Action::ListParts { upload_id: id.to_owned() }
}

#[test]
fn the_upload_that_was_begun_is_found_among_those_of_others() {
    let mut bench = begun();
    let at = |initiated, id| PendingUpload { initiated: WallTime(initiated), ..upload(id) };
    let uploads = vec![at(7, "gone"), at(9, "larger parts"), at(5, "ours"), at(8, "a short one"), at(4, "older")];
    let mut asked = bench.give(Input::UploadsListed(uploads));
    assert!(asked.contains(&lists_parts_of("larger parts")), "{asked:?}");
    asked = bench.give(Input::PartsListed(vec![remote(1, 10), remote(2, 10)]));
    assert!(asked.contains(&lists_parts_of("a short one")), "{asked:?}");
    asked = bench.give(Input::PartsListed(vec![remote(1, 3)]));
    assert!(asked.contains(&lists_parts_of("gone")), "{asked:?}");
    asked = bench.give(Input::Failed(Trouble::NoSuchUpload));
    assert!(asked.contains(&lists_parts_of("ours")), "{asked:?}");
    bench.give(Input::PartsListed(Vec::new()));
    assert_eq!(bench.machine.record().upload, UploadState::Open { id: "ours".to_owned() });
}

#[test]
fn an_upload_of_somebody_else_is_not_aborted_in_the_place_of_the_one_that_was_begun() {
    let mut bench = begun();
    bench.give(Input::SourceMissing);
    let mut asked = bench.give(Input::UploadsListed(vec![upload("somebody's")]));
    asked.extend(bench.give(Input::PartsListed(vec![remote(1, 3)])));
    asked.extend(bench.give(Input::Saved));
    asked.extend(bench.give(Input::Saved));
    assert!(!aborts(&asked), "{asked:?}");
    assert!(asked.contains(&Action::GivenUp(Reason::SourceMissing)), "{asked:?}");
}

#[test]
fn an_upload_that_was_begun_is_known_by_a_part_that_was_noted() {
    let record = record(UploadState::Creating { since: WallTime(0) }, State::Active);
    let mut table = PartTable::default();
    table.insert(number(1), Part { etag: "e1".to_owned(), ..part(b"AAA") });
    let mut bench = Bench::of(StreamMachine::restored(POLICY, record, table, false));
    bench.give(Input::Start);
    bench.give(Input::UploadsListed(vec![upload("ours")]));
    bench.give(Input::PartsListed(vec![remote(1, 3)]));
    assert_eq!(bench.machine.record().upload, UploadState::Open { id: "ours".to_owned() });
}

/// The checkpoint still has the parts that were sent before the file was cut, and completed.
#[test]
fn what_a_completed_object_does_not_reach_to_is_not_copied_of_it() {
    let mut table = PartTable::default();
    for nth in 1..=9 {
        table.insert(number(nth), part(b"AAAAAAAA"));
    }
    let mut record = record(UploadState::None, State::Completed);
    record.size_bytes = 16;
    record.etag = Some("an-etag".to_owned());
    let mut bench = Bench::of(StreamMachine::restored(POLICY, record, table, false));
    let asked = bench.give(Input::Start);
    let mut of_the_object = Vec::new();
    bench.goes_to_its_end(asked, |action| match action {
        Action::Observe { .. } => Some(Input::Observed(seen(72, Writers::None))),
        Action::VerifyPart { number, etag, crc, .. } => {
            of_the_object.push(number.get());
            Some(Input::PartVerified {
                number: *number,
                etag: etag.clone(),
                crc: crc.unwrap(),
                matches: false,
                read_at: seen(72, Writers::None).version,
            })
        }
        Action::CreateUpload { .. } => Some(Input::UploadCreated { upload_id: "u".to_owned(), abort_at: None }),
        Action::Save(_) => Some(Input::Saved),
        Action::Head => Some(Input::HeadAnswered(None)),
        Action::ListUploads => Some(Input::UploadsListed(Vec::new())),
        _ => None,
    });
    of_the_object.sort_unstable();
    assert_eq!(of_the_object, [1, 2], "parts that are compared in order to be copied");
}
