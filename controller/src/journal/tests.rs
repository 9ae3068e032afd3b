use super::*;
use std::fs;

fn record(n: usize) -> Record {
    Record::TokenIssued { name: format!("operator-{n}"), token: Digest::of(&[n as u8]) }
}

/// A journal with three entries: its folder, its bytes, and where each frame begins.
fn journal() -> (tempfile::TempDir, Vec<u8>, Vec<usize>) {
    let dir = tempfile::tempdir().unwrap();
    let mut offsets = Vec::new();
    let mut journal = Journal::open(dir.path()).unwrap().journal;
    for n in 0..3 {
        offsets.push(journal.length as usize);
        journal.append(1000 + n as u64, "anna", "because", vec![record(n)]).unwrap();
    }
    let bytes = fs::read(dir.path().join(FILE)).unwrap();
    (dir, bytes, offsets)
}

fn reopen(dir: &Path, bytes: &[u8]) -> Result<Opened, JournalError> {
    fs::write(dir.join(FILE), bytes).unwrap();
    Journal::open(dir)
}

#[test]
fn entries_come_back_in_order_and_chained() {
    let (dir, bytes, _) = journal();
    let opened = reopen(dir.path(), &bytes).unwrap();
    assert_eq!(opened.cut, 0);
    let seqs: Vec<u64> = opened.entries.iter().map(|(entry, _)| entry.seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
    assert_eq!(opened.entries[0].0.previous, ORIGIN);
    for pair in opened.entries.windows(2) {
        assert_eq!(pair[1].0.previous, pair[0].1);
    }
    assert_eq!(opened.entries[2].0.what, record(2));
    assert_eq!(opened.entries[2].0.who, "anna");
}

#[test]
fn a_torn_tail_is_cut_at_every_byte_and_the_journal_goes_on() {
    let (dir, bytes, offsets) = journal();
    for end in offsets[2]..bytes.len() {
        let opened = reopen(dir.path(), &bytes[..end]).unwrap();
        assert_eq!(opened.cut as usize, end - offsets[2], "cut at byte {end}");
        assert_eq!(opened.entries.len(), 2);
        let mut journal = opened.journal;
        journal.append(5, "berta", "again", vec![record(7)]).unwrap();
        let again = Journal::open(dir.path()).unwrap();
        assert_eq!((again.entries.len(), again.cut), (3, 0));
        assert_eq!(again.entries[2].0.what, record(7));
    }
}

#[test]
fn a_tail_of_zeros_is_cut() {
    // File systems that extend before they write leave zeros after a power cut.
    let (dir, bytes, _) = journal();
    let longer = [&bytes[..], &[0; 100]].concat();
    let opened = reopen(dir.path(), &longer).unwrap();
    assert_eq!((opened.entries.len(), opened.cut), (3, 100));
}

#[test]
fn a_flipped_byte_anywhere_else_is_refused_and_nothing_is_changed() {
    let (dir, bytes, offsets) = journal();
    for at in offsets[0]..offsets[2] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        let error = reopen(dir.path(), &damaged).unwrap_err();
        let frame = if at < offsets[1] { 0 } else { 1 };
        let JournalError::Damaged { offset, seq, .. } = &error else { panic!("{at}: {error}") };
        assert_eq!((*offset as usize, *seq as usize), (offsets[frame], frame + 1), "byte {at}");
        assert!(error.to_string().contains(&format!("byte {}", offsets[frame])), "{error}");
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), damaged);
    }
}

#[test]
fn an_entry_that_was_taken_out_is_noticed() {
    let (dir, bytes, offsets) = journal();
    let without = [&bytes[..offsets[1]], &bytes[offsets[2]..]].concat();
    let error = reopen(dir.path(), &without).unwrap_err();
    assert!(error.to_string().contains("entry 3 stands there"), "{error}");
}

#[test]
fn another_file_is_no_journal() {
    let (dir, mut bytes, _) = journal();
    bytes[0] ^= 1;
    assert!(matches!(reopen(dir.path(), &bytes), Err(JournalError::Foreign { .. })));
    let empty = reopen(dir.path(), b"TIDE").unwrap();
    assert!(empty.entries.is_empty());
}

#[test]
fn what_a_full_disk_left_is_cut_and_the_journal_goes_on() {
    let Some(disk) = crate::disk::SmallDisk::mount(1) else { return };
    let mut journal = Journal::open(disk.path()).unwrap().journal;
    let why = "x".repeat(20_000);
    journal.append(1, "anna", &why, vec![record(0)]).unwrap();
    let before = fs::read(disk.path().join(FILE)).unwrap();
    disk.fill();
    let error = journal.append(2, "anna", &why, vec![record(1)]).unwrap_err();
    assert!(matches!(error, JournalError::Write { .. }), "{error}");
    assert_eq!(fs::read(disk.path().join(FILE)).unwrap(), before);
    disk.free();
    journal.append(3, "anna", &why, vec![record(2)]).unwrap();
    let again = Journal::open(disk.path()).unwrap();
    let kept: Vec<u64> = again.entries.iter().map(|(entry, _)| entry.at_ms).collect();
    assert_eq!((kept, again.cut), (vec![1, 3], 0));
}

#[test]
fn a_tail_that_could_not_be_cut_is_cut_before_the_next_entry() {
    let (dir, bytes, _) = journal();
    let mut journal = Journal::open(dir.path()).unwrap().journal;
    // As a failed write leaves it whose end could not be cut either.
    fs::write(dir.path().join(FILE), [&bytes[..], b"half"].concat()).unwrap();
    journal.tail = Tail::Torn;
    journal.append(9, "anna", "", vec![record(9)]).unwrap();
    let again = Journal::open(dir.path()).unwrap();
    assert_eq!((again.entries.len(), again.cut), (4, 0));
}

#[test]
fn an_entry_that_is_too_large_is_refused_and_nothing_is_written() {
    let (dir, bytes, _) = journal();
    let mut journal = Journal::open(dir.path()).unwrap().journal;
    let why = "x".repeat(PAYLOAD_MAX);
    let error = journal.append(9, "anna", &why, vec![record(9)]).unwrap_err();
    assert!(matches!(error, JournalError::TooLarge { .. }), "{error}");
    assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), bytes);
    journal.append(9, "anna", "", vec![record(9)]).unwrap();
}
