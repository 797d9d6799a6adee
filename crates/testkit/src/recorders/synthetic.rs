//! Recorders that behave in one peculiar way each, with bytes that depend on a seed alone.
//!
//! A recorder writes at a given rate on a thread of its own. It can be held at a byte count, so
//! that a test decides when it goes on. The digest of a finished file is taken from its last
//! open handle before that is closed: nobody who acts on the close can interfere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::digest::sha256_of_reader;

/// How a recorder writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Style {
    /// Appends, with one handle from the beginning to the end.
    Append,
    /// Opens, appends and closes for every block.
    ShortOpens,
    /// Gives the file its final size at once and fills it afterwards.
    Preallocate {
        /// Really allocates (`fallocate`); otherwise the file is sparse.
        allocate: bool,
        /// Preallocates this much more than it needs, and cuts that off at the end.
        slack_bytes: u64,
    },
    /// Appends to a file with this suffix and renames it when it is closed.
    TempThenRename {
        /// Such as `.part`.
        suffix: String,
    },
    /// Records, then truncates the file and records again under the same name, with other
    /// bytes.
    TruncateAndAgain {
        /// How often it records in all.
        rounds: u32,
    },
    /// Appends, and rewrites the head again and again, and once more at the end.
    RewriteHead {
        /// How much is rewritten.
        head_bytes: u64,
        /// After how much further content.
        every_bytes: u64,
    },
    /// Appends; at the end shifts everything to insert this much at the beginning.
    ShiftAtEnd {
        /// How much is inserted.
        inserted_bytes: u64,
    },
}

/// A recording to be made.
#[derive(Clone, Debug)]
pub struct Synthetic {
    path: PathBuf,
    style: Style,
    seed: u64,
    total_bytes: u64,
    bytes_per_second: Option<u64>,
    block_bytes: usize,
    hold_at: Option<u64>,
}

impl Synthetic {
    /// Records `total_bytes` of content into `path`, as fast as it goes.
    pub fn into(path: impl AsRef<Path>, style: Style, total_bytes: u64) -> Self {
        Self {
            path: path.as_ref().to_path_buf(),
            style,
            seed: 1,
            total_bytes,
            bytes_per_second: None,
            block_bytes: 64 * 1024,
            hold_at: None,
        }
    }

    /// The bytes are those of this seed; 1 if not given.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Writes no faster than this.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: u64) -> Self {
        self.bytes_per_second = Some(bytes_per_second);
        self
    }

    /// Writes in blocks of this size; 64 KiB if not given.
    #[must_use]
    pub fn block(mut self, bytes: usize) -> Self {
        self.block_bytes = bytes.max(1);
        self
    }

    /// Waits after this much content (over all rounds) until [`Recording::go_on`]. At
    /// `total_bytes` (of the last round) it waits with the file still open and its end not yet
    /// done.
    #[must_use]
    pub fn hold_at(mut self, written_bytes: u64) -> Self {
        self.hold_at = Some(written_bytes);
        self
    }

    /// Starts recording; returns when the file is there.
    pub fn start(self) -> Recording {
        let control = Arc::new(Control {
            progress: Mutex::new(Progress { hold_at: self.hold_at, ..Progress::default() }),
            changed: Condvar::new(),
        });
        let (path, shared) = (self.path.clone(), Arc::clone(&control));
        let thread = std::thread::Builder::new().name("testkit-recorder".into());
        let thread = thread
            .spawn(move || {
                let result = Writer { plan: &self, control: &shared, began: Instant::now() }.record();
                shared.update(|progress| {
                    progress.ended = true;
                    progress.open = true;
                });
                result.unwrap_or_else(|error| panic!("cannot record {}: {error}", self.path.display()))
            })
            .expect("a thread can be started");
        control.wait("the recording to begin", Duration::from_mins(1), |progress| progress.open);
        Recording { path, control, thread: Some(thread) }
    }
}

/// The bytes of a seed at an offset: the same whatever pieces they are asked for in.
pub fn fill(seed: u64, offset: u64, bytes: &mut [u8]) {
    let mut at = 0;
    while at < bytes.len() {
        let position = offset + at as u64;
        let word = mix(seed ^ (position / 8).wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_le_bytes();
        let skip = (position % 8) as usize;
        let take = (8 - skip).min(bytes.len() - at);
        bytes[at..at + take].copy_from_slice(&word[skip..skip + take]);
        at += take;
    }
}

/// The finalizer of `SplitMix64`.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// A finished recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of its content in hex.
    pub sha256: String,
    /// When it was closed, or renamed after that.
    pub closed_at: Instant,
}

/// A recording under way. Dropping it lets it end in the background.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    control: Arc<Control>,
    thread: Option<JoinHandle<Finished>>,
}

impl Recording {
    /// The file's final name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Content written so far, over all rounds.
    pub fn written_bytes(&self) -> u64 {
        self.control.lock().written
    }

    /// Waits until this much content is written.
    pub fn wait_written(&self, bytes: u64, within: Duration) {
        self.control.wait(&format!("{bytes} written bytes"), within, |progress| progress.written >= bytes);
    }

    /// Waits until the recorder stands at the point where it is held.
    pub fn wait_held(&self, within: Duration) {
        self.control.wait("the recorder to be held", within, |progress| progress.held);
    }

    /// Lets a recorder that is held go on, to its end.
    pub fn go_on(&self) {
        self.control.update(|progress| progress.hold_at = None);
    }

    /// Lets a recorder that is held go on and holds it again after this much content.
    pub fn go_on_until(&self, written_bytes: u64) {
        self.control.update(|progress| {
            progress.hold_at = Some(written_bytes);
            progress.held = false;
        });
    }

    /// Waits until the file is finished and closed.
    pub fn wait(mut self) -> Finished {
        let thread = self.thread.take().expect("waited for once");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

#[derive(Debug)]
struct Control {
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    open: bool,
    written: u64,
    hold_at: Option<u64>,
    held: bool,
    ended: bool,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn wait(&self, what: &str, within: Duration, condition: impl Fn(&Progress) -> bool) {
        let waiting = |progress: &mut Progress| !condition(progress) && !progress.ended;
        let progress = self.changed.wait_timeout_while(self.lock(), within, waiting);
        let (progress, _) = progress.unwrap_or_else(PoisonError::into_inner);
        let reached = condition(&progress);
        let state = format!("{progress:?}");
        drop(progress);
        assert!(reached, "waited {within:?} for {what}: {state}");
    }
}

struct Writer<'a> {
    plan: &'a Synthetic,
    control: &'a Control,
    began: Instant,
}

impl Writer<'_> {
    fn record(&self) -> io::Result<Finished> {
        let (path, total) = (&self.plan.path, self.plan.total_bytes);
        match &self.plan.style {
            Style::Append => {
                let file = self.create(path)?;
                self.content(0, |offset, bytes| file.write_all_at(bytes, offset))?;
                close(file, path)
            }
            Style::ShortOpens => {
                drop(self.create(path)?);
                self.content(0, |_, bytes| OpenOptions::new().append(true).open(path)?.write_all(bytes))?;
                close(OpenOptions::new().read(true).append(true).open(path)?, path)
            }
            Style::Preallocate { allocate, slack_bytes } => {
                let file = self.create_sized(path, total + slack_bytes, *allocate)?;
                self.content(0, |offset, bytes| file.write_all_at(bytes, offset))?;
                file.set_len(total)?;
                close(file, path)
            }
            Style::TempThenRename { suffix } => {
                let mut temp = path.clone().into_os_string();
                temp.push(suffix);
                let temp = PathBuf::from(temp);
                let file = self.create(&temp)?;
                self.content(0, |offset, bytes| file.write_all_at(bytes, offset))?;
                let finished = close(file, path)?;
                fs::rename(&temp, path)?;
                Ok(Finished { closed_at: Instant::now(), ..finished })
            }
            Style::TruncateAndAgain { rounds } => {
                let mut round = 0;
                loop {
                    let file = self.create(path)?; // truncates what is there
                    self.content(round, |offset, bytes| file.write_all_at(bytes, offset))?;
                    round += 1;
                    if round >= *rounds {
                        return close(file, path);
                    }
                }
            }
            Style::RewriteHead { head_bytes, every_bytes } => {
                let file = self.create(path)?;
                let mut rewrites = 0;
                self.content(0, |offset, bytes| {
                    file.write_all_at(bytes, offset)?;
                    let due = (offset + bytes.len() as u64) / (*every_bytes).max(1);
                    if due > rewrites {
                        rewrites = due;
                        self.rewrite_head(&file, *head_bytes, rewrites)?;
                    }
                    Ok(())
                })?;
                self.rewrite_head(&file, *head_bytes, rewrites + 1)?;
                close(file, path)
            }
            Style::ShiftAtEnd { inserted_bytes } => {
                let file = self.create(path)?;
                self.content(0, |offset, bytes| file.write_all_at(bytes, offset))?;
                shift(&file, total, *inserted_bytes)?;
                let mut head = vec![0; *inserted_bytes as usize];
                fill(self.plan.seed ^ u64::MAX, 0, &mut head);
                file.write_all_at(&head, 0)?;
                close(file, path)
            }
        }
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.create_sized(path, 0, false)
    }

    fn create_sized(&self, path: &Path, size: u64, allocate: bool) -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        if allocate {
            preallocate(&file, size)?;
        } else if size > 0 {
            file.set_len(size)?;
        }
        self.control.update(|progress| progress.open = true);
        Ok(file)
    }

    /// Hands out the content of a round, block by block, at the rate, stopping where held.
    fn content(&self, round: u32, mut write: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let seed = self.plan.seed.wrapping_add(u64::from(round) << 32);
        let mut block = vec![0; self.plan.block_bytes];
        let mut offset = 0;
        while offset < self.plan.total_bytes {
            let allowed = self.allowance();
            let take =
                block.len().min(usize::try_from(allowed.min(self.plan.total_bytes - offset)).unwrap_or(usize::MAX));
            fill(seed, offset, &mut block[..take]);
            write(offset, &block[..take])?;
            offset += take as u64;
            self.control.update(|progress| progress.written += take as u64);
            self.pace();
        }
        self.allowance();
        Ok(())
    }

    /// Waits while held; says how much may be written until it is held again.
    fn allowance(&self) -> u64 {
        let mut progress = self.control.lock();
        loop {
            match progress.hold_at {
                Some(at) if progress.written >= at => {
                    progress.held = true;
                    self.control.changed.notify_all();
                    progress = self.control.changed.wait(progress).unwrap_or_else(PoisonError::into_inner);
                }
                Some(at) => return at - progress.written,
                None => {
                    progress.held = false;
                    return u64::MAX;
                }
            }
        }
    }

    fn pace(&self) {
        if let Some(rate) = self.plan.bytes_per_second {
            let written = self.control.lock().written;
            let due = Duration::from_secs_f64(written as f64 / rate.max(1) as f64);
            std::thread::sleep(due.saturating_sub(self.began.elapsed()));
        }
    }

    fn rewrite_head(&self, file: &File, head_bytes: u64, generation: u64) -> io::Result<()> {
        let mut head = vec![0; head_bytes as usize];
        fill(self.plan.seed.wrapping_add(generation << 16), 0, &mut head);
        file.write_all_at(&head, 0)
    }
}

fn close(file: File, path: &Path) -> io::Result<Finished> {
    let size_bytes = file.metadata()?.len();
    let mut reader = &file;
    reader.seek(SeekFrom::Start(0))?;
    let sha256 = sha256_of_reader(reader)?;
    drop(file);
    Ok(Finished { path: path.to_path_buf(), size_bytes, sha256, closed_at: Instant::now() })
}

/// Moves everything towards the end, the last bytes first.
fn shift(file: &File, total: u64, by: u64) -> io::Result<()> {
    let mut block = vec![0; 256 * 1024];
    let mut end = total;
    while end > 0 {
        let take = (block.len() as u64).min(end);
        let piece = &mut block[..take as usize];
        file.read_exact_at(piece, end - take)?;
        file.write_all_at(piece, end - take + by)?;
        end -= take;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn preallocate(file: &File, size: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let size = libc::off_t::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for as long as the borrow lasts; no memory is involved.
    match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn preallocate(file: &File, size: u64) -> io::Result<()> {
    file.set_len(size)
}
