//! [`StreamProcessor`]: drives one [`StreamMachine`], carries its actions out and feeds the
//! results back.
//!
//! It decides nothing about the stream. What it adds is the outside: it holds the file open,
//! so that a recording that is deleted meanwhile can still be read; it runs requests side by
//! side and hands their answers to the machine one after the other.
//!
//! It can be dropped at any moment: the machine is built again from the checkpoint. An orderly
//! stop lets requests under way end, because that saves sending their parts again.

pub(crate) mod comparing;
mod disposal;
mod hands;
mod ledger;
mod looking;
mod requests;
mod saving;
mod uploads;

pub use looking::Looks;
pub(crate) use requests::at_once as requests_at_once;
pub(crate) use saving::{claim, create, load_parts};
pub use uploads::Uploads;

use std::path::Path;
use std::sync::Arc;

use reeltime_core::{
    Action, Input, Origin, PartTable, Policy, Reason, State, StreamMachine, StreamRecord, Tick, Trouble, WallTime,
    Writers,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::CheckpointStore;
use crate::clock;
use crate::config::AfterUpload;
use crate::events::{Event, EventBus, What};
use crate::metadata::Describer;
use crate::pacing::Pacer;
use crate::storage::ObjectStore;
use crate::uplink::Uplink;
use crate::view::{Board, StreamView};
use hands::Hands;

/// What all processors share.
#[derive(Clone)]
pub struct Outside {
    /// Where recordings go.
    pub store: Arc<dyn ObjectStore>,
    /// What survives a crash.
    pub checkpoint: Arc<dyn CheckpointStore>,
    /// Who describes recordings.
    pub describer: Describer,
    /// The limit on parts in flight.
    pub uplink: Uplink,
    /// The bandwidth limit.
    pub pacer: Pacer,
    /// The limit on looks at files at the same time.
    pub looks: Looks,
    /// The limit on parts that are read for comparison at the same time.
    pub readers: Arc<Semaphore>,
    /// The limit on requests to the store that carry no bytes of a recording.
    pub requests: Arc<Semaphore>,
    /// The limit on recordings that are held open: completing one needs open files, too.
    pub handles: Arc<Semaphore>,
    /// The uploads that streams of this process are at work on.
    pub uploads: Uploads,
    /// Where events are told.
    pub events: EventBus,
    /// Where streams are shown.
    pub board: Board,
    /// What machines decide by.
    pub policy: Policy,
    /// What recorders append to a name while they write.
    pub temp_suffixes: Arc<[String]>,
    /// What becomes of the file afterwards.
    pub after_upload: Arc<AfterUpload>,
    /// Nobody waits for what may come back later: the work ends with what is there.
    pub once: bool,
}

impl Outside {
    /// What machines decide by, with what has been learned of the store.
    fn policy(&self) -> Policy {
        Policy { replaces_parts: self.policy.replaces_parts && self.store.replaces_parts(), ..self.policy }
    }

    fn is_temp_name(&self, path: &Path) -> bool {
        reeltime_core::temp_suffix_of(path, &self.temp_suffixes).is_some()
    }
}

/// A place for a stream of the backlog, if it needs one.
pub type Place = Option<OwnedSemaphorePermit>;

/// What a processor leaves behind.
pub struct Left {
    /// The stream, as it was known last.
    pub record: StreamRecord,
    /// It has come to its end, and that is durable. Otherwise the record may say anything.
    pub is_over: bool,
    /// It was left because this stream of another node has its object.
    pub rival: Option<Box<StreamRecord>>,
}

impl Left {
    /// Of a stream that was not worked on.
    pub fn early(record: StreamRecord) -> Self {
        Self { record, is_over: false, rival: None }
    }
}

/// An input on its way to a processor. In a box: a channel has room for 31 from the start, and each
/// of very many streams has two channels in which there is hardly ever one.
pub type Told = Box<Input>;

/// The work on one stream.
pub struct StreamProcessor {
    outside: Outside,
    machine: StreamMachine,
    hands: Hands,
    inbox: mpsc::UnboundedReceiver<Told>,
    late: mpsc::UnboundedReceiver<Told>,
    running: JoinSet<Vec<Input>>,
    wake_at: Option<Tick>,
    /// What went wrong last and is being waited out.
    trouble: Option<Trouble>,
    /// The generation that was completed, and announced, before this work began.
    announced: Option<u32>,
    end: Option<End>,
    stopping: bool,
    /// Given back when it turns out that others would wait for a recorder or an operator.
    place: Place,
}

#[derive(Clone, Copy)]
enum End {
    Done,
    GivenUp(Reason),
    Left,
}

impl StreamProcessor {
    /// A processor for a new stream, which the checkpoint does not have yet. `inbox` brings
    /// hints. The `place` is given back as soon as the recording is seen to be live: it would be
    /// held for as long as that lasts.
    pub fn begin(
        outside: Outside,
        record: StreamRecord,
        origin: Origin,
        inbox: mpsc::UnboundedReceiver<Told>,
        place: Place,
    ) -> Self {
        let temp_name = outside.is_temp_name(&record.path);
        let machine = StreamMachine::new(outside.policy(), record, temp_name, origin);
        Self::of(outside, machine, None, inbox, place)
    }

    /// A processor for a stream as the checkpoint has it.
    pub fn resume(
        outside: Outside,
        record: StreamRecord,
        table: PartTable,
        inbox: mpsc::UnboundedReceiver<Told>,
        place: Place,
    ) -> Self {
        let known = record.state;
        let temp_name = outside.is_temp_name(&record.path);
        let machine = StreamMachine::restored(outside.policy(), record, table, temp_name);
        Self::of(outside, machine, Some(known), inbox, place)
    }

    fn of(
        outside: Outside,
        machine: StreamMachine,
        known: Option<State>,
        inbox: mpsc::UnboundedReceiver<Told>,
        place: Place,
    ) -> Self {
        let record = machine.record();
        let (later, late) = mpsc::unbounded_channel();
        let hands = Hands::new(outside.clone(), record, known, later);
        let announced = (record.state == State::Completed).then_some(record.generation);
        Self {
            outside,
            machine,
            hands,
            inbox,
            late,
            running: JoinSet::new(),
            wake_at: None,
            trouble: None,
            announced,
            end: None,
            stopping: false,
            place,
        }
    }

    /// Works until the stream is completed or failed, or belongs to somebody else, or `stop` is
    /// cancelled and the requests under way have ended.
    ///
    /// Boxed, because a future has everything that it was called with several times over, and there
    /// is one for each stream.
    pub async fn run(mut self: Box<Self>, stop: CancellationToken) -> Left {
        self.give(Input::Start);
        while self.end.is_none() {
            if self.stopping && self.running.is_empty() {
                self.end = Some(End::Left);
                break;
            }
            tokio::select! {
                Some(answers) = self.running.join_next() => match answers {
                    Ok(inputs) => inputs.into_iter().for_each(|input| self.give(input)),
                    Err(error) => self.request_died(&error),
                },
                Some(input) = self.late.recv() => self.give(*input),
                Some(hint) = self.inbox.recv(), if !self.stopping => self.give(*hint),
                () = until(self.wake_at), if !self.stopping => {
                    self.wake_at = None;
                    self.give(Input::Woken);
                }
                () = stop.cancelled(), if !self.stopping => {
                    self.stopping = true;
                    self.hands.stop();
                }
            }
        }
        self.finish().await
    }

    /// Hands an input to the machine and begins what it asks for.
    fn give(&mut self, input: Input) {
        if self.end.is_some() {
            return;
        }
        self.note(&input);
        for action in self.machine.handle(input, clock::now()) {
            match action {
                Action::WakeAt(at) => self.wake_at = Some(at),
                Action::WarnOfExpiry { at } => self.tell(warning_of_expiry(at)),
                Action::Done => self.end = Some(End::Done),
                Action::GivenUp(reason) => self.end = Some(End::GivenUp(reason)),
                Action::Retire => self.end = Some(End::Left),
                // While stopping, only what is already so is written down.
                action if self.stopping && !is_written_down(&action) => {}
                action => self.hands.begin(action, self.machine.record(), &mut self.running),
            }
        }
        let record = self.machine.record();
        self.outside.uploads.note(record.id, &record.upload);
        self.show();
    }

    /// A request that panicked is a bug. Its answer will never come, so the machine is left and
    /// built again from the checkpoint.
    fn request_died(&mut self, error: &tokio::task::JoinError) {
        if !error.is_cancelled() {
            let message = format!("a request panicked: {error}");
            self.tell(What::Notice { message, hint: "this is a bug; the stream goes on from its checkpoint".into() });
        }
        self.end = Some(End::Left);
    }

    /// Tells what an input means, and keeps what later actions need of it.
    fn note(&mut self, input: &Input) {
        match input {
            Input::Renamed { path, .. } => self.hands.renamed(path.clone()),
            Input::FinalNameTaken(true) => self.place = None,
            Input::Observed(seen) => {
                if matches!(seen.writers, Writers::Open | Writers::Unknowable) {
                    self.place = None;
                }
                self.hands.observed(*seen);
            }
            Input::UploadCreated { upload_id, .. } => self.tell(What::UploadCreated { upload_id: upload_id.clone() }),
            Input::UploadAborted => self.tell(What::UploadAborted),
            Input::PartStored { .. } | Input::ObjectPut { .. } | Input::ObjectCompleted { .. } => self.trouble = None,
            Input::Failed(trouble) | Input::PartFailed { trouble, .. } => {
                if *trouble == Trouble::SourceUnreadable {
                    self.place = None;
                }
                self.trouble = Some(*trouble);
            }
            _ => {}
        }
    }

    fn tell(&self, what: What) {
        let record = self.machine.record();
        self.outside.events.tell(Event { stream: Some(record.id), path: Some(record.path.clone()), what });
    }

    fn show(&mut self) {
        let lag_ms = self.machine.lag_ms(clock::now().tick);
        let record = self.machine.record();
        let mut view = StreamView::of_record(record, self.outside.store.full_key(&record.key));
        view.size_bytes = self.machine.size_bytes();
        view.uploaded_bytes = self.machine.table().bytes().min(view.size_bytes);
        view.parts_total = record.plan.parts_for(view.size_bytes).unwrap_or(0);
        view.parts_sent = u32::try_from(self.machine.table().len()).unwrap_or(u32::MAX);
        view.lag_seconds = lag_ms as f64 / 1000.0;
        view.reason = view.reason.or_else(|| self.trouble.map(|trouble| waiting_for(trouble).to_owned()));
        self.outside.board.show(record.id, view);
    }

    async fn finish(mut self: Box<Self>) -> Left {
        self.running.shutdown().await;
        let record = self.machine.record().clone();
        match self.end.unwrap_or(End::Left) {
            End::Done => {
                // A file that was merely touched is no new object.
                let is_news = self.announced != Some(record.generation);
                if is_news {
                    let after_last_change = self.hands.since_last_change();
                    self.tell(What::Completed { size_bytes: record.size_bytes, after_last_change });
                }
                let asked = if is_news { None } else { Some(&*self.outside.store) };
                if let Some(what) = disposal::dispose(&self.outside.after_upload, &record, asked).await {
                    self.tell(what);
                }
            }
            End::GivenUp(reason) => self.tell(What::Failed { reason }),
            End::Left => {}
        }
        // What was completed before has not become another by being left.
        let is_over = match self.end {
            Some(End::Done | End::GivenUp(_)) => true,
            _ => record.state == State::Completed && self.announced == Some(record.generation),
        };
        if is_over {
            self.outside.board.remove(record.id); // the checkpoint shows it from now on
        }
        Left { record, is_over, rival: self.hands.rival() }
    }
}

/// A word ahead of the end of an upload whose recording goes on.
fn warning_of_expiry(at: WallTime) -> What {
    let at = crate::view::rfc3339(at);
    let message = format!(
        "the store will abort this upload at {at}, and the recording is still going on: it will be sent again from \
         its beginning then"
    );
    let hint = "let the bucket's rule for incomplete multipart uploads (AbortIncompleteMultipartUpload) allow more \
                days than the longest recording lasts";
    What::Notice { message, hint: hint.to_owned() }
}

/// Whether an action writes to the checkpoint.
const fn is_written_down(action: &Action) -> bool {
    matches!(action, Action::Create { .. } | Action::Save(_) | Action::Note { .. })
}

/// What a stream waits for, in a word, as the API shows it.
const fn waiting_for(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Outage => "store_away",
        Trouble::Denied => "store_denies",
        Trouble::NoSuchUpload => "upload_vanished",
        Trouble::InvalidPart => "store_rejects_parts",
        Trouble::NotReplaced => "store_keeps_parts",
        Trouble::Refused => "store_refuses",
        Trouble::SourceChanged => "source_changing",
        Trouble::SourceUnreadable => "source_unreadable",
    }
}

async fn until(at: Option<Tick>) {
    match at {
        Some(at) => tokio::time::sleep_until(clock::instant_of(at)).await,
        None => std::future::pending().await,
    }
}
