//! The agent as a program of its own: how it starts, stops, and turns others away.
#![allow(missing_docs)]

mod authority;
mod client;
mod device;
mod digits;
mod disk;
mod fleet;
mod program;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use device::{Device, gates};
use digits::slot;
use disk::SmallDisk;
use fleet::Fleet;
use program::{Agent, committed, configure, nobody, run};
use rustix::process::{Signal, kill_process};
use tidegate_agent::store::spool::SledSpool;
use tidegate_agent::store::{Backlog, Store};
use tidegate_device::spool::{Sender, SpoolLimits};
use tidegate_lifecycle::{Record, Stage, Stop};
use tidegate_wire::report::{Body, Report, Window};
use tidegate_wire::{State, envelope};

fn record(data: &Path) -> Record {
    let store = Store::open(data).unwrap();
    store.model(&digits::model_name()).unwrap().1.record.unwrap()
}

fn spooled_windows(data: &Path) -> Vec<Window> {
    let sender = Sender { fleet: "test".parse().unwrap(), device: "pi-1".parse().unwrap() };
    let limits = SpoolLimits { entries_max: 1_000, bytes_max: 1 << 24 };
    let mut backlog = Backlog::new(SledSpool::new(data.join("spool")), sender, limits);
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

/// What the socket says to a question for the agent's health.
fn live(socket: &Path) -> String {
    let mut connection = UnixStream::connect(socket).unwrap();
    let request = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    connection.write_all(request).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_answers_at_a_unix_socket_and_tcp_can_be_off() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = configure(&data, &nobody());
    let socket = folder.path().join("run/api.sock");
    let text = fs::read_to_string(&config).unwrap();
    let both = text.replace("[api]\n", &format!("[api]\nunix_socket = {socket:?}\n"));
    fs::write(&config, &both).unwrap();
    let agent = Agent::start(&config);
    agent.says("listens at /");
    assert!(live(&socket).starts_with("HTTP/1.1 200"));
    assert_eq!(agent.stop(), Some(0));
    assert!(!socket.exists());

    // Without TCP, and with what a crash leaves behind.
    drop(UnixListener::bind(&socket).unwrap());
    fs::write(&config, both.replace("\"127.0.0.1:0\"", "\"off\"")).unwrap();
    let agent = Agent::start(&config);
    assert!(live(&socket).starts_with("HTTP/1.1 200"));
    let address = fs::read_to_string(data.join("api-address")).unwrap();
    assert_eq!(address, format!("unix:{}\n", socket.display()));
    assert_eq!(agent.stop(), Some(0));
    assert!(!socket.exists());

    // What is no socket is left alone.
    fs::write(&socket, "precious").unwrap();
    let output = run(&config, "");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("api.unix_socket") && error.contains("left alone"), "{error}");
    assert_eq!(fs::read(&socket).unwrap(), b"precious");
}
