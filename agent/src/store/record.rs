//! The file that keeps a model's lifecycle record, in two places that are written in turn.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tidegate_lifecycle::{DamagedRecord, RECORD_LEN, Record, newest};

use super::files::{self, Access, StoreError, at};

/// Bytes between the starts of the two places: one page of any flash or disk, so that writing one
/// never touches the other.
const PLACE_LEN: usize = 4096;

/// The open file. It has its full size from the beginning, so that a full disk cannot keep the
/// agent from going back to the previous model.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    file: File,
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
    /// [`StoreError`] if the disk fails.
    pub fn open(path: &Path) -> Result<Opened, StoreError> {
        if let Some(opened) = Self::open_existing(path)? {
            match opened {
                Ok((file, record)) => return Ok(Opened { file, record, damage: None }),
                Err(damage) => {
                    let aside = path.with_extension("damaged");
                    fs::rename(path, &aside).map_err(at("put aside", path))?;
                    let file = Self::create(path)?;
                    return Ok(Opened { file, record: None, damage: Some(damage) });
                }
            }
        }
        Ok(Opened { file: Self::create(path)?, record: None, damage: None })
    }

    #[allow(clippy::type_complexity)] // Absent, damaged, or there.
    fn open_existing(
        path: &Path,
    ) -> Result<Option<Result<(Self, Option<Record>), DamagedRecord>>, StoreError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(at("open", path)(source)),
        };
        let mut bytes = vec![0; 2 * PLACE_LEN];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Some(Err(DamagedRecord::Torn)));
            }
            Err(source) => return Err(at("read", path)(source)),
        }
        let place = |index: usize| {
            let start = index * PLACE_LEN;
            let block = &bytes[start..start + RECORD_LEN];
            block.iter().any(|byte| *byte != 0).then_some(block)
        };
        let path = path.to_path_buf();
        Ok(Some(newest([place(0), place(1)]).map(|record| (Self { path, file }, record))))
    }

    fn create(path: &Path) -> Result<Self, StoreError> {
        // Zeros that are written, not a hole: the space is taken now.
        files::replace(path, &[0; 2 * PLACE_LEN], Access::Folder)?;
        let file = OpenOptions::new().read(true).write(true).open(path);
        Ok(Self { path: path.to_path_buf(), file: file.map_err(at("open", path))? })
    }

    /// Writes a record into its place, durably.
    ///
    /// # Errors
    /// [`StoreError`]; the record before it is still whole then.
    pub fn write(&self, record: &Record) -> Result<(), StoreError> {
        let offset = (record.place() * PLACE_LEN) as u64;
        let written = self.file.write_all_at(&record.to_bytes(), offset);
        let synced = written.and_then(|()| self.file.sync_data());
        synced.map_err(at("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_wire::Generation;

    fn record(seq: u64) -> Record {
        Record { seq, generation: Generation(seq), ..Record::default() }
    }

    #[test]
    fn the_newest_record_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let opened = RecordFile::open(&path).unwrap();
        assert_eq!(opened.record, None);
        for seq in 1..=5 {
            opened.file.write(&record(seq)).unwrap();
            assert_eq!(RecordFile::open(&path).unwrap().record, Some(record(seq)));
        }
    }

    #[test]
    fn a_torn_write_costs_only_the_newest_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        let file = RecordFile::open(&path).unwrap().file;
        file.write(&record(1)).unwrap();
        file.write(&record(2)).unwrap();
        let before = fs::read(&path).unwrap();
        file.write(&record(3)).unwrap();
        let after = fs::read(&path).unwrap();
        let changed: Vec<usize> = (0..after.len()).filter(|at| before[*at] != after[*at]).collect();
        // Power goes after every possible number of bytes.
        for cut in 0..changed.len() {
            let mut torn = before.clone();
            changed[..cut].iter().for_each(|at| torn[*at] = after[*at]);
            fs::write(&path, &torn).unwrap();
            let found = RecordFile::open(&path).unwrap().record;
            assert_eq!(found, Some(record(2)), "{cut}");
        }
    }

    #[test]
    fn a_torn_first_write_is_a_fresh_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        drop(RecordFile::open(&path).unwrap());
        let mut torn = vec![0; 2 * PLACE_LEN];
        torn[PLACE_LEN..PLACE_LEN + 100].copy_from_slice(&record(1).to_bytes()[..100]);
        fs::write(&path, &torn).unwrap();
        let opened = RecordFile::open(&path).unwrap();
        assert_eq!((opened.record, opened.damage), (None, Some(DamagedRecord::Torn)));
        assert!(path.with_extension("damaged").exists());
        opened.file.write(&record(1)).unwrap();
        assert_eq!(RecordFile::open(&path).unwrap().record, Some(record(1)));
    }

    #[test]
    fn a_file_that_ends_early_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        fs::write(&path, record(1).to_bytes()).unwrap();
        assert_eq!(RecordFile::open(&path).unwrap().damage, Some(DamagedRecord::Torn));
    }
}
