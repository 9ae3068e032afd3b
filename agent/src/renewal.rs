//! Certificates end, so the device gets itself a new one in time, by enrolling again with its key.
//!
//! This runs beside everything else: whatever comes of it, the active model goes on answering. New
//! connections show the new certificate; what has begun goes on as it began.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tidegate_disk::DiskError;
use tidegate_wire::{DeviceId, Digest};

use crate::clock::Backoff;
use crate::config::{Config, ConfigError};
use crate::enrol::{AskError, Errand};
use crate::link::Door;
use crate::link::mqtt::{BadBroker, MqttUplink};
use crate::serving::Metrics;
use crate::store::identity::{Enrolment, Identity};
use crate::tls::{TimeFloor, TlsError};
use crate::upstream::{Upstream, UpstreamError};

/// First and longest wait after a renewal that failed.
const RETRY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));
/// How long to wait when the controller says no: only an operator can change its mind.
const REFUSED_WAIT: Duration = Duration::from_secs(3600);
/// The longest sleep: a device that slept, or whose clock was set, notices within an hour.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// What a renewal is given.
pub struct Parts {
    /// The device's key, and what it has.
    pub identity: Identity,
    /// The time that certificates are judged by.
    pub floor: TimeFloor,
    /// Gets the new certificate.
    pub upstream: Upstream,
    /// Gets the new certificate, and perhaps a new broker.
    pub link: Arc<MqttUplink>,
}

/// Keeps the device's certificate young.
pub struct Renewal {
    config: Config,
    parts: Parts,
    backoff: Backoff,
    figures: Figures,
}

/// What Prometheus is told.
#[derive(Debug, Default)]
struct Figures {
    expires: Gauge,
    failures: Gauge,
    refused: Gauge,
}

impl Figures {
    fn register(&self, metrics: &Metrics) {
        let Self { expires, failures, refused } = self;
        metrics.register(|registry| {
            let text = "When the device's certificate ends, Unix seconds";
            registry.register("certificate_expires", text, expires.clone());
            let text = "Renewals of the certificate that failed since the last that did not";
            registry.register("certificate_renewals_failed", text, failures.clone());
            let text = "Whether the controller gives this device no certificate any more";
            registry.register("certificate_refused", text, refused.clone());
        });
    }
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the controller answered for fleet {sent}, this device belongs to {ours}")]
    Fleet { ours: String, sent: String },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Broker(#[from] BadBroker),
}

impl Renewal {
    /// The renewal of an enrolled device's certificate.
    pub fn new(config: &Config, parts: Parts, metrics: &Metrics) -> Self {
        let backoff = Backoff::new(RETRY.0, RETRY.1);
        let figures = Figures::default();
        figures.register(metrics);
        Self { config: config.clone(), parts, backoff, figures }
    }

    /// Renews whenever it is time. Never ends.
    pub async fn run(mut self) {
        loop {
            let Some(enrolment) = self.parts.identity.enrolment().cloned() else { return };
            self.figures.expires.set(i64::try_from(enrolment.expires).unwrap_or(i64::MAX));
            let due = due(&enrolment);
            let now = self.parts.floor.now();
            if now < due {
                tokio::time::sleep(Duration::from_secs(due - now).min(SLEEP_MAX)).await;
                continue;
            }
            let wait = match self.renew(&enrolment).await {
                Ok(()) => {
                    self.backoff.reset();
                    self.figures.failures.set(0);
                    self.figures.refused.set(0);
                    // A controller that gives out what has ended already is not asked in a storm.
                    RETRY.0
                }
                Err(error) => self.failed(&enrolment, &error),
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Once. The new certificate is on disk before it is shown to anybody.
    async fn renew(&mut self, enrolment: &Enrolment) -> Result<(), RenewalError> {
        let Self { config, parts, .. } = self;
        let mut errand = Errand::known(config, enrolment);
        let answer = match errand.ask(config, &parts.identity, &parts.floor).await {
            Err(error) if error.status() == Some(401) => {
                // It does not know this device: removed, or it lost its memory. If there is an
                // invitation, that lets it in again.
                errand.secret = config.invitation()?.map(|invitation| invitation.secret);
                if errand.secret.is_none() {
                    return Err(error.into());
                }
                errand.ask(config, &parts.identity, &parts.floor).await?
            }
            answer => answer?,
        };
        if answer.fleet != enrolment.fleet {
            let (ours, sent) = (enrolment.fleet.to_string(), answer.fleet.to_string());
            return Err(RenewalError::Fleet { ours, sent });
        }
        let renewed = errand.accept(config, &parts.identity, &parts.floor, answer)?;
        let tls = parts.identity.tls(&renewed, &parts.floor)?;
        let (broker, expires) = (renewed.broker.clone(), renewed.expires);
        parts.identity.enrolled(renewed)?;
        parts.upstream.replace_tls(tls.clone())?;
        parts.link.replace_door(Door { broker, tls: Arc::new(tls) })?;
        let days = expires.saturating_sub(parts.floor.now()) / 86_400;
        tracing::info!("this device has a new certificate, good for {days} days");
        Ok(())
    }

    fn failed(&mut self, enrolment: &Enrolment, error: &RenewalError) -> Duration {
        let device = &self.config.device;
        let left = left(enrolment.expires, self.parts.floor.now());
        let status = match error {
            RenewalError::Ask(error) => error.status(),
            _ => None,
        };
        self.figures.failures.inc();
        self.figures.refused.set(i64::from(status == Some(403)));
        if status == Some(403) {
            tracing::error!(
                "the controller gives device {device} no new certificate: {error}. Models go on \
                 answering; {left}. To let it in again: `tidegate device remove {device}`, remove \
                 the file `identity` in the data folder, start with a new token"
            );
            return REFUSED_WAIT;
        }
        let wait = self.backoff.next_wait();
        tracing::warn!(
            "no new certificate for device {device}: {error}; {left}; again in {:.0} s",
            wait.as_secs_f32()
        );
        wait
    }
}

/// When to renew, Unix seconds: when a third of the lifetime is left, and up to a thirtieth of it
/// earlier, so that devices that enrolled together do not come together.
fn due(enrolment: &Enrolment) -> u64 {
    let Enrolment { device, since, expires, .. } = enrolment;
    let lifetime = expires.saturating_sub(*since);
    expires.saturating_sub(lifetime / 3).saturating_sub(spread(device, lifetime / 30))
}

/// A number below `limit` that is a device's own; 0 if the limit is 0.
fn spread(device: &DeviceId, limit: u64) -> u64 {
    let digest = Digest::of(device.as_str().as_bytes());
    let number = u64::from_be_bytes(digest.0[..8].try_into().expect("8 of 32 bytes"));
    number.checked_rem(limit).unwrap_or(0)
}

fn left(expires: u64, now: u64) -> String {
    match expires.checked_sub(now) {
        Some(left) => format!("the present one is good for {} h", left / 3600),
        None => format!("the present one ended {} h ago", (now - expires) / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn enrolment(device: &str, since: u64, expires: u64) -> Enrolment {
        Enrolment {
            device: device.parse().unwrap(),
            controller: "https://c:1".to_string(),
            fleet: "oslo".parse().unwrap(),
            broker: "b:1".to_string(),
            root: Digest::of(b"root"),
            certificate: vec![],
            authorities: vec![],
            since,
            expires,
        }
    }

    #[test]
    fn renewal_is_due_when_a_third_is_left_and_not_for_all_at_once() {
        let days: Vec<u64> = (0..50)
            .map(|n| due(&enrolment(&format!("pi-{n}"), 100 * DAY, 190 * DAY)) / DAY)
            .collect();
        assert!(days.iter().all(|day| (157..=160).contains(day)), "{days:?}");
        assert!(days.iter().any(|day| *day != days[0]));
    }

    #[test]
    fn a_clock_that_stood_at_1970_makes_it_due_once_it_is_right() {
        let since_1970 = enrolment("pi-1", 0, 20_000 * DAY);
        assert!((12_000 * DAY..14_000 * DAY).contains(&due(&since_1970)));
        assert_eq!(due(&enrolment("pi-1", 9, 3)), 3);
    }

    #[test]
    fn what_is_left_is_said() {
        assert_eq!(left(7_200, 3_599), "the present one is good for 1 h");
        assert_eq!(left(0, 7_200), "the present one ended 2 h ago");
    }
}
