//! The TUF workflow, fed with signed files whose payloads are the input.
//!
//! A piece is a file: its tag says of which role (low two bits), and whether it is to be taken as it
//! is ([`RAW`]), to fail ([`FAILED`]), or to name the wrong next file ([`WRONG_NAMES`]). Signatures
//! and the names of the next files are made right otherwise, or hardly an input would get anywhere.

use tidegate_trust::workflow::{EFFECTS_MAX, Effect, Event, Limits, Refresh};
use tidegate_trust::{Counter, FileMeta, Role, Snapshot, Targets, Timestamp, Trusted, trusted};
use tidegate_wire::Reason;
use tidegate_wire::envelope::{open, seal};

use crate::metadata::{FLEET, payloads};
use crate::script::{pieces, write};

const RAW: u8 = 4;
const FAILED: u8 = 8;
const WRONG_NAMES: u8 = 16;
/// Go on with what was persisted, as after a restart, before this file.
const RESTART: u8 = 32;
/// On the first piece: without snapshots, as microcontrollers do.
const REDUCED: u8 = 64;

const NOW: u64 = 1_000;

struct File {
    tag: u8,
    role: Role,
    bytes: Vec<u8>,
}

/// A device that refreshes with these files.
pub fn refresh(bytes: &[u8]) {
    let files = signed(bytes);
    let mut device = Device::new(files.first().is_some_and(|file| file.tag & REDUCED != 0));
    for file in files {
        if file.tag & RESTART != 0 {
            device.restart();
        }
        device.take(file);
    }
    device.restart();
}

/// Signed by the right keys, and named by one another: from the last one back, since each names
/// the next.
fn signed(bytes: &[u8]) -> Vec<File> {
    let (mut snapshot, mut targets) = (None, None);
    let mut files: Vec<File> = Vec::new();
    for piece in pieces(bytes, 12).into_iter().rev() {
        let role = Role::FILES[usize::from(piece.tag % 4)];
        let payload = match role {
            _ if piece.tag & (RAW | WRONG_NAMES) != 0 => piece.bytes.to_vec(),
            Role::Timestamp => naming(piece.bytes, |it: &mut Timestamp| {
                it.snapshot = snapshot.unwrap_or(it.snapshot);
                it.targets = targets.or(it.targets);
            }),
            Role::Snapshot => naming(piece.bytes, |it: &mut Snapshot| {
                it.targets = targets.unwrap_or(it.targets);
            }),
            _ => piece.bytes.to_vec(),
        };
        let bytes = match piece.tag & RAW {
            0 => FLEET.sign(role, &payload),
            _ => payload.clone(),
        };
        match role {
            Role::Snapshot => {
                let version = open::<Snapshot>(&payload).map(|it| it.version);
                snapshot = version.ok().map(|version| FileMeta::of(version, &bytes));
            }
            Role::Targets => {
                let version = open::<Targets>(&payload).map(|it| it.version);
                targets = version.ok().map(|version| FileMeta::of(version, &bytes));
            }
            _ => {}
        }
        files.push(File { tag: piece.tag, role, bytes });
    }
    files.reverse();
    files
}

fn naming<M: tidegate_wire::envelope::Message>(payload: &[u8], name: impl Fn(&mut M)) -> Vec<u8> {
    let Ok(mut message) = open::<M>(payload) else { return payload.to_vec() };
    name(&mut message);
    seal(&message)
}

/// Versions of root, timestamp, snapshot and targets; 0 where there is none.
type Versions = [u64; 4];

fn versions(trusted: &Trusted) -> Versions {
    [
        trusted.root().version,
        trusted.timestamp().map_or(0, |it| it.version),
        trusted.snapshot().map_or(0, |it| it.version),
        trusted.targets().map_or(0, |it| it.version),
    ]
}

struct Device {
    refresh: Refresh,
    wanted: Option<(Role, usize)>,
    /// What was persisted, and which counter goes with it on the reduced path.
    stored: trusted::Stored,
    counter: Option<Counter>,
    seen: Versions,
}

impl Device {
    fn new(reduced: bool) -> Self {
        let trusted = FLEET.trusted.clone();
        let root = FLEET.root.clone();
        let stored = trusted::Stored { root, timestamp: None, snapshot: None, targets: None };
        let counter = reduced.then(Counter::default);
        let trusted = match counter {
            Some(counter) => trusted.reduced(counter),
            None => trusted,
        };
        let seen = versions(&trusted);
        let (refresh, effects) = Refresh::start(NOW, trusted, Limits::default());
        let mut device = Self { refresh, wanted: None, stored, counter, seen };
        device.carry_out(effects);
        device
    }

    /// What comes back is what was trusted, and a new refresh goes on from there.
    fn restart(&mut self) {
        let before = versions(self.refresh.trusted());
        let recovered = Trusted::recover(self.stored.clone()).expect("the root is whole");
        assert!(recovered.dropped.is_empty(), "{:?}", recovered.dropped);
        let mut trusted = recovered.trusted;
        if self.counter.is_some() {
            trusted = trusted.reduced(self.refresh.trusted().counter());
        }
        assert_eq!(versions(&trusted), before, "what was trusted was not persisted");
        let (refresh, effects) = Refresh::start(NOW, trusted, Limits::default());
        (self.refresh, self.wanted) = (refresh, None);
        self.carry_out(effects);
    }

    fn take(&mut self, file: File) {
        if let (Some((Role::Root, _)), false) = (self.wanted, file.role == Role::Root) {
            self.step(Event::NotFound { role: Role::Root });
        }
        let role = file.role;
        let event = match self.wanted {
            Some((wanted, length_max)) if wanted == role && file.bytes.len() > length_max => {
                Event::FetchFailed { role, reason: Reason::TooLong }
            }
            _ if file.tag & FAILED != 0 => Event::FetchFailed { role, reason: Reason::Unreachable },
            _ => Event::Fetched { role, bytes: file.bytes },
        };
        self.step(event);
    }

    fn step(&mut self, event: Event) {
        let (wanted, about) = (self.wanted, role_of(&event));
        let before = versions(self.refresh.trusted());
        let effects = self.refresh.step(event);
        assert!(effects.len() <= EFFECTS_MAX, "{effects:?}");
        if wanted.is_none_or(|(role, _)| role != about) {
            assert_eq!(effects, [Effect::Ignored { role: about }]);
            assert_eq!(versions(self.refresh.trusted()), before);
            return;
        }
        self.wanted = None;
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut over = false;
        for effect in effects {
            assert!(!over, "something follows the end");
            match effect {
                Effect::Fetch { role, length_max, .. } => {
                    assert!(self.wanted.is_none(), "two fetches are open");
                    self.wanted = Some((role, length_max));
                }
                Effect::Persist { role, bytes } => self.store(role, Some(bytes)),
                Effect::Forget { role } => {
                    self.seen[index(role)] = 0;
                    self.store(role, None);
                }
                Effect::Done(_) | Effect::Failed(_) => over = true,
                Effect::Ignored { .. } => panic!("an answer is ignored"),
            }
        }
        assert!(over || self.wanted.is_some(), "neither over nor waiting");
        let now = versions(self.refresh.trusted());
        let fell = now.iter().zip(self.seen).any(|(now, seen)| *now < seen);
        assert!(!fell, "a version fell: {:?} after {:?}", now, self.seen);
        self.seen = now;
    }

    fn store(&mut self, role: Role, bytes: Option<Vec<u8>>) {
        match role {
            Role::Root => self.stored.root = bytes.expect("a root is never forgotten"),
            Role::Timestamp => self.stored.timestamp = bytes,
            Role::Snapshot => self.stored.snapshot = bytes,
            Role::Targets => self.stored.targets = bytes,
            Role::Director => panic!("the director signs no file"),
        }
    }
}

fn role_of(event: &Event) -> Role {
    match event {
        Event::Fetched { role, .. }
        | Event::NotFound { role }
        | Event::FetchFailed { role, .. } => *role,
    }
}

fn index(role: Role) -> usize {
    Role::FILES.iter().position(|other| *other == role).expect("it signs files")
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let [root, timestamp, snapshot, targets] = payloads();
    let tag = |role| index(role) as u8;
    let (r, t, s, g) =
        (tag(Role::Root), tag(Role::Timestamp), tag(Role::Snapshot), tag(Role::Targets));
    let all = [(r, &root), (t, &timestamp), (s, &snapshot), (g, &targets)];
    let second = |mut it: Timestamp| {
        it.version = 2;
        seal(&it)
    };
    let newer = second(open(&timestamp).expect("it was sealed"));
    let of = |pieces: &[(u8, &Vec<u8>)]| write(pieces.iter().map(|(t, b)| (*t, b.as_slice())));
    vec![
        of(&all),
        of(&all[1..]),
        of(&[(t, &newer), (s, &snapshot), (g, &targets), (t | RESTART, &timestamp)]),
        of(&[(t | REDUCED, &timestamp), (g, &targets)]),
        of(&[(t, &timestamp), (s | RESTART, &snapshot), (t, &timestamp), (s, &snapshot)]),
        of(&[(t, &timestamp), (s | FAILED, &snapshot), (t | WRONG_NAMES, &timestamp)]),
        of(&[(t | RAW, &timestamp), (r, &root), (r, &root), (t, &timestamp)]),
    ]
}
