//! The agent as a program of its own, with its configuration, its log and its answers.
#![allow(dead_code, missing_docs)] // Each test file uses some of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tidegate_wire::invitation::{Invitation, Secret};
use tidegate_wire::{Digest, State};

use crate::client::Client;
use crate::device::{Application, Device, gates};
use crate::digits::{request, slot, stream};
use crate::fleet::Fleet;

/// Writes a configuration beside the data folder.
pub fn configure(folder: &Path, invitation: &Invitation) -> PathBuf {
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
pub fn nobody() -> Invitation {
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
pub fn run(config: &Path, argument: &str) -> Output {
    let arguments = [argument].into_iter().filter(|argument| !argument.is_empty());
    command(config).args(arguments).output().unwrap()
}

/// A running agent; killed if the test forgets it.
pub struct Agent {
    pub child: Child,
    pub address: SocketAddr,
    log: mpsc::Receiver<String>,
}

impl Agent {
    /// Starts it, and waits until it says where it listens; without TCP the address is no one's.
    pub fn start(config: &Path) -> Self {
        let mut child = command(config).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it listened");
            if let Some((_, address)) = line.split_once("listens on http://") {
                break address.trim().parse().unwrap();
            }
            if line.contains("listens at /") {
                break SocketAddr::from(([0, 0, 0, 0], 0));
            }
        };
        // Read on, or a full pipe would hold it up.
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            log.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        Self { child, address, log: lines }
    }

    pub fn answer(&self) -> u16 {
        let question = request(&stream()[0]);
        let mut client = Client::new(self.address);
        client.post("/v2/models/digits/infer", "", question.as_bytes()).status
    }

    /// Waits until its log has a line with these words.
    pub fn says(&self, words: &str) -> String {
        loop {
            let line = self.log.recv_timeout(Duration::from_secs(40));
            let line = line.unwrap_or_else(|_| panic!("it never said {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    pub fn get(&self, path: &str) -> String {
        Client::new(self.address).get(path).body
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Asks it to stop; returns its exit code.
    pub fn stop(mut self) -> Option<i32> {
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

/// A data folder on which 1.0.0 was committed.
pub async fn committed(fleet: &mut Fleet, data: &Path) {
    let first = slot("1.0.0", gates());
    fleet.release(&first);
    let mut device = Device::start(fleet, data).await;
    let application = Application::start(&device.serving);
    device.direct(fleet, 1, &first).await;
    device.reached(State::Committed).await;
    application.stop().await;
    device.stop().await;
}
