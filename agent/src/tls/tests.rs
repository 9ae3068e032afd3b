use super::*;

#[test]
fn nothing_secret_is_printed() {
    let seed = *b"a seed that nobody should see!!!";
    let shown = format!("{:?}", Credentials::ed25519(vec![1; 300], &seed));
    assert_eq!(shown, "Credentials(a certificate of 300 bytes, key ***)");
}

#[test]
fn the_floor_only_rises() {
    let floor = TimeFloor::default();
    let now = floor.now();
    assert!(now > 1_700_000_000);
    let shared = floor.clone();
    shared.raise(now + 1_000_000);
    shared.raise(1);
    assert_eq!(floor.now(), now + 1_000_000);
}

#[test]
fn nobody_is_believed_without_an_authority() {
    let none = client(&Authority::Known(vec![]), None, &TimeFloor::default());
    assert_eq!(none.unwrap_err(), TlsError::NoAuthority);
    let junk = client(&Authority::Known(vec![vec![1, 2, 3]]), None, &TimeFloor::default());
    assert!(matches!(junk, Err(TlsError::Authority(_))));
}

#[test]
fn hanging_up_is_told_as_what_it_may_mean() {
    let eof = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "peer closed connection");
    assert!(hung_up(&eof).unwrap().contains("revoked"));
    assert_eq!(explain(&eof), None);
    assert_eq!(hung_up(&std::io::Error::from(std::io::ErrorKind::ConnectionRefused)), None);
}
