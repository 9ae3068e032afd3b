use super::*;
use std::fs;

fn record(n: usize) -> Record {
    let (name, token) = (format!("operator-{n}"), Digest::of(&[n as u8]));
    let role = crate::api::types::ApiRole::Viewer;
    Record::TokenIssued { name, token, role, from_ms: None, expires_ms: None }
}

/// A journal with three entries: its folder, its bytes, and where each frame begins.
fn journal() -> (tempfile::TempDir, Vec<u8>, Vec<usize>) {
    let dir = tempfile::tempdir().unwrap();
    let mut offsets = Vec::new();
    let mut journal = Journal::open(dir.path(), Ending::Checked).unwrap().journal;
    for n in 0..3 {
        offsets.push(journal.length as usize);
        journal.append(1000 + n as u64, "anna", "because", vec![record(n)]).unwrap();
    }
    let bytes = fs::read(dir.path().join(FILE)).unwrap();
    (dir, bytes, offsets)
}

fn reopen(dir: &Path, bytes: &[u8]) -> Result<Opened, JournalError> {
    fs::write(dir.join(FILE), bytes).unwrap();
    Journal::open(dir, Ending::Checked)
}

/// The head file as it was after an entry, which is how a power cut during the next one leaves it.
fn head_after(dir: &Path, bytes: &[u8], offsets: &[usize], entries: usize) {
    let end = offsets.get(entries).copied().unwrap_or(bytes.len());
    let hash = match entries {
        0 => Head::NONE.hash,
        _ => Digest::of(&bytes[offsets[entries - 1] + frame::HEADER..end]),
    };
    head::write(dir, Head { seq: entries as u64, hash }).unwrap();
}

#[test]
fn entries_come_back_in_order_and_chained() {
    let (dir, bytes, _) = journal();
    let opened = reopen(dir.path(), &bytes).unwrap();
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
    let (dir, bytes, offsets) = journal();
    for end in offsets[2]..bytes.len() {
        head_after(dir.path(), &bytes, &offsets, 2);
        let opened = reopen(dir.path(), &bytes[..end]).unwrap();
        assert_eq!(opened.cut as usize, end - offsets[2], "cut at byte {end}");
        assert_eq!(opened.entries.len(), 2);
        let mut journal = opened.journal;
        journal.append(5, "berta", "again", vec![record(7)]).unwrap();
        let again = Journal::open(dir.path(), Ending::Checked).unwrap();
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
    let (dir, mut bytes, offsets) = journal();
    bytes[0] ^= 1;
    assert!(matches!(reopen(dir.path(), &bytes), Err(JournalError::Foreign { .. })));
    head_after(dir.path(), &bytes, &offsets, 0);
    let empty = reopen(dir.path(), b"TIDE").unwrap();
    assert!(empty.entries.is_empty());
}

#[test]
fn what_a_full_disk_left_is_cut_and_the_journal_goes_on() {
    let Some(disk) = crate::disk::SmallDisk::mount(1) else { return };
    let mut journal = Journal::open(disk.path(), Ending::Checked).unwrap().journal;
    let why = "x".repeat(20_000);
    journal.append(1, "anna", &why, vec![record(0)]).unwrap();
    let before = fs::read(disk.path().join(FILE)).unwrap();
    disk.fill();
    let error = journal.append(2, "anna", &why, vec![record(1)]).unwrap_err();
    assert!(matches!(error, JournalError::Write { .. }), "{error}");
    assert_eq!(fs::read(disk.path().join(FILE)).unwrap(), before);
    disk.free();
    journal.append(3, "anna", &why, vec![record(2)]).unwrap();
    let again = Journal::open(disk.path(), Ending::Checked).unwrap();
    let kept: Vec<u64> = again.entries.iter().map(|(entry, _)| entry.at_ms).collect();
    assert_eq!((kept, again.cut), (vec![1, 3], 0));
}

#[test]
fn a_tail_that_could_not_be_cut_is_cut_before_the_next_entry() {
    let (dir, bytes, _) = journal();
    let mut journal = Journal::open(dir.path(), Ending::Checked).unwrap().journal;
    // As a failed write leaves it whose end could not be cut either.
    fs::write(dir.path().join(FILE), [&bytes[..], b"half"].concat()).unwrap();
    journal.tail = Tail::Torn;
    journal.append(9, "anna", "", vec![record(9)]).unwrap();
    let again = Journal::open(dir.path(), Ending::Checked).unwrap();
    assert_eq!((again.entries.len(), again.cut), (4, 0));
}

#[test]
fn an_entry_that_is_too_large_is_refused_and_nothing_is_written() {
    let (dir, bytes, _) = journal();
    let mut journal = Journal::open(dir.path(), Ending::Checked).unwrap().journal;
    let why = "x".repeat(PAYLOAD_MAX);
    let error = journal.append(9, "anna", &why, vec![record(9)]).unwrap_err();
    assert!(matches!(error, JournalError::TooLarge { .. }), "{error}");
    assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), bytes);
    journal.append(9, "anna", "", vec![record(9)]).unwrap();
}

/// What `verify` says of these bytes, which it must not touch.
fn verified(dir: &Path, bytes: &[u8]) -> Result<Verified, JournalError> {
    fs::write(dir.join(FILE), bytes).unwrap();
    let result = verify(dir, None);
    assert_eq!(fs::read(dir.join(FILE)).unwrap(), bytes);
    result
}

#[test]
fn a_whole_journal_is_verified_also_behind_a_torn_tail() {
    let (dir, bytes, offsets) = journal();
    let whole = verified(dir.path(), &bytes).unwrap();
    let hash = Digest::of(&bytes[offsets[2] + frame::HEADER..]);
    assert_eq!(whole, Verified { head: Head { seq: 3, hash }, torn: 0 });
    // While a controller appends: the entry is there, the head not yet.
    head_after(dir.path(), &bytes, &offsets, 2);
    assert_eq!(verified(dir.path(), &bytes).unwrap(), whole);
    let torn = verified(dir.path(), &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!((torn.head.seq, torn.torn), (2, (bytes.len() - offsets[2] - 1) as u64));
    let error = verify(dir.path(), Some(hash)).unwrap_err();
    assert!(matches!(error, JournalError::Noted { .. }), "its last byte is missing: {error}");
}

#[test]
fn every_flipped_byte_is_noticed_and_its_entry_named() {
    let (dir, bytes, offsets) = journal();
    for at in offsets[0]..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x01;
        let error = verified(dir.path(), &damaged).unwrap_err();
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
    let (dir, bytes, offsets) = journal();
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
        let error = verified(dir.path(), &bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let error = reopen(dir.path(), &bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), bytes, "nothing was changed");
    }
    fs::remove_file(dir.path().join(FILE)).unwrap();
    let error = verify(dir.path(), None).unwrap_err().to_string();
    assert!(error.contains("ends with entry 0, but entry 3 was written"), "{error}");
}

/// Who can write both files can forge both; then only a head that was noted elsewhere tells.
#[test]
fn a_forged_end_is_noticed_by_who_noted_the_head() {
    let (dir, bytes, offsets) = journal();
    let noted = verified(dir.path(), &bytes).unwrap().head.hash;
    fs::write(dir.path().join(FILE), &bytes[..offsets[2]]).unwrap();
    head_after(dir.path(), &bytes, &offsets, 2);
    let mut forged = Journal::open(dir.path(), Ending::Checked).unwrap().journal;
    forged.append(1002, "anna", "another reason", vec![record(2)]).unwrap();
    assert_eq!(verify(dir.path(), None).unwrap().head.seq, 3);
    let error = verify(dir.path(), Some(noted)).unwrap_err().to_string();
    assert!(error.contains(&noted.to_string()), "{error}");
    let kept = Digest::of(&bytes[offsets[0] + frame::HEADER..offsets[1]]);
    assert!(verify(dir.path(), Some(kept)).is_ok());
}

#[test]
fn a_missing_end_is_only_gone_past_when_it_is_accepted() {
    let (dir, bytes, offsets) = journal();
    let short = &bytes[..offsets[1]];
    assert!(matches!(reopen(dir.path(), short), Err(JournalError::CutOff { .. })));
    let opened = Journal::open(dir.path(), Ending::Accepted).unwrap();
    assert_eq!((opened.entries.len(), opened.journal.head().seq), (1, 1));
    drop(opened);
    assert_eq!(verify(dir.path(), None).unwrap().head.seq, 1);
    fs::remove_file(dir.path().join("head")).unwrap();
    assert!(matches!(verify(dir.path(), None), Err(JournalError::NoHead { .. })));
    assert!(matches!(Journal::open(dir.path(), Ending::Checked), Err(JournalError::NoHead { .. })));
    fs::write(dir.path().join("head"), "three").unwrap();
    assert!(matches!(verify(dir.path(), None), Err(JournalError::HeadDamaged { .. })));
    let replaced = Head { seq: 1, hash: Digest::of(b"another") };
    head::write(dir.path(), replaced).unwrap();
    assert!(matches!(verify(dir.path(), None), Err(JournalError::Replaced { seq: 1, .. })));
}
