//! Carries out what a machine asks for, each request in a task of its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reeltime_core::{
    Action, ByteRange, Crc64Nvme, FileVersion, Input, Need, ObjectFacts, Observation, Part, PartNumber, State,
    StreamId, StreamRecord, Trouble, WholeObject,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use super::{Outside, Told, comparing, looking};
use crate::events::{Event, Side, What};
use crate::recording::Recording;
use crate::storage::body::blocking;
use crate::storage::{CopySource, PartBody, StoreError, Stored, UploadRef};

/// What requests need to know of their stream. A clone knows the same.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) outside: Outside,
    pub(super) id: StreamId,
    pub(super) record: StreamRecord,
    /// The file's name, as it is now.
    pub(super) path: Arc<Mutex<PathBuf>>,
    /// The open file, from the first look on.
    pub(super) held: Arc<Mutex<Option<Held>>>,
    ledger: Ledger,
    /// Nothing new may be begun.
    pub(super) stop: CancellationToken,
}

/// A recording that is held open, and the permission to do so.
pub(super) struct Held {
    pub(super) recording: Recording,
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Hands {
    /// Whatever way it ended: nothing is written to the checkpoint any more.
    fn drop(&mut self) {
        self.ledger.close();
        self.outside.uploads.forget(self.id);
    }
}

/// Begins requests for one stream.
pub(super) struct Hands {
    outside: Outside,
    id: StreamId,
    path: Arc<Mutex<PathBuf>>,
    held: Arc<Mutex<Option<Held>>>,
    ledger: Ledger,
    looker: looking::Looker,
    seen: Option<(Observation, Instant)>,
    stop: CancellationToken,
}

impl Hands {
    /// `known`: the state in which the checkpoint has the stream, if it has it. `late` brings what
    /// no request is answered with.
    pub(super) fn new(
        outside: Outside,
        record: &StreamRecord,
        known: Option<State>,
        late: mpsc::UnboundedSender<Told>,
    ) -> Self {
        let path = Arc::new(Mutex::new(record.path.clone()));
        let stop = CancellationToken::new();
        let ledger = Ledger::new(outside.clone(), record, known, Arc::clone(&path), late, stop.clone());
        Self {
            outside,
            id: record.id,
            path,
            held: Arc::default(),
            ledger,
            looker: looking::Looker::default(),
            seen: None,
            stop,
        }
    }

    /// Nothing new is begun from now on; what is under way ends.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) fn renamed(&mut self, path: PathBuf) {
        *self.path.lock().unwrap_or_else(PoisonError::into_inner) = path;
    }

    pub(super) fn observed(&mut self, seen: Observation) {
        self.seen = Some((seen, Instant::now()));
    }

    pub(super) fn seen(&self) -> Option<&Observation> {
        self.seen.as_ref().map(|(seen, _)| seen)
    }

    /// How long ago the file was changed last.
    pub(super) fn since_last_change(&self) -> Duration {
        self.seen.map_or(Duration::ZERO, |(seen, at)| Duration::from_millis(seen.age_ms) + at.elapsed())
    }

    /// The stream of another node that has the object, if this one was left because of it.
    pub(super) fn rival(&self) -> Option<Box<StreamRecord>> {
        self.ledger.rival()
    }

    /// Begins a request; its answer comes out of `running`.
    pub(super) fn begin(&mut self, action: Action, record: &StreamRecord, running: &mut JoinSet<Vec<Input>>) {
        let task = Task {
            outside: self.outside.clone(),
            id: self.id,
            record: record.clone(),
            path: Arc::clone(&self.path),
            held: Arc::clone(&self.held),
            ledger: self.ledger.clone(),
            stop: self.stop.clone(),
        };
        match action {
            Action::Observe { ask_writers } => {
                let from = self.seen().map_or(0, |seen| seen.content_end);
                running.spawn(self.looker.clone().look(task, ask_writers, from));
            }
            Action::Create { record, parts } => self.ledger.create(*record, parts, running),
            Action::Save(record) => self.ledger.save(*record, running),
            Action::Note { generation, parts } => self.ledger.note_found(generation, parts),
            action => {
                running.spawn(async move { vec![task.carry_out(action).await] });
            }
        }
    }
}

impl Task {
    async fn carry_out(self, action: Action) -> Input {
        let upload = |id: String| UploadRef { key: self.record.key.clone(), id };
        match action {
            Action::SendPart { upload_id, generation, number, range, uploads, settled, need } => {
                let sending = Sending { number, range, uploads, settled, need };
                match self.send_part(&upload(upload_id), generation, sending).await {
                    Ok(part) => Input::PartStored { number, generation, part },
                    Err(trouble) => Input::PartFailed { number, generation, trouble },
                }
            }
            Action::CopyPart { upload_id, generation, number, range, object_etag, part_etag, crc, proven, need } => {
                let source = CopySource { object_etag, range, part_etag, crc };
                match self.copy_part(&upload(upload_id), generation, number, &source, proven, need).await {
                    Ok(part) => Input::PartStored { number, generation, part },
                    Err(trouble) => Input::PartFailed { number, generation, trouble },
                }
            }
            Action::VerifyPart { number, range, crc, etag } => {
                let generation = self.record.generation;
                tokio::select! {
                    answer = self.verify(number, range, crc, &etag) => answer,
                    () = self.stop.cancelled() => Input::PartFailed { number, generation, trouble: Trouble::Outage },
                }
            }
            Action::PutObject { size_bytes, settled, need } => {
                self.put_object(size_bytes, settled, need).await.unwrap_or_else(Input::Failed)
            }
            // Reading, for comparison or description, is not worth waiting for at a stop.
            Action::Describe(whole) => tokio::select! {
                described = self.describe(&whole) => described.map_or_else(Input::Failed, |()| Input::Described),
                () = self.stop.cancelled() => Input::Failed(Trouble::Outage),
            },
            Action::CompareObject { facts, settled } => tokio::select! {
                compared = self.compare_object(facts, settled) => compared.unwrap_or_else(Input::Failed),
                () = self.stop.cancelled() => Input::Failed(Trouble::Outage),
            },
            Action::Observe { .. }
            | Action::Create { .. }
            | Action::Save(_)
            | Action::Note { .. }
            | Action::WakeAt(_)
            | Action::WarnOfExpiry { .. }
            | Action::Done
            | Action::GivenUp(_)
            | Action::Retire => Input::Touched, // carried out elsewhere
            action => self.ask(action).await,
        }
    }

    async fn send_part(&self, upload: &UploadRef, generation: u32, sending: Sending) -> Result<Part, Trouble> {
        let permit = self.permit(sending.need).await?;
        let (body, read_at) = self.body(sending.range, sending.need).await?;
        let crc = body.crc();
        let began = Instant::now();
        let stored = self.outside.store.put_part(upload, sending.number, sending.range.offset, body).await;
        let stored = stored.map_err(|error| self.tell_trouble(&error))?;
        let took = began.elapsed();
        drop(permit); // what follows needs no place
        let part = sending.part(stored, crc, read_at);
        self.ledger.note(generation, sending.number, part.clone()).await;
        self.tell(What::PartStored {
            number: sending.number,
            size_bytes: part.size_bytes,
            again: sending.uploads > 1,
            took,
        });
        Ok(part)
    }

    /// Has the store copy a part of the object that stands. A place among the parts in flight is
    /// needed, because that is work for the store, too.
    async fn copy_part(
        &self,
        upload: &UploadRef,
        generation: u32,
        number: PartNumber,
        source: &CopySource,
        proven: Option<FileVersion>,
        need: Need,
    ) -> Result<Part, Trouble> {
        let permit = self.permit(need).await?;
        let began = Instant::now();
        let stored = self.outside.store.copy_part(upload, number, source).await;
        let stored = stored.map_err(|error| match error.trouble {
            Trouble::Outage | Trouble::NoSuchUpload => self.tell_trouble(&error),
            // It is sent instead, and that is not worth a word to the operator.
            trouble => {
                tracing::debug!(%error, "part is sent, because it cannot be copied");
                trouble
            }
        })?;
        drop(permit);
        let size_bytes = source.range.len;
        let (etag, stored_at) = (stored.etag, stored.at);
        let part = Part { size_bytes, etag, crc: Some(source.crc), stored_at, uploads: 0, proven, dirty: false };
        self.ledger.note(generation, number, part.clone()).await;
        self.tell(What::PartCopied { number, size_bytes, took: began.elapsed() });
        Ok(part)
    }

    async fn put_object(&self, size_bytes: u64, settled: Option<FileVersion>, need: Need) -> Result<Input, Trouble> {
        let range = ByteRange { offset: 0, len: size_bytes };
        let sending = Sending { number: PartNumber::FIRST, range, uploads: 1, settled, need };
        let _permit = self.permit(need).await?;
        let (body, read_at) = self.body(range, need).await?;
        let crc = body.crc();
        let began = Instant::now();
        let content_type = crate::storage::content_type(&self.record.key);
        let token = self.record.token();
        let stored = self.outside.store.put_object(&self.record.key, Some(&token), content_type, body).await;
        let stored = stored.map_err(|error| self.tell_trouble(&error))?;
        let took = began.elapsed();
        let part = sending.part(stored, crc, read_at);
        if size_bytes > 0 {
            self.ledger.note(self.record.generation, PartNumber::FIRST, part.clone()).await;
        }
        self.tell(What::PartStored { number: PartNumber::FIRST, size_bytes, again: false, took });
        Ok(Input::ObjectPut { part })
    }

    async fn permit(&self, need: Need) -> Result<crate::uplink::Permit, Trouble> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Trouble::Outage),
            permit = self.outside.uplink.acquire(self.id, !need.backlog) => Ok(permit),
        }
    }

    /// The bytes of a range, and the version of the file just before the first one is read.
    async fn body(&self, range: ByteRange, need: Need) -> Result<(PartBody, FileVersion), Trouble> {
        let recording = self.recording().ok_or(Trouble::SourceChanged)?;
        let file = recording.file();
        let read_at = blocking(move || recording.version()).await;
        let read_at = read_at.map_err(|error| self.tell_unreadable(&error))?;
        let body = PartBody::of_file(file, range).await;
        let body = body.map_err(|error| self.tell_unreadable(&error))?;
        Ok((body.paced(self.outside.pacer.clone(), need), read_at))
    }

    async fn verify(&self, number: PartNumber, range: ByteRange, crc: Option<Crc64Nvme>, etag: &str) -> Input {
        let compared = async {
            let _permit = self.outside.readers.acquire().await;
            let recording = self.recording().ok_or(Trouble::SourceChanged)?;
            let etag = etag.to_owned();
            let compared = blocking(move || comparing::compare_part(&recording, range, crc, &etag)).await;
            compared.map_err(|error| self.tell_unreadable(&error))
        };
        match compared.await {
            Ok((crc, matches, read_at)) => {
                self.tell(What::Verified { number, size_bytes: range.len, matches });
                Input::PartVerified { number, etag: etag.to_owned(), crc, matches, read_at }
            }
            Err(trouble) => Input::PartFailed { number, generation: self.record.generation, trouble },
        }
    }

    /// Reads the whole file for it, which does not go before the comparison of parts.
    async fn compare_object(&self, facts: ObjectFacts, settled: Option<FileVersion>) -> Result<Input, Trouble> {
        let _permit = self.outside.readers.acquire().await;
        let recording = self.recording().ok_or(Trouble::SourceChanged)?;
        let plan = self.record.plan;
        let size_bytes = facts.size_bytes;
        let compared =
            blocking(move || comparing::compare_object(&recording, &facts, &plan, crate::clock::wall())).await;
        let comparing::Compared { mut parts, read_at } = compared.map_err(|error| self.tell_unreadable(&error))?;
        for (_, part) in parts.iter_mut().flatten() {
            part.proven = settled.filter(|settled| *settled == read_at);
        }
        self.tell(What::Compared { size_bytes, matches: parts.is_some() });
        Ok(Input::ObjectCompared { parts, read_at })
    }

    /// Writes the metadata document. One that the store will never take (its name is longer than
    /// the object's) is done without: the object is there and good.
    async fn describe(&self, whole: &WholeObject) -> Result<(), Trouble> {
        let store = &self.outside.store;
        let Some(recording) = self.recording() else { return Ok(()) };
        let full_key = store.full_key(&whole.record.key);
        let document = self.outside.describer.describe(whole, recording.file(), &store.bucket(), &full_key).await;
        let body = PartBody::of_bytes(Bytes::from(document));
        let key = whole.record.key.metadata_document();
        let _place = self.place().await?;
        match store.put_object(&key, None, "application/json", body).await {
            Err(error) if error.trouble == Trouble::Refused => {
                let message = format!("stored without its metadata document: {error}");
                self.tell(What::Notice { message, hint: error.hint });
                Ok(())
            }
            stored => stored.map(|_| ()).map_err(|error| self.tell_trouble(&error)),
        }
    }

    pub(super) fn recording(&self) -> Option<Recording> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|held| held.recording.clone())
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn tell(&self, what: What) {
        self.outside.events.tell(Event { stream: Some(self.id), path: Some(self.path()), what });
    }

    pub(super) fn tell_trouble(&self, error: &StoreError) -> Trouble {
        if error.trouble != Trouble::SourceChanged {
            self.tell(What::Retrying { side: Side::Store, error: error.to_string(), hint: error.hint.clone() });
        }
        error.trouble
    }

    pub(super) fn tell_unreadable(&self, error: &std::io::Error) -> Trouble {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return Trouble::SourceChanged;
        }
        self.tell(What::Retrying {
            side: Side::Source,
            error: format!("reading {}: {error}", self.path().display()),
            hint: "check the disk; what is stored already is kept, and reading is tried again".into(),
        });
        Trouble::SourceUnreadable
    }
}

/// A part on its way.
struct Sending {
    number: PartNumber,
    range: ByteRange,
    uploads: u32,
    settled: Option<FileVersion>,
    need: Need,
}

impl Sending {
    fn part(&self, stored: Stored, crc: Crc64Nvme, read_at: FileVersion) -> Part {
        Part {
            size_bytes: self.range.len,
            etag: stored.etag,
            crc: Some(crc),
            stored_at: stored.at,
            uploads: self.uploads,
            proven: self.settled.filter(|settled| *settled == read_at),
            dirty: false,
        }
    }
}
