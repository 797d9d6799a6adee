//! Whose an object is.
//!
//! Two recordings that would become one object must not both be uploaded: on one node the
//! supervisor sees to that, and among nodes this hash. It has a field for each object, with the
//! stream that is to become it and the node that has said so.
//!
//! A stream says so before it is created, in another slot of a cluster. So the word of one that
//! is not there yet counts as long as its node may be about to create it, and no longer. One
//! that has failed, or has become another object, has no claim any more; nor has one that is
//! completed, whose node is gone, and whose name in that directory is used again.

use std::path::Path;
use std::time::Duration;

use redis::Value;
use reeltime_core::{State, StreamId, StreamRecord};

use super::failure::Failure;
use super::{RedisStore, scripts};
use crate::checkpoint::Liveness;

/// How long a stream that is about to be created is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// From one look for it to the next.
const PAUSE: Duration = Duration::from_millis(20);

/// Who has an object.
enum Holder {
    /// A stream that is to become it, or has.
    Rightful(Box<StreamRecord>),
    /// A stream that is about to be created.
    NotThereYet,
    /// Nobody, any more.
    Void,
}

impl RedisStore {
    /// Reserves the object of a stream for it. Answers the stream of another node that has it,
    /// if there is one: nothing was done then. Idempotent.
    pub(super) async fn reserve(&self, record: &StreamRecord) -> Result<Option<Box<StreamRecord>>, Failure> {
        if record.destination.is_empty() {
            return Ok(None);
        }
        let mut replaced = String::new();
        let mut patience = PATIENCE;
        loop {
            let object = object_of(record);
            let call = scripts::RESERVE.on([self.layout.objects(&object)]);
            let call = call.arg(object).arg(format!("{} {}", record.id, record.node)).arg(replaced.clone());
            let held = match self.link.call(&call).await? {
                Value::Int(_) => return Ok(None),
                held => redis::from_redis_value::<String>(held).unwrap_or_default(),
            };
            match self.holder(record, &held).await? {
                Holder::Rightful(other) => return Ok(Some(other)),
                Holder::Void => replaced = held,
                Holder::NotThereYet if patience.is_zero() => {
                    let (_, node) = held.split_once(' ').unwrap_or_default();
                    return Err(Failure::passing(format!("node {node} is about to record the same object")));
                }
                Holder::NotThereYet => {
                    tokio::time::sleep(PAUSE).await; // between two looks
                    patience = patience.saturating_sub(PAUSE);
                }
            }
        }
    }

    /// What the stream is that `held` names, and which has the object of `record`.
    async fn holder(&self, record: &StreamRecord, held: &str) -> Result<Holder, Failure> {
        let (id, node) = held.split_once(' ').unwrap_or((held, ""));
        let Ok(id) = id.parse::<StreamId>() else { return Ok(Holder::Void) };
        Ok(match self.find_one(id).await? {
            Some(other) => {
                let is_another_object = object_of(&other) != object_of(record);
                let is_void = other.state == State::Failed
                    || is_another_object
                    || other.node == record.node
                    || is_followed_by(&other, record)
                        && self.liveness_of(&other.node, &other.source_mark).await? != Liveness::Alive;
                if is_void { Holder::Void } else { Holder::Rightful(Box::new(other)) }
            }
            None if node != record.node && self.liveness_of(node, "").await? == Liveness::Alive => Holder::NotThereYet,
            None => Holder::Void,
        })
    }

    /// Gives back the object of a stream that is about to be forgotten. Idempotent.
    pub(super) async fn release(&self, record: &StreamRecord) -> Result<(), Failure> {
        let object = object_of(record);
        let call = scripts::RELEASE.on([self.layout.objects(&object)]).arg(object).arg(record.id.to_string());
        self.link.call(&call).await.map(drop)
    }
}

/// Whether a recording is a later one of the same directory, under another name: a temp name.
/// Under the same name it is the stream's own file.
fn is_followed_by(completed: &StreamRecord, record: &StreamRecord) -> bool {
    let is_same_directory = !record.source_mark.is_empty() && completed.source_mark == record.source_mark;
    let name = |record: &StreamRecord| record.path.strip_prefix(&record.source).ok().map(Path::to_owned);
    completed.state == State::Completed && is_same_directory && name(completed) != name(record)
}

/// The name of an object, among all of all destinations. As text: Redis repeats it in errors.
fn object_of(record: &StreamRecord) -> String {
    format!("{}/{}", record.destination, record.key.to_utf8())
}
