//! [`StreamMachine`]: every decision about a stream.
//!
//! The machine keeps facts, and after every input decides anew what is missing; it is driven
//! by levels, not by edges. An input that comes late, twice or not at all changes when
//! something is decided, not what. A crash is simply that the machine is built again from the
//! checkpoint, and asks the file and the store for the rest.
//!
//! The way of a stream:
//!
//! 1. *Recording*: parts are sent as soon as they are full, the tail when it gets too old.
//! 2. *Ended* (see `sight`): `pending_completion`. Missing parts are sent, and every part that
//!    is not [proven](crate::Part::proven) to be what the file holds now is read and compared.
//! 3. When all parts are proven for one version of the file, a last look: still that version,
//!    nobody writing? Then the upload is completed.
//! 4. The object is checked with HEAD, and the file is looked at once more: if it changed
//!    meanwhile, the object is built again.
//! 5. The metadata document is written, and `completed` is saved. Only then it is announced.
//!
//! What goes wrong is waited out (see `patience`). What cannot be known after an error or a
//! crash is asked: `ListUploads` after a lost answer to `CreateMultipartUpload`, `ListParts`
//! after a restart, `HeadObject` where an upload is gone.

mod answers;
mod copying;
mod expiry;
mod finishing;
mod going;
mod leaving;
mod messages;
mod patience;
mod reconcile;
mod replacing;
mod saving;
mod sight;
mod survey;

pub use messages::{
    Action, Input, Need, Now, ObjectFacts, OnDelete, Origin, PendingUpload, Policy, RemotePart, WholeObject,
};
pub use sight::FRESH_MS;
pub use survey::plan_of;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ByteRange, FileVersion, Part, PartNumber, PartTable, Reason, State, StreamRecord, Tick, Trouble, UploadState,
    Writers,
};
use copying::Original;
use expiry::Expiry;
use patience::Patience;
use sight::{Ending, Sight};
use survey::Survey;

/// Decides about one stream.
#[derive(Clone, Debug)]
pub struct StreamMachine {
    policy: Policy,
    record: StreamRecord,
    /// The record has changed since it was last given to the checkpoint.
    unsaved: bool,
    /// The checkpoint does not have the stream: it is created, not saved.
    unknown: bool,
    /// A save failed: the next one is not before then.
    save_again_at: Tick,
    /// Parts that were found in the store and that the checkpoint does not have.
    unnoted: Vec<(PartNumber, Part)>,
    table: PartTable,
    sight: Sight,
    course: Course,
    /// The one request under way of which there can be only one.
    request: Option<Request>,
    /// Parts under way.
    sending: BTreeMap<PartNumber, ByteRange>,
    /// Those of them that the store copies.
    copying: BTreeSet<PartNumber>,
    /// The object that stands while a new one is built.
    original: Option<Original>,
    /// When the store will abort the upload, if it has said so.
    expiry: Option<Expiry>,
    /// That was told.
    expiry_told: bool,
    /// The part that the store did not replace, whereupon it was asked for its parts.
    not_replaced: Option<PartNumber>,
    /// Parts that are being read for comparison, and with what.
    verifying: BTreeMap<PartNumber, String>,
    /// What the store holds must be asked before anything is sent (after a restart).
    unreconciled: bool,
    /// What the store may have of the stream without the checkpoint knowing.
    survey: Survey,
    survey_denials: u32,
    /// Which upload was begun, if its id is unknown; the newest one last.
    begun: Vec<PendingUpload>,
    /// The upload that was begun for this stream, not found in the store.
    own_upload: Option<String>,
    /// The upload that the checkpoint knows of. A part in another one would make that hard to tell
    /// from somebody else's, should this process end here, or have been replaced.
    noted_upload: Option<String>,
    /// An object that may be this recording already.
    found: Option<ObjectFacts>,
    /// The store has said that the upload is gone: completed, aborted or expired.
    upload_doubted: bool,
    /// The file has ended in this version.
    ended: Option<FileVersion>,
    last_look: LastLook,
    object: ObjectState,
    /// What the object was made of.
    made_of: Option<FileVersion>,
    /// What the store says of its size.
    object_bytes: u64,
    /// The whole file was sent in one request of this generation, whatever came of it.
    /// Anything else needs another generation, so that its mark tells the objects apart.
    put_tried: bool,
    /// How often the store refused to complete the upload, or the object was not what was
    /// stored.
    refusals: u32,
    /// The recording has another key now.
    wanted_key: Option<crate::ObjectKey>,
    patience: Patience,
    wake_at: Option<Tick>,
}

/// Where the machine is heading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Course {
    /// To the object.
    Going,
    /// Away from the upload and to a new one.
    Restarting,
    /// Away from the upload and to the end.
    GivingUp(Reason),
    /// Away from the upload, which nobody is to know of: the object is another stream's.
    Yielding,
    /// There.
    Finished,
}

/// A request of which only one is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Request {
    Create,
    Save,
    CreateUpload,
    FindBegun,
    ListParts,
    Complete,
    PutObject,
    Head,
    CompareObject,
    Survey,
    Abort,
    Describe,
}

/// The look that stands between "all parts are proven" and a step that builds upon it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LastLook {
    Needed,
    Asked,
    Good,
}

/// The object of this generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ObjectState {
    /// Not made yet, as far as is known.
    None,
    /// The store has said that it is made.
    Made,
    /// HEAD agrees.
    Checked,
    /// It is described, too.
    Described,
}

/// Parts of one stream that are read for comparison at the same time.
const PARALLEL_VERIFICATIONS: usize = 2;
/// After so many refusals an upload is begun anew.
const MAX_REFUSALS: u32 = 3;
/// After so many denials listing uploads is taken to be forbidden for good.
const MAX_LIST_DENIALS: u32 = 5;

impl StreamMachine {
    /// A machine for a new stream, which the checkpoint does not have yet.
    ///
    /// `temp_name`: the file's name has a temp suffix.
    pub fn new(policy: Policy, record: StreamRecord, temp_name: bool, origin: Origin) -> Self {
        let survey = match origin {
            Origin::Appeared => Survey::Done,
            Origin::Present => Survey::Object,
        };
        Self { unsaved: true, unknown: true, survey, ..Self::restored(policy, record, PartTable::default(), temp_name) }
    }

    /// A machine for a stream as its checkpoint has it; that may be behind.
    ///
    /// `table` holds the parts of the record's generation.
    pub fn restored(policy: Policy, record: StreamRecord, mut table: PartTable, temp_name: bool) -> Self {
        if record.state == State::Completed {
            // Of a file that was cut the checkpoint still has what was sent before.
            table.truncate(&record.plan, record.size_bytes);
        }
        let seed = record.id.0.as_u64_pair();
        let unreconciled = record.upload != UploadState::None || record.state == State::PendingCompletion;
        let own_upload = record.upload.id().map(str::to_owned);
        // An upload may have been begun that the checkpoint did not get to know.
        let survey = match (&record.upload, record.state) {
            (UploadState::None, State::PendingCompletion) => Survey::Uploads, // the object is asked for anyway
            (UploadState::None, _) => Survey::Object,
            _ => Survey::Done,
        };
        Self {
            policy,
            unsaved: false,
            unknown: false,
            save_again_at: Tick(0),
            unnoted: Vec::new(),
            table,
            sight: Sight::new(temp_name),
            course: Course::Going,
            request: None,
            sending: BTreeMap::new(),
            copying: BTreeSet::new(),
            original: None,
            not_replaced: None,
            expiry: None,
            expiry_told: false,
            verifying: BTreeMap::new(),
            unreconciled,
            survey,
            survey_denials: 0,
            begun: Vec::new(),
            noted_upload: own_upload.clone(),
            own_upload,
            found: None,
            upload_doubted: false,
            ended: None,
            last_look: LastLook::Needed,
            object: ObjectState::None,
            made_of: None,
            object_bytes: 0,
            put_tried: record.state == State::PendingCompletion && record.upload == UploadState::None,
            refusals: 0,
            wanted_key: None,
            patience: Patience::new(seed.0 ^ seed.1),
            wake_at: None,
            record,
        }
    }

    /// The stream's record as it is now; the checkpoint may be one step behind.
    pub fn record(&self) -> &StreamRecord {
        &self.record
    }

    /// The parts that the store holds.
    pub fn table(&self) -> &PartTable {
        &self.table
    }

    /// Size of the file when it was last seen.
    pub fn size_bytes(&self) -> u64 {
        self.sight.latest().map_or(self.record.size_bytes, |seen| seen.version.size)
    }

    /// For how long bytes have been on disk that the store does not hold, in milliseconds; 0 if
    /// it has them all.
    pub fn lag_ms(&mut self, now: Tick) -> u64 {
        let covered = self.covered_bytes();
        self.sight.unsent_since(covered).map_or(0, |since| now.since(since))
    }

    /// Takes in one input and answers what is to be done.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Action> {
        if self.course == Course::Finished {
            return Vec::new();
        }
        let mut out = Vec::new();
        let is_yielding = self.course == Course::Yielding;
        self.absorb(input, now);
        if is_yielding && self.course != Course::Finished {
            self.course = Course::Yielding; // whatever an answer means, there is no way back
        }
        self.decide(now, &mut out);
        out
    }

    fn absorb(&mut self, input: Input, now: Now) {
        match input {
            Input::Start => self.start(),
            Input::Woken => self.wake_at = None,
            Input::Touched => self.sight.touch(),
            Input::WriterClosed => self.sight.closed(now.tick),
            Input::FinalNameTaken(taken) => self.sight.final_name_taken(taken),
            Input::Observed(seen) => self.observed(seen, now.tick),
            Input::SourceMissing => self.source_gone(Reason::SourceMissing, now.tick),
            Input::SourceUnreadable => self.source_gone(Reason::SourceUnreadable, now.tick),
            Input::LookFailed => self.look_failed(now.tick),
            Input::Replaced => self.give_up(Reason::SourceReplaced),
            Input::Renamed { path, key, temp_name, final_name } => {
                self.record.path = path;
                self.unsaved = true;
                self.sight.renamed(temp_name, final_name, now.tick);
                self.wanted_key = (key != self.record.key).then_some(key);
            }
            Input::LeaseLost => {
                self.course = Course::Finished;
                self.request = None;
            }
            Input::ObjectTaken { upload } => self.yield_object(&upload),
            Input::Forgotten => self.forgotten(),
            Input::PartStored { number, generation, part } => {
                self.patience.succeeded();
                self.part_stored(number, generation, part);
            }
            Input::PartFailed { number, generation, trouble } => {
                if generation == self.record.generation {
                    self.sending.remove(&number);
                    self.verifying.remove(&number);
                    match trouble {
                        _ if self.copying.remove(&number) => self.copy_failed(trouble, now.tick),
                        Trouble::NotReplaced => self.part_not_replaced(number, now.tick),
                        _ => self.failed(trouble, now.tick),
                    }
                }
            }
            Input::PartVerified { number, etag, crc, matches, read_at } => {
                self.part_verified(number, &etag, matches.then_some(crc), read_at);
            }
            Input::Failed(trouble) => self.request_failed(trouble, now.tick),
            answer => {
                self.patience.succeeded();
                self.answered(answer, now);
            }
        }
    }

    fn start(&mut self) {
        if self.record.state == State::Failed {
            self.record.reason = None;
            self.course = Course::Restarting;
        }
        self.sight.touch();
    }

    fn observed(&mut self, seen: crate::Observation, now: Tick) {
        let asked = seen.writers != Writers::NotAsked;
        let is_first = self.sight.latest().is_none();
        let changed = self.sight.observe(seen, now);
        if changed || seen.writers == Writers::Open {
            self.ended = None;
            self.last_look = LastLook::Needed;
        }
        if changed && !is_first {
            self.found = None; // it is being written: an object of the same size is another
        }
        if self.last_look == LastLook::Asked && asked {
            self.last_look = LastLook::Good;
        }
        self.table.truncate(&self.record.plan, seen.version.size);
        if !seen.linked && seen.version.size == 0 && self.table.is_empty() && self.object == ObjectState::None {
            self.give_up(Reason::SourceMissing);
        }
        // Whoever deletes a recording may mean it. One whose object is made, or was asked for and may
        // be made, is finished.
        let is_made = self.object != ObjectState::None || self.made_of.is_some();
        if !seen.linked && self.policy.on_delete == OnDelete::Abort && !is_made {
            self.give_up(Reason::SourceMissing);
        }
    }

    fn look_failed(&mut self, now: Tick) {
        self.sight.look_failed(now);
        if self.last_look == LastLook::Asked {
            self.last_look = LastLook::Needed;
        }
    }

    /// The file can not be opened. What the store holds is given up only with the file itself:
    /// of a file that cannot be read it may be the only good copy.
    fn source_gone(&mut self, reason: Reason, now: Tick) {
        self.look_failed(now);
        if self.record.state == State::Completed {
            self.course = Course::Finished;
        } else if reason == Reason::SourceMissing || self.record.upload == UploadState::None {
            self.give_up(reason);
        }
    }

    fn give_up(&mut self, reason: Reason) {
        if self.record.state == State::Completed {
            self.course = Course::Finished;
        } else if !matches!(self.course, Course::GivingUp(_) | Course::Yielding) {
            self.course = Course::GivingUp(reason);
        }
    }

    fn decide(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.course == Course::Finished {
            return out.push(Action::Retire);
        }
        let mut wake = Wake::default();
        self.save_if_due(now.tick, &mut wake, out);
        self.note(out);
        match self.patience.wait(now.tick) {
            Some(until) => wake.at(until),
            None => self.advance(now, &mut wake, out),
        }
        if self.course == Course::Finished {
            return;
        }
        self.look_if_due(now.tick, &mut wake, out);
        self.save_if_due(now.tick, &mut wake, out);
        self.note(out);
        if let Some(at) = wake.0
            && self.wake_at != Some(at)
        {
            self.wake_at = Some(at);
            out.push(Action::WakeAt(at));
        }
    }

    /// One step on the course; another one where the step has changed the course.
    fn advance(&mut self, now: Now, wake: &mut Wake, out: &mut Vec<Action>) {
        loop {
            let course = self.course;
            match course {
                Course::GivingUp(reason) => self.give_up_next(reason, now, out),
                Course::Restarting => self.restart_next(now, out),
                Course::Yielding => self.yield_next(out),
                Course::Going => self.go(now, wake, out),
                Course::Finished => {}
            }
            // From a restart the way leads on by itself, and from giving up to the end only.
            if self.course == course || course != Course::Going {
                return;
            }
        }
    }

    fn set_state(&mut self, state: State) {
        debug_assert!(self.record.state.may_become(state), "{} may not become {state}", self.record.state);
        self.record.state = state;
        self.unsaved = true;
    }

    /// Makes a request of which there can be only one.
    fn ask(&mut self, request: Request, action: Action, out: &mut Vec<Action>) {
        self.request = Some(request);
        out.push(action);
    }

    /// Asks for a look where a hint, or the question whether the recording has ended, is due.
    fn look_if_due(&mut self, now: Tick, wake: &mut Wake, out: &mut Vec<Action>) {
        if self.sight.is_looking() || matches!(self.course, Course::GivingUp(_) | Course::Yielding) {
            return;
        }
        if let Some(until) = self.sight.blind(now) {
            return wake.at(until);
        }
        if let Some(due) = self.sight.look_due() {
            if due <= now {
                // The first look asks for everything.
                return self.observe(self.sight.latest().is_none(), out);
            }
            wake.at(due);
        }
        let settled_here = self.ended.is_some() && self.record.state != State::Active;
        if self.sight.latest().is_some() && !settled_here && self.course == Course::Going {
            match self.sight.ending(&self.policy, now) {
                Ending::Ended | Ending::Blocked => {}
                Ending::AskAt(at) if at <= now => self.observe(true, out),
                Ending::AskAt(at) => wake.at(at),
            }
        }
    }

    fn observe(&mut self, ask_writers: bool, out: &mut Vec<Action>) {
        self.sight.look(ask_writers);
        out.push(Action::Observe { ask_writers });
    }
}

/// The earliest moment at which the machine wants to be woken.
#[derive(Default)]
struct Wake(Option<Tick>);

impl Wake {
    fn at(&mut self, tick: Tick) {
        self.0 = Some(self.0.map_or(tick, |earlier| earlier.min(tick)));
    }
}
