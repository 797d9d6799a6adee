//! The global limit on parts in flight, and who goes next.
//!
//! Live recordings go before a backlog, because what they have not sent exists once; but the
//! backlog always gets its share, so that neither starves the other. Within each class streams
//! take turns, so that one huge recording does not keep the others waiting.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reeltime_core::StreamId;
use tokio::sync::oneshot;

/// After so many live parts one of the backlog is due, if there is one.
const LIVE_IN_A_ROW: u32 = 3;

/// Hands out permits to send a part. A clone shares the limit.
#[derive(Clone, Debug)]
pub struct Uplink(Arc<Mutex<Slots>>);

#[derive(Debug)]
struct Slots {
    free: usize,
    live: Turns,
    backlog: Turns,
    live_in_a_row: u32,
}

/// Streams that wait, each with its requests, in the order of their turns.
#[derive(Debug, Default)]
struct Turns {
    order: VecDeque<StreamId>,
    waiting: HashMap<StreamId, VecDeque<oneshot::Sender<Permit>>>,
}

/// Permits one part; gives the place back when dropped.
#[derive(Debug)]
pub struct Permit {
    uplink: Option<Uplink>,
}

impl Uplink {
    /// At most `parts` in flight, at least 1.
    pub fn new(parts: usize) -> Self {
        Self(Arc::new(Mutex::new(Slots {
            free: parts.max(1),
            live: Turns::default(),
            backlog: Turns::default(),
            live_in_a_row: 0,
        })))
    }

    /// Waits for a permit. Given up by dropping the future.
    pub async fn acquire(&self, stream: StreamId, live: bool) -> Permit {
        let (sender, receiver) = oneshot::channel();
        {
            let mut slots = self.slots();
            let turns = if live { &mut slots.live } else { &mut slots.backlog };
            turns.add(stream, sender);
        }
        self.hand_out();
        // The sender lives in the queue until it is used, and the queue as long as `self`.
        receiver.await.unwrap_or(Permit { uplink: None })
    }

    /// Gives free places to those who are next.
    fn hand_out(&self) {
        loop {
            let next = {
                let mut slots = self.slots();
                let next = if slots.free == 0 { None } else { slots.next() };
                if next.is_some() {
                    slots.free -= 1;
                }
                next
            };
            let Some(next) = next else { return };
            // Whoever does not wait any more drops the permit, which hands it on.
            let _ = next.send(Permit { uplink: Some(self.clone()) });
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn next(&mut self) -> Option<oneshot::Sender<Permit>> {
        let backlog_is_due = self.live_in_a_row >= LIVE_IN_A_ROW;
        if !(backlog_is_due && self.backlog.any())
            && let Some(next) = self.live.next()
        {
            self.live_in_a_row += 1;
            return Some(next);
        }
        self.live_in_a_row = 0;
        self.backlog.next()
    }
}

impl Turns {
    fn add(&mut self, stream: StreamId, request: oneshot::Sender<Permit>) {
        let requests = self.waiting.entry(stream).or_default();
        if requests.is_empty() {
            self.order.push_back(stream);
        }
        requests.push_back(request);
    }

    fn any(&self) -> bool {
        !self.order.is_empty()
    }

    fn next(&mut self) -> Option<oneshot::Sender<Permit>> {
        while let Some(stream) = self.order.pop_front() {
            let Some(requests) = self.waiting.get_mut(&stream) else { continue };
            let next = std::iter::from_fn(|| requests.pop_front()).find(|request| !request.is_closed());
            if requests.is_empty() {
                self.waiting.remove(&stream);
            } else {
                self.order.push_back(stream);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(uplink) = self.uplink.take() {
            uplink.slots().free += 1;
            uplink.hand_out();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn stream(number: u128) -> StreamId {
        StreamId(uuid::Uuid::from_u128(number))
    }

    struct Request {
        name: &'static str,
        future: Pin<Box<dyn Future<Output = Permit>>>,
    }

    fn request(uplink: &Uplink, name: &'static str, number: u128, live: bool) -> Request {
        let uplink = uplink.clone();
        let mut future: Pin<Box<dyn Future<Output = Permit>>> =
            Box::pin(async move { uplink.acquire(stream(number), live).await });
        // Polled once, so that it queues in this order.
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        Request { name, future }
    }

    /// Frees the only place again and again, and tells who got it.
    fn order(held: Permit, mut requests: Vec<Request>) -> Vec<&'static str> {
        let mut order = Vec::new();
        let mut permit = Some(held);
        while !requests.is_empty() {
            drop(permit.take());
            let mut cx = Context::from_waker(Waker::noop());
            let at = requests.iter_mut().position(|request| match request.future.as_mut().poll(&mut cx) {
                Poll::Ready(got) => {
                    permit = Some(got);
                    true
                }
                Poll::Pending => false,
            });
            order.push(requests.remove(at.unwrap()).name);
        }
        order
    }

    #[tokio::test]
    async fn live_goes_first_and_the_backlog_is_not_starved() {
        let uplink = Uplink::new(1);
        let held = uplink.acquire(stream(9), false).await;
        let mut requests = Vec::new();
        for _ in 0..2 {
            requests.push(request(&uplink, "backlog", 1, false));
        }
        for number in 10..15 {
            requests.push(request(&uplink, "live", number, true));
        }
        let order = order(held, requests);
        assert_eq!(order, ["live", "live", "live", "backlog", "live", "live", "backlog"]);
    }

    #[tokio::test]
    async fn streams_take_turns() {
        let uplink = Uplink::new(1);
        let held = uplink.acquire(stream(9), false).await;
        let mut requests: Vec<_> = (0..3).map(|_| request(&uplink, "huge", 1, false)).collect();
        requests.push(request(&uplink, "small", 2, false));
        assert_eq!(order(held, requests), ["huge", "small", "huge", "huge"]);
    }

    #[tokio::test]
    async fn a_place_whose_requester_has_gone_is_not_lost() {
        let uplink = Uplink::new(1);
        let held = uplink.acquire(stream(9), true).await;
        drop(request(&uplink, "gone", 1, true));
        let waiting = request(&uplink, "waiting", 2, true);
        assert_eq!(order(held, vec![waiting]), ["waiting"]);
        drop(uplink.acquire(stream(3), true).await);
    }
}
