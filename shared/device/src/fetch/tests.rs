//! Against servers that misbehave, disks that fail, and power that goes at every operation.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use tidegate_disk::memory::{Bad, MemoryDisk};
use tidegate_wire::manifest::{FileRole, Task};
use tidegate_wire::policy::Gates;

use super::*;

const SLOT: &str = "models/digits/slot-a";
const OTHER: &str = "models/digits/slot-b";

/// How a server answers one request for a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    Missing,
    /// So many bytes, and then the connection breaks off, so many milliseconds after it began.
    CutAfter(usize, u64),
    /// So many bytes, and then it says that this was all.
    EndsAfter(usize),
    FlippedBit,
    OneByteMore,
    IgnoresRanges,
    /// Ignores ranges, and breaks off after so many bytes.
    IgnoresRangesAndCuts(usize),
    RefusesRanges,
    /// Answers from this byte on, whatever was asked for.
    StartsAt(u64),
    /// Answers a range without saying where it begins.
    SaysNoStart,
}

/// An artifact of two files.
struct Scene {
    model: Vec<u8>,
    card: Vec<u8>,
    manifest: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let model: Vec<u8> = (0..1_000_u32).flat_map(u32::to_le_bytes).collect();
        let card = b"# A card".to_vec();
        let entry = |role, bytes: &[u8]| FileEntry {
            role,
            length: bytes.len() as u64,
            digest: Digest::of(bytes),
        };
        let manifest = envelope::seal(&Manifest {
            model: "digits".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            engine: "tract-onnx".into(),
            task: Task::Classification,
            files: vec![entry(FileRole::Card, &card), entry(FileRole::Model, &model)],
            inputs: vec![],
            outputs: vec![],
            gates: Gates::default(),
            window_rows: 100,
            humility: vec![],
        });
        Self { model, card, manifest }
    }

    fn order(&self) -> Order {
        Order {
            artifact: Digest::of(&self.manifest),
            manifest_length: Some(self.manifest.len() as u64),
            slot: SLOT.into(),
            other_slot: OTHER.into(),
        }
    }

    fn file(&self, name: &str) -> &[u8] {
        match name {
            "manifest" => &self.manifest,
            "model" => &self.model,
            _ => &self.card,
        }
    }

    fn assert_complete(&self, disk: &MemoryDisk) {
        assert_eq!(disk.list(SLOT).unwrap(), ["card", "manifest", "model"]);
        self.assert_right(disk);
    }

    /// What has its name is whole and right.
    fn assert_right(&self, disk: &MemoryDisk) {
        for name in disk.list(SLOT).unwrap() {
            if matches!(name.as_str(), "card" | "manifest" | "model") {
                let content = disk.content(&format!("{SLOT}/{name}")).unwrap().to_vec();
                assert!(content == self.file(&name), "{name} is not what was signed");
            }
        }
    }
}

/// A request as it came: the digest asked for, and from which byte on.
type Asked = (Digest, u64);

struct Server {
    blobs: BTreeMap<Digest, Vec<u8>>,
    /// How the first requests are answered; all others honestly.
    manners: Vec<Manner>,
    asked: Vec<Asked>,
    /// Chunks of this many bytes.
    chunk: usize,
    now_ms: u64,
}

impl Server {
    /// The model is the third blob that is asked for: these manners are for it.
    fn with_model_sent(scene: &Scene, manners: &[Manner]) -> Self {
        let manners = [&[Manner::Honest, Manner::Honest], manners].concat();
        let blobs = [&scene.model, &scene.card, &scene.manifest];
        let blobs = blobs.into_iter().map(|blob| (Digest::of(blob), blob.clone())).collect();
        Self { blobs, manners, asked: vec![], chunk: 1_000, now_ms: 0 }
    }

    fn honest(scene: &Scene) -> Self {
        Self::with_model_sent(scene, &[])
    }

    fn offsets_of_model(&self) -> Vec<u64> {
        self.asked[2..].iter().map(|asked| asked.1).collect()
    }

    /// Carries out an order, as a shell does.
    fn fetch(&mut self, disk: &MemoryDisk, order: &Order) -> Result<(), FetchError> {
        let mut fetch = Fetch::new(order.clone());
        let mut answer: Vec<Input<'static>> = vec![];
        let mut effect = fetch.wants();
        for _ in 0..10_000 {
            assert_eq!(effect, fetch.wants());
            let input = match effect {
                Effect::Done(result) => return result,
                Effect::Work => Input::Work,
                Effect::Ask { digest, offset } => {
                    answer = self.answer(digest, offset);
                    answer.remove(0)
                }
                Effect::Read => {
                    if let Some(Input::Failed(_)) = answer.first() {
                        self.now_ms += self.lasts_ms();
                    }
                    answer.remove(0)
                }
                Effect::Pause { ms } => {
                    self.now_ms += ms;
                    Input::Waited
                }
            };
            effect = fetch.step(disk, self.now_ms, input);
        }
        panic!("it never ends: {:?}", self.asked);
    }

    fn manner(&self) -> Manner {
        let index = self.asked.len().saturating_sub(1);
        self.manners.get(index).copied().unwrap_or(Manner::Honest)
    }

    fn lasts_ms(&self) -> u64 {
        if let Manner::CutAfter(_, ms) = self.manner() { ms } else { 0 }
    }

    fn answer(&mut self, digest: Digest, offset: u64) -> Vec<Input<'static>> {
        self.asked.push((digest, offset));
        let error = |reason| FetchError { reason, detail: format!("blob {digest}: no") };
        let manner = self.manner();
        let blob = match (manner, self.blobs.get(&digest)) {
            (Manner::Missing, _) | (_, None) => {
                return vec![Input::Failed(error(Reason::BlobNotFound))];
            }
            (_, Some(blob)) => blob.clone(),
        };
        let (mut start, mut body) = (offset, blob[offset as usize..].to_vec());
        let mut end = Input::Ended;
        match manner {
            Manner::RefusesRanges if offset > 0 => {
                return vec![Input::RangeRefused(error(Reason::Unreachable))];
            }
            Manner::IgnoresRanges => (start, body) = (0, blob),
            Manner::IgnoresRangesAndCuts(count) => {
                (start, body) = (0, blob[..count].to_vec());
                end = Input::Failed(error(Reason::Unreachable));
            }
            Manner::CutAfter(count, _) => {
                body.truncate(count);
                end = Input::Failed(error(Reason::Unreachable));
            }
            Manner::EndsAfter(count) => body.truncate(count),
            Manner::FlippedBit => body[0] ^= 1,
            Manner::OneByteMore => body.push(0),
            Manner::StartsAt(at) => (start, body) = (at, blob[at as usize..].to_vec()),
            _ => {}
        }
        let start = Some(start).filter(|_| manner != Manner::SaysNoStart);
        let chunk = |chunk: &[u8]| Input::Chunk(chunk.to_vec().leak());
        let chunks: Vec<Input<'static>> = body.chunks(self.chunk).map(chunk).collect();
        [vec![Input::Answered { start }], chunks, vec![end]].concat()
    }
}

fn put(disk: &MemoryDisk, name: &str, bytes: &[u8]) {
    let folder = name.rsplit_once('/').unwrap().0;
    tidegate_disk::make_folder(disk, folder).unwrap();
    tidegate_disk::replace(disk, name, bytes, tidegate_disk::Access::Folder).unwrap();
}

#[test]
fn everything_that_is_missing_is_fetched_once() {
    let (scene, disk) = (Scene::new(), MemoryDisk::default());
    let mut server = Server::honest(&scene);
    server.fetch(&disk, &scene.order()).unwrap();
    scene.assert_complete(&disk);
    server.fetch(&disk, &scene.order()).unwrap();
    assert_eq!(server.asked.len(), 3);
}

#[test]
fn a_connection_that_breaks_off_is_resumed_where_it_stopped() {
    let (scene, disk) = (Scene::new(), MemoryDisk::default());
    let cuts = [Manner::CutAfter(1_500, 10), Manner::CutAfter(500, 10)];
    let mut server = Server::with_model_sent(&scene, &cuts);
    server.fetch(&disk, &scene.order()).unwrap();
    scene.assert_complete(&disk);
    assert_eq!(server.offsets_of_model(), [0, 1_500, 2_000]);
    assert_eq!(server.now_ms, 2 * (RESUME_AFTER_MS + 10));
}

#[test]
fn a_connection_that_breaks_off_behind_the_last_byte_lost_nothing() {
    let (scene, disk) = (Scene::new(), MemoryDisk::default());
    let mut server = Server::with_model_sent(&scene, &[Manner::CutAfter(4_000, 10)]);
    server.fetch(&disk, &scene.order()).unwrap();
    scene.assert_complete(&disk);
    assert_eq!(server.offsets_of_model(), [0]);
}

#[test]
fn a_connection_that_brings_nothing_or_too_slowly_is_for_the_machine() {
    // 64 bytes a second, the pause included.
    for (bytes, ms, enough) in [(0, 0, false), (100, 1_062, true), (100, 1_063, false)] {
        let (scene, disk) = (Scene::new(), MemoryDisk::default());
        let mut server = Server::with_model_sent(&scene, &[Manner::CutAfter(bytes, ms)]);
        let result = server.fetch(&disk, &scene.order());
        let reason = result.err().map(|error| error.reason);
        assert_eq!(reason, (!enough).then_some(Reason::Unreachable), "{bytes} in {ms} ms");
        server.fetch(&disk, &scene.order()).unwrap();
        scene.assert_complete(&disk);
        assert_eq!(server.offsets_of_model(), [0, bytes as u64]);
    }
}

#[test]
fn a_server_without_ranges_that_breaks_off_makes_no_progress() {
    let (scene, disk) = (Scene::new(), MemoryDisk::default());
    let cuts = [Manner::CutAfter(1_500, 0), Manner::IgnoresRangesAndCuts(1_400)];
    let mut server = Server::with_model_sent(&scene, &cuts);
    let error = server.fetch(&disk, &scene.order()).unwrap_err();
    assert_eq!(error.reason, Reason::Unreachable);
    server.fetch(&disk, &scene.order()).unwrap();
    scene.assert_complete(&disk);
}

#[test]
fn what_is_not_what_was_signed_is_refused_and_nothing_of_it_kept() {
    for (manner, reason) in [
        (Manner::FlippedBit, Reason::DigestMismatch),
        (Manner::OneByteMore, Reason::TooLong),
        (Manner::Missing, Reason::BlobNotFound),
        (Manner::EndsAfter(3_999), Reason::TooShort),
    ] {
        let (scene, disk) = (Scene::new(), MemoryDisk::default());
        let mut server = Server::with_model_sent(&scene, &[manner]);
        let error = server.fetch(&disk, &scene.order()).unwrap_err();
        assert_eq!(error.reason, reason);
        assert!(error.detail.contains(&Digest::of(&scene.model).to_string()), "{error}");
        assert_eq!(disk.length(&format!("{SLOT}/model")).unwrap(), None);
        if matches!(manner, Manner::FlippedBit | Manner::OneByteMore) {
            assert_eq!(disk.length(&format!("{SLOT}/model.part")).unwrap(), None);
        }
        server.fetch(&disk, &scene.order()).unwrap();
        scene.assert_complete(&disk);
    }
}

#[test]
fn a_server_without_ranges_sends_all_of_it_again() {
    for (manner, offsets) in [
        (Manner::IgnoresRanges, [0, 900].as_slice()),
        (Manner::RefusesRanges, &[0, 900, 0]),
        (Manner::SaysNoStart, &[0, 900, 0]),
        (Manner::StartsAt(901), &[0, 900, 0]),
    ] {
        let (scene, disk) = (Scene::new(), MemoryDisk::default());
        let mut server = Server::with_model_sent(&scene, &[Manner::CutAfter(900, 0), manner]);
        server.fetch(&disk, &scene.order()).unwrap();
        scene.assert_complete(&disk);
        assert_eq!(server.offsets_of_model(), offsets, "{manner:?}");
    }
}

#[test]
fn a_server_that_never_begins_at_the_beginning_is_given_up() {
    let (scene, disk) = (Scene::new(), MemoryDisk::default());
    let mut server = Server::with_model_sent(&scene, &[Manner::StartsAt(7)]);
    let error = server.fetch(&disk, &scene.order()).unwrap_err();
    assert_eq!(error.reason, Reason::Unreachable);
    assert!(error.detail.contains("begins at byte 7"), "{error}");
}

#[test]
fn a_partial_file_that_is_something_else_is_fetched_anew() {
    let length = Scene::new().model.len();
    for (found, offsets) in [
        (vec![9; length + 1], [0].as_slice()),
        // As a power cut may leave it: so much, but not that.
        (vec![0; length], &[0]),
        (vec![0; 1_000], &[1_000, 0]),
    ] {
        let (scene, disk) = (Scene::new(), MemoryDisk::default());
        put(&disk, &format!("{SLOT}/model.part"), &found);
        let mut server = Server::honest(&scene);
        server.fetch(&disk, &scene.order()).unwrap();
        scene.assert_complete(&disk);
        assert_eq!(server.offsets_of_model(), offsets);
    }
}

#[test]
fn a_server_is_blamed_for_what_it_sent_twice() {
    let (scene, disk) = (Scene::new(), MemoryDisk::default());
    put(&disk, &format!("{SLOT}/model.part"), &[0; 1_000]);
    let mut server = Server::with_model_sent(&scene, &[Manner::Honest, Manner::FlippedBit]);
    let error = server.fetch(&disk, &scene.order()).unwrap_err();
    assert_eq!(error.reason, Reason::DigestMismatch);
}

#[test]
fn a_bad_block_costs_the_file_that_it_is_in() {
    for (name, offsets) in [("model.part", [0].as_slice()), ("model", &[0]), ("manifest", &[0])] {
        let (scene, disk) = (Scene::new(), MemoryDisk::default());
        let name = format!("{SLOT}/{name}");
        put(&disk, &name, &scene.model[..900]);
        disk.set_bad(&name, Bad::Read, 0, 900);
        let mut server = Server::honest(&scene);
        server.fetch(&disk, &scene.order()).unwrap();
        disk.mend(&name);
        scene.assert_complete(&disk);
        assert_eq!(server.offsets_of_model(), offsets, "{name}");
    }
}

#[test]
fn what_lies_in_the_other_slot_is_not_fetched() {
    let (scene, disk) = (Scene::new(), MemoryDisk::default());
    put(&disk, &format!("{OTHER}/model"), &scene.model);
    put(&disk, &format!("{OTHER}/card"), b"# B card");
    put(&disk, &format!("{SLOT}/model"), b"something else");
    let mut server = Server::honest(&scene);
    server.fetch(&disk, &scene.order()).unwrap();
    scene.assert_complete(&disk);
    let asked: Vec<Digest> = server.asked.iter().map(|asked| asked.0).collect();
    assert_eq!(asked, [Digest::of(&scene.manifest), Digest::of(&scene.card)]);
}

#[test]
fn a_manifest_of_unknown_length_is_checked_by_digest_alone() {
    let (scene, disk) = (Scene::new(), MemoryDisk::default());
    let mut server = Server::honest(&scene);
    server.manners = vec![Manner::FlippedBit, Manner::EndsAfter(9), Manner::CutAfter(9, 0)];
    let order = Order { manifest_length: None, ..scene.order() };
    for reason in [Reason::DigestMismatch, Reason::DigestMismatch, Reason::Unreachable] {
        assert_eq!(server.fetch(&disk, &order).unwrap_err().reason, reason);
    }
    server.fetch(&disk, &order).unwrap();
    scene.assert_complete(&disk);
}

#[test]
fn a_manifest_that_is_too_large_or_none_is_refused() {
    let (scene, disk) = (Scene::new(), MemoryDisk::default());
    let mut server = Server::honest(&scene);
    let too_large = Some(Manifest::SIZE_MAX as u64 + 1);
    let order = Order { manifest_length: too_large, ..scene.order() };
    assert_eq!(server.fetch(&disk, &order).unwrap_err().reason, Reason::TooLarge);
    assert!(server.asked.is_empty());

    let endless = vec![0; Manifest::SIZE_MAX + 1];
    let artifact = Digest::of(&endless);
    server.blobs.insert(artifact, endless);
    server.manners = vec![];
    let order = Order { artifact, manifest_length: None, ..scene.order() };
    assert_eq!(server.fetch(&disk, &order).unwrap_err().reason, Reason::TooLong);

    let artifact = Digest::of(&scene.card);
    let order = Order { artifact, manifest_length: Some(8), ..scene.order() };
    let error = server.fetch(&disk, &order).unwrap_err();
    assert_eq!(error.reason, Reason::Malformed);
    assert!(error.detail.contains("is not one"), "{error}");
}

#[test]
fn a_full_disk_is_said_and_the_download_goes_on_when_there_is_room() {
    let (scene, disk) = (Scene::new(), MemoryDisk::default());
    let mut server = Server::honest(&scene);
    disk.set_room(Some(scene.manifest.len() as u64 + 2_500));
    let error = server.fetch(&disk, &scene.order()).unwrap_err();
    assert_eq!(error.reason, Reason::DiskFull, "{error}");
    disk.set_room(None);
    server.fetch(&disk, &scene.order()).unwrap();
    scene.assert_complete(&disk);
    assert!(server.offsets_of_model()[1] >= 2_000, "{:?}", server.offsets_of_model());
}

#[test]
fn an_input_that_nobody_waits_for_changes_nothing() {
    let (scene, disk) = (Scene::new(), MemoryDisk::default());
    let mut fetch = Fetch::new(scene.order());
    let asked = fetch.step(&disk, 0, Input::Work);
    assert_eq!(asked, Effect::Ask { digest: scene.order().artifact, offset: 0 });
    for input in [Input::Work, Input::Chunk(&[1]), Input::Ended, Input::Waited] {
        assert_eq!(fetch.step(&disk, 0, input), asked);
    }
    assert_eq!(fetch.step(&disk, 0, Input::Answered { start: None }), Effect::Read);
}

/// Power goes at every operation of a download, with every single change that was not durable
/// kept, missing and torn; the next start finds nothing wrong under a name, and gets there.
#[test]
fn power_may_go_at_every_operation_of_a_download() {
    let scene = Scene::new();
    let begin = MemoryDisk::default();
    put(&begin, &format!("{OTHER}/card"), &scene.card);
    let run = |disk: &MemoryDisk| Server::honest(&scene).fetch(disk, &scene.order());
    let whole = begin.clone();
    run(&whole).unwrap();
    let operations = whole.operations() - begin.operations();
    let mut found = 0;
    for cut in 1..=operations {
        let disk = begin.clone();
        disk.cut_at(cut);
        run(&disk).unwrap_err();
        for after in disk.power_cuts() {
            scene.assert_right(&after.disk);
            run(&after.disk).unwrap_or_else(|error| panic!("{cut} {:?}: {error}", after.fates));
            scene.assert_complete(&after.disk);
            found += 1;
        }
    }
    assert!(operations > 10 && found > 50, "{operations} operations, {found} disks");
}
