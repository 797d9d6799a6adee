//! A part on its way into an HTTP request, and the watch over its progress.
//!
//! A body may take hours when bandwidth is limited, so there is no limit on the whole. Instead
//! it is known at every moment who is waited for: the file (and the bandwidth limit), or the
//! network. Only waiting for the network counts as a stall.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::Patience;
use crate::storage::PartBody;

/// The bytes of a [`PartBody`] as the body of a request of known length.
pub(super) struct SendBody {
    blocks: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
    progress: Progress,
}

impl SendBody {
    /// A body that begins to read at once, and the view on its progress.
    pub(super) fn of(body: &PartBody) -> (Self, Progress) {
        let progress = Progress::new(body.len());
        (Self { blocks: body.blocks(), left: body.len(), progress: progress.clone() }, progress)
    }
}

impl Body for SendBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.progress.enter(Phase::Reading);
        let block = ready!(self.blocks.poll_recv(context))
            .unwrap_or_else(|| Err(io::Error::other("the thread that reads the file has ended")));
        Poll::Ready(Some(match block {
            Ok(block) => {
                self.left = self.left.saturating_sub(block.len() as u64);
                self.progress.enter(if self.left == 0 { Phase::Answer } else { Phase::Network });
                Ok(Frame::data(block))
            }
            Err(error) => {
                // The SDK keeps of this error little but its words; the caller asks here.
                let words = io::Error::new(error.kind(), error.to_string());
                self.progress.state().source_error = Some(error);
                Err(words)
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Who is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The connection, or that it takes the next block.
    Network,
    /// The file, or the bandwidth limit.
    Reading,
    /// The store's answer: all bytes are handed over, though some of them may still be in this
    /// machine's buffers.
    Answer,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Time spent in [`Phase::Network`] before the current phase.
    network: Duration,
    source_error: Option<io::Error>,
}

/// How far a body has come. A clone sees the same.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    state: Arc<Mutex<State>>,
    len: u64,
}

/// What a connection buffers at most between this process and the network.
const BUFFERED_BYTES: u64 = 4 << 20;
/// The slowest connection that is waited for while its buffer empties.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;
/// The longest time that a slow body lengthens the wait for its answer.
const LONGEST_EXTENSION: Duration = Duration::from_mins(5);

impl Progress {
    fn new(len: u64) -> Self {
        let phase = if len == 0 { Phase::Answer } else { Phase::Network };
        let state = State { phase, since: Instant::now(), network: Duration::ZERO, source_error: None };
        Self { state: Arc::new(Mutex::new(state)), len }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.state();
        if state.phase == phase {
            return;
        }
        let now = Instant::now();
        if state.phase == Phase::Network {
            let passed = now - state.since;
            state.network += passed;
        }
        state.phase = phase;
        state.since = now;
    }

    /// Why the file could not be read, if that is what ended the body.
    pub(super) fn take_source_error(&self) -> Option<io::Error> {
        self.state().source_error.take()
    }

    /// Returns, with words, when the network has been waited for too long.
    pub(super) async fn stalled(&self, patience: Patience) -> String {
        loop {
            let (phase, since, network) = {
                let state = self.state();
                (state.phase, state.since, state.network)
            };
            let allowed = match phase {
                Phase::Reading => None,
                Phase::Network => Some(patience.stall),
                Phase::Answer => Some(self.answer_within(patience, network)),
            };
            let look_again = match allowed.map(|allowed| allowed.checked_sub(since.elapsed())) {
                None => patience.stall.min(Duration::from_secs(1)),
                Some(Some(left)) if !left.is_zero() => left.min(Duration::from_secs(1)),
                Some(_) => {
                    let waited = since.elapsed().as_secs();
                    return match phase {
                        Phase::Answer => format!("no answer {waited} s after the last byte was sent"),
                        _ => format!("the connection took no bytes for {waited} s"),
                    };
                }
            };
            tokio::time::sleep(look_again).await;
        }
    }

    /// The last bytes may wait in the socket's buffer for as long as the network needs for
    /// them, which is guessed from how long it needed for those before.
    fn answer_within(&self, patience: Patience, network: Duration) -> Duration {
        let drain = Duration::from_secs(self.len.min(BUFFERED_BYTES) / SLOWEST_BYTES_PER_SECOND);
        patience.answer + drain + (network * 2).min(LONGEST_EXTENSION)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SHORT: Patience = Patience {
        connect: Duration::from_millis(50),
        stall: Duration::from_millis(50),
        answer: Duration::from_millis(100),
    };

    fn next(body: &mut SendBody) -> impl Future<Output = Option<io::Result<usize>>> {
        std::future::poll_fn(|context| {
            Pin::new(&mut *body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap().len())))
        })
    }

    #[tokio::test]
    async fn waiting_for_the_file_is_no_stall_and_waiting_for_the_network_is() {
        let (blocks, receiver) = mpsc::channel(1);
        let progress = Progress::new(8);
        let mut body = SendBody { blocks: receiver, left: 8, progress: progress.clone() };

        // The network asks for bytes, and the file has none: nobody complains.
        let stalled = tokio::select! {
            _ = next(&mut body) => unreachable!("no block was given"),
            words = progress.stalled(SHORT) => Some(words),
            () = tokio::time::sleep(SHORT.stall * 6) => None,
        };
        assert_eq!(stalled, None);

        // The network has taken a block and asks for no other.
        blocks.send(Ok(Bytes::from_static(b"1234"))).await.unwrap();
        assert_eq!(next(&mut body).await.unwrap().unwrap(), 4);
        assert!(progress.stalled(SHORT).await.contains("took no bytes"));

        // It has taken all, and there is no answer.
        blocks.send(Ok(Bytes::from_static(b"5678"))).await.unwrap();
        assert_eq!(next(&mut body).await.unwrap().unwrap(), 4);
        assert!(body.is_end_stream());
        let began = Instant::now();
        assert!(progress.stalled(SHORT).await.contains("no answer"));
        assert!(began.elapsed() >= SHORT.answer / 2);
    }

    #[tokio::test]
    async fn a_slow_body_lengthens_the_wait_for_its_answer_up_to_a_bound() {
        let progress = Progress::new(8 << 20);
        let drain = Duration::from_secs(64);
        assert_eq!(progress.answer_within(SHORT, Duration::ZERO), SHORT.answer + drain);
        let slow = progress.answer_within(SHORT, Duration::from_secs(20));
        assert_eq!(slow, SHORT.answer + drain + Duration::from_secs(40));
        let paralysed = progress.answer_within(SHORT, Duration::from_hours(24));
        assert_eq!(paralysed, SHORT.answer + drain + LONGEST_EXTENSION);
    }

    #[tokio::test]
    async fn the_reason_for_an_unreadable_file_survives() {
        let (blocks, receiver) = mpsc::channel(1);
        let progress = Progress::new(8);
        let mut body = SendBody { blocks: receiver, left: 8, progress: progress.clone() };
        blocks.send(Err(io::Error::from_raw_os_error(libc::EIO))).await.unwrap();
        assert!(next(&mut body).await.unwrap().is_err());
        assert_eq!(progress.take_source_error().unwrap().raw_os_error(), Some(libc::EIO));
    }
}
