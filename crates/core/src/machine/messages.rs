//! What a stream machine is told, and what it asks for.

use crate::{
    ByteRange, Crc64Nvme, FileVersion, ObjectKey, Observation, Part, PartNumber, PlanKind, Reason, StreamRecord, Tick,
    Trouble, UploadState, WallTime,
};

/// What may be decided differently from one configuration to another. Times in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Finalize this long after the last writer closed.
    pub close_grace_ms: u64,
    /// Without knowing the writers: finalize after this long without change.
    pub idle_timeout_ms: u64,
    /// Send the tail at the latest this long after it was written; `None`: only at the end.
    pub tail_flush_ms: Option<u64>,
    /// Parts of this stream that may be asked for at once.
    pub parallel_parts: usize,
    /// A recording of at most this many bytes that has ended before anything was sent goes in
    /// one request, without an upload.
    pub single_request_bytes: u64,
    /// How part sizes develop; for uploads that begin from now on.
    pub plan_kind: PlanKind,
    /// A part that is sent again replaces the first, as far as is known of the store. Where it
    /// does not, nothing is sent before the end of the recording.
    pub replaces_parts: bool,
    /// What becomes of a recording whose file is deleted before its object is made.
    pub on_delete: OnDelete,
}

/// What becomes of a recording whose file is deleted while it is uploaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnDelete {
    /// It is uploaded to its end from the open file.
    #[default]
    Finish,
    /// Its upload is aborted, and the stream fails with [`Reason::SourceMissing`].
    Abort,
}

/// A part as the store lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemotePart {
    /// Its number.
    pub number: PartNumber,
    /// Its size.
    pub size_bytes: u64,
    /// Its `ETag`.
    pub etag: String,
    /// Its checksum, where the store tells.
    pub crc: Option<Crc64Nvme>,
    /// When the store got it.
    pub stored_at: WallTime,
}

impl RemotePart {
    /// The part as it is known from now on: what was known of it before holds if it is the same.
    #[must_use]
    pub fn known_after(self, before: Option<Part>) -> Part {
        match before {
            Some(part) if part.etag == self.etag && part.size_bytes == self.size_bytes => {
                Part { crc: part.crc.or(self.crc), ..part }
            }
            before => Part {
                size_bytes: self.size_bytes,
                etag: self.etag,
                crc: self.crc,
                stored_at: self.stored_at,
                uploads: before.map_or(1, |part| part.uploads + 1),
                proven: None,
                dirty: false,
            },
        }
    }
}

/// An unfinished upload as the store lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingUpload {
    /// Its object.
    pub key: ObjectKey,
    /// Its id.
    pub upload_id: String,
    /// When it was begun.
    pub initiated: WallTime,
}

/// What the store says of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectFacts {
    /// Its size.
    pub size_bytes: u64,
    /// Its `ETag`.
    pub etag: String,
    /// Its whole checksum, where the store tells.
    pub crc: Option<Crc64Nvme>,
    /// The mark of the upload it came from ([`StreamRecord::token`]), if it bears one.
    pub token: Option<String>,
}

/// How the file of a new stream was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It has just appeared: the store can have nothing of it.
    Appeared,
    /// It was there already. It may have been a stream that the checkpoint has lost, so the
    /// store is asked for what it has before anything is sent.
    Present,
}

/// A whole recording as it was stored, for [`Action::Describe`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WholeObject {
    /// The stream, with `etag`, `checksum`, `version`, `size_bytes` and `completed_at` set.
    pub record: StreamRecord,
    /// Its parts in order, with their ranges.
    pub parts: Vec<(PartNumber, ByteRange, Part)>,
}

/// An observation: something that is so, or that came back from an action.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// The stream was created, or restored from its checkpoint, and is to go on.
    Start,
    /// Answer to [`Action::Observe`].
    Observed(Observation),
    /// The file does not exist any more and is not held open.
    SourceMissing,
    /// The file may not be opened: an operator must act.
    SourceUnreadable,
    /// The look failed for another reason: too many open files, a disk or a network that does
    /// not answer. It is tried again.
    LookFailed,
    /// A hint: the file changed, or somebody closed it.
    Touched,
    /// A hint: somebody who could write closed the file.
    WriterClosed,
    /// The file has a new name.
    Renamed {
        /// Where it is now.
        path: std::path::PathBuf,
        /// The key that belongs to that name.
        key: ObjectKey,
        /// Whether the name has a temp suffix.
        temp_name: bool,
        /// Whether the name has just lost one, which is the recorder's word that the recording
        /// has ended.
        final_name: bool,
    },
    /// The file is called by a temp name, and another file has the final one: only the rename
    /// can end such a recording.
    FinalNameTaken(bool),
    /// Another file has taken the name.
    Replaced,
    /// The time asked for by [`Action::WakeAt`] has come.
    Woken,

    /// Answer to [`Action::CreateUpload`].
    UploadCreated {
        /// The store's id.
        upload_id: String,
        /// When the store will abort it by itself, if it says so.
        abort_at: Option<WallTime>,
    },
    /// Answer to [`Action::ListUploads`]: the uploads of exactly this stream's key.
    UploadsListed(Vec<PendingUpload>),
    /// Answer to [`Action::ListParts`].
    PartsListed(Vec<RemotePart>),
    /// Answer to [`Action::SendPart`] and [`Action::CopyPart`]: the store holds the part, and the
    /// checkpoint knows.
    PartStored {
        /// Which part.
        number: PartNumber,
        /// Of which generation.
        generation: u32,
        /// What was sent or copied.
        part: Part,
    },
    /// Answer to [`Action::SendPart`], [`Action::CopyPart`] or [`Action::VerifyPart`]: it did not
    /// work.
    PartFailed {
        /// Which part.
        number: PartNumber,
        /// Of which generation.
        generation: u32,
        /// Why.
        trouble: Trouble,
    },
    /// Answer to [`Action::VerifyPart`].
    PartVerified {
        /// Which part.
        number: PartNumber,
        /// With what was stored under this name. An answer of a time before a restart is about
        /// another part.
        etag: String,
        /// The checksum of the range on disk.
        crc: Crc64Nvme,
        /// Whether the bytes on disk are those that were sent. `false` if that cannot be
        /// told.
        matches: bool,
        /// The file's version just before its first byte was read.
        read_at: FileVersion,
    },
    /// Answer to [`Action::CompareObject`].
    ObjectCompared {
        /// The object as parts of the stream's plan, with what was read of the file; `None` if
        /// the file differs, or if that cannot be told.
        parts: Option<Vec<(PartNumber, Part)>>,
        /// The file's version just before its first byte was read.
        read_at: FileVersion,
    },
    /// Answer to [`Action::Complete`].
    ObjectCompleted {
        /// The object's `ETag`, where the store tells.
        etag: Option<String>,
    },
    /// Answer to [`Action::PutObject`]: the store holds the object, and the checkpoint knows
    /// its only part.
    ObjectPut {
        /// The whole file as its only part.
        part: Part,
    },
    /// Answer to [`Action::Head`]; `None` if there is no object.
    HeadAnswered(Option<ObjectFacts>),
    /// Answer to [`Action::Abort`]: the upload and its parts are gone.
    UploadAborted,
    /// Answer to [`Action::Describe`]: the metadata document is stored.
    Described,
    /// Answer to [`Action::Create`] and [`Action::Save`]: the record is durable. While the
    /// checkpoint store is away, one that is neither
    /// [`State::Completed`](crate::State::Completed) nor [`State::Failed`](crate::State::Failed)
    /// may be kept in memory instead, to be written later: uploading goes on, deleting does not.
    Saved,
    /// The checkpoint does not have this stream any more, which shows when something is written:
    /// a save fails then, too.
    Forgotten,
    /// The checkpoint does not take the stream: another node's is to become the same object. The
    /// upload is aborted, and nothing is saved any more. Answers a save, if one is under way.
    ObjectTaken {
        /// The upload of that stream, which this one may have come upon in the store.
        upload: UploadState,
    },
    /// One of the requests above that allow only one at a time failed.
    Failed(Trouble),
    /// Another node has taken over: nothing may be done any more.
    LeaseLost,
}

/// The moment of an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// By a clock that never runs backwards. Its origin lies far in the past, so that "a year
    /// before now" is a tick too.
    pub tick: Tick,
    /// By the clock on the wall; only ever written down.
    pub wall: WallTime,
}

/// How much bytes are needed in the store where not everything can go at once. The least goes
/// first: recordings before a backlog, and of each the oldest bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Need {
    /// Nobody has the file open, and its last change was long ago: whoever waits for these bytes
    /// has waited long.
    pub backlog: bool,
    /// Since when the file has had them.
    pub since: Tick,
}

/// A request to the outside.
///
/// Of `CreateUpload`, `ListUploads`, `ListParts`, `Complete`, `PutObject`, `Head`,
/// `CompareObject`, `Abort`, `Describe`, `Create` and `Save` at most one is under way. Each of them is answered by its input or by
/// [`Input::Failed`]; parts are answered one by one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Look at the file, and answer [`Input::Observed`], [`Input::SourceMissing`],
    /// [`Input::SourceUnreadable`] or [`Input::LookFailed`].
    Observe {
        /// Ask who has it open, too.
        ask_writers: bool,
    },
    /// Send [`Input::Woken`] then. The last one counts.
    WakeAt(Tick),
    /// Begin the upload of this generation of the record.
    CreateUpload {
        /// Parts are to be copied into it.
        for_copies: bool,
    },
    /// List the unfinished uploads of this stream's key.
    ListUploads,
    /// List the parts that the store holds of the upload.
    ListParts {
        /// The upload.
        upload_id: String,
    },
    /// Read the range, store it as this part, note it in the checkpoint (in this order), and
    /// answer [`Input::PartStored`] or [`Input::PartFailed`].
    SendPart {
        /// The upload.
        upload_id: String,
        /// Its generation.
        generation: u32,
        /// The part.
        number: PartNumber,
        /// Its bytes.
        range: ByteRange,
        /// How often this number is sent now: 1 for the first time.
        uploads: u32,
        /// If the file has this version just before the first byte is read, then the part is
        /// [proven](Part::proven) to be of this version.
        settled: Option<FileVersion>,
        /// What goes first if not everything can go at once.
        need: Need,
    },
    /// Store as this part what the completed object at the stream's key has in the range, without
    /// sending it, and note it in the checkpoint. Answered like [`Action::SendPart`], with
    /// [`Input::PartStored`] only if the store's answer shows that these are the bytes; any trouble
    /// but an outage, and an upload that is gone, means that this cannot be done here.
    CopyPart {
        /// The upload.
        upload_id: String,
        /// Its generation.
        generation: u32,
        /// The part.
        number: PartNumber,
        /// Its bytes, in the old object and in the new one.
        range: ByteRange,
        /// Only an object with this `ETag` is that object.
        object_etag: String,
        /// The store's name for the bytes as they were sent for that object.
        part_etag: String,
        /// The checksum of the bytes.
        crc: Crc64Nvme,
        /// What the part is [proven](Part::proven) to be of.
        proven: Option<FileVersion>,
        /// As for [`Action::SendPart`].
        need: Need,
    },
    /// Read the range and compare it with what was sent, by checksum, or by MD5 if the `ETag`
    /// is one and the checksum is unknown.
    VerifyPart {
        /// The part.
        number: PartNumber,
        /// Its bytes.
        range: ByteRange,
        /// What was sent.
        crc: Option<Crc64Nvme>,
        /// The store's name for it.
        etag: String,
    },
    /// Complete the upload with these parts.
    Complete {
        /// The upload.
        upload_id: String,
        /// All parts in order.
        parts: Vec<(PartNumber, Part)>,
        /// Checksum of the whole, if all parts have one.
        crc: Option<Crc64Nvme>,
        /// Size of the whole.
        size_bytes: u64,
    },
    /// Store the whole file in one request.
    PutObject {
        /// Bytes from the beginning.
        size_bytes: u64,
        /// As for [`Action::SendPart`].
        settled: Option<FileVersion>,
        /// As for [`Action::SendPart`].
        need: Need,
    },
    /// Ask for the object.
    Head,
    /// Read the whole file and compare it with this object, by checksum, or by MD5 where the
    /// `ETag` is one and the checksum is unknown.
    CompareObject {
        /// The object, of the same size as the file.
        facts: ObjectFacts,
        /// As for [`Action::SendPart`].
        settled: Option<FileVersion>,
    },
    /// Abort an upload. One that is gone already counts as aborted.
    Abort {
        /// The upload.
        upload_id: String,
    },
    /// Write the metadata document.
    Describe(Box<WholeObject>),
    /// Write a stream that the checkpoint does not have, with all its parts.
    Create {
        /// The stream.
        record: Box<StreamRecord>,
        /// What the store has of it.
        parts: Vec<(PartNumber, Part)>,
    },
    /// Write the record to the checkpoint, which has the stream.
    Save(Box<StreamRecord>),
    /// Write parts to the checkpoint that were found in the store. There is no answer; no
    /// record that is [`State::Completed`](crate::State::Completed) is written before them.
    Note {
        /// Of which generation.
        generation: u32,
        /// The parts.
        parts: Vec<(PartNumber, Part)>,
    },
    /// Tell the operator, once: the store will abort the upload of a recording that is still going
    /// on. There is no answer; when it is gone, it is begun anew.
    WarnOfExpiry {
        /// When, by the store's word.
        at: WallTime,
    },
    /// The stream is completed and that is durable: announce it, and do with the file what
    /// was asked for. Nothing follows but by a later change of the file.
    Done,
    /// The stream has failed and that is durable; its upload is gone.
    GivenUp(Reason),
    /// There is nothing more to do here: the stream is completed and its file is gone, or it, or
    /// its object, belongs to another node now.
    Retire,
}
