//! A collector of events, to wait for what happened by.

use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reeltime::events::{Event, What};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Everything that was told on an event bus since the collector began to listen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Collected>);

#[derive(Debug, Default)]
struct Collected {
    events: Mutex<Vec<Event>>,
    changed: Condvar,
}

impl Heard {
    /// Collects until nobody is left who could tell. Must be called within a runtime.
    pub(crate) fn collect(mut events: Receiver<Event>) -> Self {
        let heard = Self::default();
        let collecting = heard.clone();
        tokio::spawn(async move {
            loop {
                let event = match events.recv().await {
                    Ok(event) => event,
                    Err(RecvError::Closed) => return,
                    Err(RecvError::Lagged(lost)) => {
                        let message = format!("{lost} events were lost before this one");
                        Event { stream: None, path: None, what: What::Notice { message, hint: String::new() } }
                    }
                };
                collecting.0.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                collecting.0.changed.notify_all();
            }
        });
        heard
    }

    /// What was heard so far.
    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an event, also for one that was heard before. After the deadline it panics with
    /// everything that was heard.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, within: Duration, matches: impl Fn(&Event) -> bool) -> Event {
        self.wait_nth(what, 1, within, matches)
    }

    /// Waits for this many events that match, and gives the last of them.
    #[track_caller]
    pub(crate) fn wait_nth(
        &self,
        what: &str,
        count: usize,
        within: Duration,
        matches: impl Fn(&Event) -> bool,
    ) -> Event {
        let deadline = Instant::now() + within;
        let mut events = self.0.events.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut found = events.iter().filter(|event| matches(event));
            if let Some(event) = found.nth(count - 1) {
                return event.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let found = events.iter().filter(|event| matches(event)).count();
                let seen: Vec<_> = events.iter().map(line_of).collect();
                drop(events);
                panic!("waited {within:?}; {found} of {count} × {what}; heard:\n{}", seen.join("\n"));
            }
            events = self.0.changed.wait_timeout(events, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the event of this name of a file.
    #[track_caller]
    pub(crate) fn wait_of(&self, name: &str, path: &Path, within: Duration) -> Event {
        self.wait(&format!("{name} of {}", path.display()), within, |event| is_of(event, name, path))
    }

    /// Waits until a part of a file is stored.
    #[track_caller]
    pub(crate) fn wait_part(&self, path: &Path, part: u32, within: Duration) {
        self.wait(&format!("part {part} of {} stored", path.display()), within, |event| {
            event.path.as_deref() == Some(path)
                && matches!(event.what, What::PartStored { number, .. } if number.get() == part)
        });
    }

    /// How often this was told of a file.
    pub(crate) fn count_of(&self, name: &str, path: &Path) -> usize {
        self.all().iter().filter(|event| is_of(event, name, path)).count()
    }

    /// The names of what was told of a file, in order, without repetitions in a row.
    pub(crate) fn story_of(&self, path: &Path) -> Vec<&'static str> {
        let events = self.all();
        let of_it = events.iter().filter(|event| event.path.as_deref() == Some(path));
        let mut names: Vec<_> = of_it.map(|event| event.what.name()).collect();
        names.dedup();
        names
    }
}

fn is_of(event: &Event, name: &str, path: &Path) -> bool {
    event.what.name() == name && event.path.as_deref() == Some(path)
}

fn line_of(event: &Event) -> String {
    let name: &dyn Debug = &event.what;
    let path = event.path.as_deref().map_or("-".into(), Path::to_string_lossy);
    format!("{} {path}: {name:?}", event.what.name())
}
