//! The state lost everything: the files and the store are enough.

use testkit::recorders::synthetic::{Style, Synthetic};
use testkit::servers::Provider;

use crate::world::{World, failures, record_until, wait_completed, wait_part};

testkit::on_every_store! {
    a_lost_checkpoint_costs_time_and_no_recording
}

fn a_lost_checkpoint_costs_time_and_no_recording(provider: Provider) {
    for world in [World::at(provider), World::local()] {
        let (live, done, small) = (world.path("live.mp4"), world.path("done.mp4"), world.path("small.mp4"));
        let part = world.part_bytes();
        let mut daemon = world.start();
        let done = Synthetic::into(done, Style::Append, part + 9).seed(2).start().wait();
        let small = Synthetic::into(small, Style::Append, 99).seed(3).start().wait();
        wait_completed(&daemon, &done.path);
        wait_completed(&daemon, &small.path);
        let recording = record_until(live.clone(), Style::Append, 3 * part, 2 * part);
        wait_part(&daemon, &live, 2);
        daemon.kill();
        world.state.lose_everything();

        daemon.restart();
        recording.go_on();
        let live = recording.wait();
        for finished in [&live, &done, &small] {
            wait_completed(&daemon, &finished.path);
            world.assert_identical(finished);
        }
        assert_eq!(failures(&daemon), Vec::<String>::new());
    }
}
