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

/// A cut that waits for its request, or has met it. It is done once, unless it is for each.
#[derive(Clone, Debug)]
pub struct Cut {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    needle: Vec<u8>,
    pub(super) moment: Moment,
    /// It is done until it is lifted.
    is_for_each: bool,
    stage: watch::Sender<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Waiting,
    Met,
    Over,
}

impl Cut {
    pub(super) fn new(needle: Vec<u8>, moment: Moment, is_for_each: bool) -> Self {
        assert!(!needle.is_empty(), "a request is known by something");
        let stage = watch::Sender::new(Stage::Waiting);
        Self { inner: Arc::new(Inner { needle, moment, is_for_each, stage }) }
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

    /// Does it to no further request.
    pub fn lift(&self) {
        self.inner.stage.send_replace(Stage::Over);
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
        if *self.stage.borrow() == Stage::Over {
            return None;
        }
        let at = bytes.windows(self.needle.len()).position(|window| window == self.needle)?;
        let next = match self.moment {
            Moment::Before | Moment::During if !self.is_for_each => Stage::Over,
            _ => Stage::Met,
        };
        // Another connection may have been faster.
        let mut is_claimed = false;
        self.stage.send_modify(|stage| {
            is_claimed = *stage == Stage::Waiting || self.is_for_each && *stage == Stage::Met;
            if is_claimed {
                *stage = next;
            }
        });
        is_claimed.then_some(at)
    }

    /// Returns when the held answers are to be cut off.
    pub(super) async fn until_over(&self) {
        let mut stage = self.stage.subscribe();
        // The sender is part of self and cannot be gone.
        let _ = stage.wait_for(|stage| *stage == Stage::Over).await;
    }
}
