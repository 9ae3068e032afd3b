use alloc::format;
use alloc::string::ToString;
use alloc::vec;

use tidegate_disk::memory::MemoryDisk;

use super::*;
use crate::access::ApiRole;

fn record(n: usize) -> Record {
    let (name, token) = (format!("operator-{n}"), Digest::of(&[n as u8]));
    let role = ApiRole::Viewer;
    Record::TokenIssued { name, token, role, from_ms: None, expires_ms: None }
}

fn open(disk: &MemoryDisk, ending: Ending) -> Result<Opened<&MemoryDisk>, JournalError> {
    Journal::open(disk, ending)
}

fn bytes_of(disk: &MemoryDisk) -> Vec<u8> {
    disk.content(FILE).unwrap().to_vec()
}

fn put(disk: &MemoryDisk, name: &str, bytes: &[u8]) {
    tidegate_disk::replace(disk, name, bytes, Access::Owner).unwrap();
}

/// A journal with three entries: its disk, its bytes, and where each frame begins.
fn journal() -> (MemoryDisk, Vec<u8>, Vec<usize>) {
    let disk = MemoryDisk::default();
    let mut offsets = Vec::new();
    let mut journal = open(&disk, Ending::Checked).unwrap().journal;
    for n in 0..3 {
        offsets.push(journal.length as usize);
        journal.append(1000 + n as u64, "anna", "because", record(n)).unwrap();
    }
    let bytes = bytes_of(&disk);
    (disk, bytes, offsets)
}

fn reopen<'a>(disk: &'a MemoryDisk, bytes: &[u8]) -> Result<Opened<&'a MemoryDisk>, JournalError> {
    put(disk, FILE, bytes);
    open(disk, Ending::Checked)
}

/// The head file as it was after an entry, which is how a power cut during the next one leaves it.
fn head_after(disk: &MemoryDisk, bytes: &[u8], offsets: &[usize], entries: usize) {
    let end = offsets.get(entries).copied().unwrap_or(bytes.len());
    let hash = match entries {
        0 => Head::NONE.hash,
        _ => Digest::of(&bytes[offsets[entries - 1] + frame::HEADER..end]),
    };
    head::write(disk, Head { seq: entries as u64, hash }).unwrap();
}

#[test]
fn entries_come_back_in_order_and_chained() {
    let (disk, bytes, _) = journal();
    let opened = reopen(&disk, &bytes).unwrap();
    assert_eq!(opened.cut, 0);
    let seqs: Vec<u64> = opened.entries.iter().map(|(entry, _)| entry.seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
    assert_eq!(opened.entries[0].0.previous, Head::NONE.hash);
    for pair in opened.entries.windows(2) {
        assert_eq!(pair[1].0.previous, pair[0].1);
    }
    assert_eq!(opened.entries[2].0.what, record(2));
    assert_eq!(opened.entries[2].0.who, "anna");
}

#[test]
fn a_torn_tail_is_cut_at_every_byte_and_the_journal_goes_on() {
    let (disk, bytes, offsets) = journal();
    for end in offsets[2]..bytes.len() {
        head_after(&disk, &bytes, &offsets, 2);
        let opened = reopen(&disk, &bytes[..end]).unwrap();
        assert_eq!(opened.cut as usize, end - offsets[2], "cut at byte {end}");
        assert_eq!(opened.entries.len(), 2);
        let mut journal = opened.journal;
        journal.append(5, "berta", "again", record(7)).unwrap();
        let again = open(&disk, Ending::Checked).unwrap();
        assert_eq!((again.entries.len(), again.cut), (3, 0));
        assert_eq!(again.entries[2].0.what, record(7));
    }
}

#[test]
fn a_tail_of_zeros_is_cut() {
    // File systems that extend before they write leave zeros after a power cut.
    let (disk, bytes, _) = journal();
    let longer = [&bytes[..], &[0; 100]].concat();
    let opened = reopen(&disk, &longer).unwrap();
    assert_eq!((opened.entries.len(), opened.cut), (3, 100));
}

#[test]
fn a_flipped_byte_anywhere_else_is_refused_and_nothing_is_changed() {
    let (disk, bytes, offsets) = journal();
    for at in offsets[0]..offsets[2] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        let error = reopen(&disk, &damaged).unwrap_err();
        let frame = if at < offsets[1] { 0 } else { 1 };
        let JournalError::Damaged { offset, seq, .. } = &error else { panic!("{at}: {error}") };
        assert_eq!((*offset as usize, *seq as usize), (offsets[frame], frame + 1), "byte {at}");
        assert!(error.to_string().contains(&format!("byte {}", offsets[frame])), "{error}");
        assert_eq!(bytes_of(&disk), damaged);
    }
}

#[test]
fn an_entry_that_was_taken_out_is_noticed() {
    let (disk, bytes, offsets) = journal();
    let without = [&bytes[..offsets[1]], &bytes[offsets[2]..]].concat();
    let error = reopen(&disk, &without).unwrap_err();
    assert!(error.to_string().contains("entry 3 stands there"), "{error}");
}

#[test]
fn another_file_is_no_journal() {
    let (disk, mut bytes, offsets) = journal();
    bytes[0] ^= 1;
    assert!(matches!(reopen(&disk, &bytes), Err(JournalError::Foreign { .. })));
    head_after(&disk, &bytes, &offsets, 0);
    let empty = reopen(&disk, b"TIDE").unwrap();
    assert!(empty.entries.is_empty());
}

#[test]
fn what_a_full_disk_left_is_cut_and_the_journal_goes_on() {
    let disk = MemoryDisk::default();
    let mut journal = open(&disk, Ending::Checked).unwrap().journal;
    journal.append(1, "anna", "", record(0)).unwrap();
    let before = bytes_of(&disk);
    for room in 0..100 {
        disk.set_room(Some(disk.bytes() + room));
        let error = journal.append(2, "anna", "because", record(1)).unwrap_err();
        assert!(matches!(error, JournalError::Write { .. }), "{error}");
        assert_eq!(bytes_of(&disk), before);
    }
    disk.set_room(None);
    journal.append(3, "anna", "because", record(2)).unwrap();
    let again = open(&disk, Ending::Checked).unwrap();
    let kept: Vec<u64> = again.entries.iter().map(|(entry, _)| entry.at_ms).collect();
    assert_eq!((kept, again.cut), (vec![1, 3], 0));
}

#[test]
fn a_disk_that_cannot_even_cut_loses_and_invents_nothing() {
    let disk = MemoryDisk::default();
    let mut journal = open(&disk, Ending::Checked).unwrap().journal;
    journal.append(1, "anna", "", record(0)).unwrap();
    disk.set_refusal(Some(tidegate_disk::Fault::Failed));
    for _ in 0..3 {
        journal.append(2, "anna", "", record(1)).unwrap_err();
    }
    disk.set_refusal(None);
    journal.append(3, "anna", "", record(2)).unwrap();
    let again = open(&disk, Ending::Checked).unwrap();
    let kept: Vec<u64> = again.entries.iter().map(|(entry, _)| entry.at_ms).collect();
    assert_eq!(kept, [1, 3]);
}

#[test]
fn a_tail_that_could_not_be_cut_is_cut_before_the_next_entry() {
    let (disk, bytes, _) = journal();
    let mut journal = open(&disk, Ending::Checked).unwrap().journal;
    // As a failed write leaves it whose end could not be cut either.
    put(&disk, FILE, &[&bytes[..], b"half"].concat());
    journal.tail = Tail::Torn;
    journal.append(9, "anna", "", record(9)).unwrap();
    let again = open(&disk, Ending::Checked).unwrap();
    assert_eq!((again.entries.len(), again.cut), (4, 0));
}

#[test]
fn an_entry_that_is_too_large_is_refused_and_nothing_is_written() {
    let (disk, bytes, _) = journal();
    let mut journal = open(&disk, Ending::Checked).unwrap().journal;
    let why = "x".repeat(frame::PAYLOAD_MAX);
    let error = journal.append(9, "anna", &why, record(9)).unwrap_err();
    assert!(matches!(error, JournalError::TooLarge { .. }), "{error}");
    assert_eq!(bytes_of(&disk), bytes);
    journal.append(9, "anna", "", record(9)).unwrap();
}

/// What `verify` says of these bytes, which it must not touch.
fn verified(disk: &MemoryDisk, bytes: &[u8]) -> Result<Verified, JournalError> {
    put(disk, FILE, bytes);
    let result = verify(disk, None);
    assert_eq!(bytes_of(disk), bytes);
    result
}

#[test]
fn a_whole_journal_is_verified_also_behind_a_torn_tail() {
    let (disk, bytes, offsets) = journal();
    let whole = verified(&disk, &bytes).unwrap();
    let hash = Digest::of(&bytes[offsets[2] + frame::HEADER..]);
    assert_eq!(whole, Verified { head: Head { seq: 3, hash }, torn: 0 });
    // While a controller appends: the entry is there, the head not yet.
    head_after(&disk, &bytes, &offsets, 2);
    assert_eq!(verified(&disk, &bytes).unwrap(), whole);
    let torn = verified(&disk, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!((torn.head.seq, torn.torn), (2, (bytes.len() - offsets[2] - 1) as u64));
    let error = verify(&disk, Some(hash)).unwrap_err();
    assert!(matches!(error, JournalError::Noted { .. }), "its last byte is missing: {error}");
}

#[test]
fn every_flipped_byte_is_noticed_and_its_entry_named() {
    let (disk, bytes, offsets) = journal();
    for at in offsets[0]..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x01;
        let error = verified(&disk, &damaged).unwrap_err();
        let frame = offsets.partition_point(|offset| *offset <= at) as u64;
        match error {
            JournalError::Damaged { seq, .. } => assert_eq!(seq, frame, "byte {at}"),
            // Damage in the last entry looks like a torn tail, but the head knows better.
            JournalError::CutOff { last, named, .. } => assert_eq!((frame, last, named), (3, 2, 3)),
            error => panic!("byte {at}: {error}"),
        }
    }
}

#[test]
fn removed_swapped_and_cut_off_entries_are_noticed() {
    let (disk, bytes, offsets) = journal();
    let [one, two, three] = [(0, 1), (1, 2), (2, 3)]
        .map(|(from, to)| &bytes[offsets[from]..offsets.get(to).copied().unwrap_or(bytes.len())]);
    let magic = &bytes[..offsets[0]];
    for (entries, expected) in [
        (vec![two, three], "where entry 1 should be: entry 2 stands there"),
        (vec![one, three], "where entry 2 should be: entry 3 stands there"),
        (vec![two, one, three], "where entry 1 should be: entry 2 stands there"),
        (vec![one, three, two], "where entry 2 should be: entry 3 stands there"),
        (vec![one, one, two, three], "where entry 2 should be: entry 1 stands there"),
        (vec![one, two], "ends with entry 2, but entry 3 was written"),
        (vec![one], "ends with entry 1, but entry 3 was written"),
        (vec![], "ends with entry 0, but entry 3 was written"),
    ] {
        let bytes = [magic, &entries.concat()].concat();
        let error = verified(&disk, &bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let error = reopen(&disk, &bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(bytes_of(&disk), bytes, "nothing was changed");
    }
    disk.remove(FILE).unwrap();
    let error = verify(&disk, None).unwrap_err().to_string();
    assert!(error.contains("ends with entry 0, but entry 3 was written"), "{error}");
}

/// Who can write both files can forge both; then only a head that was noted elsewhere tells.
#[test]
fn a_forged_end_is_noticed_by_who_noted_the_head() {
    let (disk, bytes, offsets) = journal();
    let noted = verified(&disk, &bytes).unwrap().head.hash;
    put(&disk, FILE, &bytes[..offsets[2]]);
    head_after(&disk, &bytes, &offsets, 2);
    let mut forged = open(&disk, Ending::Checked).unwrap().journal;
    forged.append(1002, "anna", "another reason", record(2)).unwrap();
    assert_eq!(verify(&disk, None).unwrap().head.seq, 3);
    let error = verify(&disk, Some(noted)).unwrap_err().to_string();
    assert!(error.contains(&noted.to_string()), "{error}");
    let kept = Digest::of(&bytes[offsets[0] + frame::HEADER..offsets[1]]);
    assert!(verify(&disk, Some(kept)).is_ok());
}

#[test]
fn a_missing_end_is_only_gone_past_when_it_is_accepted() {
    let (disk, bytes, offsets) = journal();
    let short = &bytes[..offsets[1]];
    assert!(matches!(reopen(&disk, short), Err(JournalError::CutOff { .. })));
    let opened = open(&disk, Ending::Accepted).unwrap();
    assert_eq!((opened.entries.len(), opened.journal.head().seq), (1, 1));
    drop(opened);
    assert_eq!(verify(&disk, None).unwrap().head.seq, 1);
    disk.remove("head").unwrap();
    assert!(matches!(verify(&disk, None), Err(JournalError::NoHead { .. })));
    assert!(matches!(open(&disk, Ending::Checked), Err(JournalError::NoHead { .. })));
    put(&disk, "head", b"three");
    assert!(matches!(verify(&disk, None), Err(JournalError::HeadDamaged { .. })));
    let replaced = Head { seq: 1, hash: Digest::of(b"another") };
    head::write(&disk, replaced).unwrap();
    assert!(matches!(verify(&disk, None), Err(JournalError::Replaced { seq: 1, .. })));
}
