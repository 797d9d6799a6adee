//! The state machine of a stream (its interface; the machine itself follows).

mod messages;

pub use messages::{Action, Input, ObjectFacts, PendingUpload, Policy, RemotePart, WholeObject};
