//! The download of an artifact, against servers that do anything, beside a plain model: the partial
//! file is what the server sent since it last began at byte 0, and nothing else.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use tidegate_device::fetch::{Effect, Fetch, FetchError, Input, Order, RESUME_AFTER_MS};
use tidegate_disk::memory::{Bad, MemoryDisk};
use tidegate_disk::{Access, make_folder, replace};
use tidegate_wire::envelope::seal;
use tidegate_wire::manifest::{FileEntry, FileRole, Manifest};
use tidegate_wire::{Digest, Reason};

const SLOT: &str = "slot-a";
const OTHER: &str = "slot-b";
const ROLES: [FileRole; 3] = [FileRole::Model, FileRole::Card, FileRole::Golden];
/// More asks than any honest end takes: a try for each file and the manifest, and one again for
/// each that a server had spoilt.
const ASKS_MAX: usize = 16;

/// What lies on the disk before, and what the server does.
#[derive(Debug, Arbitrary)]
struct Story {
    lengths: [u8; 3],
    measured: bool,
    found: Vec<Found>,
    /// Bytes that fit on the disk beyond what is there.
    room: Option<u8>,
    acts: Vec<Act>,
}

/// A file that is there before.
#[derive(Debug, Arbitrary)]
struct Found {
    file: u8,
    place: Place,
    /// So many right bytes, and then others.
    right: u8,
    others: Vec<u8>,
    bad: bool,
}

#[derive(Debug, Arbitrary)]
enum Place {
    Slot,
    Partial,
    Other,
}

/// What the shell tells, fitting or not.
#[derive(Debug, Arbitrary)]
enum Act {
    /// What is wanted, honestly: of bytes so many.
    Honest(u8),
    Work,
    /// The offset that was asked for, and how far beside it the answer begins.
    Answered(Option<i8>),
    RangeRefused,
    /// So many right bytes.
    Right(u8),
    Wrong(Vec<u8>),
    Ended,
    Failed {
        unreachable: bool,
    },
    Waited,
    Time(u16),
    /// The download is let go and begun again.
    Restart,
    RoomAgain,
}

/// Everything about one artifact.
struct Artifact {
    order: Order,
    /// By digest: the file's name and its content.
    files: BTreeMap<Digest, (&'static str, Vec<u8>)>,
}

impl Artifact {
    fn new(story: &Story) -> Self {
        let content = |index: usize| -> Vec<u8> {
            (0..story.lengths[index]).map(|byte| byte.wrapping_mul(31) ^ index as u8).collect()
        };
        let entry = |(index, role): (usize, &FileRole)| {
            let bytes = content(index);
            FileEntry { role: *role, length: bytes.len() as u64, digest: Digest::of(&bytes) }
        };
        let mut manifest: Manifest = crate::messages::manifest();
        manifest.files = ROLES.iter().enumerate().map(entry).collect();
        let manifest = seal(&manifest);
        let artifact = Digest::of(&manifest);
        let order = Order {
            artifact,
            manifest_length: story.measured.then_some(manifest.len() as u64),
            slot: SLOT.to_string(),
            other_slot: OTHER.to_string(),
        };
        let mut files = BTreeMap::from([(artifact, ("manifest", manifest))]);
        for (index, role) in ROLES.iter().enumerate() {
            let bytes = content(index);
            files.insert(Digest::of(&bytes), (role.name(), bytes));
        }
        Self { order, files }
    }

    /// By index: the files, then the manifest.
    fn file(&self, index: u8) -> (&'static str, &[u8]) {
        let (name, bytes) =
            self.files.values().nth(usize::from(index) % self.files.len()).expect("within");
        (name, bytes)
    }
}

fn name(place: &Place, file: &str) -> String {
    match place {
        Place::Slot => format!("{SLOT}/{file}"),
        Place::Partial => format!("{SLOT}/{file}.part"),
        Place::Other => format!("{OTHER}/{file}"),
    }
}

fn prepare(story: &Story, artifact: &Artifact) -> MemoryDisk {
    let disk = MemoryDisk::default();
    for folder in [SLOT, OTHER] {
        make_folder(&disk, folder).expect("the disk is well");
    }
    for Found { file, place, right, others, bad } in &story.found {
        let (file, content) = artifact.file(*file);
        let right = usize::from(*right).min(content.len());
        let bytes = [&content[..right], &others[..others.len().min(300)]].concat();
        let name = name(place, file);
        disk.mend(&name);
        replace(&disk, &name, &bytes, Access::Folder).expect("the disk is well");
        if *bad {
            disk.set_bad(&name, Bad::Read, 0, bytes.len() as u64);
        }
    }
    disk.set_room(story.room.map(|room| disk.bytes() + u64::from(room)));
    disk
}

/// A shell, and what it knows of the blob that it asks for.
struct Shell<'a> {
    artifact: &'a Artifact,
    disk: MemoryDisk,
    fetch: Fetch,
    now_ms: u64,
    /// What was asked for.
    blob: Option<Digest>,
    offset: u64,
    /// What the server sent of it since it began at byte 0; None: not known, since it lay there.
    sent: Option<Vec<u8>>,
    /// The most of it that was there when a connection began or ended.
    most: u64,
}

impl Shell<'_> {
    fn step(&mut self, input: Input<'_>) -> Effect {
        let before = self.fetch.wants();
        let fits = fits(&before, &input);
        self.learn(&input, fits);
        let effect = self.fetch.step(&self.disk, self.now_ms, input);
        assert_eq!(effect, self.fetch.wants());
        if !fits {
            assert_eq!(effect, before, "an input that nobody waits for changed something");
        }
        if let Effect::Ask { digest, offset } = effect {
            self.asked(digest, offset);
        }
        self.check_partial(&effect);
        if let Effect::Pause { ms } = effect {
            assert_eq!(ms, RESUME_AFTER_MS);
            if fits {
                let have = self.have();
                assert!(have > self.most, "a pause without progress");
                self.most = have;
            }
        }
        if effect == Effect::Done(Ok(())) {
            self.check_complete();
        }
        effect
    }

    /// Keeps the model.
    fn learn(&mut self, input: &Input<'_>, fits: bool) {
        match input {
            Input::Answered { start } if fits && start.unwrap_or(self.offset) == 0 => {
                self.sent = Some(Vec::new());
            }
            Input::Chunk(bytes) if fits => {
                if let Some(sent) = &mut self.sent {
                    sent.extend_from_slice(bytes);
                }
            }
            _ => {}
        }
    }

    fn asked(&mut self, digest: Digest, offset: u64) {
        let (_, content) = self.artifact.files.get(&digest).expect("nobody signed this blob");
        assert!(offset < content.len() as u64, "there is nothing at {offset}");
        if self.blob != Some(digest) {
            (self.blob, self.sent, self.most) = (Some(digest), None, 0);
        }
        if offset == 0 {
            self.sent = Some(Vec::new());
        }
        self.offset = offset;
    }

    fn partial(&self) -> Option<Vec<u8>> {
        let (name, _) = &self.artifact.files[&self.blob?];
        Some(self.disk.content(&format!("{SLOT}/{name}.part"))?.to_vec())
    }

    fn have(&self) -> u64 {
        self.partial().map_or(0, |bytes| bytes.len() as u64)
    }

    /// The partial file is what was sent, and never more than was signed.
    fn check_partial(&self, effect: &Effect) {
        let (Some(blob), Some(partial)) = (self.blob, self.partial()) else { return };
        let (_, content) = &self.artifact.files[&blob];
        let transferring =
            matches!(effect, Effect::Ask { .. } | Effect::Read | Effect::Pause { .. });
        if !transferring || self.is_unmeasured() {
            return;
        }
        assert!(partial.len() <= content.len(), "more than was signed");
        if let Effect::Ask { offset, .. } = effect {
            assert_eq!(*offset, partial.len() as u64, "asks for what is there, or skips");
        }
        if let Some(sent) = &self.sent {
            assert_eq!(&partial, sent, "the partial file is not what was sent");
        }
    }

    fn check_complete(&self) {
        for (name, content) in self.artifact.files.values() {
            let path = format!("{SLOT}/{name}");
            let found = self.disk.content(&path).map(|found| found.to_vec());
            assert_eq!(found.as_ref(), Some(content), "{path} is not what was signed");
        }
    }

    fn begin_again(&mut self) {
        self.fetch = Fetch::new(self.artifact.order.clone());
        (self.blob, self.sent, self.most) = (None, None, 0);
    }

    /// With a server that is honest from now on and a disk that works, it ends well.
    fn end_well(&mut self) {
        self.disk.set_room(None);
        for (name, _) in self.artifact.files.values() {
            for place in [Place::Slot, Place::Partial, Place::Other] {
                self.disk.mend(&self::name(&place, name));
            }
        }
        let mut asks = 0;
        let mut effect = self.fetch.wants();
        loop {
            effect = match effect {
                Effect::Done(Ok(())) => return,
                Effect::Done(Err(_)) => {
                    asks += 1;
                    self.begin_again();
                    self.fetch.wants()
                }
                Effect::Work => self.step(Input::Work),
                Effect::Pause { .. } => self.step(Input::Waited),
                Effect::Ask { offset, .. } => {
                    asks += 1;
                    self.step(Input::Answered { start: Some(offset) });
                    self.fetch.wants()
                }
                Effect::Read => {
                    let (_, content) = &self.artifact.files[&self.blob.expect("it was asked for")];
                    let rest = content[(self.have() as usize).min(content.len())..].to_vec();
                    let unmeasured = self.unmeasured_rest();
                    match self.step(Input::Chunk(unmeasured.as_deref().unwrap_or(&rest))) {
                        Effect::Read => self.step(Input::Ended),
                        other => other,
                    }
                }
            };
            assert!(asks <= ASKS_MAX, "it does not end: {effect:?}");
        }
    }

    /// Whether it asks for a manifest that is collected in memory.
    fn is_unmeasured(&self) -> bool {
        let order = &self.artifact.order;
        order.manifest_length.is_none() && self.blob == Some(order.artifact)
    }

    fn unmeasured_rest(&self) -> Option<Vec<u8>> {
        let (_, content) = self.artifact.files.get(&self.artifact.order.artifact)?;
        let sent = self.sent.as_ref().map_or(0, Vec::len).min(content.len());
        self.is_unmeasured().then(|| content[sent..].to_vec())
    }
}

/// Whether an input answers what is wanted.
fn fits(wanted: &Effect, input: &Input<'_>) -> bool {
    match wanted {
        Effect::Work => matches!(input, Input::Work),
        Effect::Ask { .. } => {
            matches!(input, Input::Answered { .. } | Input::RangeRefused(_) | Input::Failed(_))
        }
        Effect::Read => matches!(input, Input::Chunk(_) | Input::Ended | Input::Failed(_)),
        Effect::Pause { .. } => matches!(input, Input::Waited),
        Effect::Done(_) => false,
    }
}

/// Any story is lived through, and ends well when all is well.
pub fn fetch(bytes: &[u8]) {
    let Ok(story) = Story::arbitrary_take_rest(Unstructured::new(bytes)) else { return };
    let artifact = Artifact::new(&story);
    let disk = prepare(&story, &artifact);
    let fetch = Fetch::new(artifact.order.clone());
    let mut shell = Shell {
        artifact: &artifact,
        disk,
        fetch,
        now_ms: 0,
        blob: None,
        offset: 0,
        sent: None,
        most: 0,
    };
    for act in story.acts.iter().take(200) {
        live(&mut shell, act);
    }
    shell.end_well();
}

fn live(shell: &mut Shell<'_>, act: &Act) {
    let error = |reason| FetchError { reason, detail: "no".to_string() };
    match act {
        Act::Work => drop(shell.step(Input::Work)),
        Act::Answered(None) => drop(shell.step(Input::Answered { start: None })),
        Act::Answered(Some(beside)) => {
            let start = shell.offset.checked_add_signed(i64::from(*beside));
            shell.step(Input::Answered { start });
        }
        Act::RangeRefused => drop(shell.step(Input::RangeRefused(error(Reason::Unreachable)))),
        Act::Honest(count) => match shell.fetch.wants() {
            Effect::Done(_) => {}
            Effect::Work => live(shell, &Act::Work),
            Effect::Ask { .. } => live(shell, &Act::Answered(Some(0))),
            Effect::Read if *count == 0 => live(shell, &Act::Ended),
            Effect::Read => live(shell, &Act::Right(*count)),
            Effect::Pause { .. } => live(shell, &Act::Waited),
        },
        Act::Right(count) => {
            let content = shell.blob.map_or(&[][..], |blob| &shell.artifact.files[&blob].1);
            let sent = shell.unmeasured_rest().map(|rest| content.len() - rest.len());
            let from = sent.unwrap_or(shell.have() as usize).min(content.len());
            let to = (from + usize::from(*count)).min(content.len());
            let chunk = content[from..to].to_vec();
            shell.step(Input::Chunk(&chunk));
        }
        Act::Wrong(bytes) => drop(shell.step(Input::Chunk(&bytes[..bytes.len().min(300)]))),
        Act::Ended => drop(shell.step(Input::Ended)),
        Act::Failed { unreachable: true } => {
            drop(shell.step(Input::Failed(error(Reason::Unreachable))));
        }
        Act::Failed { unreachable: false } => {
            drop(shell.step(Input::Failed(error(Reason::BlobNotFound))));
        }
        Act::Waited => drop(shell.step(Input::Waited)),
        Act::Time(ms) => shell.now_ms += u64::from(*ms),
        Act::Restart => shell.begin_again(),
        Act::RoomAgain => shell.disk.set_room(None),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    // Any bytes are a story: these are long enough for one that gets somewhere.
    let mut mutator = crate::Mutator::new(4);
    (0..12).map(|_| (0..400).map(|_| mutator.below(256) as u8).collect()).collect()
}
