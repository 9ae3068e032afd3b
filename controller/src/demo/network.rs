//! The broker of the demo, which can be taken away and brought back.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// What is shipped for Mosquitto.
const CONFIG: &str = include_str!("../../mosquitto/mosquitto.conf");
const ACL: &str = include_str!("../../mosquitto/tidegate.acl");

/// A Mosquitto in a process of its own.
pub struct Mosquitto {
    program: PathBuf,
    config: PathBuf,
    address: SocketAddr,
    process: Option<Child>,
}

impl Mosquitto {
    /// Prepares a broker with its data below `folder`, on a free port; nothing runs yet. It has the
    /// shipped configuration and the certificates of the controller whose data folder is `data`.
    pub fn prepare(program: &Path, folder: &Path, data: &Path) -> anyhow::Result<Self> {
        // The port is free a moment later too, unless somebody is very quick; the start would say.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let folder = folder.join("mosquitto");
        std::fs::create_dir_all(&folder)?;
        let (config, acl) = (folder.join("mosquitto.conf"), folder.join("acl"));
        std::fs::write(&acl, ACL)?;
        let text = CONFIG
            .replace("listener 8883", &format!("listener {} 127.0.0.1", address.port()))
            .replace("/etc/mosquitto/tidegate.acl", &acl.display().to_string())
            .replace("/var/lib/tidegate/ca", &data.join("ca").display().to_string())
            .replace("/var/lib/mosquitto", &folder.display().to_string());
        let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
        std::fs::write(&config, format!("{text}user {user}\n"))?;
        Ok(Self { program: program.to_path_buf(), config, address, process: None })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts it, on the same port as before.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let mut process = Command::new(&self.program)
            .arg("-c")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        for _ in 0..200 {
            if TcpStream::connect(self.address).await.is_ok() {
                self.process = Some(process);
                return Ok(());
            }
            if let Some(status) = process.try_wait()? {
                bail!("{} ended with {status}", self.program.display());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        bail!("{} does not listen on {}", self.program.display(), self.address)
    }

    /// Has it read its certificate and the list of the revoked again.
    pub fn reload(&self) -> anyhow::Result<()> {
        let pid = self.process.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok());
        let pid = pid.and_then(Pid::from_raw).context("the broker does not run")?;
        Ok(rustix::process::kill_process(pid, Signal::HUP)?)
    }

    /// Takes it away without a goodbye.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }
}
