//! Typed MQTT topics. Everything of a fleet lies under `tidegate/<fleet>/`.
//!
//! | topic | writer | retained | payload |
//! |---|---|---|---|
//! | `tidegate/<fleet>/timestamp` | controller | yes | the signed timestamp metadata |
//! | `tidegate/<fleet>/directive/<model>` | controller | yes | a signed [`Directive`] |
//! | `tidegate/<fleet>/device/<id>/report` | that device | no | [`Report`] |
//! | `tidegate/<fleet>/device/<id>/status` | that device | yes | [`Status`] |
//! | `tidegate/<fleet>/device/<id>/ack` | controller | no | [`Ack`] |
//!
//! [`Directive`]: crate::directive::Directive
//! [`Report`]: crate::report::Report
//! [`Status`]: crate::report::Status
//! [`Ack`]: crate::report::Ack

use alloc::format;
use alloc::string::String;

use crate::{DeviceId, FleetId, ModelName};

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The newest signed timestamp metadata: a nudge to refresh.
    Timestamp,
    /// A model's directive.
    Directive(ModelName),
    /// A device's reports.
    Report(DeviceId),
    /// A device's status.
    Status(DeviceId),
    /// What the controller has stored of a device's reports.
    Ack(DeviceId),
}

impl Topic {
    /// The topic's name in MQTT.
    pub fn name(&self, fleet: &FleetId) -> String {
        match self {
            Self::Timestamp => format!("tidegate/{fleet}/timestamp"),
            Self::Directive(model) => format!("tidegate/{fleet}/directive/{model}"),
            Self::Report(device) => format!("tidegate/{fleet}/device/{device}/report"),
            Self::Status(device) => format!("tidegate/{fleet}/device/{device}/status"),
            Self::Ack(device) => format!("tidegate/{fleet}/device/{device}/ack"),
        }
    }

    /// The topic that has `name`, if it is one of `fleet`.
    pub fn parse(fleet: &FleetId, name: &str) -> Option<Self> {
        let mut levels = name.split('/');
        if levels.next() != Some("tidegate") || levels.next() != Some(fleet.as_str()) {
            return None;
        }
        let topic = match (levels.next()?, levels.next(), levels.next()) {
            ("timestamp", None, None) => Self::Timestamp,
            ("directive", Some(model), None) => Self::Directive(model.parse().ok()?),
            ("device", Some(id), Some("report")) => Self::Report(id.parse().ok()?),
            ("device", Some(id), Some("status")) => Self::Status(id.parse().ok()?),
            ("device", Some(id), Some("ack")) => Self::Ack(id.parse().ok()?),
            _ => return None,
        };
        levels.next().is_none().then_some(topic)
    }
}

/// The filters that a device subscribes to; a broker must allow it no others.
pub fn device_subscriptions(fleet: &FleetId, device: &DeviceId) -> [String; 3] {
    [
        Topic::Timestamp.name(fleet),
        format!("tidegate/{fleet}/directive/+"),
        Topic::Ack(device.clone()).name(fleet),
    ]
}

/// The topics that a device publishes to; a broker must allow it no others.
pub fn device_publications(fleet: &FleetId, device: &DeviceId) -> [String; 2] {
    [Topic::Report(device.clone()).name(fleet), Topic::Status(device.clone()).name(fleet)]
}

/// The filters that controllers subscribe to. `$share` lets several controllers divide the reports.
pub fn controller_subscriptions(fleet: &FleetId) -> [String; 2] {
    [
        format!("$share/controllers/tidegate/{fleet}/device/+/report"),
        format!("tidegate/{fleet}/device/+/status"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let fleet: FleetId = "plant-7".parse().unwrap();
        let device: DeviceId = "pi4.0001".parse().unwrap();
        for topic in [
            Topic::Timestamp,
            Topic::Directive("digits".parse().unwrap()),
            Topic::Report(device.clone()),
            Topic::Status(device.clone()),
            Topic::Ack(device.clone()),
        ] {
            assert_eq!(Topic::parse(&fleet, &topic.name(&fleet)), Some(topic));
        }
    }

    #[test]
    fn foreign_topics_are_no_topics() {
        let fleet: FleetId = "plant-7".parse().unwrap();
        for name in [
            "",
            "tidegate",
            "tidegate/plant-8/timestamp",
            "tidegate/plant-7/timestamp/x",
            "tidegate/plant-7/device/a/report/x",
            "tidegate/plant-7/device/+/report",
            "tidegate/plant-7/directive/",
        ] {
            assert_eq!(Topic::parse(&fleet, name), None, "{name}");
        }
    }
}
