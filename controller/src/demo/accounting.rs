//! Whether every report arrived exactly once: the devices' own figures beside the controller's.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::Instant;

/// Longest wait for spools to run empty once the network is back.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// A device's spool, as its agent says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spool {
    /// Reports that were ever put into it.
    pub ever: u64,
    /// Reports that wait in it.
    pub waiting: u64,
}

/// Reads the spool's figures from an agent's local metrics.
pub async fn spool(http: &reqwest::Client, url: &str) -> anyhow::Result<Spool> {
    let text = http.get(format!("{url}/metrics")).send().await?.text().await?;
    let figure = |name: &str| -> anyhow::Result<u64> {
        let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
        let value = line.and_then(|line| line.rsplit(' ').next());
        let value = value.with_context(|| format!("the agent at {url} has no metric {name}"))?;
        Ok(value.parse::<f64>()? as u64)
    };
    Ok(Spool { ever: figure("tidegate_spool_seq_next")?, waiting: figure("tidegate_spool_reports")? })
}

/// Waits until every spool is empty, and says how many reports went through each.
pub async fn drained(http: &reqwest::Client, urls: &[String]) -> anyhow::Result<Vec<u64>> {
    let deadline = Instant::now() + DRAIN_MAX;
    loop {
        let mut spools = Vec::new();
        for url in urls {
            spools.push(spool(http, url).await?);
        }
        if spools.iter().all(|spool| spool.waiting == 0) {
            return Ok(spools.iter().map(|spool| spool.ever).collect());
        }
        if Instant::now() > deadline {
            let waiting: u64 = spools.iter().map(|spool| spool.waiting).sum();
            bail!("{waiting} reports still wait in spools after {} s", DRAIN_MAX.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
