use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::testing::fleet_id;

const NOW: u64 = 1_800_000_000;

fn open(folder: &Path) -> Result<Authority, AuthorityError> {
    Authority::open(folder, &fleet_id(), NOW)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn an_authority_is_made_once_and_its_keys_are_its_owners() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ca");
    let made = open(&folder).unwrap();
    made.server(&names(&["localhost"]), NOW, 365).unwrap();
    made.controller(NOW, 365).unwrap();
    for key in ["ca.key", "server.key", "controller.key"] {
        let mode = fs::metadata(folder.join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let again = open(&folder).unwrap();
    assert_eq!((again.digest(), again.expires()), (made.digest(), made.expires()));
    assert_eq!(made.expires(), NOW + 20 * 365 * DAY);
}

#[test]
fn an_authority_is_never_replaced_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join(CERTIFICATE), dir.path().join("ca.key"));
    open(dir.path()).unwrap();
    let kept = fs::read(&key).unwrap();

    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("mode 0640") && error.contains("chmod 600"), "{error}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    open(elsewhere.path()).unwrap();
    fs::copy(elsewhere.path().join(CERTIFICATE), &certificate).unwrap();
    let error = open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("not for the key"), "{error}");

    fs::write(&certificate, "nothing").unwrap();
    let error = open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("ca.pem is damaged"), "{error}");

    fs::copy(elsewhere.path().join(CERTIFICATE), &certificate).unwrap();
    fs::remove_file(&key).unwrap();
    let error = open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("ca.key is missing"), "{error}");
    assert!(!key.exists());

    // Without a certificate nobody relies on the key yet: a founding was broken off.
    fs::remove_file(&certificate).unwrap();
    fs::write(&key, kept).unwrap();
    open(dir.path()).unwrap();
}

#[test]
fn the_servers_certificate_is_made_anew_for_other_names_and_after_half_its_life() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path()).unwrap();
    let own = names(&["fleet.example.org", "10.0.0.7", "::1", "localhost"]);
    let first = authority.server(&own, NOW, 10).unwrap();
    let leaf = |shown: &Shown| shown.certified.cert[0].clone();
    let shuffled = names(&["0:0::1", "localhost", "localhost", "fleet.example.org", "10.0.0.7"]);
    let same = authority.server(&shuffled, NOW + 5 * DAY - 1, 10).unwrap();
    assert_eq!(leaf(&same), leaf(&first));
    assert_eq!(same.expires, NOW + 10 * DAY);
    let renewed = authority.server(&own, NOW + 5 * DAY, 10).unwrap();
    assert_ne!(leaf(&renewed), leaf(&first));
    assert_eq!(renewed.expires, NOW + 15 * DAY);
    let renamed = authority.server(&names(&["localhost"]), NOW + 5 * DAY, 10).unwrap();
    assert_ne!(leaf(&renamed), leaf(&renewed));
    assert_eq!(renamed.certified.cert[1], *authority.certificate(), "the chain has the authority");
    let error = authority.server(&names(&["no host"]), NOW, 10).err().unwrap().to_string();
    assert!(error.contains("\"no host\""), "{error}");
    // A damaged one, or one of an authority that is no more, is made anew as well.
    for damage in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        fs::write(dir.path().join("server.pem"), damage).unwrap();
        authority.server(&own, NOW, 10).unwrap();
    }
    // The authority outlives what it signs.
    let late = authority.server(&own, authority.expires() - DAY, 10).unwrap();
    assert_eq!(late.expires, authority.expires());
}

#[test]
fn a_device_is_read_from_its_certificate_and_from_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path()).unwrap();
    let device: DeviceId = "pi-1".parse().unwrap();
    let issued = issue(NOW, NOW + 90 * DAY);
    let der = authority.device(&device, &[7; 32], &issued).unwrap();
    assert_eq!(read_shown(&der.clone().into()), Some((device.clone(), issued.serial.clone())));
    let again = authority.device(&device, &[7; 32], &issued).unwrap();
    assert_eq!(read_shown(&again.into()), Some((device, issued.serial)));
    assert_eq!(read_shown(&der[..der.len() - 1].to_vec().into()), None);
    let server = authority.server(&names(&["localhost"]), NOW, 10).unwrap();
    assert_eq!(read_shown(&server.certified.cert[0]), None, "`Tidegate controller` is no device");
    let controller = authority.controller(NOW, 10).unwrap();
    assert_eq!(read_shown(&controller.certified.cert[0]), None, "nor is `-controller`");
}

#[test]
fn the_list_of_the_revoked_names_them_and_is_signed() {
    use x509_parser::prelude::FromDer;

    let dir = tempfile::tempdir().unwrap();
    let authority = open(dir.path()).unwrap();
    for revoked in [vec![], vec![(vec![0x41; 16], NOW - 5), (vec![0x42; 16], NOW)]] {
        authority.revoke(&revoked, NOW).unwrap();
        let pem = fs::read(dir.path().join(REVOKED)).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let parsed =
            x509_parser::revocation_list::CertificateRevocationList::from_der(&pem.contents);
        let (_, list) = parsed.unwrap();
        let (_, own) = x509_parser::parse_x509_certificate(authority.certificate()).unwrap();
        list.verify_signature(own.public_key()).unwrap();
        let listed: Vec<_> =
            list.iter_revoked_certificates().map(|it| it.raw_serial().to_vec()).collect();
        let expected: Vec<_> = revoked.iter().map(|(serial, _)| serial.clone()).collect();
        assert_eq!(listed, expected);
    }
}
