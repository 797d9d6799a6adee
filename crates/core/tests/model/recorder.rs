//! The recorder, and whoever else writes to, renames or deletes the file.

use reeltime_core::{FileVersion, Input, ObjectKey};

use super::world::World;

#[derive(Clone)]
pub struct File {
    pub bytes: Vec<u8>,
    pub mtime_ms: u64,
    pub ctime_ms: u64,
    pub inode: u64,
    pub born_ms: u64,
}

impl File {
    fn new(bytes: Vec<u8>, stamp: u64, inode: u64, born_ms: u64) -> Self {
        Self { bytes, mtime_ms: stamp, ctime_ms: stamp, inode, born_ms }
    }

    pub fn version(&self) -> FileVersion {
        FileVersion {
            size: self.bytes.len() as u64,
            mtime_ns: self.mtime_ms as i64 * 1_000_000 + 1,
            ctime_ns: self.ctime_ms as i64 * 1_000_000 + 1,
            inode: self.inode,
        }
    }
}

impl World {
    /// The kernel's clock is coarse.
    fn stamp(&self) -> u64 {
        self.tick / 4 * 4
    }

    pub fn recorder_acts(&mut self) {
        if self.file.is_none() {
            return self.create_file();
        }
        let act = self.chance.below(14);
        match if self.is_calm && act < 12 { 0 } else { act } {
            11 if self.chance.one_in(4) => self.delete_file(),
            11 if self.chance.one_in(4) => self.replace_file(),
            12 if self.temp_name => self.rename_to_final_name(),
            12 if !self.is_calm && self.chance.one_in(8) && self.is_live() => self.rename_to_another_key(),
            // One that opens a file for nothing has it sent again where only a comparison could
            // tell that the store has it.
            11.. if self.is_calm && !self.writer_open => {
                self.writer_open = self.file.as_ref().is_some_and(|file| file.bytes.len() < 500);
                self.write(0);
            }
            11.. => self.open_or_close(),
            act => self.write(act),
        }
    }

    /// An event, for everybody who is there.
    pub fn hint(&mut self, hint: &Input) {
        for process in &mut self.processes {
            process.hints.push(hint.clone());
        }
    }

    fn create_file(&mut self) {
        let is_held = self.processes[self.last()].unlinked.is_some();
        if is_held || !self.chance.one_in(2) {
            return;
        }
        let inode = self.free_inode(1);
        self.file = Some(File::new(Vec::new(), self.stamp(), inode, self.tick));
        self.disposed = None;
        self.is_present = false;
        self.writer_open = true;
        self.say("created");
    }

    /// Not that of a file that is still there, or that is still held open.
    fn free_inode(&mut self, from: u64) -> u64 {
        let held = self.processes.iter().filter_map(|process| process.unlinked.as_ref());
        let in_use: Vec<_> = held.chain(&self.file).map(|file| file.inode).collect();
        let mut inode = from + self.chance.below(3);
        while in_use.contains(&inode) {
            inode += 3;
        }
        inode
    }

    /// The name is gone. What is held open already stays what is held open.
    pub fn unlink(&mut self) -> Option<File> {
        let file = self.file.take()?;
        self.past.push((self.tick, file.bytes.clone()));
        for process in &mut self.processes {
            if process.machine.is_some() && process.unlinked.is_none() {
                process.unlinked = Some(file.clone());
            }
        }
        Some(file)
    }

    fn delete_file(&mut self) {
        self.unlink();
        self.say("delete");
        self.hint(&Input::Touched);
    }

    fn replace_file(&mut self) {
        let inode = self.free_inode(10);
        let other = File::new(vec![3; 7], self.stamp(), inode, self.tick);
        let holders: Vec<_> = (0..=self.last())
            .filter(|who| self.processes[*who].machine.is_some() && self.processes[*who].unlinked.is_none())
            .collect();
        self.unlink();
        self.file = Some(other);
        self.writer_open = false;
        for who in holders {
            self.processes[who].hints.push(Input::Replaced);
        }
        self.seen.replaced += 1;
        self.say("replaced by another file");
    }

    fn rename_to_final_name(&mut self) {
        self.temp_name = false;
        self.say("renamed to its final name");
        self.renamed("/r/a.mp4", true);
    }

    fn rename_to_another_key(&mut self) {
        self.key = ObjectKey::from_bytes(b"b.mp4".to_vec());
        self.say("renamed to another key");
        self.renamed("/r/b.mp4", false);
    }

    fn renamed(&mut self, path: &str, final_name: bool) {
        let stamp = self.stamp();
        self.file.as_mut().unwrap().ctime_ms = stamp;
        let (key, temp_name) = (self.key.clone(), self.temp_name);
        self.hint(&Input::Renamed { path: path.into(), key, temp_name, final_name });
    }

    fn open_or_close(&mut self) {
        self.writer_open = !self.writer_open;
        self.say(if self.writer_open { "opened" } else { "closed" });
        if !self.chance.one_in(self.one_event_lost_in) {
            self.hint(&if self.writer_open { Input::Touched } else { Input::WriterClosed });
        }
    }

    fn write(&mut self, act: u64) {
        let stamp = self.stamp();
        let file = self.file.as_mut().unwrap();
        self.past.push((self.tick, file.bytes.clone()));
        let what = match act {
            0..6 => {
                let most = if self.chance.one_in(5) { 60 } else { 9 };
                let many = 1 + self.chance.below(most);
                let bytes: Vec<u8> = (0..many).map(|_| 1 + self.chance.below(255) as u8).collect();
                // More than a plan holds is an upload begun anew.
                match file.bytes.len() + bytes.len() {
                    600.. if self.is_calm => return,
                    900.. => {}
                    _ => file.bytes.extend(bytes),
                }
                "append"
            }
            6 | 7 => {
                if !file.bytes.is_empty() {
                    let at = if self.chance.one_in(2) { 0 } else { self.chance.place(file.bytes.len()) };
                    file.bytes[at] = 1 + self.chance.below(255) as u8;
                }
                "rewrite"
            }
            8 => {
                file.bytes.splice(0..0, [7, 7, 7]);
                "shift"
            }
            9 => {
                let len = self.chance.place(file.bytes.len() + 1);
                file.bytes.truncate(if self.chance.one_in(2) { 0 } else { len });
                self.has_truncated = true;
                "truncate"
            }
            _ => {
                let len = file.bytes.len() + self.chance.place(30);
                file.bytes.resize(len, 0);
                "preallocate"
            }
        };
        file.mtime_ms = stamp;
        file.ctime_ms = stamp;
        let len = file.bytes.len();
        self.say(format!("{what}: {len} bytes"));
        if !self.chance.one_in(self.one_event_lost_in) {
            self.hint(&Input::Touched);
            if !self.writer_open {
                self.hint(&Input::WriterClosed); // opened, written and closed
            }
        }
    }
}
