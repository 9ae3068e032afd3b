//! The agent as a program of its own: how it starts, stops, and turns others away.
#![allow(missing_docs)]

mod authority;
mod client;
mod device;
mod digits;
mod disk;
mod fleet;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use client::Client;
use device::{Application, Device, gates};
use digits::{request, slot, stream};
use disk::SmallDisk;
use fleet::Fleet;
use rustix::process::{Pid, Signal, kill_process};
use tidegate_agent::store::Store;
use tidegate_agent::store::backlog::Backlog;
use tidegate_agent::store::spool::{Sender, SpoolLimits};
use tidegate_lifecycle::{Record, Stage, Stop};
use tidegate_wire::invitation::{Invitation, Secret};
use tidegate_wire::report::{Body, Report, Window};
use tidegate_wire::{Digest, State, envelope};

/// Writes a configuration beside the data folder.
fn configure(folder: &Path, invitation: &Invitation) -> PathBuf {
    let text = format!(
        "device = \"pi-1\"\ndata_dir = {folder:?}\nenrol_token = \"{}\"\n\
         [api]\nlisten = \"127.0.0.1:0\"\n",
        invitation.text()
    );
    let path = folder.with_extension("toml");
    fs::write(&path, text).unwrap();
    path
}

/// Of a controller that nobody runs.
fn nobody() -> Invitation {
    Invitation {
        controller: "https://127.0.0.1:1".to_string(),
        authority: Digest::of(b"nobody's"),
        root: Digest::of(b"nobody's"),
        secret: Secret(b"secret".to_vec()),
    }
}

fn command(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-agent"));
    command.arg("--config").arg(config).stdin(Stdio::null()).env_remove("RUST_BACKTRACE");
    command
}

/// Runs it to its end, which must come by itself.
fn run(config: &Path, argument: &str) -> Output {
    let arguments = [argument].into_iter().filter(|argument| !argument.is_empty());
    command(config).args(arguments).output().unwrap()
}

/// A running agent; killed if the test forgets it.
struct Agent {
    child: Child,
    address: SocketAddr,
}

impl Agent {
    /// Starts it, and waits until it says where it listens.
    fn start(config: &Path) -> Self {
        let mut child = command(config).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it listened");
            if let Some((_, address)) = line.split_once("listens on http://") {
                break address.trim().parse().unwrap();
            }
        };
        // Read on, or a full pipe would hold it up.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, address }
    }

    fn answer(&self) -> u16 {
        let question = request(&stream()[0]);
        let mut client = Client::new(self.address);
        client.post("/v2/models/digits/infer", "", question.as_bytes()).status
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Asks it to stop; returns its exit code.
    fn stop(mut self) -> Option<i32> {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn record(data: &Path) -> Record {
    let store = Store::open(data).unwrap();
    store.model(&digits::model_name()).unwrap().1.record.unwrap()
}

fn spooled_windows(data: &Path) -> Vec<Window> {
    let sender = Sender { fleet: "test".parse().unwrap(), device: "pi-1".parse().unwrap() };
    let limits = SpoolLimits { entries_max: 1_000, bytes_max: 1 << 24 };
    let mut backlog = Backlog::new(data.join("spool"), sender, limits);
    backlog.retry(0);
    let seqs: Vec<u64> = backlog.seqs().collect();
    let bodies = seqs.into_iter().map(|seq| {
        let sealed = backlog.on_spool(0, |spool| spool.sealed(seq)).unwrap().unwrap();
        envelope::open::<Report>(&sealed).unwrap().body
    });
    let windows = bodies.filter_map(|body| match body {
        Body::Window(window) => Some(window),
        Body::Transition(_) => None,
    });
    windows.collect()
}

/// A data folder on which 1.0.0 was committed.
async fn committed(fleet: &mut Fleet, data: &Path) {
    let first = slot("1.0.0", gates());
    fleet.release(&first);
    let mut device = Device::start(fleet, data).await;
    let application = Application::start(&device.serving);
    device.direct(fleet, 1, &first).await;
    device.reached(State::Committed).await;
    application.stop().await;
    device.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_answers_at_once_while_controller_and_broker_are_away_and_stops_clean() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    committed(&mut Fleet::start().await, &data).await;
    let windows_before = spooled_windows(&data).len();
    // Takes connections and never says a word: whoever waits for it waits for half a minute.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = configure(&data, &nobody());
    let silent = format!("controller = \"https://{}\"\n", silent.local_addr().unwrap());
    fs::write(&config, silent + &fs::read_to_string(&config).unwrap()).unwrap();

    let begun = Instant::now();
    let agent = Agent::start(&config);
    assert_eq!(agent.answer(), 200);
    let took = begun.elapsed();
    eprintln!("first answer after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    for _ in 0..6 {
        assert_eq!(agent.answer(), 200);
    }
    assert_eq!(agent.stop(), Some(0));

    assert_eq!(record(&data).stop, Stop::Clean);
    let windows = spooled_windows(&data);
    assert_eq!(windows.len(), windows_before + 1);
    // Too few rows to say more of them than how many.
    assert_eq!(windows.last().map(|window| (window.rows, window.features.len())), Some((7, 0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_and_answers_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount(16) else { return };
    let data = disk.path().join("data");
    let mut fleet = Fleet::start().await;
    committed(&mut fleet, &data).await;
    let config = configure(&data, &fleet.invitation());
    let spooled = spooled_windows(&data);
    assert!(!spooled.is_empty());
    disk.fill();
    for _ in 0..2 {
        let agent = Agent::start(&config);
        assert_eq!(agent.answer(), 200);
        assert_eq!(agent.stop(), Some(0));
    }
    // The record has its room, so the stop was clean; what was spooled before is still there.
    assert_eq!(record(&data).stop, Stop::Clean);
    disk.free();
    let windows = spooled_windows(&data);
    assert_eq!(windows[..spooled.len()], spooled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_unclean_stops_use_up_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut fleet = Fleet::start().await;
    let first = slot("1.0.0", gates());
    fleet.release(&first);
    let mut device = Device::start(&fleet, &data).await;
    device.direct(&fleet, 1, &first).await;
    device.reached(State::Trial).await;
    device.stop().await;
    let config = configure(&data, &fleet.invitation());
    let attempts = || {
        let candidate = record(&data).candidate.unwrap();
        assert!(matches!(candidate.stage, Stage::Trial { .. }));
        candidate.attempts
    };
    for _ in 0..2 {
        let agent = Agent::start(&config);
        assert_eq!(agent.answer(), 200);
        assert_eq!(agent.stop(), Some(0));
        assert_eq!(attempts(), 0);
    }
    let agent = Agent::start(&config);
    assert_eq!(agent.answer(), 200);
    kill_process(agent.pid(), Signal::KILL).unwrap();
    drop(agent);
    let agent = Agent::start(&config);
    assert_eq!(agent.answer(), 200);
    assert_eq!(agent.stop(), Some(0));
    assert_eq!(attempts(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_agent_is_turned_away_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut fleet = Fleet::start().await;
    committed(&mut fleet, &data).await;
    let config = configure(&data, &fleet.invitation());
    let agent = Agent::start(&config);
    assert_eq!(agent.answer(), 200);

    // The same folder.
    let output = run(&config, "");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains(data.to_str().unwrap()), "{error}");
    assert!(error.contains(&format!("(process {})", agent.child.id())), "{error}");

    // Another folder, and the same id.
    let output = run(&configure(&folder.path().join("other"), &fleet.invitation()), "");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("device id pi-1 is already enrolled with another key"), "{error}");

    assert_eq!(agent.answer(), 200);
    assert_eq!(agent.stop(), Some(0));
}

#[test]
fn check_says_what_is_wrong_and_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = configure(&data, &nobody());
    let good = run(&config, "--check");
    let said = String::from_utf8(good.stdout).unwrap();
    assert_eq!(said, format!("{}: good, for device pi-1\n", config.display()));
    assert_eq!((good.status.code(), good.stderr), (Some(0), vec![]));

    let text = fs::read_to_string(&config).unwrap();
    let cases = [
        (text.replace("device =", "devise ="), "unknown field `devise`"),
        (
            format!("controller = \"http://c:1\"\n{text}"),
            "`controller` must be an address as in https://",
        ),
        (text.replace("tgd1.", "tgp1."), "is no invitation: it does not begin with `tgd1.`"),
        (format!("log = \"a=b=c\"\n{text}"), "`log` is \"a=b=c\", which is no filter"),
        (text.replace("127.0.0.1:0", "localhost"), "listen"),
    ];
    for (text, expected) in cases {
        fs::write(&config, text).unwrap();
        for argument in ["--check", ""] {
            let output = run(&config, argument);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{error}");
            assert!(error.starts_with("tidegate-agent: ") && error.contains(expected), "{error}");
        }
    }
    fs::remove_file(&config).unwrap();
    let error = String::from_utf8(run(&config, "--check").stderr).unwrap();
    assert!(error.contains("cannot read") && error.contains("data.toml"), "{error}");
    assert!(!data.exists());
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = configure(&folder.path().join("data"), &nobody());
    let text = fs::read_to_string(&config).unwrap().replace("127.0.0.1:0", &address);
    fs::write(&config, text).unwrap();
    let output = run(&config, "");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains(&address) && error.contains("api.listen"), "{error}");
}
