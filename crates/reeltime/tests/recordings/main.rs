//! The built reeltime beside real recorders: what a file became is compared with the object that
//! an outsider reads, by SHA-256, in a directory and on a real S3 server.
//!
//! Nothing here waits for a length of time. What must *not* happen is held against a witness:
//! another recording, begun later, for which the same timer has already run out.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub)]

mod changes;
mod containers;
mod documents;
mod endings;
mod finding;
mod names;
mod options;
mod sizes;
mod world;

macro_rules! on_both {
    ($($module:ident { $($name:ident)* })*) => {
        on_both!(@ local $($module { $($name)* })*);
        on_both!(@ s3 $($module { $($name)* })*);
    };
    (@ $world:ident $($module:ident { $($name:ident)* })*) => {
        mod $world {
            $(
                mod $module {
                    $(
                        #[test]
                        fn $name() {
                            let world = crate::world::World::$world();
                            crate::$module::$name(&world);
                            world.close();
                        }
                    )*
                }
            )*
        }
    };
}

on_both! {
    containers {
        a_plain_mp4_goes_up_while_it_is_recorded
        faststart_shifts_every_part
        moov_goes_into_the_head
        fragments_are_appended
        matroska_is_included_by_its_glob
    }
    endings {
        many_short_opens_are_one_recording
        a_file_that_was_allocated_is_sent_as_it_is_filled
        a_sparse_file_is_sent_as_it_is_filled
        a_recorder_that_stands_still_is_not_cut_off
        what_a_killed_recorder_leaves_is_completed
        the_final_name_ends_a_recording_at_once
        a_temp_name_that_nobody_renames_ends_by_the_idle_timeout
        the_tail_goes_up_while_the_recorder_waits
    }
    changes {
        the_name_of_a_completed_recording_is_recorded_again
        a_recording_under_way_is_begun_again
        a_recording_under_way_becomes_shorter_than_a_part
        a_recording_under_way_is_emptied
        another_file_takes_the_name_after_completion
        a_temp_name_takes_the_name_of_a_completed_recording
        a_file_that_is_deleted_while_it_is_recorded_is_finished
        a_file_that_is_deleted_behind_a_slow_line_is_finished
        a_file_that_gets_another_name_while_it_is_recorded
        a_head_that_is_rewritten_again_and_again
        the_old_name_is_taken_at_once_by_the_next_recording
        recordings_under_way_change_their_names_in_a_ring
        another_file_takes_the_name_of_a_recording_under_way
        a_file_that_leaves_while_it_is_recorded_is_finished
        a_directory_gets_another_name_while_it_is_recorded_into
        a_completed_recording_is_edited_in_place
        a_completed_recording_that_is_only_touched_is_not_sent_or_told_again
    }
    sizes {
        smaller_than_a_part
        exactly_two_parts
        empty
        three_hundred_at_once
    }
    finding {
        a_tree_that_was_there_before
        once_ends_when_the_last_recorder_has_ended
        a_directory_that_is_moved_in
        a_directory_that_is_made_and_filled
        scans_alone_find_everything
        a_rename_between_two_scans_is_no_second_recording
        what_is_excluded_stays_here
        links_and_pipes_are_left_alone
    }
    names {
        blanks_quotes_and_bytes_that_are_no_text
    }
    options {
        a_file_is_deleted_after_upload_and_its_name_used_again
        a_file_is_moved_after_upload
        a_file_that_is_there_at_the_next_start_is_deleted
        the_only_copy_is_not_deleted_at_the_next_start
    }
    documents {
        a_recording_is_described
        what_is_no_recording_is_described_too
    }
}

/// moto does not find keys with line breaks.
#[test]
fn a_line_break_in_a_name() {
    let world = world::World::local();
    names::a_line_break(&world);
    world.close();
}
