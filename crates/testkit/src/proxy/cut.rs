//! Connections of a [`super::TcpProxy`] that end at one certain request.
//!
//! The proxy does not know the protocol. A request is known by bytes that no other one has and
//! that come in one piece, as those of a small request do. A connection that carries several
//! requests at a time ends for all of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Where in the course of a request its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The server gets nothing of it.
    Before,
    /// The server gets its beginning, and never its end.
    During,
    /// The server carries it out. Its answer, and every other one from then on, is held until
    /// [`Cut::cut`].
    After,
}

/// A cut that waits for its request, or has met it. It is done once.
#[derive(Clone, Debug)]
pub struct Cut {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    needle: Vec<u8>,
    pub(super) moment: Moment,
    stage: watch::Sender<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Waiting,
    Met,
    Over,
}

impl Cut {
    pub(super) fn new(needle: Vec<u8>, moment: Moment) -> Self {
        assert!(!needle.is_empty(), "a request is known by something");
        Self { inner: Arc::new(Inner { needle, moment, stage: watch::Sender::new(Stage::Waiting) }) }
    }

    /// Whether its request has come.
    pub fn is_met(&self) -> bool {
        *self.inner.stage.borrow() >= Stage::Met
    }

    /// Waits until its request has come: until the connection has been reset or, with
    /// [`Moment::After`], until the server has the request.
    pub fn wait(&self, within: Duration) {
        let deadline = std::time::Instant::now() + within;
        while !self.is_met() {
            let shown = String::from_utf8_lossy(&self.inner.needle);
            assert!(std::time::Instant::now() < deadline, "waited {within:?} for a request with {shown:?}");
            std::thread::sleep(Duration::from_millis(5)); // poll: a test may call this inside a runtime
        }
    }

    /// Resets the connection whose answers are held.
    pub fn cut(&self) {
        assert!(self.is_met(), "there is nothing to cut yet");
        self.inner.stage.send_replace(Stage::Over);
    }
}

impl Inner {
    /// Where the request's mark begins in what came in, if this is still to be done and it is
    /// there. Whoever is told so has to do it.
    pub(super) fn claim(&self, bytes: &[u8]) -> Option<usize> {
        if *self.stage.borrow() != Stage::Waiting {
            return None;
        }
        let at = bytes.windows(self.needle.len()).position(|window| window == self.needle)?;
        // Another connection may have been faster.
        let claimed = self.stage.send_if_modified(|stage| {
            let waiting = *stage == Stage::Waiting;
            if waiting && self.moment != Moment::After {
                *stage = Stage::Over;
            } else if waiting {
                *stage = Stage::Met;
            }
            waiting
        });
        claimed.then_some(at)
    }

    /// Returns when the held answers are to be cut off.
    pub(super) async fn until_over(&self) {
        let mut stage = self.stage.subscribe();
        // The sender is part of self and cannot be gone.
        let _ = stage.wait_for(|stage| *stage == Stage::Over).await;
    }
}
