//! The controller's process.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use tidegate_controller::client::Client;
use tokio::process::{Child, Command};

use crate::world::{PATIENCE, POLL, program};

pub struct Controller {
    pub data: PathBuf,
    pub http: SocketAddr,
    broker: SocketAddr,
    process: Option<Child>,
}

impl Controller {
    pub fn prepare(data: PathBuf) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { data, http: free(), broker: free(), process: None }
    }

    pub fn start(&mut self) {
        let path = self.data.with_extension("log");
        let log = std::fs::File::options().create(true).append(true).open(path).unwrap();
        let mut command = Command::new(program());
        command.arg("serve").arg("--data").arg(&self.data);
        command.args(["--http", &self.http.to_string(), "--broker", &self.broker.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(log));
        self.process = Some(command.kill_on_drop(true).spawn().unwrap());
    }

    pub async fn kill(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }

    pub async fn answers(&mut self, client: &Client) {
        let started = Instant::now();
        while client.health().await.is_err() {
            let exit = self.process.as_mut().unwrap().try_wait().unwrap();
            let log = || std::fs::read_to_string(self.data.with_extension("log")).unwrap();
            assert!(exit.is_none(), "journal-intact: the controller does not start: {}", log());
            assert!(started.elapsed() < PATIENCE, "the controller does not answer: {}", log());
            tokio::time::sleep(POLL).await;
        }
    }
}
