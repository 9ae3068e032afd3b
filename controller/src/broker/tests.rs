use rumqttc::MqttOptions;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{
    ConnectReturnCode, LastWill, Packet, PubAckReason, SubscribeReasonCode,
};
use tidegate_wire::topic::Topic;

use super::*;
use crate::api::types::RolloutStart;
use crate::authority::{Authority, Presented};
use crate::door::{Certificate, MqttDoor, server_config};
use crate::testing::{Fleet, Member, Newcomer, Session, fleet_id};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_who_its_certificate_says() {
    let fleet = Fleet::start().await;
    let pi = fleet.join("pi-1").await;
    fleet.join("pi-2").await;
    let broker = fleet.server.broker_address().to_string();
    for (id, user) in
        [("pi-2", "pi-2"), ("pi-2", "pi-1"), ("pi-1", "pi-2"), (CONTROLLER, CONTROLLER), ("", "")]
    {
        let connected = Session::with(pi.mqtt_as(&broker, id, user)).connect().await;
        assert!(!matches!(connected, Ok(ConnectReturnCode::Success)), "{id} as {user}");
    }
    let connected = Session::new(&fleet, &pi).connect().await;
    assert_eq!(connected, Ok(ConnectReturnCode::Success));
    fleet.server.stop().await;
}

/// Other programs of this machine reach the broker's own port, but it knows none of them.
#[tokio::test(flavor = "multi_thread")]
async fn the_back_door_is_closed() {
    let fleet = Fleet::start().await;
    let pi = fleet.join("pi-1").await;
    let _inside = Session::new(&fleet, &pi).join().await;
    let inner = fleet.server.inner_broker_address().unwrap();
    assert!(inner.ip().is_loopback());
    for name in ["pi-1", CONTROLLER] {
        let mut options = MqttOptions::new(name, (inner.ip().to_string(), inner.port()));
        options.set_credentials(name.to_owned(), "guessed".to_owned());
        let connected = Session::with(options).connect().await;
        assert!(!matches!(connected, Ok(ConnectReturnCode::Success)), "{name}");
    }
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_keeps_to_its_own_topics() {
    let fleet = Fleet::start().await;
    let pi = fleet.join("pi-1").await;
    fleet.join("pi-2").await;
    let mut device = Session::new(&fleet, &pi);
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

/// A last will is published by the broker: it must be one that its device might have published.
#[tokio::test(flavor = "multi_thread")]
async fn a_last_will_is_no_way_to_speak_as_another() {
    let fleet = Fleet::start().await;
    let (pi, victim) = (fleet.join("pi-1").await, fleet.join("pi-2").await);
    let mut watching = Session::new(&fleet, &victim).join().await;
    let topic = Topic::Ack(victim.id.clone());
    let mut options = pi.mqtt(&fleet.server.broker_address().to_string());
    let will = LastWill::new(topic.name(&fleet_id()), "forged", QoS::AtLeastOnce, false, None);
    options.set_last_will(will);
    let _ = Session::with(options).connect().await;
    // What the broker says of its own accord comes before the answer to what is asked afterwards.
    let own = Topic::Report(victim.id.clone()).name(&fleet_id());
    watching.publish(&own, b"x".to_vec()).await;
    assert!(!watching.has(&topic), "the will was published");
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_is_out_at_once() {
    let fleet = Fleet::start().await;
    let pi = fleet.join("pi-1").await;
    let mut device = Session::new(&fleet, &pi).join().await;
    let removed = fleet.request(reqwest::Method::DELETE, "v1/devices/pi-1").send().await.unwrap();
    assert_eq!(removed.status(), reqwest::StatusCode::NO_CONTENT);
    assert!(device.wait(|_| None::<()>).await.is_err(), "the open session ends");
    let connects = async |device: &Member| {
        let connected = Session::new(&fleet, device).connect().await;
        matches!(connected, Ok(ConnectReturnCode::Success))
    };
    assert!(!connects(&pi).await);

    // Let in again, with the same key: its old certificate is worthless all the same.
    let newcomer = Newcomer { id: pi.id.clone(), identity: Arc::clone(&pi.identity) };
    let again = newcomer.join(&fleet.invite(1).await).await;
    assert!(!connects(&pi).await);
    assert!(connects(&again).await);
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_directives_survive_the_broker_and_it_comes_back_on_its_port() {
    let fleet = Fleet::start().await;
    let pi = fleet.join("pi-1").await;
    fleet.publish(None, "1.0.0").await;
    let (model, version) = ("digits".parse().unwrap(), "1.0.0".parse().unwrap());
    let start = RolloutStart { model, version, policy_toml: None, why: "a test".into() };
    fleet.post("v1/rollouts", &start).await;
    let directive = Topic::Directive("digits".parse().unwrap());
    let mut device = Session::new(&fleet, &pi).join().await;
    let before = device.message(&directive).await;
    let address = fleet.server.broker_address();
    fleet.server.stop_broker().await;
    let lost = device.wait(|_| None::<()>).await;
    assert!(lost.is_err());
    assert!(Session::new(&fleet, &pi).connect().await.is_err());

    // From the broker's own files: without a controller that could announce it again.
    let (folder, journal) = (fleet.dir.path().join("broker"), fleet.dir.path().join("journal"));
    let ledger = Arc::new(Ledger::open(&journal).unwrap());
    let (credential, guests) = (Credential::internal(), Guests::new(Arc::clone(&ledger), 0));
    let inside = Arc::clone(&guests);
    let alone = Broker::start(&folder, fleet_id(), ledger, inside, Default::default(), &credential)
        .await
        .unwrap();
    let alone = Arc::new(alone);
    let door = door(&fleet, guests, Arc::clone(&alone)).await;
    let mut reader = Session::with(pi.mqtt(&door.address().to_string())).join().await;
    assert_eq!(reader.message(&directive).await, before);
    door.close().await;
    alone.stop().await;

    fleet.server.start_broker().await.unwrap();
    assert_eq!(fleet.server.broker_address(), address);
    fleet.server.connected().await;
    let mut device = Session::new(&fleet, &pi).join().await;
    assert_eq!(device.message(&directive).await, before);
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_session_with_an_id_takes_over() {
    let fleet = Fleet::start().await;
    let pi = fleet.join("pi-1").await;
    let mut first = Session::new(&fleet, &pi).join().await;
    let mut second = Session::new(&fleet, &pi);
    assert_eq!(second.connect().await, Ok(ConnectReturnCode::Success));
    let told = first.wait(|packet| matches!(packet, Packet::Disconnect(_)).then_some(())).await;
    let said = format!("{told:?}");
    assert!(told.is_ok() || said.contains("SessionTakenOver") || said.contains("closed"), "{said}");
    let own = Topic::Report("pi-1".parse().unwrap()).name(&fleet_id());
    assert_ne!(second.publish(&own, b"x".to_vec()).await, PubAckReason::NotAuthorized);
    fleet.server.stop().await;
}

/// A door of the fleet's authority in front of another broker.
async fn door(fleet: &Fleet, guests: Arc<Guests>, broker: Arc<Broker>) -> MqttDoor {
    let folder = fleet.dir.path().join("ca");
    let authority = Authority::open(&folder, &fleet_id(), clock::now()).unwrap();
    let shown = authority.server(&["127.0.0.1".into()], clock::now(), 1).unwrap();
    let presented = Presented::new(&shown);
    let config = server_config(authority.roots(), presented, Certificate::Demanded).unwrap();
    MqttDoor::open(([127, 0, 0, 1], 0).into(), config, guests, broker, 8).await.unwrap()
}
