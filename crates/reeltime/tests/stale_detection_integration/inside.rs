//! The stale check within the test's own process, where the moment of each step is heard.

use std::time::Duration;

use reeltime::events::What;
use reeltime_core::State;
use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use crate::world::{DEADLINE, MIB, S3_PART, World, record_until};
use crate::{KEY, TEMP_NAME};

testkit::on_every_store! {
    nothing_is_stale_before_its_time
    what_is_written_again_in_time_is_active_again
}

/// The steps of the check in the order of events, and the time that passed by the event's own word.
fn nothing_is_stale_before_its_time(provider: Provider) {
    let world = World::at(provider);
    let reeltime = world.start_inside(&["--idle-timeout", "2s"]);
    let finished = Synthetic::into(world.path(TEMP_NAME), Style::Append, S3_PART + MIB).start().wait();
    let completed = reeltime.heard.wait_of("completed", &finished.path, DEADLINE);
    let What::Completed { size_bytes, after_last_change } = completed.what else { panic!("{completed:?}") };
    assert_eq!(size_bytes, finished.size_bytes);
    assert!(after_last_change >= Duration::from_secs(2), "{after_last_change:?}");
    let changed = reeltime.heard.wait_of("state_changed", &finished.path, DEADLINE);
    let to = State::PendingCompletion;
    assert!(matches!(changed.what, What::StateChanged { from: State::Active, to: t } if t == to), "{changed:?}");
    let told = world.wait_state(&finished.path, "completed");
    assert_eq!((told.key.as_str(), told.numbers()), (KEY, vec![1, 2]));
    assert_eq!(world.sha256(KEY), Some(finished.sha256));
}

/// It is pending, and its completion is held, when its recorder goes on.
fn what_is_written_again_in_time_is_active_again(provider: Provider) {
    use std::io::Write;
    use testkit::proxy::{Fault, Op, When};

    let world = World::at(provider);
    let held = world.proxy().inject(When::op(Op::CompleteMultipartUpload), Fault::internal_error());
    let reeltime = world.start_inside(&["--idle-timeout", "1s"]);
    let path = world.path(TEMP_NAME);
    record_until(path.clone(), Style::Append, S3_PART + MIB, S3_PART + MIB).go_on();
    held.wait_hits(1, DEADLINE);
    world.wait_state(&path, "pending_completion");
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&vec![7; 2 * MIB as usize]).unwrap();
    world.wait_state(&path, "active");
    held.lift();
    drop(file);
    reeltime.heard.wait_of("completed", &path, DEADLINE);
    let told = world.wait_state(&path, "completed");
    assert_eq!(told.size_bytes, S3_PART + 3 * MIB);
    assert_eq!(world.sha256(KEY), Some(testkit::digest::sha256_of(&path)));
    assert_eq!((world.uploads_used(KEY).len(), world.leftovers()), (1, vec![]));
}
