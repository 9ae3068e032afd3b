use reqwest::StatusCode;
use rumqttc::mqttbytes::v5::{ConnectReturnCode, Packet};
use tidegate_agent::tls::Credentials;
use tidegate_wire::topic::Topic;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::authority::{self, Authority, IssuedCertificate};
use crate::clock;
use crate::testing::{Fleet, Member, Session, fleet_id, http, mqtt};

/// The authority of a fleet, or one with the same name that is not it.
fn authority(folder: &std::path::Path) -> Authority {
    Authority::open(folder, &fleet_id(), clock::now()).unwrap()
}

/// The certificate of a device as it stands in the journal.
fn issued_to(fleet: &Fleet, pi: &Member) -> IssuedCertificate {
    fleet.server.ledger().state().devices[&pi.id].certificates[0].clone()
}

fn certified(authority: &Authority, pi: &Member, issued: &IssuedCertificate) -> Credentials {
    let key = pi.identity.key();
    let certificate = authority.device(&pi.id, key.public().as_bytes(), issued).unwrap();
    pi.identity.credentials(certificate)
}

/// Certificates that must not let `pi` in, by what is wrong with them.
fn wrong(fleet: &Fleet, pi: &Member) -> Vec<(&'static str, Option<Credentials>)> {
    let (now, elsewhere) = (clock::now(), tempfile::tempdir().unwrap());
    let (own, other) = (authority(&fleet.dir.path().join("ca")), authority(elsewhere.path()));
    let genuine = issued_to(fleet, pi);
    let expired = IssuedCertificate { expires: now - 10, ..genuine.clone() };
    let unknown = authority::issue(now, now + 1000);
    let server = own.server(&["localhost".into()], now, 1).unwrap();
    let key = std::fs::read(fleet.dir.path().join("ca/server.key")).unwrap();
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(&key);
    let key: rustls::pki_types::PrivatePkcs8KeyDer<'static> = key.unwrap();
    let server = server.certified.cert[0].to_vec();
    vec![
        ("no certificate", None),
        ("another authority's", Some(certified(&other, pi, &genuine))),
        ("expired", Some(certified(&own, pi, &expired))),
        ("not in the journal", Some(certified(&own, pi, &unknown))),
        ("a server's", Some(Credentials::pkcs8(server, key.secret_pkcs8_der().to_vec()))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_certificate_that_counts_leads_to_the_broker() {
    let fleet = Fleet::start().await;
    let pi = fleet.join("pi-1").await;
    let broker = fleet.server.broker_address().to_string();
    for (what, credentials) in wrong(&fleet, &pi) {
        let options = mqtt(&broker, "pi-1", "pi-1", &pi.authority(), credentials.as_ref());
        assert!(Session::with(options).connect().await.is_err(), "{what}");
    }
    assert_eq!(Session::new(&fleet, &pi).connect().await, Ok(ConnectReturnCode::Success));
    let metrics = fleet.request(reqwest::Method::GET, "metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for (reason, count) in [("handshake", 4), ("unknown", 1)] {
        let labels = format!("where=\"door\",reason=\"{reason}\"");
        let line = format!("tidegate_rejected_total{{{labels}}} {count}\n");
        assert!(metrics.contains(&line), "{line} is missing: {metrics}");
    }
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_certificate_that_counts_makes_a_device_on_https() {
    let fleet = Fleet::start().await;
    let pi = fleet.join("pi-1").await;
    let url = fleet.url("metadata/1.root");
    for (what, credentials) in wrong(&fleet, &pi) {
        let answer = http(&pi.authority(), credentials.as_ref()).get(&url).send().await;
        let refused = match &answer {
            Ok(answer) => answer.status() == StatusCode::UNAUTHORIZED,
            Err(error) => error.is_connect() || error.is_request(),
        };
        assert!(refused, "{what}: {answer:?}");
    }
    assert_eq!(pi.http().get(&url).send().await.unwrap().status(), StatusCode::OK);
    fleet.server.stop().await;
}

/// The first bytes that a server answers, none if it hangs up.
async fn answer(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut first = vec![0; 7];
    match stream.read_exact(&mut first).await {
        Ok(_) => first,
        Err(_) => Vec::new(),
    }
}

/// A TLS ClientHello of the version `minor` (2 is TLS 1.1, 3 is TLS 1.2) that leaves nothing else to be
/// desired.
fn client_hello(minor: u8) -> Vec<u8> {
    let suites = [0, 6, 0xc0, 0x2b, 0xc0, 0x09, 0, 0xff];
    // The curve P-256, uncompressed, ECDSA with SHA-256, extended master secret.
    let extensions =
        [0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3, 0, 23, 0, 0];
    let body = [
        &[3, minor],
        [7; 32].as_slice(),
        &[0],
        &suites,
        &[1, 0, 0, extensions.len() as u8],
        &extensions,
    ]
    .concat();
    let length = body.len() as u8;
    [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length], body.as_slice()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn old_versions_of_tls_and_no_tls_at_all_are_refused() {
    let fleet = Fleet::start().await;
    for address in [fleet.server.http_address(), fleet.server.broker_address()] {
        // RFC 8446, section 6: an alert, fatal, 70 is protocol_version.
        let old = answer(address, &client_hello(2)).await;
        assert_eq!((old[0], &old[5..]), (0x15, [2, 70].as_slice()), "TLS 1.1: {old:?}");
        let new = answer(address, &client_hello(3)).await;
        assert_eq!((new[0], new[5]), (0x16, 2), "TLS 1.2 is greeted: {new:?}");
        let http = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
        for plain in [http, "\x10\x10\0\x04MQTT\x05\0\0\0\0\0\x03abc"] {
            let said = answer(address, plain.as_bytes()).await;
            assert!(said.is_empty() || said[0] == 0x15, "{said:?}");
        }
    }
    fleet.server.stop().await;
}

/// It waits, and nobody else does.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_sends_too_much_is_slowed_down_alone() {
    let fleet = Fleet::configured(|config| config.door.device_kib_per_second_max = 16).await;
    let (flooding, other) = (fleet.join("pi-1").await, fleet.join("pi-2").await);
    let mut flood = Session::new(&fleet, &flooding).join().await;
    let mut calm = Session::new(&fleet, &other).join().await;
    // A minute's worth, of which the first four seconds' may come at once.
    let topic = Topic::Report(flooding.id.clone()).name(&fleet_id());
    for _ in 0..32 {
        let options = rumqttc::PublishOptions::at_least_once();
        flood.client.try_publish(topic.clone(), vec![0; 32 * 1024], options).unwrap();
    }
    let first = |packet: &Packet| matches!(packet, Packet::PubAck(_)).then_some(());
    flood.wait(first).await.unwrap();
    let mut taken = 1;
    let polling = async {
        loop {
            flood.wait(first).await.unwrap();
            taken += 1;
        }
    };
    // Far more round trips than all of the flood would need at full speed.
    let calm_topic = Topic::Report(other.id.clone()).name(&fleet_id());
    let talking = async {
        for _ in 0..300 {
            calm.publish(&calm_topic, b"x".to_vec()).await;
        }
    };
    tokio::select! {
        () = polling => unreachable!("it goes on for ever"),
        () = talking => {}
    }
    assert!(taken < 32, "nothing slowed it down");
    fleet.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_has_a_bounded_number_of_connections_and_the_oldest_goes() {
    let fleet = Fleet::start().await;
    let pi = fleet.join("pi-1").await;
    let http: Vec<_> = (0..=guests::PER_DEVICE_MAX).map(|_| pi.http()).collect();
    let url = fleet.url("metadata/1.root");
    for client in &http {
        let answer = client.get(&url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        // Whoever does not read it all closes the connection.
        answer.bytes().await.unwrap();
    }
    assert_eq!(fleet.server.guests().uncut(&pi.id), guests::PER_DEVICE_MAX);
    fleet.server.stop().await;
}
