//! One device of the demo: an agent in a process of its own, with a data folder of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tidegate_wire::DeviceId;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// An agent that is not up by then is not coming: it needs some 50 ms, and 200 may start at once.
const START_MAX: Duration = Duration::from_secs(30);

/// One simulated device.
pub struct Device {
    /// Its name.
    pub id: DeviceId,
    folder: PathBuf,
    process: Option<Child>,
}

impl Device {
    /// Writes the configuration of a device below `folder`; nothing runs yet.
    pub fn prepare(folder: &Path, index: u32, url: &str, token: &str) -> anyhow::Result<Self> {
        let id: DeviceId = format!("device-{index:03}").parse()?;
        let folder = folder.join(id.as_str());
        std::fs::create_dir_all(&folder)?;
        let site = ["oslo", "turin", "osaka"][index as usize % 3];
        let config = format!(
            "device = \"{id}\"\n\
             data_dir = {:?}\n\
             controller = \"{url}\"\n\
             enrol_token = \"{token}\"\n\
             log = \"warn\"\n\
             worker_threads = 1\n\
             labels = {{ site = \"{site}\" }}\n\
             [api]\nlisten = \"127.0.0.1:0\"\n\
             [reports]\nwindow_seconds = 2\n\
             [downloads]\nstart_jitter_seconds_max = 0\n",
            folder.join("data"),
        );
        std::fs::write(folder.join("agent.toml"), config)?;
        Ok(Self { id, folder, process: None })
    }

    /// Starts the agent: `tidegate-agent`, or `tidegate` in the agent's role.
    pub fn start(&mut self, program: &Path) -> anyhow::Result<()> {
        let _ = std::fs::remove_file(self.address_file());
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("agent.log"))?;
        let mut command = Command::new(program);
        if program.file_name().is_none_or(|name| name != "tidegate-agent") {
            command.arg("agent");
        }
        let process = command
            .arg("--config")
            .arg(self.folder.join("agent.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start an agent from {}", program.display()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().and_then(Child::id)
    }

    /// SIGKILL: no goodbye, nothing flushed.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// The base URL of the agent's local API, once it listens.
    pub async fn url(&mut self) -> anyhow::Result<String> {
        let deadline = Instant::now() + START_MAX;
        loop {
            if let Ok(address) = std::fs::read_to_string(self.address_file()) {
                return Ok(format!("http://{}", address.trim()));
            }
            if let Some(process) = &mut self.process
                && let Some(status) = process.try_wait()?
            {
                bail!("the agent of {} ended with {status}; its log: {}", self.id, self.log());
            }
            if Instant::now() > deadline {
                bail!("the agent of {} is not up; its log: {}", self.id, self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where the agent keeps everything.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The end of the agent's log.
    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("agent.log")).unwrap_or_default();
        log.lines().rev().take(5).collect::<Vec<_>>().join(" | ")
    }

    fn address_file(&self) -> PathBuf {
        self.data_folder().join("api-address")
    }
}
