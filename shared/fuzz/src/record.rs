//! The lifecycle's record: its two places on the disk, and the machine that starts from them.

use tidegate_lifecycle::{Limits, Machine, RECORD_LEN, Record, newest};

use crate::script::{pieces, write};

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
/// Where the checksum of a record stands, by its format.
const CRC_AT: [(u8, usize); 2] = [(1, 636), (2, RECORD_LEN - 4)];

/// Two places. A piece with an odd tag is a block whose checksum is made right.
pub fn record(bytes: &[u8]) {
    let blocks: Vec<Vec<u8>> = pieces(bytes, 2)
        .into_iter()
        .map(|piece| if piece.tag % 2 == 1 { summed(piece.bytes) } else { piece.bytes.to_vec() })
        .collect();
    for block in &blocks {
        if let Ok(record) = Record::from_bytes(block) {
            assert_eq!(Record::from_bytes(&record.to_bytes()), Ok(record), "it does not come back");
        }
    }
    let place = |index: usize| blocks.get(index).map(Vec::as_slice);
    let Ok(found) = newest([place(0), place(1)]) else { return };
    let whole = || blocks.iter().filter_map(|block| Record::from_bytes(block).ok());
    assert_eq!(found.as_ref().map(|it| it.seq), whole().map(|it| it.seq).max());
    let generation = found.as_ref().map_or_else(Default::default, |it| it.generation);
    let limits = found.as_ref().map_or(Limits::NONE, |it| it.limits);
    let (machine, _) = Machine::recover(found, &limits);
    assert!(machine.record().generation >= generation, "generations-rise");
    if let Some((slot, artifact)) = machine.active() {
        assert_eq!(machine.record().slot(slot).runnable(), Some(artifact), "runnable-model");
        assert!(!limits.is_revoked(&artifact), "revoked-never-runs");
    }
}

/// A block of a record's length, with magic, a known format and the right checksum.
fn summed(body: &[u8]) -> Vec<u8> {
    let mut block = body.to_vec();
    block.resize(RECORD_LEN, 0);
    block[..4].copy_from_slice(b"TGLR");
    let (format, at) = CRC_AT[usize::from(block[4] % 2)];
    block[4] = format;
    let crc = CRC.checksum(&block[..at]);
    block[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    block
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    use tidegate_lifecycle::{Assignment, Event};
    use tidegate_wire::{Digest, Generation, Reason};

    let (mut machine, _) = Machine::recover(None, &Limits::NONE);
    let mut blocks = vec![machine.record().to_bytes()];
    let mut generation = 0;
    let mut take = |machine: &mut Machine, event| {
        machine.step(0, event);
        blocks.push(machine.record().to_bytes());
    };
    for artifact in [b"one", b"two"] {
        generation += 1;
        let since = Generation(generation);
        let to = Assignment { artifact: Digest::of(artifact), since, installable: Ok(generation) };
        take(&mut machine, Event::Directed { generation: since, to: Some(to) });
        take(&mut machine, Event::FetchFinished);
        take(&mut machine, Event::VerifyPassed { attempts_max: 3 });
        take(&mut machine, Event::SelfTestPassed);
        take(&mut machine, Event::ShadowPassed);
        let end = [Event::TrialPassed, Event::TrialFailed(Reason::Latency)];
        take(&mut machine, end[usize::from(generation == 2)]);
    }
    // Trailing zeros are added again.
    let body = |block: &[u8]| {
        let body = &block[..RECORD_LEN - 4];
        body[..body.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)].to_vec()
    };
    let blocks: Vec<Vec<u8>> = blocks.iter().map(|block| body(block)).collect();
    blocks.windows(2).map(|two| write(two.iter().map(|block| (1, block.as_slice())))).collect()
}
