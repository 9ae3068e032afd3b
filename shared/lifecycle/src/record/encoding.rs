//! The record as a block of fixed size, so that it needs no allocator and one flash page holds it.
//!
//! Little-endian: magic, format, fields in the order of the struct, zeros, CRC-32 of all before.

use heapless::Vec;
use tidegate_wire::{Digest, Generation, Reason, State};

use super::{Candidate, Origin, Outcome, Record, Rejection, Slot, SlotId, Stage, Stop};
use crate::limits::Limits;

/// Bytes of a stored record.
pub const RECORD_LEN: usize = 1024;

const MAGIC: [u8; 4] = *b"TGLR";
const FORMAT: u8 = 2;
/// No device writes so often: a thousand writes a second for nine thousand years. Beyond it counting on
/// could end where no higher number is left.
const SEQ_MAX: u64 = 1 << 48;
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
const BODY_LEN: usize = RECORD_LEN - 4;
/// Format 1 was shorter and knew no limits; what it has stands in the same places.
const FIRST_FORMAT: (u8, usize) = (1, 636);

/// The block is not a whole record of a known format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamagedRecord {
    /// Wrong length, magic or checksum: a torn write, or not a record.
    Torn,
    /// A whole record of another format.
    Format(u8),
    /// A whole record with a value that no build writes.
    Value,
}

impl core::fmt::Display for DamagedRecord {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Torn => f.write_str("wrong length, magic or checksum"),
            Self::Format(format) => write!(f, "record format {format}, this build reads {FORMAT}"),
            Self::Value => f.write_str("a value that no build writes"),
        }
    }
}

impl core::error::Error for DamagedRecord {}

impl Record {
    /// The block to store.
    pub fn to_bytes(&self) -> [u8; RECORD_LEN] {
        let mut block = [0; RECORD_LEN];
        let mut out = Writer { rest: &mut block[..BODY_LEN] };
        out.put(&MAGIC);
        out.put(&[FORMAT]);
        self.write(&mut out);
        let crc = CRC.checksum(&block[..BODY_LEN]);
        block[BODY_LEN..].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Reads a stored block.
    ///
    /// # Errors
    /// [`DamagedRecord`], whatever the bytes are.
    pub fn from_bytes(block: &[u8]) -> Result<Self, DamagedRecord> {
        if block.len() != RECORD_LEN || block[..4] != MAGIC {
            return Err(DamagedRecord::Torn);
        }
        let body_len = match block[4] == FIRST_FORMAT.0 {
            true => FIRST_FORMAT.1,
            false => BODY_LEN,
        };
        let (body, rest) = block.split_at(body_len);
        if CRC.checksum(body).to_le_bytes() != rest[..4] {
            return Err(DamagedRecord::Torn);
        }
        let mut bytes = Reader { rest: &body[5..] };
        let record = match body[4] {
            FORMAT => Self::read(&mut bytes).and_then(|record| record.read_limits(&mut bytes)),
            first if first == FIRST_FORMAT.0 => Self::read(&mut bytes),
            other => return Err(DamagedRecord::Format(other)),
        };
        record.ok_or(DamagedRecord::Value)
    }

    fn write(&self, out: &mut Writer<'_>) {
        out.u64(self.seq);
        out.u64(self.generation.0);
        for slot in self.slots {
            let (tag, artifact) = match slot {
                Slot::Empty => (0, None),
                Slot::Filling(artifact) => (1, Some(artifact)),
                Slot::Verified(artifact) => (2, Some(artifact)),
                Slot::Committed(artifact) => (3, Some(artifact)),
            };
            out.put(&[tag]);
            out.digest(artifact);
        }
        out.slot(self.active);
        out.candidate(self.candidate);
        out.put(&[self.rejections.len() as u8]);
        for rejection in &self.rejections {
            out.digest(Some(rejection.artifact));
            out.u64(rejection.generation.0);
            out.reason(Some(rejection.reason));
        }
        out.outcome(self.outcome);
        out.put(&[match self.stop {
            Stop::Unclean => 0,
            Stop::Clean => 1,
        }]);
        let fallback = self.candidate.is_some_and(|it| it.origin == Origin::Fallback);
        out.put(&[u8::from(fallback)]);
        out.u64(self.limits.floor());
        let revoked = self.limits.revoked();
        out.put(&[revoked.len() as u8]);
        revoked.iter().for_each(|artifact| out.digest(Some(*artifact)));
    }

    fn read(bytes: &mut Reader<'_>) -> Option<Self> {
        let seq = bytes.u64().filter(|seq| *seq <= SEQ_MAX)?;
        let generation = Generation(bytes.u64()?);
        let mut slots = [Slot::Empty; 2];
        for slot in &mut slots {
            let (tag, artifact) = (bytes.u8()?, bytes.digest()?);
            *slot = match tag {
                0 => Slot::Empty,
                1 => Slot::Filling(artifact),
                2 => Slot::Verified(artifact),
                3 => Slot::Committed(artifact),
                _ => return None,
            };
        }
        let active = bytes.slot()?;
        let candidate = bytes.candidate()?;
        let mut rejections = Vec::new();
        for _ in 0..bytes.u8()? {
            let (artifact, generation) = (bytes.digest()?, Generation(bytes.u64()?));
            let reason = bytes.reason()??;
            rejections.push(Rejection { artifact, generation, reason }).ok()?;
        }
        let outcome = bytes.outcome()?;
        let stop = match bytes.u8()? {
            0 => Stop::Unclean,
            1 => Stop::Clean,
            _ => return None,
        };
        let limits = Limits::NONE;
        Some(Self { seq, generation, slots, active, candidate, rejections, outcome, stop, limits })
    }

    /// What format 2 has at the end.
    fn read_limits(mut self, bytes: &mut Reader<'_>) -> Option<Self> {
        let origin = match bytes.u8()? {
            0 => Origin::Directed,
            1 => Origin::Fallback,
            _ => return None,
        };
        self.candidate = self.candidate.map(|candidate| Candidate { origin, ..candidate });
        let (floor, count) = (bytes.u64()?, bytes.u8()?);
        let mut revoked: Vec<Digest, { crate::REVOCATIONS_MAX }> = Vec::new();
        for _ in 0..count {
            revoked.push(bytes.digest()?).ok()?;
        }
        self.limits = Limits::new(floor, revoked);
        Some(self)
    }
}

struct Writer<'a> {
    rest: &'a mut [u8],
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (here, rest) = core::mem::take(&mut self.rest).split_at_mut(bytes.len());
        here.copy_from_slice(bytes);
        self.rest = rest;
    }

    fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    fn digest(&mut self, digest: Option<Digest>) {
        self.put(&digest.unwrap_or(Digest([0; 32])).0);
    }

    fn slot(&mut self, slot: Option<SlotId>) {
        self.put(&[match slot {
            None => 0,
            Some(SlotId::A) => 1,
            Some(SlotId::B) => 2,
        }]);
    }

    /// 0 stands for none: no reason has that code.
    fn reason(&mut self, reason: Option<Reason>) {
        self.put(&reason.map_or(0, Reason::code).to_le_bytes());
    }

    fn candidate(&mut self, candidate: Option<Candidate>) {
        let Some(Candidate { slot, artifact, stage, attempts, attempts_max, .. }) = candidate
        else {
            return self.put(&[0]);
        };
        let (tag, previous) = match stage {
            Stage::Fetch => (1, None),
            Stage::Test => (2, None),
            Stage::Trial { previous } => (3, previous),
        };
        self.put(&[tag]);
        self.slot(previous);
        self.slot(Some(slot));
        self.digest(Some(artifact));
        self.put(&[attempts, attempts_max]);
    }

    fn outcome(&mut self, outcome: Option<Outcome>) {
        let Some(Outcome { state, artifact, reason }) = outcome else {
            return self.put(&[0]);
        };
        self.put(&[match state {
            State::Committed => 1,
            State::Rejected => 2,
            State::Reverted => 3,
            other => unreachable!("{other} is no outcome"),
        }]);
        self.digest(Some(artifact));
        self.reason(reason);
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (here, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*here)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn digest(&mut self) -> Option<Digest> {
        self.take().map(Digest)
    }

    fn slot(&mut self) -> Option<Option<SlotId>> {
        match self.u8()? {
            0 => Some(None),
            1 => Some(Some(SlotId::A)),
            2 => Some(Some(SlotId::B)),
            _ => None,
        }
    }

    fn reason(&mut self) -> Option<Option<Reason>> {
        let code = self.take().map(u16::from_le_bytes)?;
        Some((code != 0).then(|| Reason::from(code)))
    }

    fn candidate(&mut self) -> Option<Option<Candidate>> {
        let tag = self.u8()?;
        if tag == 0 {
            return Some(None);
        }
        let previous = self.slot()?;
        let stage = match tag {
            1 => Stage::Fetch,
            2 => Stage::Test,
            3 => Stage::Trial { previous },
            _ => return None,
        };
        let (slot, artifact) = (self.slot()??, self.digest()?);
        let (attempts, attempts_max) = (self.u8()?, self.u8()?);
        let origin = Origin::Directed;
        Some(Some(Candidate { slot, artifact, stage, origin, attempts, attempts_max }))
    }

    fn outcome(&mut self) -> Option<Option<Outcome>> {
        let state = match self.u8()? {
            0 => return Some(None),
            1 => State::Committed,
            2 => State::Rejected,
            3 => State::Reverted,
            _ => return None,
        };
        let (artifact, reason) = (self.digest()?, self.reason()?);
        Some(Some(Outcome { state, artifact, reason }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::newest;

    fn full() -> Record {
        let artifact = Digest::of(b"one");
        let mut record = Record { seq: 41, generation: Generation(7), ..Record::default() };
        record.slots = [Slot::Committed(artifact), Slot::Filling(Digest::of(b"two"))];
        record.active = Some(SlotId::A);
        record.candidate = Some(Candidate {
            slot: SlotId::B,
            artifact: Digest::of(b"two"),
            stage: Stage::Trial { previous: Some(SlotId::A) },
            origin: Origin::Fallback,
            attempts: 1,
            attempts_max: 3,
        });
        for byte in 0..9 {
            record.reject(Digest([byte; 32]), Reason::GoldenMismatch);
        }
        let reason = Some(Reason::CrashLoop);
        record.outcome = Some(Outcome { state: State::Reverted, artifact, reason });
        record.stop = Stop::Clean;
        record.limits = Limits::new(5, (100..200).map(|byte| Digest([byte; 32])));
        record
    }

    #[test]
    fn a_record_of_the_first_format_is_read() {
        let mut block = [0; RECORD_LEN];
        let fields_end = 498;
        block[..fields_end].copy_from_slice(&full().to_bytes()[..fields_end]);
        let (format, body_len) = FIRST_FORMAT;
        block[4] = format;
        let crc = CRC.checksum(&block[..body_len]);
        block[body_len..body_len + 4].copy_from_slice(&crc.to_le_bytes());
        let candidate = full().candidate.map(|it| Candidate { origin: Origin::Directed, ..it });
        let expected = Record { limits: Limits::NONE, candidate, ..full() };
        assert_eq!(Record::from_bytes(&block), Ok(expected));
        block[60] ^= 1;
        assert_eq!(Record::from_bytes(&block), Err(DamagedRecord::Torn));
    }

    #[test]
    fn a_full_record_fits_and_comes_back() {
        assert_eq!(Record::from_bytes(&full().to_bytes()), Ok(full()));
        let empty = Record::default();
        assert_eq!(Record::from_bytes(&empty.to_bytes()), Ok(empty));
    }

    #[test]
    fn a_record_that_cannot_be_followed_by_another_is_none() {
        let last = Record { seq: SEQ_MAX, ..full() };
        assert_eq!(Record::from_bytes(&last.to_bytes()), Ok(last));
        for seq in [SEQ_MAX + 1, u64::MAX] {
            let beyond = Record { seq, ..full() };
            assert_eq!(Record::from_bytes(&beyond.to_bytes()), Err(DamagedRecord::Value));
        }
    }

    #[test]
    fn every_damaged_byte_and_every_torn_write_is_seen() {
        let block = full().to_bytes();
        for index in 0..RECORD_LEN {
            let mut damaged = block;
            damaged[index] ^= 0x10;
            assert!(Record::from_bytes(&damaged).is_err(), "byte {index}");
            assert!(Record::from_bytes(&block[..index]).is_err(), "torn at {index}");
        }
    }

    #[test]
    fn a_torn_write_costs_only_the_newest_record() {
        let old = Record { seq: 1, ..Record::default() };
        let new = Record { seq: 2, ..full() };
        assert_ne!(old.place(), new.place());
        let (one, two) = (old.to_bytes(), new.to_bytes());
        assert_eq!(newest([Some(&two), Some(&one)]), Ok(Some(new)));
        assert_eq!(newest([Some(&two[..99]), Some(&one)]), Ok(Some(old)));
        assert_eq!(newest([None, None]), Ok(None));
        assert_eq!(newest([Some(b""), None]), Err(DamagedRecord::Torn));
    }
}
