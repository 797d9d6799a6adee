//! Logs and metrics, both fed from the [events](crate::events).

pub mod log;
pub mod metrics;

use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::events::Event;

/// What a listener hears.
#[derive(Debug)]
pub enum Heard {
    /// An event.
    Event(Event),
    /// The listener was too slow: so many events came and went unheard.
    Missed(u64),
}

/// Hears events until `stop` is cancelled and all that was told before is heard, or nobody is
/// left who could tell any.
pub async fn follow(mut events: Receiver<Event>, stop: CancellationToken, mut hear: impl FnMut(Heard)) {
    loop {
        let received = tokio::select! {
            biased; // what was told before the stop is heard
            received = events.recv() => received,
            () = stop.cancelled() => return,
        };
        match received {
            Ok(event) => hear(Heard::Event(event)),
            Err(RecvError::Lagged(missed)) => hear(Heard::Missed(missed)),
            Err(RecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventBus, What};

    #[tokio::test]
    async fn a_listener_hears_all_that_was_told_before_the_stop() {
        let bus = EventBus::default();
        let events = bus.listen();
        for _ in 0..5000 {
            bus.tell(Event { stream: None, path: None, what: What::UploadAborted });
        }
        let stop = CancellationToken::new();
        stop.cancel();
        let (mut heard, mut missed) = (0, 0);
        follow(events, stop, |said| match said {
            Heard::Event(_) => heard += 1,
            Heard::Missed(count) => missed += count,
        })
        .await;
        assert_eq!((heard, missed), (4096, 904), "the bus keeps 4096 events; the others are said to be missed");
    }
}
