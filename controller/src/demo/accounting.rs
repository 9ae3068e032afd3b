//! Whether every report arrived exactly once: the devices' own figures beside the controller's.

use std::time::Duration;

use anyhow::{Context, bail};
use tidegate_wire::DeviceId;
use tokio::time::Instant;

use crate::client::Client;

/// Longest wait for spools to run empty once the network is back.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Looks a quarter of a second apart that must show the same, so that figures of different moments
/// are not compared.
const LOOKS: u32 = 4;

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
    Ok(Spool {
        ever: figure("tidegate_reports_made")?,
        waiting: figure("tidegate_reports_spooled")?,
    })
}

/// What went through one device's spool, and what the controller stored of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Reports that were ever put into the spool.
    pub spooled: u64,
    /// Different reports that the controller has stored.
    pub delivered: u64,
}

/// Waits until every spool is empty and nothing new comes, then compares both sides' figures.
///
/// The applications must be silent; the last windows may still be closing.
pub async fn settled(
    http: &reqwest::Client,
    client: &Client,
    devices: &[(DeviceId, String)],
) -> anyhow::Result<Vec<Delivery>> {
    let deadline = Instant::now() + DRAIN_MAX;
    let (mut last, mut looks) = (Vec::new(), 0);
    loop {
        let (mut deliveries, mut waiting) = (Vec::new(), 0);
        for (id, url) in devices {
            let spool = spool(http, url).await?;
            let delivered = client.device(id).await?.reports.received;
            deliveries.push(Delivery { spooled: spool.ever, delivered });
            waiting += spool.waiting;
        }
        looks = if waiting == 0 && deliveries == last { looks + 1 } else { 0 };
        if looks == LOOKS {
            return Ok(deliveries);
        }
        if Instant::now() > deadline {
            bail!("{waiting} reports still wait in spools after {} s", DRAIN_MAX.as_secs());
        }
        last = deliveries;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
