//! The broker of the demo, which can be taken away and brought back.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A Mosquitto in a process of its own.
pub struct Mosquitto {
    program: PathBuf,
    config: PathBuf,
    address: SocketAddr,
    process: Option<Child>,
}

impl Mosquitto {
    /// Prepares a broker with its data below `folder`, on a free port; nothing runs yet.
    pub fn prepare(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        // The port is free a moment later too, unless somebody is very quick; the start would say.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let folder = folder.join("mosquitto");
        std::fs::create_dir_all(&folder)?;
        let config = folder.join("mosquitto.conf");
        let text = format!(
            "listener {} 127.0.0.1\n\
             allow_anonymous true\n\
             max_queued_messages 100000\n\
             user {}\n\
             persistence true\n\
             persistence_location {}/\n",
            address.port(),
            std::env::var("USER").unwrap_or_else(|_| "root".to_owned()),
            folder.display(),
        );
        std::fs::write(&config, text)?;
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

    /// Takes it away without a goodbye.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }
}
