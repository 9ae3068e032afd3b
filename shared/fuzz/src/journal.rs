//! The controller's journal as it is found at a start, and the state that follows from it.
//!
//! A piece is an entry, which gets its number, the digest of the one before, and a checksum, unless
//! its tag says otherwise.

use std::collections::BTreeMap;

use tidegate_control::Entry;
use tidegate_control::journal::{Ending, FILE, Journal, verify};
use tidegate_control::state::{Record, State};
use tidegate_disk::memory::MemoryDisk;
use tidegate_disk::{Access, replace};
use tidegate_wire::codec;
use tidegate_wire::{Digest, Labels};

use crate::messages::parsed;
use crate::script::{pieces, write};

const MAGIC: &[u8] = b"TIDEJNL1";
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
const ENTRY_MAX: usize = 1 << 20;
const PIECES: usize = 24;

/// Bytes as they are, without a frame.
const RAW: u8 = 1;
/// A frame with another checksum.
const WRONG_SUM: u8 = 2;
/// Number and chain as they are in the piece.
const UNCHAINED: u8 = 4;

/// A journal of these pieces is opened, or refused with words and left as it was; one that was
/// opened takes another entry and is whole.
pub fn journal(bytes: &[u8]) {
    let file = file(bytes);
    let disk = MemoryDisk::default();
    replace(&disk, FILE, &file, Access::Owner).expect("the disk is well");
    // There is no head file, as after an operator accepted the end.
    let opened = match Journal::open(&disk, Ending::Accepted) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(disk.content(FILE).map(|it| it.to_vec()), Some(file), "it was touched");
            return;
        }
    };
    let mut state = State::default();
    for (index, (entry, hash)) in opened.entries.iter().enumerate() {
        assert_eq!(entry.seq, index as u64 + 1);
        let previous =
            index.checked_sub(1).map_or(Digest([0; 32]), |before| opened.entries[before].1);
        assert_eq!((entry.previous, *hash), (previous, Digest::of(&codec::encode(entry))));
        state.apply(entry);
        assert!(!entry.what.line().is_empty() && !entry.what.kind().is_empty());
    }
    look(&state);
    let count = opened.entries.len();
    assert!(count <= first_wrong_sum(bytes), "an entry whose checksum does not fit was taken");
    let mut journal = opened.journal;
    let what = Record::JournalAccepted { found: "its end was missing".to_string() };
    let (entry, hash) = journal.append(7, "anna", "why", what).expect("the disk is well");
    assert_eq!(entry.seq, count as u64 + 1);
    let again = Journal::open(&disk, Ending::Checked).expect("it was whole before");
    assert_eq!((again.entries.len(), again.cut), (count + 1, 0));
    let verified = verify(&disk, Some(hash)).expect("it was opened");
    assert_eq!(verified.head, again.journal.head());
}

fn look(state: &State) {
    let _ = (state.latest_rollouts().len(), state.latest(&parsed("digits")));
    for token in state.tokens.values() {
        let _ = token.state(1_000);
    }
    for now in [0, 1_000, u64::MAX] {
        let _ = state.barred_at(now);
        for device in state.devices.keys() {
            let _ = state.counts(device, b"serial", now);
        }
    }
}

/// How many entries stand before one whose checksum does not fit, if nothing else is odd.
fn first_wrong_sum(bytes: &[u8]) -> usize {
    let odd =
        pieces(bytes, PIECES).into_iter().position(|piece| piece.tag & (RAW | WRONG_SUM) != 0);
    match odd {
        Some(index) if pieces(bytes, PIECES)[index].tag & RAW == 0 => index,
        // Bytes as they are may be anything, frames included.
        _ => PIECES,
    }
}

fn file(bytes: &[u8]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    let (mut seq, mut previous) = (0, Digest([0; 32]));
    for piece in pieces(bytes, PIECES) {
        let mut payload = piece.bytes.to_vec();
        if piece.tag & RAW != 0 {
            file.extend_from_slice(&payload);
            continue;
        }
        if let (Ok(mut entry), 0) =
            (codec::decode::<Entry>(&payload, ENTRY_MAX), piece.tag & UNCHAINED)
        {
            (entry.seq, entry.previous) = (seq + 1, previous);
            payload = codec::encode(&entry);
        }
        seq += 1;
        previous = Digest::of(&payload);
        let length = (payload.len() as u32).to_le_bytes();
        let mut sum = CRC.checksum(&[&length[..], &payload].concat());
        if piece.tag & WRONG_SUM != 0 {
            sum ^= 1;
        }
        file.extend_from_slice(&length);
        file.extend_from_slice(&sum.to_le_bytes());
        file.extend_from_slice(&payload);
    }
    file
}

/// Entries as a controller writes them: a fleet with two devices and a rollout.
pub(crate) fn entries() -> Vec<Entry> {
    let rollout = crate::books::rollout();
    let mut what = vec![Record::Founded { fleet: parsed("oslo"), root: Digest::of(b"root") }];
    what.extend(crate::books::DEVICES.map(crate::books::enrolled));
    what.push(Record::RolloutStarted { rollout: Box::new(rollout.clone()) });
    what.push(Record::RolloutChanged {
        rollout: Box::new(rollout),
        decision: "wave 1".to_string(),
        directive: Some(tidegate_control::state::SignedDirective {
            directive: crate::messages::directive(),
            signed: b"signed".to_vec(),
        }),
    });
    what.push(Record::DeviceTokenIssued {
        token: Digest::of(b"token"),
        labels: Labels::from([("site".to_string(), "oslo".to_string())]),
        uses: 2,
        expires_ms: 9_000,
    });
    what.push(Record::TargetsPublished {
        version: 2,
        digest: Digest::of(b"targets"),
        what: "digits 1.2.0".to_string(),
    });
    what.push(Record::DeviceRevoked { device: parsed(crate::books::DEVICES[0]) });
    what.push(Record::DeviceRemoved { device: parsed(crate::books::DEVICES[1]) });
    let entry = |(index, what)| Entry {
        seq: index as u64 + 1,
        at_ms: 1_000,
        who: "anna".to_string(),
        why: "because".to_string(),
        previous: Digest([0; 32]),
        what,
    };
    what.into_iter().enumerate().map(entry).collect()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let payloads: Vec<Vec<u8>> = entries().iter().map(codec::encode).collect();
    let mut by_tag = BTreeMap::from([(0, write(payloads.iter().map(|it| (0, it.as_slice()))))]);
    for tag in [RAW, WRONG_SUM, UNCHAINED] {
        let last = payloads.len().min(3) - 1;
        let tagged =
            |(index, it): (usize, &Vec<u8>)| (if index == last { tag } else { 0 }, it.clone());
        let some: Vec<(u8, Vec<u8>)> = payloads.iter().take(4).enumerate().map(tagged).collect();
        by_tag.insert(tag, write(some.iter().map(|(tag, it)| (*tag, it.as_slice()))));
    }
    by_tag.into_values().chain(payloads.iter().map(|it| write([(0, it.as_slice())]))).collect()
}
