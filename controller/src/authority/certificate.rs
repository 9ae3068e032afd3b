//! What stands in certificates, and how they are read.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData,
    RevokedCertParams, SerialNumber, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, ServerName};
use tidegate_control::certificate::IssuedCertificate;
use tidegate_wire::DeviceId;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::{AuthorityError, DAY};
use crate::clock;

/// How long the authority lasts: longer than most devices. A new one means enrolling all of them.
const AUTHORITY_SECONDS: u64 = 20 * 365 * DAY;

/// Devices' certificates count from a little before they were made: clocks differ.
const BACKDATED_SECONDS: u64 = 3600;

/// A certificate with a serial number that no other has; times in Unix seconds.
pub fn issue(issued: u64, expires: u64) -> IssuedCertificate {
    IssuedCertificate::new(clock::random(), issued, expires)
}

pub(super) fn new_key() -> Result<KeyPair, AuthorityError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

/// The authority's own certificate.
pub(super) fn authority(
    fleet: &tidegate_wire::FleetId,
    now: u64,
) -> Result<CertificateParams, AuthorityError> {
    let issued = issue(0, now + AUTHORITY_SECONDS);
    let mut params = params("Tidegate fleet authority", &issued)?;
    params.distinguished_name.push(DnType::OrganizationName, fleet.as_str());
    // It signs what devices and servers show, and nothing that signs further.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// What a server shows. It counts since ever: a device whose clock is not set yet must get in.
pub(super) fn server(names: &[String], until: u64) -> Result<CertificateParams, AuthorityError> {
    let mut params = params("Tidegate controller", &issue(0, until))?;
    let names = sorted(names);
    if let Some(name) = names.iter().find(|name| !is_name(name)) {
        return Err(AuthorityError::Name { name: name.clone() });
    }
    params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// What a client shows that is known by this name.
pub(super) fn client(
    name: &str,
    issued: &IssuedCertificate,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(name, issued)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn params(name: &str, issued: &IssuedCertificate) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(&issued.serial));
    params.not_before = time(issued.issued.saturating_sub(BACKDATED_SECONDS))?;
    params.not_after = time(issued.expires)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The list of certificates that no longer count. It is good as long as the authority: a broker with
/// an old list keeps out those on it, and lets everybody else in.
pub(super) fn revoked(
    revoked: &[(Vec<u8>, u64)],
    now: u64,
    until: u64,
) -> Result<CertificateRevocationListParams, AuthorityError> {
    let entry = |(serial, at): &(Vec<u8>, u64)| {
        Ok(RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: time(*at)?,
            reason_code: None,
            invalidity_date: None,
        })
    };
    Ok(CertificateRevocationListParams {
        this_update: time(now)?,
        next_update: time(until.max(now + 1))?,
        crl_number: SerialNumber::from(now),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect::<Result<_, AuthorityError>>()?,
        key_identifier_method: KeyIdMethod::Sha256,
    })
}

fn time(seconds: u64) -> Result<OffsetDateTime, AuthorityError> {
    let signed = i64::try_from(seconds).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(signed).map_err(|_| rcgen::Error::Time.into())
}

/// A raw Ed25519 public key.
pub(super) struct Ed25519<'a>(pub &'a [u8]);

impl PublicKeyData for Ed25519<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

/// What is looked at in one of our own certificates.
pub(super) struct Facts {
    /// Unix seconds.
    pub expires: u64,
    /// Subject alternative names, sorted.
    pub names: Vec<String>,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
}

pub(super) fn facts(certificate: &CertificateDer<'_>) -> Result<Facts, String> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let alternative = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
    let names = alternative.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let names: Vec<String> = names.iter().filter_map(name).collect();
    Ok(Facts {
        expires: u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0),
        names: sorted(&names),
        public_key: parsed.public_key().raw.to_vec(),
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|ip| IpAddr::from(ip).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|ip| IpAddr::from(ip).to_string()),
        },
        _ => None,
    }
}

/// Whether clients could ask for a server by this name or address.
pub(crate) fn is_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

/// The names without order and repetition; of an address there are several spellings.
pub(super) fn sorted(names: &[String]) -> Vec<String> {
    let spelt = |name: &String| name.parse().map_or(name.clone(), |ip: IpAddr| ip.to_string());
    let mut names: Vec<String> = names.iter().map(spelt).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Whose certificate a client showed: common name and serial number. The TLS library has verified it.
pub(crate) fn read_shown(certificate: &CertificateDer<'_>) -> Option<(DeviceId, Vec<u8>)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let (name, more) = (names.next()?.as_str().ok()?, names.next());
    let device = name.parse().ok().filter(|_| more.is_none())?;
    Some((device, parsed.raw_serial().to_vec()))
}

/// What a certificate request asks for.
pub(crate) struct Request {
    /// Its common name.
    pub name: String,
    /// The raw public key.
    pub public_key: Vec<u8>,
}

/// Reads a PKCS#10 request and verifies that it is signed with the key in it. Only name and key are
/// taken from it: what else stands in a certificate is not the device's choice.
///
/// # Errors
/// What is wrong, for people.
pub(crate) fn read_request(der: &[u8]) -> Result<Request, String> {
    let der = CertificateSigningRequestDer::from(der);
    let read =
        CertificateSigningRequestParams::from_der(&der).map_err(|error| error.to_string())?;
    if *read.public_key.algorithm() != PKCS_ED25519 {
        return Err("its key is no Ed25519 key".into());
    }
    let name = match read.params.distinguished_name.get(&DnType::CommonName) {
        Some(rcgen::DnValue::Utf8String(name)) => name.clone(),
        Some(rcgen::DnValue::PrintableString(name)) => name.as_str().to_owned(),
        _ => return Err("it has no common name".into()),
    };
    Ok(Request { name, public_key: read.public_key.der_bytes().to_vec() })
}
