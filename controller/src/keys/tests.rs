use super::*;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_key_comes_back_and_only_its_owner_may_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("publisher.pem");
    let made = generate(&path).unwrap();
    assert_eq!(mode(&path).unwrap(), 0o600);
    assert_eq!(read_private(&path).unwrap().id(), made.id());
    assert_eq!(read_public(&path).unwrap(), made.public());
    assert_eq!(read_public(&public_path(&path)).unwrap(), made.public());
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("publisher.pem");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(generate(&path), Err(KeyFileError::Exists { .. })));
    fs::rename(&path, public_path(&path)).unwrap();
    assert!(matches!(generate(&path), Err(KeyFileError::Exists { .. })));
    assert_eq!(fs::read(public_path(&path)).unwrap(), b"precious");
    assert!(!path.exists());
}

#[test]
fn a_private_key_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("publisher.pem");
    generate(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = read_private(&path).unwrap_err().to_string();
    assert!(error.contains("mode 0640") && error.contains("chmod 600"), "{error}");
    assert!(read_public(&path).is_ok());
}

#[test]
fn other_files_are_no_keys() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pem");
    fs::write(&path, b"\xff\xfe").unwrap();
    assert!(matches!(read_public(&path), Err(KeyFileError::NoKey { .. })));
    generate(&dir.path().join("y")).unwrap();
    let public = public_path(&dir.path().join("y"));
    assert!(matches!(read_private(&public), Err(KeyFileError::NotPrivate { .. })));
    assert!(matches!(read_private(&dir.path().join("z")), Err(KeyFileError::Read { .. })));
}

/// RFC 8410, section 10.3: the private key there, and its public half from section 10.1.
#[test]
fn rfc_8410_example() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rfc.pem");
    let pem = "-----BEGIN PRIVATE KEY-----\n\
               MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
               -----END PRIVATE KEY-----\n";
    fs::write(&path, pem).unwrap();
    let public = public_pem(&read_public(&path).unwrap());
    assert!(public.contains("MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="));
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.into()).unwrap()
}

#[test]
fn an_encrypted_key_opens_with_its_passphrase_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("anna.pem");
    let made = generate_encrypted(&path, &passphrase("tide and time")).unwrap();
    assert_eq!(mode(&path).unwrap(), 0o600);
    let open = |text: &str| unlock(&path, || Ok(passphrase(text)));
    assert_eq!(open("tide and time").unwrap().id(), made.id());
    assert!(matches!(open("Tide and time"), Err(KeyFileError::WrongPassphrase { .. })));
    assert!(matches!(read_private(&path), Err(KeyFileError::Locked { .. })));
    assert_eq!(read_public(&path).unwrap(), made.public());
    fs::remove_file(public_path(&path)).unwrap();
    assert!(matches!(read_public(&path), Err(KeyFileError::Locked { .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    assert!(matches!(open("tide and time"), Err(KeyFileError::Exposed { .. })));
}

#[test]
fn a_key_is_encrypted_in_place_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("anna.pem");
    let made = generate(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let differ =
        || Err(KeyFileError::Passphrase { path: path.clone(), source: PassphraseError::Differ });
    assert!(encrypt(&path, differ).is_err());
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(encrypt(&path, || Ok(passphrase("x"))).unwrap(), made.public());
    assert_eq!(mode(&path).unwrap(), 0o600);
    assert_eq!(unlock(&path, || Ok(passphrase("x"))).unwrap().id(), made.id());
    let again = encrypt(&path, || Ok(passphrase("y")));
    assert!(matches!(again, Err(KeyFileError::Encrypted { .. })));
    assert!(unlock(&path, || Ok(passphrase("x"))).is_ok());
}

#[test]
fn a_passphrase_is_not_shown_and_not_empty() {
    assert_eq!(format!("{:?}", passphrase("secret")), "Passphrase(***)");
    assert!(matches!(Passphrase::new(String::new()), Err(PassphraseError::Empty)));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("passphrase");
    fs::write(&path, "first line\nsecond\n").unwrap();
    assert_eq!(Passphrase::from_file(&path).unwrap().as_bytes(), b"first line");
}

#[test]
fn a_damaged_encrypted_file_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("anna.pem");
    generate_encrypted(&path, &passphrase("x")).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("MIG", "MIH", 1)).unwrap();
    assert!(unlock(&path, || Ok(passphrase("x"))).is_err());
}

/// Runs OpenSSL on a file in `dir`; none if this machine has no `openssl`.
fn openssl(dir: &Path, args: &[&str]) -> Option<String> {
    let output = std::process::Command::new("openssl").args(args).current_dir(dir).output().ok()?;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn openssl_reads_our_encrypted_keys_and_we_read_its() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("ours.pem");
    let made = generate_encrypted(&ours, &passphrase("tide")).unwrap();
    let args = ["pkey", "-in", "ours.pem", "-passin", "pass:tide", "-pubout"];
    let Some(public) = openssl(dir.path(), &args) else { return };
    assert_eq!(public, public_pem(&made.public()));

    let new = ["genpkey", "-algorithm", "ed25519", "-out", "theirs.pem"];
    openssl(dir.path(), &new).unwrap();
    for (out, scheme) in [("scrypt.pem", vec!["-scrypt"]), ("pbkdf2.pem", vec!["-v2", "aes256"])] {
        let head = ["pkcs8", "-topk8", "-in", "theirs.pem", "-passout", "pass:time", "-out", out];
        openssl(dir.path(), &[&head[..], &scheme].concat()).unwrap();
        let path = dir.path().join(out);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let key = unlock(&path, || Ok(passphrase("time"))).unwrap();
        let args = ["pkey", "-in", "theirs.pem", "-pubout"];
        assert_eq!(openssl(dir.path(), &args).unwrap(), public_pem(&key.public()), "{out}");
    }
}
