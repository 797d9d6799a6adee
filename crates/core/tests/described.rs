//! A recording that goes on, and ends once more, while its object is being described.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use reeltime_core::{
    Action, Crc64Nvme, FileVersion, Input, Limits, Now, ObjectFacts, ObjectKey, Observation, Origin, Part, PartPlan,
    PlanKind, Policy, State, StreamId, StreamMachine, StreamRecord, Tick, UploadState, WallTime, Writers,
};

/// A file, and a store that holds one object.
struct Bench {
    machine: StreamMachine,
    tick: u64,
    bytes: Vec<u8>,
    writers: Writers,
    object: Option<ObjectFacts>,
    /// Records that were saved, in order.
    saved: Vec<StreamRecord>,
    /// The description is under way, and is not answered by itself.
    describing: bool,
    /// Nor are saves.
    checkpoint_hangs: bool,
}

impl Bench {
    fn version(&self) -> FileVersion {
        // Whatever is written makes it longer, and later.
        let at = self.bytes.len() as i64 * 1_000_000_000 + 1;
        FileVersion { size: self.bytes.len() as u64, mtime_ns: at, ctime_ns: at, inode: 1 }
    }

    fn give(&mut self, input: Input) {
        let mut inputs = vec![input];
        while !inputs.is_empty() {
            let now = Now { tick: Tick(self.tick), wall: WallTime(0) };
            let actions = self.machine.handle(inputs.remove(0), now);
            for action in actions {
                inputs.extend(self.answer(action));
            }
        }
    }

    fn answer(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::Observe { ask_writers } => Some(Input::Observed(Observation {
                version: self.version(),
                content_end: self.bytes.len() as u64,
                age_ms: 60_000,
                writers: if ask_writers { self.writers } else { Writers::NotAsked },
                linked: true,
            })),
            Action::Create { record, .. } | Action::Save(record) => {
                self.saved.push(*record);
                (!self.checkpoint_hangs).then_some(Input::Saved)
            }
            Action::PutObject { size_bytes, .. } => {
                let (crc, record) = (Crc64Nvme::of(&self.bytes), self.machine.record());
                self.object =
                    Some(ObjectFacts { size_bytes, etag: "e".to_owned(), crc: Some(crc), token: Some(record.token()) });
                let part = Part {
                    size_bytes,
                    etag: "e".to_owned(),
                    crc: Some(crc),
                    stored_at: WallTime(0),
                    uploads: 1,
                    proven: Some(self.version()),
                    dirty: false,
                };
                Some(Input::ObjectPut { part })
            }
            Action::Head => Some(Input::HeadAnswered(self.object.clone())),
            Action::Describe(_) => {
                self.describing = true;
                None
            }
            Action::WakeAt(_) | Action::Done => None,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_went_on_while_it_was_described_is_not_completed_as_it_is_now() {
    let policy = Policy {
        close_grace_ms: 0,
        idle_timeout_ms: 5_000,
        tail_flush_ms: None,
        parallel_parts: 1,
        single_request_bytes: 100,
        plan_kind: PlanKind::Growing,
        replaces_parts: true,
        on_delete: reeltime_core::OnDelete::Finish,
    };
    let record = StreamRecord {
        id: StreamId(uuid::Uuid::from_u128(7)),
        node: "n".to_owned(),
        epoch: 1,
        source: "/r".into(),
        source_mark: "7.2.0".into(),
        destination: "s3://archive/studio".into(),
        path: "/r/a.mp4".into(),
        key: ObjectKey::from_bytes(b"a.mp4".to_vec()),
        state: State::Active,
        reason: None,
        generation: 1,
        upload: UploadState::None,
        plan: PartPlan::new(PlanKind::Growing, 100, Limits::LOCAL).unwrap(),
        version: None,
        size_bytes: 0,
        etag: None,
        checksum: None,
        started_at: WallTime(0),
        completed_at: None,
    };
    let machine = StreamMachine::new(policy, record, false, Origin::Appeared);
    let mut bench = Bench {
        machine,
        tick: 1 << 40,
        bytes: vec![1; 10],
        writers: Writers::None,
        object: None,
        saved: Vec::new(),
        describing: false,
        checkpoint_hangs: false,
    };
    bench.give(Input::Start);
    assert!(bench.describing, "{:?}", bench.saved);

    // Somebody opens it again and writes; it is renamed, which is to be saved, and that takes a
    // while.
    bench.bytes.push(2);
    bench.writers = Writers::Open;
    bench.tick += 60_000;
    bench.give(Input::Touched);
    let path = "/r/a.mp4".into();
    bench.give(Input::Renamed {
        path,
        key: ObjectKey::from_bytes(b"a.mp4".to_vec()),
        temp_name: false,
        final_name: false,
    });
    bench.checkpoint_hangs = true;
    bench.describing = false;
    bench.give(Input::Described);
    // Meanwhile it ends once more.
    bench.writers = Writers::None;
    bench.tick += 60_000;
    bench.give(Input::WriterClosed);
    bench.tick += 60_000;
    bench.give(Input::Woken);
    bench.checkpoint_hangs = false;
    bench.give(Input::Saved);
    bench.tick += 60_000;
    bench.give(Input::Woken);
    assert!(bench.describing, "it is described anew: {:?}", bench.saved);
    bench.give(Input::Described);

    let completed: Vec<_> = bench.saved.iter().filter(|record| record.state == State::Completed).collect();
    assert_eq!(completed.len(), 1, "{completed:?}");
    assert_eq!((completed[0].generation, completed[0].size_bytes), (2, 11));
    assert_eq!(completed[0].version, Some(bench.version()));
    assert_eq!(completed[0].checksum, Some(Crc64Nvme::of(&bench.bytes)), "the object is the file");
}
