use rumqttc::mqttbytes::v5::{ConnectReturnCode, Packet, PubAckReason, SubscribeReasonCode};
use tidegate_wire::topic::Topic;

use super::*;
use crate::api::types::RolloutStart;
use crate::testing::{Fleet, Session, fleet_id};

#[tokio::test(flavor = "multi_thread")]
async fn only_enrolled_devices_with_their_password_get_in() {
    let fleet = Fleet::start().await;
    let password = fleet.join("pi-1").await;
    let refused = [
        ("pi-1", "pi-1", "wrong"),
        ("pi-2", "pi-2", password.as_str()),
        ("pi-2", "pi-1", password.as_str()),
        ("pi-1", CONTROLLER, password.as_str()),
    ];
    for (id, user, password) in refused {
        let connected = Session::new(&fleet, id, user, password).connect().await;
        assert!(!matches!(connected, Ok(ConnectReturnCode::Success)), "{id} as {user}");
    }
    let connected = Session::new(&fleet, "pi-1", "pi-1", &password).connect().await;
    assert_eq!(connected, Ok(ConnectReturnCode::Success));
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_keeps_to_its_own_topics() {
    let fleet = Fleet::start().await;
    let password = fleet.join("pi-1").await;
    fleet.join("pi-2").await;
    let mut device = Session::new(&fleet, "pi-1", "pi-1", &password);
    device.connect().await.unwrap();
    for filter in [
        "#",
        "tidegate/#",
        "tidegate/plant/device/+/report",
        "tidegate/plant/device/pi-2/ack",
        "tidegate/plant/device/pi-1/report",
        "$share/controllers/tidegate/plant/device/+/report",
        "$share/x/tidegate/plant/device/pi-1/ack",
    ] {
        let code = device.subscribe(filter).await;
        assert_eq!(code, SubscribeReasonCode::NotAuthorized, "{filter}");
    }
    for topic in [
        "tidegate/plant/directive/digits",
        "tidegate/plant/timestamp",
        "tidegate/plant/device/pi-2/report",
        "tidegate/plant/device/pi-2/status",
        "tidegate/plant/device/pi-1/ack",
        "elsewhere",
    ] {
        let reason = device.publish(topic, b"x".to_vec()).await;
        assert_eq!(reason, PubAckReason::NotAuthorized, "{topic}");
    }
    let own = Topic::Report("pi-1".parse().unwrap()).name(&fleet_id());
    let reason = device.publish(&own, b"x".to_vec()).await;
    assert_ne!(reason, PubAckReason::NotAuthorized);
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_is_out_at_once() {
    let fleet = Fleet::start().await;
    let password = fleet.join("pi-1").await;
    let mut device = Session::new(&fleet, "pi-1", "pi-1", &password).join().await;
    let removed = fleet.request(reqwest::Method::DELETE, "v1/devices/pi-1").send().await.unwrap();
    assert_eq!(removed.status(), reqwest::StatusCode::NO_CONTENT);
    assert!(device.wait(|_| None::<()>).await.is_err(), "the open session ends");
    let connects = async |password: &str| {
        let connected = Session::new(&fleet, "pi-1", "pi-1", password).connect().await;
        matches!(connected, Ok(ConnectReturnCode::Success))
    };
    assert!(!connects(&password).await);

    // Let in again, with the same key: what was known to whoever had the old password is worthless.
    let again = fleet.join("pi-1").await;
    assert_ne!(again, password);
    assert!(!connects(&password).await);
    assert!(connects(&again).await);
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_directives_survive_the_broker_and_it_comes_back_on_its_port() {
    let fleet = Fleet::start().await;
    let password = fleet.join("pi-1").await;
    fleet.publish(None, "1.0.0").await;
    let (model, version) = ("digits".parse().unwrap(), "1.0.0".parse().unwrap());
    let start = RolloutStart { model, version, policy_toml: None, why: "a test".into() };
    fleet.post("v1/rollouts", &start).await;
    let directive = Topic::Directive("digits".parse().unwrap());
    let mut device = Session::new(&fleet, "pi-1", "pi-1", &password).join().await;
    let before = device.message(&directive).await;
    let address = fleet.server.broker_address();
    fleet.server.stop_broker().await;
    let lost = device.wait(|_| None::<()>).await;
    assert!(lost.is_err());
    assert!(Session::new(&fleet, "pi-1", "pi-1", &password).connect().await.is_err());

    // From the broker's own files: without a controller that could announce it again.
    let (folder, journal) = (fleet.dir.path().join("broker"), fleet.dir.path().join("journal"));
    let ledger = Arc::new(Ledger::open(&journal).unwrap());
    let credential = Credential::internal();
    let alone = Broker::start(free_port(), &folder, fleet_id(), ledger, &credential).await.unwrap();
    let mut reader = Session::at(alone.address(), "pi-1", "pi-1", &password).join().await;
    assert_eq!(reader.message(&directive).await, before);
    alone.stop().await;

    fleet.server.start_broker().await.unwrap();
    assert_eq!(fleet.server.broker_address(), address);
    fleet.server.connected().await;
    let mut device = Session::new(&fleet, "pi-1", "pi-1", &password).join().await;
    assert_eq!(device.message(&directive).await, before);
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_session_with_an_id_takes_over() {
    let fleet = Fleet::start().await;
    let password = fleet.join("pi-1").await;
    let mut first = Session::new(&fleet, "pi-1", "pi-1", &password).join().await;
    let mut second = Session::new(&fleet, "pi-1", "pi-1", &password);
    assert_eq!(second.connect().await, Ok(ConnectReturnCode::Success));
    let told = first.wait(|packet| matches!(packet, Packet::Disconnect(_)).then_some(())).await;
    let said = format!("{told:?}");
    assert!(told.is_ok() || said.contains("SessionTakenOver") || said.contains("closed"), "{said}");
    let own = Topic::Report("pi-1".parse().unwrap()).name(&fleet_id());
    assert_ne!(second.publish(&own, b"x".to_vec()).await, PubAckReason::NotAuthorized);
    fleet.server.stop().await;
}

fn free_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}
