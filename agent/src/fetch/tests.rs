//! Against a server that misbehaves in every way that a script can say.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use tidegate_wire::manifest::{FileEntry, FileRole, Manifest, Task};
use tidegate_wire::policy::Gates;
use tidegate_wire::{Digest, envelope};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// How the server answers one request for a blob.
#[derive(Clone, Copy)]
enum Manner {
    Honest,
    Missing,
    /// Says how much it sends, sends so many bytes of it, and hangs up.
    CutAfter(usize),
    /// So many bytes, and then nothing for ever.
    SilentAfter(usize),
    /// A byte now and then, sooner than silence is noticed.
    Trickle,
    FlippedBit,
    IgnoresRanges,
    /// Answers every range with 416.
    RefusesRanges,
}

/// A request as it came: the digest asked for, and from which byte on.
type Asked = (Digest, u64);

struct Server {
    upstream: Upstream,
    asked: Arc<Mutex<Vec<Asked>>>,
    manners: Arc<Mutex<Vec<Manner>>>,
}

impl Server {
    /// Serves `blobs`; the first requests are answered in these manners, all others honestly.
    async fn start(blobs: &[&[u8]], manners: &[Manner]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let blobs: BTreeMap<Digest, Vec<u8>> =
            blobs.iter().map(|blob| (Digest::of(blob), blob.to_vec())).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let manners = Arc::new(Mutex::new(manners.to_vec()));
        let (log, script) = (Arc::clone(&asked), Arc::clone(&manners));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, script, blobs) = (log.clone(), script.clone(), blobs.clone());
                tokio::spawn(async move { answer(stream, &blobs, &log, &script).await });
            }
        });
        let upstream = Upstream::plain(&base, Duration::from_millis(300));
        Self { upstream, asked, manners }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    async fn fetch(&self, scene: &Scene) -> Result<(), FetchError> {
        let (pace, disk) = (Arc::new(Pace::new(0)), scene.disk());
        fetch(self.upstream.clone(), pace, disk, scene.order()).await
    }
}

async fn answer(
    mut stream: TcpStream,
    blobs: &BTreeMap<Digest, Vec<u8>>,
    log: &Mutex<Vec<Asked>>,
    script: &Mutex<Vec<Manner>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?.to_lowercase();
    let digest: Digest = head.split_whitespace().nth(1)?.strip_prefix("/blobs/")?.parse().ok()?;
    let range = head.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next());
    let offset: usize = range.map_or(0, |text| text.parse().unwrap());
    log.lock().unwrap().push((digest, offset as u64));
    let manner = {
        let mut script = script.lock().unwrap();
        if script.is_empty() { Manner::Honest } else { script.remove(0) }
    };
    let (status, mut body) = match (manner, blobs.get(&digest)) {
        (Manner::Missing, _) | (_, None) => ("404 Not Found", b"no such blob".to_vec()),
        (Manner::RefusesRanges, _) if offset > 0 => ("416 Range Not Satisfiable", vec![]),
        (Manner::IgnoresRanges, Some(blob)) => ("200 OK", blob.clone()),
        (_, Some(blob)) if offset == 0 => ("200 OK", blob.clone()),
        (_, Some(blob)) => ("206 Partial Content", blob[offset..].to_vec()),
    };
    if matches!(manner, Manner::FlippedBit) {
        body[0] ^= 1;
    }
    let end = offset + body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-range: bytes {offset}-{end}/*\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    match manner {
        Manner::CutAfter(count) => body.truncate(count),
        Manner::SilentAfter(count) => {
            stream.write_all(&body[..count]).await.ok()?;
            std::future::pending::<()>().await;
        }
        Manner::Trickle => {
            for byte in &body {
                stream.write_u8(*byte).await.ok()?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        _ => {}
    }
    stream.write_all(&body).await.ok()?;
    stream.shutdown().await.ok()
}

/// A device's disk with two slots, and an artifact of two files.
struct Scene {
    folder: tempfile::TempDir,
    model: Vec<u8>,
    card: Vec<u8>,
    manifest: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let model: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let card = b"# A card".to_vec();
        let entry = |role, bytes: &[u8]| FileEntry {
            role,
            length: bytes.len() as u64,
            digest: Digest::of(bytes),
        };
        let manifest = envelope::seal(&Manifest {
            model: "digits".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            engine: "tract-onnx".to_string(),
            task: Task::Classification,
            files: vec![entry(FileRole::Card, &card), entry(FileRole::Model, &model)],
            inputs: vec![],
            outputs: vec![],
            gates: Gates::default(),
            window_rows: 100,
            humility: vec![],
        });
        Self { folder: tempfile::tempdir().unwrap(), model, card, manifest }
    }

    fn blobs(&self) -> [&[u8]; 3] {
        [&self.model, &self.card, &self.manifest]
    }

    fn order(&self) -> Order {
        Order {
            artifact: Digest::of(&self.manifest),
            manifest_length: Some(self.manifest.len() as u64),
            slot: "slot-a".to_string(),
            other_slot: "slot-b".to_string(),
        }
    }

    fn disk(&self) -> Folder {
        Folder::new(self.folder.path())
    }

    fn slot(&self) -> PathBuf {
        self.folder.path().join("slot-a")
    }

    fn assert_complete(&self) {
        let slot = self.slot();
        assert_eq!(fs::read(slot.join("model")).unwrap(), self.model);
        assert_eq!(fs::read(slot.join("card")).unwrap(), self.card);
        assert_eq!(fs::read(slot.join("manifest")).unwrap(), self.manifest);
        assert_eq!(fs::read_dir(slot).unwrap().count(), 3);
    }
}

/// The model is the third blob that is asked for.
async fn with_model_sent(scene: &Scene, manner: &[Manner]) -> Server {
    let manners = [&[Manner::Honest, Manner::Honest], manner].concat();
    Server::start(&scene.blobs(), &manners).await
}

#[tokio::test]
async fn everything_that_is_missing_is_fetched_once() {
    let scene = Scene::new();
    let server = Server::start(&scene.blobs(), &[]).await;
    server.fetch(&scene).await.unwrap();
    scene.assert_complete();
    server.fetch(&scene).await.unwrap();
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn a_connection_that_breaks_off_is_resumed_where_it_stopped() {
    let scene = Scene::new();
    let cut = [Manner::CutAfter(100_000), Manner::CutAfter(50_000)];
    let server = with_model_sent(&scene, &cut).await;
    server.fetch(&scene).await.unwrap();
    scene.assert_complete();
    let offsets: Vec<u64> = server.asked()[2..].iter().map(|asked| asked.1).collect();
    assert_eq!(offsets, [0, 100_000, 150_000]);
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_resumed_by_the_next_try() {
    let scene = Scene::new();
    let server = with_model_sent(&scene, &[Manner::SilentAfter(70_000), Manner::SilentAfter(0)]);
    let server = server.await;
    let error = server.fetch(&scene).await.unwrap_err();
    assert_eq!(error.reason, Reason::Unreachable);
    server.fetch(&scene).await.unwrap();
    scene.assert_complete();
    let offsets: Vec<u64> = server.asked()[2..].iter().map(|asked| asked.1).collect();
    assert_eq!(offsets, [0, 70_000, 70_000]);
}

#[tokio::test]
async fn a_download_that_was_let_go_goes_on_later() {
    let scene = Scene::new();
    let server = with_model_sent(&scene, &[Manner::SilentAfter(70_000)]).await;
    let part = scene.slot().join("model.part");
    let let_go = async {
        while fs::metadata(&part).map_or(0, |meta| meta.len()) < 70_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = server.fetch(&scene) => panic!("it cannot end"),
        () = let_go => {}
    }
    server.fetch(&scene).await.unwrap();
    scene.assert_complete();
    assert_eq!(server.asked().last().unwrap().1, 70_000);
}

#[tokio::test]
async fn a_flipped_bit_is_noticed_and_nothing_of_it_kept() {
    let scene = Scene::new();
    let server = with_model_sent(&scene, &[Manner::FlippedBit]).await;
    let error = server.fetch(&scene).await.unwrap_err();
    assert_eq!(error.reason, Reason::DigestMismatch);
    assert!(error.detail.contains(&Digest::of(&scene.model).to_string()), "{error}");
    assert!(!scene.slot().join("model.part").exists());
    assert!(!scene.slot().join("model").exists());
    server.fetch(&scene).await.unwrap();
    scene.assert_complete();
}

#[tokio::test]
async fn a_missing_blob_is_named() {
    let scene = Scene::new();
    let server = with_model_sent(&scene, &[Manner::Missing]).await;
    let error = server.fetch(&scene).await.unwrap_err();
    assert_eq!(error.reason, Reason::BlobNotFound);
    assert!(error.detail.contains(&Digest::of(&scene.model).to_string()), "{error}");
}

#[tokio::test]
async fn a_server_without_ranges_sends_all_of_it_again() {
    for manner in [Manner::IgnoresRanges, Manner::RefusesRanges] {
        let scene = Scene::new();
        let server = with_model_sent(&scene, &[Manner::CutAfter(9_000), manner]).await;
        server.fetch(&scene).await.unwrap();
        scene.assert_complete();
        assert!(server.manners.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_lies_in_the_other_slot_is_not_fetched() {
    let scene = Scene::new();
    let server = Server::start(&scene.blobs(), &[]).await;
    let other = scene.folder.path().join("slot-b");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("model"), &scene.model).unwrap();
    fs::write(other.join("card"), b"# B card").unwrap();
    server.fetch(&scene).await.unwrap();
    scene.assert_complete();
    let asked: Vec<Digest> = server.asked().iter().map(|asked| asked.0).collect();
    assert_eq!(asked, [Digest::of(&scene.manifest), Digest::of(&scene.card)]);
}

#[tokio::test]
async fn a_server_that_is_away_is_unreachable() {
    let scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let upstream = Upstream::plain(&base, Duration::from_secs(1));
    let error =
        fetch(upstream, Arc::new(Pace::new(0)), scene.disk(), scene.order()).await.unwrap_err();
    assert_eq!(error.reason, Reason::Unreachable);
    assert!(error.detail.to_lowercase().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_server_that_trickles_is_given_up_and_said_so() {
    let scene = Scene::new();
    let server = with_model_sent(&scene, &[Manner::Trickle]).await;
    let error = server.fetch(&scene).await.unwrap_err();
    assert_eq!(error.reason, Reason::Unreachable);
    assert!(error.detail.contains("less than 64 bytes a second"), "{error}");
    server.fetch(&scene).await.unwrap();
    scene.assert_complete();
}
