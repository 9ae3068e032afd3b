use super::*;
use crate::{read, remove, replace};
use alloc::collections::BTreeMap;
use alloc::vec;
use proptest::prelude::*;

fn text(disk: &MemoryDisk, name: &str) -> Option<String> {
    read(disk, name, 1 << 20).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn a_file_is_written_read_linked_renamed_and_removed() {
    let disk = MemoryDisk::default();
    assert_eq!(disk.create("a/b/f", Access::Owner).unwrap_err().fault, Fault::Missing);
    disk.make_folder("a/b").unwrap();
    disk.create("a/b/f", Access::Owner).unwrap();
    disk.write_at("a/b/f", 600, b"later").unwrap();
    disk.write_at("a/b/f", 510, b"across").unwrap();
    let mut into = [9; 700];
    assert_eq!(disk.read_at("a/b/f", 508, &mut into).unwrap(), 97);
    assert_eq!(&into[..9], b"\0\0across\0");
    assert_eq!(&into[92..98], b"later\x09");
    disk.link("a/b/f", "a/g").unwrap();
    assert_eq!(disk.link("a/b/f", "a/g").unwrap_err().fault, Fault::Failed);
    disk.truncate("a/g", 513).unwrap();
    disk.truncate("a/g", 600).unwrap();
    assert_eq!(disk.length("a/b/f").unwrap(), Some(513));
    disk.remove("a/b/f").unwrap();
    assert_eq!(disk.length("a/b/f").unwrap(), None);
    disk.create("a/h", Access::Folder).unwrap();
    disk.rename("a/g", "a/h").unwrap();
    assert_eq!(disk.list("a").unwrap(), ["b", "h"]);
    assert_eq!(disk.list("").unwrap(), ["a"]);
    assert_eq!(disk.list("no").unwrap(), Vec::<String>::new());
    assert_eq!((disk.length("a/h").unwrap(), disk.access("a/h")), (Some(513), Some(Access::Owner)));
    assert_eq!(disk.make_folder("a/h/x").unwrap_err().detail, "a/h is a file");
    assert_eq!(disk.write_at("a/b", 0, b"x").unwrap_err().detail, "it is a folder");
}

#[test]
fn what_was_cut_off_does_not_come_back() {
    let disk = MemoryDisk::default();
    disk.create("f", Access::Folder).unwrap();
    disk.write_at("f", 0, &[1; 2000]).unwrap();
    disk.truncate("f", 700).unwrap();
    disk.write_at("f", 1999, &[2]).unwrap();
    let content = disk.content("f").unwrap().to_vec();
    assert_eq!(&content[..700], [1; 700]);
    assert!(content[700..1999].iter().all(|byte| *byte == 0));
}

/// The one way of writing that survives a power cut does; each of its steps left out does not.
#[test]
fn a_replaced_file_is_the_old_or_the_new_one() {
    let steps = ["create", "write", "sync", "rename", "sync folder"];
    for left_out in 0..=steps.len() {
        let disk = MemoryDisk::default();
        replace(&disk, "f", &[1; 1500], Access::Folder).unwrap();
        let act = |disk: &MemoryDisk| -> Result<(), DiskError> {
            disk.create("f.new", Access::Folder)?;
            disk.write_at("f.new", 0, &[2; 1600])?;
            if left_out != 2 {
                disk.sync("f.new")?;
            }
            disk.rename("f.new", "f")?;
            if left_out != 4 {
                disk.sync_folder("")?;
            }
            Ok(())
        };
        let mut damaged = 0;
        for cut in 1..=5 {
            let disk = disk.clone();
            disk.cut_at(cut);
            let done = act(&disk).is_ok();
            for found in disk.power_cuts() {
                let content = read(&found.disk, "f", 9999).unwrap();
                let old = content.as_deref() == Some(&[1; 1500]);
                let new = content.as_deref() == Some(&[2; 1600]);
                damaged += usize::from(!(new || old && !done));
            }
        }
        assert_eq!(damaged > 0, [2, 4].contains(&left_out), "{:?}", steps.get(left_out));
    }
}

#[test]
fn power_goes_at_the_operation_that_was_named_and_stays_away() {
    let disk = MemoryDisk::default();
    disk.cut_at(2);
    disk.create("f", Access::Folder).unwrap();
    assert_eq!(disk.write_at("f", 0, b"x").unwrap_err().detail, "power is gone");
    assert!(disk.is_off());
    assert!(disk.length("f").is_err() && disk.list("").is_err() && disk.sync("f").is_err());
    assert_eq!(disk.operations(), 2);
    let what: Vec<What> = disk.unsynced().into_iter().map(|it| it.what).collect();
    assert_eq!(what, [What::Name, What::Bytes { offset: 0, length: 1 }]);
    let found: Vec<Option<String>> =
        disk.power_cuts().iter().map(|found| text(&found.disk, "f")).collect();
    let expected: [Option<&str>; 4] = [None, Some(""), Some("x"), Some("\0")];
    assert_eq!(found, expected.map(|it| it.map(ToString::to_string)));
}

#[test]
fn what_a_killed_process_did_is_there_and_not_durable() {
    let disk = MemoryDisk::default();
    replace(&disk, "f", b"one", Access::Folder).unwrap();
    disk.cut_at(1);
    disk.write_at("f", 0, b"two").unwrap_err();
    let disk = disk.after_kill();
    assert_eq!(text(&disk, "f").as_deref(), Some("two"));
    assert_eq!(text(&disk.after_power_cut(&[]), "f").as_deref(), Some("one"));
    disk.sync("f").unwrap();
    assert_eq!(text(&disk.after_power_cut(&[]), "f").as_deref(), Some("two"));
}

#[test]
fn a_write_may_be_torn_by_sectors_and_by_bytes() {
    let disk = MemoryDisk::default();
    replace(&disk, "f", &[1; 2000], Access::Folder).unwrap();
    disk.write_at("f", 500, &[2; 1000]).unwrap();
    let after = |fate| disk.after_power_cut(&[fate]).content("f").unwrap().to_vec();
    let changed = |fate| -> Vec<usize> {
        let bytes = after(fate);
        (0..2000).filter(|at| bytes[*at] == 2).collect()
    };
    assert_eq!(changed(Fate::Missing), Vec::<usize>::new());
    assert_eq!(changed(Fate::Hole), Vec::<usize>::new());
    assert_eq!(changed(Fate::Prefix(3)), [500, 501, 502]);
    assert_eq!(changed(Fate::Sectors(0b101)), (500..512).chain(1024..1500).collect::<Vec<_>>());
    assert_eq!(changed(Fate::Whole).len(), 1000);
}

#[test]
fn an_image_is_not_touched_by_what_comes_later() {
    let disk = MemoryDisk::default();
    replace(&disk, "f", b"one", Access::Folder).unwrap();
    let image = disk.clone();
    replace(&disk, "f", b"two", Access::Folder).unwrap();
    assert_eq!((text(&image, "f"), text(&disk, "f")), (Some("one".into()), Some("two".into())));
    let blob = Content::from([7; 5000].as_slice());
    disk.put("blob", &blob).unwrap();
    image.put("blob", &blob).unwrap();
    assert!(disk.content("blob").unwrap().is_same(&image.content("blob").unwrap()));
    image.write_at("blob", 0, b"x").unwrap();
    assert_eq!(disk.content("blob").unwrap().to_vec(), [7; 5000]);
}

#[test]
fn a_full_disk_takes_what_fits_and_a_replaced_file_stays() {
    let disk = MemoryDisk::default();
    replace(&disk, "f", &[1; 100], Access::Folder).unwrap();
    disk.set_room(Some(150));
    let error = replace(&disk, "f", &[2; 100], Access::Folder).unwrap_err();
    assert_eq!(error.fault, Fault::Full);
    assert_eq!((disk.content("f").unwrap().to_vec(), disk.bytes()), (vec![1; 100], 100));
    assert_eq!(disk.write_at("f", 50, &[3; 101]).unwrap_err().fault, Fault::Full);
    assert_eq!(disk.content("f").unwrap().to_vec()[50..], [3; 100]);
    // What is there can be written again, and room that was made can be used.
    disk.write_at("f", 0, &[4; 150]).unwrap();
    disk.truncate("f", 10).unwrap();
    replace(&disk, "g", &[2; 140], Access::Folder).unwrap();
    disk.set_room(None);
    replace(&disk, "h", &[2; 140], Access::Folder).unwrap();
}

#[test]
fn a_bad_block_stays_with_its_file_until_that_is_replaced() {
    let disk = MemoryDisk::default();
    replace(&disk, "f", &[1; 2000], Access::Folder).unwrap();
    disk.set_bad("f", Bad::Read, 512, 1024);
    disk.set_bad("f", Bad::Write, 0, 1);
    let mut into = [0; 512];
    assert_eq!(disk.read_at("f", 0, &mut into).unwrap(), 512);
    let error = disk.read_at("f", 1, &mut into).unwrap_err().to_string();
    assert_eq!(error, "cannot read f: bytes 512 to 1024 lie on a bad block");
    assert!(disk.write_at("f", 0, b"x").is_err());
    disk.write_at("f", 1, b"x").unwrap();
    replace(&disk, "f", b"new", Access::Folder).unwrap();
    assert_eq!(text(&disk, "f").as_deref(), Some("new"));
    disk.rot("f", 1, 1);
    assert_eq!(text(&disk.after_power_cut(&[]), "f").as_deref(), Some("ndw"));
}

#[test]
fn a_disk_that_came_off_takes_nothing_and_keeps_what_it_has() {
    let disk = MemoryDisk::default();
    replace(&disk, "f", b"one", Access::Folder).unwrap();
    disk.set_refusal(Some(Fault::Failed));
    assert!(replace(&disk, "f", b"two", Access::Folder).is_err());
    assert!(remove(&disk, "f").is_err());
    disk.set_refusal(None);
    assert_eq!(text(&disk, "f").as_deref(), Some("one"));
}

#[derive(Debug, Clone)]
enum Op {
    Create(u8),
    Write(u8, u64, Vec<u8>),
    Truncate(u8, u64),
    Sync(u8),
    SyncFolder(bool),
    Rename(u8, u8),
    Link(u8, u8),
    Remove(u8),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let bytes = prop::collection::vec(1..255u8, 0..1200);
    let op = prop_oneof![
        2 => (0..6u8).prop_map(Op::Create),
        4 => (0..6u8, 0..1100u64, bytes).prop_map(|(file, at, bytes)| Op::Write(file, at, bytes)),
        1 => (0..6u8, 0..1500u64).prop_map(|(file, length)| Op::Truncate(file, length)),
        2 => (0..6u8).prop_map(Op::Sync),
        1 => any::<bool>().prop_map(Op::SyncFolder),
        2 => (0..6u8, 0..6u8).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => (0..6u8, 0..6u8).prop_map(|(from, to)| Op::Link(from, to)),
        1 => (0..6u8).prop_map(Op::Remove),
    ];
    prop::collection::vec(op, 0..30)
}

/// Three names in each of two folders.
fn name(file: u8) -> String {
    if file < 3 { format!("f{file}") } else { format!("d/f{file}") }
}

/// The same disk, told forwards: what is durable, and what happened since.
#[derive(Default)]
struct Model {
    durable: State,
    now: State,
    pending: Vec<Step>,
    next: usize,
}

#[derive(Default, Clone, PartialEq, Debug)]
struct State {
    names: BTreeMap<String, usize>,
    contents: BTreeMap<usize, Vec<u8>>,
}

#[derive(Clone)]
enum Step {
    Write(usize, usize, Vec<u8>),
    Truncate(usize, usize),
    Names(Vec<(String, Option<usize>)>),
}

impl State {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Write(id, at, bytes) => {
                let content = self.contents.entry(*id).or_default();
                content.resize(content.len().max(at + bytes.len()), 0);
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Step::Truncate(id, length) => self.contents.entry(*id).or_default().truncate(*length),
            Step::Names(names) => {
                for (name, id) in names {
                    match id {
                        Some(id) => drop(self.names.insert(name.clone(), *id)),
                        None => drop(self.names.remove(name)),
                    }
                }
            }
        }
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let content = |id| self.contents.get(id).cloned().unwrap_or_default();
        self.names.iter().map(|(name, id)| (name.clone(), content(id))).collect()
    }
}

impl Model {
    fn step(&mut self, step: Step) -> bool {
        self.now.take(&step);
        self.pending.push(step);
        true
    }

    fn settle(&mut self, is_certain: impl Fn(&Step) -> bool) -> bool {
        for step in core::mem::take(&mut self.pending) {
            if is_certain(&step) {
                self.durable.take(&step);
            } else {
                self.pending.push(step);
            }
        }
        true
    }

    /// What is written to a file that can have no name again is of no interest.
    fn forget_nameless(&mut self) -> bool {
        let mut named: Vec<usize> = self.now.names.values().copied().collect();
        named.extend(self.durable.names.values());
        for step in &self.pending {
            let Step::Names(names) = step else { continue };
            named.extend(names.iter().filter_map(|(_, id)| *id));
        }
        let is_kept = |step: &Step| match step {
            Step::Write(id, ..) | Step::Truncate(id, _) => named.contains(id),
            Step::Names(_) => true,
        };
        self.pending.retain(is_kept);
        true
    }

    /// Whether it can be done; what is done without an effect is no step.
    fn take(&mut self, op: &Op) -> bool {
        let id = |file: &u8| self.now.names.get(&name(*file)).copied();
        match op {
            Op::Create(file) => match id(file) {
                Some(id) if self.now.contents[&id].is_empty() => true,
                Some(id) => self.step(Step::Truncate(id, 0)),
                None => {
                    self.next += 1;
                    self.now.contents.insert(self.next, vec![]);
                    self.step(Step::Names(vec![(name(*file), Some(self.next))]))
                }
            },
            Op::Write(file, at, bytes) => match id(file) {
                Some(_) if bytes.is_empty() => true,
                Some(id) => self.step(Step::Write(id, *at as usize, bytes.clone())),
                None => false,
            },
            Op::Truncate(file, length) => match id(file) {
                Some(id) if self.now.contents[&id].len() <= *length as usize => true,
                Some(id) => self.step(Step::Truncate(id, *length as usize)),
                None => false,
            },
            Op::Sync(file) => match id(file) {
                Some(id) => self.settle(|step| match step {
                    Step::Write(at, ..) | Step::Truncate(at, _) => *at == id,
                    Step::Names(_) => false,
                }),
                None => false,
            },
            Op::SyncFolder(below) => {
                let inside = |name: &String| name.contains('/') == *below;
                self.settle(|step| match step {
                    Step::Names(names) => names.iter().any(|(name, _)| inside(name)),
                    _ => false,
                });
                self.forget_nameless()
            }
            // Moves from folder to folder are nothing that is relied upon.
            Op::Rename(from, to) if (*from < 3) != (*to < 3) => true,
            Op::Rename(from, to) => match id(from) {
                Some(it) if id(to) == Some(it) => true,
                Some(id) => {
                    self.step(Step::Names(vec![(name(*from), None), (name(*to), Some(id))]))
                }
                None => false,
            },
            Op::Link(from, to) => match (id(from), id(to)) {
                (Some(id), None) => self.step(Step::Names(vec![(name(*to), Some(id))])),
                _ => false,
            },
            Op::Remove(file) => match id(file) {
                Some(_) => self.step(Step::Names(vec![(name(*file), None)])),
                None => false,
            },
        }
    }
}

fn act(disk: &MemoryDisk, op: &Op) -> bool {
    let done = match op {
        Op::Create(file) => disk.create(&name(*file), Access::Folder),
        Op::Write(file, at, bytes) => disk.write_at(&name(*file), *at, bytes),
        Op::Truncate(file, length) => disk.truncate(&name(*file), *length),
        Op::Sync(file) => disk.sync(&name(*file)),
        Op::SyncFolder(below) => disk.sync_folder(if *below { "d" } else { "" }),
        Op::Rename(from, to) if (*from < 3) != (*to < 3) => Ok(()),
        Op::Rename(from, to) => disk.rename(&name(*from), &name(*to)),
        Op::Link(from, to) => disk.link(&name(*from), &name(*to)),
        Op::Remove(file) => disk.remove(&name(*file)),
    };
    done.is_ok()
}

fn files(disk: &MemoryDisk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.names().into_iter().filter(|name| !name.ends_with('/'));
    names.map(|name| (name.clone(), disk.content(&name).unwrap().to_vec())).collect()
}

proptest! {
    #[test]
    fn it_is_the_disk_that_the_model_tells_of(ops in ops(), bits in any::<u64>()) {
        let (disk, mut model) = (MemoryDisk::default(), Model::default());
        disk.make_folder("d").unwrap();
        disk.sync_folder("").unwrap();
        for op in &ops {
            prop_assert_eq!(act(&disk, op), model.take(op), "{:?}", op);
            prop_assert_eq!(files(&disk), model.now.files());
        }
        prop_assert_eq!(disk.unsynced().len(), model.pending.len());
        let is_there = |at: usize| bits >> (at % 64) & 1 == 1;
        let fates = |at| if is_there(at) { Fate::Whole } else { Fate::Missing };
        let fates: Vec<Fate> = (0..model.pending.len()).map(fates).collect();
        let mut after = model.durable.clone();
        for (at, step) in model.pending.iter().enumerate() {
            if is_there(at) {
                after.take(step);
            }
        }
        prop_assert_eq!(files(&disk.after_power_cut(&fates)), after.files());
        prop_assert_eq!(files(&disk.after_power_cut(&[])), model.durable.files());
    }

    #[test]
    fn drawn_fates_fit_and_depend_on_the_numbers_only(ops in ops(), seed in any::<u64>()) {
        let disk = MemoryDisk::default();
        disk.make_folder("d").unwrap();
        for op in &ops {
            act(&disk, op);
        }
        let draw = || {
            let mut state = seed;
            disk.draw_fates(&mut || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state >> 33
            })
        };
        prop_assert_eq!(draw().len(), disk.unsynced().len());
        prop_assert_eq!(files(&disk.after_power_cut(&draw())), files(&disk.after_power_cut(&draw())));
    }
}
