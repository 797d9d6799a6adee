#![allow(clippy::unwrap_used)]

use notify::Event;
use notify::event::{DataChange, Flag, MetadataKind, RemoveKind};
use tempfile::TempDir;

use super::*;

struct Case {
    source: TempDir,
    translator: Translator,
    now: Instant,
}

impl Case {
    fn new() -> Self {
        let source = tempfile::tempdir().unwrap();
        let translator = Translator::new(source.path().to_owned());
        Self { source, translator, now: Instant::now() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.source.path().join(name)
    }

    fn take(&mut self, event: Event) -> Vec<Told> {
        let mut told = Vec::new();
        self.translator.take(event, self.now, &mut |one| told.push(one));
        told
    }

    fn say(&mut self, kind: EventKind, name: &str) -> Vec<Told> {
        self.take(Event::new(kind).add_path(self.at(name)))
    }

    fn say_move(&mut self, mode: RenameMode, cookie: usize, name: &str) -> Vec<Told> {
        let kind = EventKind::Modify(ModifyKind::Name(mode));
        self.take(Event::new(kind).set_tracker(cookie).add_path(self.at(name)))
    }

    fn later(&mut self, by: Duration) -> Vec<Told> {
        self.now += by;
        let mut told = Vec::new();
        self.translator.due(self.now, &mut |one| told.push(one));
        told
    }

    fn touched(&self, name: &str) -> Told {
        Told::Event(FileEvent::Touched(self.at(name)))
    }

    fn removed(&self, name: &str) -> Told {
        Told::Event(FileEvent::Removed(self.at(name)))
    }

    fn renamed(&self, from: &str, to: &str) -> Told {
        Told::Event(FileEvent::Renamed { from: self.at(from), to: self.at(to) })
    }
}

const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
const METADATA: EventKind = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));

#[test]
fn both_halves_of_a_move_are_a_rename_even_if_two_moves_interleave() {
    let mut case = Case::new();
    assert_eq!(case.say_move(RenameMode::From, 1, "a.part"), []);
    assert_eq!(case.say_move(RenameMode::From, 2, "b.part"), []);
    assert_eq!(case.say_move(RenameMode::To, 1, "a"), [case.renamed("a.part", "a")]);
    assert_eq!(case.say_move(RenameMode::Both, 2, "b"), [], "which notify adds to the halves");
    assert_eq!(case.say_move(RenameMode::To, 2, "b"), [case.renamed("b.part", "b")]);
    assert_eq!(case.later(MOVE_WINDOW), []);
    assert_eq!(case.translator.next_due(), None);
}

#[test]
fn one_half_alone_left_the_source_or_came_into_it() {
    let mut case = Case::new();
    assert_eq!(case.say_move(RenameMode::From, 1, "a"), []);
    assert_eq!(case.translator.next_due(), Some(case.now + MOVE_WINDOW));
    assert_eq!(case.later(MOVE_WINDOW), [case.removed("a")]);
    let closed = Told::Event(FileEvent::Closed(case.at("b")));
    assert_eq!(case.say_move(RenameMode::To, 2, "b"), [case.touched("b"), closed]);
}

#[test]
fn very_many_files_that_leave_are_told_without_waiting() {
    let mut case = Case::new();
    let told: usize = (0..REMEMBERED + 10).map(|n| case.say_move(RenameMode::From, n, &n.to_string()).len()).sum();
    assert_eq!(told, 10);
    assert_eq!(case.later(MOVE_WINDOW).len(), REMEMBERED);
}

#[test]
fn a_thousand_writes_are_two_hints_and_the_last_write_has_one() {
    let mut case = Case::new();
    assert_eq!(case.say(WRITTEN, "a"), [case.touched("a")]);
    for _ in 0..1000 {
        assert_eq!(case.say(WRITTEN, "a"), []);
    }
    assert_eq!(case.later(TOUCH_WINDOW / 2), []);
    assert_eq!(case.later(TOUCH_WINDOW / 2), [case.touched("a")]);
    assert_eq!(case.say(WRITTEN, "a"), []);
    assert_eq!(case.later(TOUCH_WINDOW), [case.touched("a")]);
    assert_eq!(case.later(TOUCH_WINDOW), []);
    assert_eq!(case.translator.next_due(), None, "nothing is remembered of a quiet file");
}

#[test]
fn a_close_is_told_at_once_and_stands_for_the_writes_before_it() {
    let mut case = Case::new();
    case.say(WRITTEN, "a");
    case.say(WRITTEN, "a");
    assert_eq!(case.say(CLOSED, "a"), [Told::Event(FileEvent::Closed(case.at("a")))]);
    assert_eq!(case.later(TOUCH_WINDOW), []);
}

#[test]
fn reading_is_no_event() {
    let mut case = Case::new();
    for kind in
        [AccessKind::Open(AccessMode::Any), AccessKind::Close(AccessMode::Read), AccessKind::Read, AccessKind::Any]
    {
        assert_eq!(case.say(EventKind::Access(kind), "a"), []);
    }
}

#[test]
fn directories_are_told_from_files() {
    let mut case = Case::new();
    std::fs::create_dir(case.at("dir")).unwrap();
    let new = Told::NewDirectory(case.at("dir"));
    assert_eq!(case.say(EventKind::Create(CreateKind::Folder), "dir").as_slice(), std::slice::from_ref(&new));
    assert_eq!(case.say(METADATA, "dir"), [Told::ChangedDirectory(case.at("dir"))]);
    assert_eq!(case.say(METADATA, "gone"), [case.removed("gone")]);
    assert_eq!(case.say_move(RenameMode::To, 7, "dir").as_slice(), std::slice::from_ref(&new), "moved in");
    case.say_move(RenameMode::From, 8, "old");
    assert_eq!(case.say_move(RenameMode::To, 8, "dir"), [case.renamed("old", "dir"), new]);
}

#[test]
fn a_directory_that_has_a_successor_when_it_goes_is_watched_again() {
    let mut case = Case::new();
    let gone = EventKind::Remove(RemoveKind::Folder);
    assert_eq!(case.say(gone, "dir"), [case.removed("dir")]);
    std::fs::create_dir(case.at("dir")).unwrap();
    assert_eq!(case.say(gone, "dir"), [case.removed("dir"), Told::NewDirectory(case.at("dir"))]);
}

#[test]
fn lost_events_and_a_lost_source_make_everything_doubtful() {
    let mut case = Case::new();
    assert_eq!(case.take(Event::new(EventKind::Other).set_flag(Flag::Rescan)), [Told::Lost]);
    let source = case.source.path().to_owned();
    let moved = EventKind::Modify(ModifyKind::Name(RenameMode::From));
    assert_eq!(case.take(Event::new(moved).add_path(source.clone())), [Told::Lost]);
    assert_eq!(case.take(Event::new(EventKind::Remove(RemoveKind::Folder)).add_path(source)), [Told::Lost]);
    assert_eq!(case.say(moved, "dir"), [], "a directory's own word; its parent's is the one that counts");
}
