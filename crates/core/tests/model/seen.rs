//! What histories came across, so that a test can tell that they came far enough.

macro_rules! seen {
    ($($name:ident: $what:literal,)*) => {
        #[derive(Default, Debug)]
        pub struct Seen {
            $(pub $name: u64,)*
        }

        impl Seen {
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$(($what, self.$name)),*]
            }
        }
    };
}

seen! {
    completed: "a completed object",
    failed: "a failed stream",
    crashes: "a crash",
    resent_parts: "a part sent again",
    lost_answers: "a lost answer",
    vanished: "a vanished upload",
    reopened: "a completed recording that went on",
    put_whole: "an object in one request",
    head_decided: "a completion decided by HEAD",
    tail_parts: "a flushed tail",
    restarts: "an upload begun anew",
    replaced: "a recording whose name another file took",
    forgotten: "a checkpoint that lost everything",
    rolled_back: "a checkpoint that is an older copy",
    recognised: "an object that was recognised",
    copied: "a part that was copied",
    copies_refused: "a part that could not be copied",
    objects_replaced: "an object that somebody replaced",
    not_replaced: "a part that the store did not replace",
    warned: "a word ahead of an upload's end",
    deleted: "a deleted recording that was given up with its file still open",
    disposed: "a file that was deleted after its upload",
    strangers_uploads: "an upload of somebody else",
    takeovers: "a takeover",
    handed_back: "a stream that a node got back",
    heirs_crashed: "a crash of a later owner",
    woken: "a frozen owner that woke up",
    leases_lost: "an owner that learned that it is none any more",
    still_ours: "a refused write of the owner itself",
    late_parts: "a part of a former owner",
    late_uploads: "an upload that a former owner began",
    late_aborts: "an abort by a former owner",
    late_objects: "an object that a former owner made",
    overwritten: "an object that was replaced after it had been verified",
    unanswered_writes: "a write to the checkpoint whose answer was lost",
    owed_writes: "a write that the checkpoint was owed",
}
