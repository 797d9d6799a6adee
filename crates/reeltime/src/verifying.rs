//! Whether a recording is in the store as it is on disk.
//!
//! The store is asked first. What its answer decides is not read: no object, another size, or an
//! `ETag` that says nothing about the content. Only a checksum proves that they differ. An `ETag`
//! that fits proves that they are the same; one that does not may be that of an encrypted object,
//! or of one that was divided otherwise.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use reeltime_core::{ObjectFacts, ObjectKey, PartPlan, Writers};
use tokio::sync::Semaphore;

use crate::asking::patiently;
use crate::processor::comparing::{can_tell, compare_object};
use crate::recording::{OpenError, Recording};
use crate::storage::ObjectStore;
use crate::storage::body::blocking;

/// What became of a comparison. The names are a contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The object is the recording.
    Ok,
    /// There is no object.
    Missing,
    /// The object is another.
    Differs,
    /// It cannot be told.
    Unknown,
    /// Somebody is writing: there is no final object yet.
    Recording,
    /// The recording cannot be read, or the store not be asked.
    Error,
}

impl Verdict {
    /// All verdicts, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Ok, Self::Missing, Self::Differs, Self::Unknown, Self::Recording, Self::Error];

    /// The name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Differs => "differs",
            Self::Unknown => "unknown",
            Self::Recording => "recording",
            Self::Error => "error",
        }
    }
}

/// A recording that was looked at.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its file, or a directory that cannot be read.
    pub path: PathBuf,
    /// The object, as the store knows it.
    pub key: Option<String>,
    /// What came of it.
    pub verdict: Verdict,
    /// Why; empty if the verdict says it.
    pub detail: String,
    /// Size of the file.
    pub size_bytes: Option<u64>,
    /// Size of the object.
    pub object_size_bytes: Option<u64>,
    /// Bytes of the file that were read for it.
    pub read_bytes: u64,
}

impl Checked {
    /// What is at `path` cannot be read.
    pub fn unreadable(path: PathBuf, error: &io::Error) -> Self {
        let detail = format!("cannot be read: {error}");
        Self {
            path,
            key: None,
            verdict: Verdict::Error,
            detail,
            size_bytes: None,
            object_size_bytes: None,
            read_bytes: 0,
        }
    }
}

/// Compares recordings with objects. A clone shares the limit on reading.
#[derive(Clone)]
pub struct Verifier {
    /// Where the objects are.
    pub store: Arc<dyn ObjectStore>,
    /// How reeltime divides recordings, where only an `ETag` can decide.
    pub plan: PartPlan,
    /// Recordings that are read at the same time.
    pub readers: Arc<Semaphore>,
}

impl Verifier {
    /// Compares the file at `path` with the object `key`; `None` if there is no such file any
    /// more.
    pub async fn check(&self, path: PathBuf, key: ObjectKey) -> Option<Checked> {
        let mut checked = Checked {
            key: Some(self.store.full_key(&key)),
            ..Checked::unreadable(path.clone(), &io::ErrorKind::Other.into())
        };
        let opened = blocking(move || Ok(Recording::open(&path))).await;
        let recording = match opened {
            Ok(Ok(recording)) => recording,
            Ok(Err(OpenError::Missing | OpenError::NotAFile(_))) => return None,
            Ok(Err(error)) => return Some(Checked { detail: error.to_string(), ..checked }),
            Err(error) => return Some(Checked { detail: error.to_string(), ..checked }),
        };
        let answer = self.compare(recording, &key, &mut checked).await;
        (checked.verdict, checked.detail) = answer.unwrap_or_else(|detail| (Verdict::Error, detail));
        Some(checked)
    }

    /// Verdict and detail, or why there is none.
    async fn compare(
        &self,
        recording: Recording,
        key: &ObjectKey,
        checked: &mut Checked,
    ) -> Result<(Verdict, String), String> {
        let open = recording.clone();
        let seen = blocking(move || open.observe(true, u64::MAX)).await.map_err(|error| cannot_be_read(&error))?;
        let size_bytes = seen.version.size;
        checked.size_bytes = Some(size_bytes);
        if seen.writers == Writers::Open {
            return Ok((Verdict::Recording, String::new()));
        }
        let facts = patiently(|| self.store.head(key)).await.map_err(|error| error.to_string())?;
        let Some(facts) = facts else { return Ok((Verdict::Missing, String::new())) };
        checked.object_size_bytes = Some(facts.size_bytes);
        if facts.size_bytes != size_bytes {
            let detail = format!("the object has {} bytes, the file {size_bytes}", facts.size_bytes);
            return Ok((Verdict::Differs, detail));
        }
        // As it would have been divided if it had outgrown the plan.
        let plan = self.plan.enlarged(size_bytes).unwrap_or(self.plan);
        if !can_tell(&facts, &plan) {
            return Ok((Verdict::Unknown, unknown_without_reading(&facts)));
        }
        self.read(recording, facts, plan, checked).await
    }

    async fn read(
        &self,
        recording: Recording,
        facts: ObjectFacts,
        plan: PartPlan,
        checked: &mut Checked,
    ) -> Result<(Verdict, String), String> {
        let _permit = self.readers.acquire().await;
        let has_crc = facts.crc.is_some();
        let compared = blocking(move || {
            let compared = compare_object(&recording, &facts, &plan, crate::clock::wall())?;
            Ok((compared.parts.is_some(), compared.read_at == recording.version()?))
        });
        let (is_same, is_unchanged) = match compared.await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => (false, false),
            compared => compared.map_err(|error| cannot_be_read(&error))?,
        };
        checked.read_bytes = checked.size_bytes.unwrap_or(0);
        Ok(match (is_same, has_crc) {
            _ if !is_unchanged => (Verdict::Recording, "it changed while it was read".to_owned()),
            (true, _) => (Verdict::Ok, String::new()),
            (false, true) => (Verdict::Differs, "the checksum is another".to_owned()),
            (false, false) => {
                let detail = "the store tells no checksum, and the ETag is not that of this file: the object differs, \
                              or is encrypted, or was divided otherwise (--part-size, --part-plan)";
                (Verdict::Unknown, detail.to_owned())
            }
        })
    }
}

fn unknown_without_reading(facts: &ObjectFacts) -> String {
    let etag = &facts.etag;
    format!(
        "the same size, but the store tells no checksum, and its ETag {etag:?} is not that of a file in one piece or \
         in parts of this --part-size and --part-plan"
    )
}

fn cannot_be_read(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}
