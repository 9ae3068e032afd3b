//! A controller as a process, on free ports of this machine.
#![allow(dead_code)]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tidegate_controller::api::types::DeviceTokenRequest;
use tidegate_controller::cli;
use tidegate_controller::client::Client;
use tidegate_wire::invitation::Pass;
use tidegate_wire::{FleetId, Labels};
use tokio::process::{Child, Command};

use super::newcomer::{self, Member, Newcomer};

/// No test waits longer for something that should happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn fleet_id() -> FleetId {
    "plant".parse().unwrap()
}

/// A controller as a process.
pub struct World {
    pub folder: tempfile::TempDir,
    pub process: Child,
    pub http: SocketAddr,
    pub broker: SocketAddr,
    pub pass: Pass,
    pub client: Client,
}

impl World {
    /// Starts one that lets a device send so many kibibytes a second.
    pub async fn start(kib_per_second: u32) -> Self {
        Self::found(kib_per_second, "info").await
    }

    /// Starts one that logs everything that there is to log.
    pub async fn start_talkative() -> Self {
        Self::found(0, "trace").await
    }

    async fn found(kib_per_second: u32, log: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let init = cli::trust::initialise(&data, fleet_id(), &folder.path().join("keys")).unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (http, broker) = (free(), free());
        let text = format!(
            "data_dir = {data:?}\nhttp_listen = '{http}'\n[broker.embedded]\nlisten = '{broker}'\n\
             [door]\ndevice_kib_per_second_max = {kib_per_second}\n"
        );
        std::fs::write(folder.path().join("tidegate.toml"), text).unwrap();
        let process = serve(folder.path(), log);
        let pass = Pass { controller: format!("https://{http}"), ..init.pass };
        let client = Client::new(&pass).unwrap();
        let mut world = Self { folder, process, http, broker, pass, client };
        world.answers().await;
        world
    }

    /// Starts it again after it ended.
    pub async fn restart(&mut self) {
        self.process = serve(self.folder.path(), "info");
        self.answers().await;
    }

    pub async fn answers(&mut self) {
        let started = Instant::now();
        while !self.client.health().await.is_ok_and(|health| health.broker) {
            assert!(self.process.try_wait().unwrap().is_none(), "it does not start");
            assert!(started.elapsed() < PATIENCE, "it does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn join(&self, device: &str) -> Member {
        let request = DeviceTokenRequest {
            labels: Labels::new(),
            uses: 1,
            expires_seconds: 600,
            why: "a test".into(),
        };
        let issued = self.client.device_token(&request).await.unwrap();
        Newcomer::new(device).join(&issued.token.parse().unwrap()).await
    }

    /// What is counted in `/metrics`, by place and reason; what was never counted may be missing.
    pub async fn rejected(&self, place: &str, reason: &str) -> u64 {
        let http =
            newcomer::http(&tidegate_agent::tls::Authority::Pinned(self.pass.authority), None);
        let request = http.get(format!("{}/metrics", self.pass.controller));
        let answer = request.bearer_auth(self.pass.bearer()).send().await.unwrap();
        let text = answer.text().await.unwrap();
        let name = format!("tidegate_rejected_total{{where=\"{place}\",reason=\"{reason}\"}} ");
        let count = text.lines().find_map(|line| line.strip_prefix(&name));
        count.map_or(0, |count| count.parse().unwrap())
    }

    /// Waits until so much is counted, and that it is not more.
    pub async fn counts(&self, place: &str, reason: &str, expected: u64) {
        let started = Instant::now();
        loop {
            let counted = self.rejected(place, reason).await;
            if counted == expected {
                return;
            }
            assert!(counted < expected, "{place} {reason}: {counted}, not {expected}");
            assert!(
                started.elapsed() < PATIENCE,
                "{place} {reason} stays {counted}, not {expected}"
            );
        }
    }

    /// Bytes of the process's own memory.
    pub fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id().unwrap());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Waits until more is counted than before.
    pub async fn more_than(&self, place: &str, reason: &str, before: u64) {
        let started = Instant::now();
        while self.rejected(place, reason).await <= before {
            assert!(started.elapsed() < PATIENCE, "{place} {reason} stays {before}");
        }
    }
}

fn serve(folder: &Path, log: &str) -> Child {
    let out = std::fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("serve").arg("--config").arg(folder.join("tidegate.toml"));
    command.env_remove("TIDEGATE_DATA").env("TIDEGATE_LOG", log);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(out);
    command.kill_on_drop(true).spawn().unwrap()
}
