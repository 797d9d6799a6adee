//! What every [`ObjectStore`](reeltime::storage::ObjectStore) does, whatever is behind it.
//!
//! The same test bodies run against a directory and against a real S3 server, there with
//! CRC64NVME and with `Content-MD5`. What only an S3 store can do, and how it fails, is in
//! `s3_only`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod bodies;
mod moto;
mod s3_only;
mod world;

macro_rules! conformance {
    ($($name:ident)*) => {
        conformance!(@for local: $($name)*);
        conformance!(@for s3: $($name)*);
        conformance!(@for s3_with_md5: $($name)*);
    };
    (@for $world:ident: $($name:ident)*) => {
        mod $world {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::bodies::$name(&crate::world::$world().await).await;
                }
            )*
        }
    };
}

conformance! {
    a_usable_destination_passes_the_preflight
    several_parts_become_one_object_that_bears_its_token
    parts_may_come_in_any_order_and_at_the_same_time
    a_part_that_is_sent_again_replaces_the_first
    a_tail_may_become_longer_and_shorter
    a_part_that_is_not_listed_is_dropped
    an_object_is_the_old_one_until_the_new_one_is_complete
    completing_again_after_a_lost_answer_does_no_harm
    aborting_twice_is_aborting_once
    an_upload_that_never_was_is_told_from_everything_else
    a_wrong_list_of_parts_is_refused_without_effect
    the_list_of_parts_tells_what_was_sent
    only_uploads_of_exactly_this_key_are_listed
    a_recording_that_changes_while_it_is_sent_is_noticed
    a_recording_that_shrinks_while_it_is_sent_is_noticed
    a_part_is_copied_of_the_object_that_stands
    a_part_is_not_copied_of_another_object
    an_object_in_one_request_bears_its_token_and_replaces_another
    an_empty_object_is_an_object
    an_object_that_is_not_there_is_no_error
    hostile_names_are_names
}
