use std::borrow::ToOwned;
use std::boxed::Box;

use super::*;
use crate::certificate::IssuedCertificate;
use tidegate_rollout::Act;
use tidegate_rollout::{ArtifactFacts, Known, Policy, Start, cancel, start};
use tidegate_wire::{ArtifactRef, Generation};

fn entry(seq: u64, what: Record) -> Entry {
    let (who, why) = ("anna".to_owned(), "a test".to_owned());
    Entry { seq, at_ms: seq * 1000, who, why, previous: Digest([0; 32]), what }
}

fn fold(records: impl IntoIterator<Item = Record>) -> State {
    let mut state = State::default();
    for (index, record) in records.into_iter().enumerate() {
        state.apply(&entry(index as u64 + 1, record));
    }
    state
}

fn enrolled(name: &str) -> Record {
    Record::DeviceEnrolled {
        device: name.parse().unwrap(),
        labels: Labels::new(),
        public_key: name.as_bytes().to_vec(),
        certificate: certificate(name, 100),
        agent: "0.1.0".into(),
        token: Digest::of(b"token"),
    }
}

/// A certificate that is valid from the start until so many seconds.
fn certificate(serial: &str, expires: u64) -> IssuedCertificate {
    IssuedCertificate { serial: serial.as_bytes().to_vec(), issued: 0, expires }
}

fn id(name: &str) -> DeviceId {
    name.parse().unwrap()
}

fn device_token(uses: u32) -> Record {
    let token = Digest::of(b"token");
    Record::DeviceTokenIssued { token, labels: Labels::new(), uses, expires_ms: 1 }
}

fn rollout(id: u64) -> Rollout {
    let digest = Digest::of(b"1");
    let to = ArtifactRef { digest, version: "1.0.0".parse().unwrap() };
    let facts = ArtifactFacts::default().with(&to, Known::Signed);
    let request = Start {
        id: RolloutId(id),
        fleet: "plant".parse().unwrap(),
        model: "digits".parse().unwrap(),
        from: None,
        to,
        policy: Policy::default(),
        salt: [1; 16],
        standing: vec![],
        last: Generation(0),
    };
    start(request, None, &facts, 5).unwrap()
}

#[test]
fn every_enrolment_uses_its_token_once() {
    let state = fold([device_token(2), enrolled("a"), enrolled("b"), enrolled("c")]);
    assert_eq!(state.device_tokens[&Digest::of(b"token")].uses, 0);
    assert_eq!(state.devices.len(), 3);
    assert_eq!(state.devices[&"b".parse().unwrap()].joined_ms, 3000);
}

#[test]
fn a_removed_device_is_gone_and_removing_it_twice_changes_nothing() {
    let gone = Record::DeviceRemoved { device: "a".parse().unwrap() };
    let state = fold([enrolled("a"), enrolled("b"), gone.clone(), gone]);
    assert_eq!(state.devices.keys().map(DeviceId::as_str).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_certificate_counts_until_it_expires_or_its_device_is_out() {
    let renewed =
        Record::CertificateIssued { device: id("a"), certificate: certificate("a2", 200) };
    let mut state = fold([enrolled("a"), enrolled("b"), renewed]);
    assert!(state.counts(&id("a"), b"a", 99), "the old one, too");
    assert!(!state.counts(&id("a"), b"a", 100), "it has expired");
    assert!(state.counts(&id("a"), b"a2", 199));
    assert!(!state.counts(&id("b"), b"a2", 5), "it is another device's");
    state.apply(&entry(4, Record::DeviceRevoked { device: id("a") }));
    assert!(!state.counts(&id("a"), b"a2", 5));
    assert_eq!(state.barred_at(5), [(b"a".to_vec(), 4), (b"a2".to_vec(), 4)]);
    assert_eq!(state.barred_at(150), [(b"a2".to_vec(), 4)], "what has expired is not listed");
    assert!(state.counts(&id("b"), b"b", 5));
}

#[test]
fn a_revoked_key_stays_out_when_its_device_is_forgotten() {
    let out = Record::DeviceRevoked { device: id("a") };
    let state = fold([enrolled("a"), out.clone(), out]);
    assert!(state.devices.is_empty());
    assert_eq!(
        (state.revoked[&id("a")].by.as_str(), state.revoked[&id("a")].at_ms),
        ("anna", 2000)
    );
    let mut state = state;
    state.apply(&entry(4, Record::DeviceRemoved { device: id("a") }));
    assert!(state.revoked.is_empty());
    assert!(state.revoked_keys.contains(b"a".as_slice()));
    assert_eq!(state.barred_at(5).len(), 1);
}

#[test]
fn certificates_that_expired_are_forgotten_when_there_is_a_newer_one() {
    let state = fold((1..=5).map(|n| match n {
        1 => enrolled("a"),
        n => Record::CertificateIssued { device: id("a"), certificate: certificate("x", n + 1) },
    }));
    let left: Vec<u64> = state.devices[&id("a")].certificates.iter().map(|it| it.expires).collect();
    assert_eq!(left, [100, 6]);
}

#[test]
fn the_newest_rollout_and_directive_of_a_model_count() {
    let first = rollout(1);
    let act = Act { by: "anna".into(), why: "wrong one".into() };
    let cancelled = cancel(&first, act, 9).unwrap();
    let directive = Directive {
        fleet: first.fleet.clone(),
        model: first.model.clone(),
        generation: Generation(4),
        issued: 1,
        expires: 2,
        rules: vec![],
        reason: None,
    };
    let signed = SignedDirective { directive, signed: vec![1, 2] };
    let state = fold([
        Record::RolloutStarted { rollout: Box::new(first) },
        Record::RolloutFaulted { id: RolloutId(1), violation: "too many".into() },
        Record::RolloutChanged {
            rollout: Box::new(cancelled.clone()),
            decision: "cancelled".into(),
            directive: Some(signed),
        },
        Record::RolloutStarted { rollout: Box::new(rollout(2)) },
    ]);
    assert_eq!(state.next_rollout(), RolloutId(3));
    assert_eq!(state.rollouts[&RolloutId(1)].rollout, cancelled);
    assert_eq!(state.rollouts[&RolloutId(1)].fault, None, "an operator acted");
    assert_eq!(state.latest(&cancelled.model).unwrap().rollout.id, RolloutId(2));
    assert_eq!(state.latest_rollouts().len(), 1);
    assert_eq!(state.directives[&cancelled.model].directive.generation, Generation(4));
}
