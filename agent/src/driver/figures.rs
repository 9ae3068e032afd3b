//! What Prometheus is told of reports and link.

use prometheus_client::metrics::gauge::Gauge;
use tidegate_device::Figures;

use crate::serving::Metrics;

/// The gauges.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    made: Gauge,
    spooled: Gauge,
    dropped: Gauge,
    link: Gauge,
}

impl Gauges {
    /// Adds these figures to the agent's.
    pub(super) fn register(&self, metrics: &Metrics) {
        let Self { made, spooled, dropped, link } = self;
        metrics.register(|registry| {
            let text = "Reports that were ever put into the spool";
            registry.register("reports_made", text, made.clone());
            let text = "Reports that wait for the controller";
            registry.register("reports_spooled", text, spooled.clone());
            let text = "Reports dropped unsent because the spool was full";
            registry.register("reports_dropped", text, dropped.clone());
            let text = "Whether the link to the broker is up";
            registry.register("link_up", text, link.clone());
        });
    }

    pub(super) fn show(&self, figures: Figures) {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.made.set(number(figures.made));
        self.spooled.set(number(figures.spooled));
        self.dropped.set(number(figures.dropped));
        self.link.set(i64::from(figures.link_up));
    }
}
