//! The file that keeps a model's lifecycle record, in two places that are written in turn.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use tidegate_disk::{Access, Disk, DiskError, replace, settle};
use tidegate_lifecycle::{DamagedRecord, RECORD_LEN, Record, newest};

/// Bytes between the starts of the two places: one page of any flash or disk, so that writing one
/// never touches the other.
const PLACE_LEN: usize = 4096;

/// The file. It has its full size from the beginning, so that a full disk cannot keep the device
/// from going back to the previous model.
#[derive(Debug)]
pub struct RecordFile {
    name: String,
}

/// What was found in a record file.
#[derive(Debug)]
pub struct Opened {
    /// The file, to write to.
    pub file: RecordFile,
    /// The newest whole record, if one was ever written.
    pub record: Option<Record>,
    /// Why older content had to be put aside, if that was so.
    pub damage: Option<DamagedRecord>,
}

impl RecordFile {
    /// Opens or makes the file. One without a whole record is put aside under another name, and
    /// the model starts afresh: its directive says what to run.
    ///
    /// # Errors
    /// [`DiskError`] if the disk fails.
    pub fn open<D: Disk + ?Sized>(disk: &D, name: &str) -> Result<Opened, DiskError> {
        let file = Self { name: name.to_string() };
        let damage = match disk.length(name)? {
            None => None,
            Some(length) => match file.found(disk, length)? {
                Ok(record) => return Ok(Opened { file, record, damage: None }),
                Err(damage) => {
                    disk.rename(name, &format!("{name}.damaged"))?;
                    Some(damage)
                }
            },
        };
        // Zeros that are written, not a hole: the space is taken now.
        replace(disk, name, &[0; 2 * PLACE_LEN], Access::Folder)?;
        Ok(Opened { file, record: None, damage })
    }

    /// The newest record, if the disk gives anything.
    #[allow(clippy::type_complexity)] // The disk's trouble, and the content's.
    fn found<D: Disk + ?Sized>(
        &self,
        disk: &D,
        length: u64,
    ) -> Result<Result<Option<Record>, DamagedRecord>, DiskError> {
        // A disk that takes nothing any more must not keep the model from answering.
        let _ = settle(disk, &self.name);
        let mut bytes = vec![0; 2 * PLACE_LEN];
        if length < bytes.len() as u64 || disk.read_at(&self.name, 0, &mut bytes)? < bytes.len() {
            return Ok(Err(DamagedRecord::Torn));
        }
        let place = |index: usize| {
            let start = index * PLACE_LEN;
            let block = &bytes[start..start + RECORD_LEN];
            block.iter().any(|byte| *byte != 0).then_some(block)
        };
        Ok(newest([place(0), place(1)]))
    }

    /// Writes a record into its place, durably.
    ///
    /// # Errors
    /// [`DiskError`]; the record before it is still whole then.
    pub fn write<D: Disk + ?Sized>(&self, disk: &D, record: &Record) -> Result<(), DiskError> {
        let offset = (record.place() * PLACE_LEN) as u64;
        disk.write_at(&self.name, offset, &record.to_bytes())?;
        disk.sync(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_disk::memory::{Fate, MemoryDisk};
    use tidegate_wire::Generation;

    fn record(seq: u64) -> Record {
        Record { seq, generation: Generation(seq), ..Record::default() }
    }

    fn open(disk: &MemoryDisk) -> Opened {
        RecordFile::open(disk, "record").unwrap()
    }

    #[test]
    fn the_newest_record_comes_back() {
        let disk = MemoryDisk::default();
        let opened = open(&disk);
        assert_eq!(opened.record, None);
        for seq in 1..=5 {
            opened.file.write(&disk, &record(seq)).unwrap();
            assert_eq!(open(&disk).record, Some(record(seq)));
        }
    }

    #[test]
    fn a_torn_write_costs_only_the_newest_record() {
        let disk = MemoryDisk::default();
        let file = open(&disk).file;
        file.write(&disk, &record(1)).unwrap();
        file.write(&disk, &record(2)).unwrap();
        disk.cut_at(1);
        file.write(&disk, &record(3)).unwrap_err();
        // Power goes after every possible number of bytes; the last ones are zeros already.
        let whole = record(3).to_bytes();
        let written = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for count in 0..written as u64 {
            let found = open(&disk.after_power_cut(&[Fate::Prefix(count)])).record;
            assert_eq!(found, Some(record(2)), "{count}");
        }
        let found = open(&disk.after_power_cut(&[Fate::Whole])).record;
        assert_eq!(found, Some(record(3)));
    }

    #[test]
    fn what_a_killed_agent_left_is_durable_before_it_is_believed() {
        for cut in [1, 2] {
            let disk = MemoryDisk::default();
            let file = open(&disk).file;
            file.write(&disk, &record(1)).unwrap();
            disk.cut_at(cut);
            file.write(&disk, &record(2)).unwrap_err();
            let disk = disk.after_kill();
            assert_eq!(open(&disk).record, Some(record(2)));
            assert_eq!(open(&disk.after_power_cut(&[])).record, Some(record(2)));
        }
    }

    #[test]
    fn a_torn_first_write_is_a_fresh_start() {
        let disk = MemoryDisk::default();
        let file = open(&disk).file;
        disk.cut_at(1);
        file.write(&disk, &record(1)).unwrap_err();
        let disk = disk.after_power_cut(&[Fate::Prefix(100)]);
        let opened = open(&disk);
        assert_eq!((opened.record, opened.damage), (None, Some(DamagedRecord::Torn)));
        assert!(disk.names().contains(&"record.damaged".to_string()));
        opened.file.write(&disk, &record(1)).unwrap();
        assert_eq!(open(&disk).record, Some(record(1)));
    }

    #[test]
    fn a_file_that_ends_early_is_put_aside() {
        let disk = MemoryDisk::default();
        disk.put("record", &record(1).to_bytes().as_slice().into()).unwrap();
        assert_eq!(open(&disk).damage, Some(DamagedRecord::Torn));
    }
}
