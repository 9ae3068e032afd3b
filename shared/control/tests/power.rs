//! Power cuts at every operation of the journal, and again at every operation of what follows.
//!
//! What must hold whatever a cut leaves (whole, missing, torn and reordered writes):
//! - every decision that was reported as done is there, in order;
//! - at most the one that was under way may be there or not, and nothing else;
//! - the state is the fold of what is there;
//! - opening never refuses, and the journal goes on.

mod trouble;

use std::collections::BTreeSet;

use tidegate_control::Entry;
use tidegate_control::access::ApiRole;
use tidegate_control::journal::{Ending, Journal, verify};
use tidegate_control::state::{Record, State};
use tidegate_disk::Disk;
use tidegate_disk::memory::{Content, MemoryDisk};
use tidegate_wire::Digest;
use trouble::{Troubled, When};

/// Bytes of the reasons of the decisions: within one sector of the disk, and over several.
const REASONS: [usize; 6] = [0, 900, 30, 400, 1500, 10];

/// After how many decisions the controller is restarted.
const RESTART_AFTER: usize = 3;

/// What is known of a journal from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    /// Decisions that were reported as done, or were there when it was opened, by number.
    done: Vec<usize>,
    /// Those that failed since, or the one that was under way when power went: one of them may be
    /// there too.
    failed: Vec<usize>,
}

fn record(n: usize) -> Record {
    let (name, token) = (format!("operator-{n}"), Digest::of(&n.to_le_bytes()));
    Record::TokenIssued { name, token, role: ApiRole::Viewer, from_ms: None, expires_ms: None }
}

/// The number of a decision.
fn number(entry: &Entry) -> usize {
    let Record::TokenIssued { name, .. } = &entry.what else { panic!("{entry:?}") };
    let number = name.strip_prefix("operator-").unwrap().parse().unwrap();
    assert_eq!(entry.what, record(number));
    number
}

/// Opens a journal, and checks that it holds what it must.
fn open<D: Disk>(disk: D, told: &mut Told) -> Option<Journal<D>> {
    let opened = match Journal::open(disk, Ending::Checked) {
        Ok(opened) => opened,
        Err(error) if error.to_string().contains(trouble::GONE) => return None,
        Err(error) => panic!("it is refused: {error}; told {told:?}"),
    };
    let found: Vec<usize> = opened.entries.iter().map(|(entry, _)| number(entry)).collect();
    let more = found.strip_prefix(&told.done[..]).expect("all that is done is there, in order");
    let is_explained = more.len() <= 1 && more.iter().all(|one| told.failed.contains(one));
    assert!(is_explained, "there is {found:?}, told was {told:?}");
    let seqs = opened.entries.iter().map(|(entry, _)| entry.seq);
    assert!(seqs.eq(1..=found.len() as u64));
    let mut state = State::default();
    opened.entries.iter().for_each(|(entry, _)| state.apply(entry));
    let mut folded = State::default();
    for (at, n) in found.iter().enumerate() {
        let (seq, what) = (at as u64 + 1, record(*n));
        let (who, why, previous) = ("anna".to_owned(), String::new(), Digest([0; 32]));
        folded.apply(&Entry { seq, at_ms: *n as u64, who, why, previous, what });
    }
    assert_eq!(state, folded);
    *told = Told { done: found, failed: Vec::new() };
    Some(opened.journal)
}

/// Decides once. Says whether power was still there.
fn decide<D: Disk>(journal: &mut Journal<D>, n: usize, told: &mut Told) -> bool {
    let why = "x".repeat(REASONS[n % REASONS.len()]);
    match journal.append(n as u64, "anna", &why, record(n)) {
        Ok((entry, _)) => {
            assert_eq!(entry.seq, told.done.len() as u64 + 1);
            told.done.push(n);
            told.failed.clear();
            true
        }
        Err(error) => {
            assert!(error.to_string().contains(trouble::GONE), "{error}");
            told.failed.push(n);
            false
        }
    }
}

/// Opens, decides, restarts and decides again, until power goes.
fn script<D: Disk>(disk: &D, told: &mut Told) {
    let Some(mut journal) = open(disk, told) else { return };
    for n in 0..REASONS.len() {
        if n == RESTART_AFTER {
            let Some(again) = open(disk, told) else { return };
            journal = again;
        }
        if !decide(&mut journal, n, told) {
            return;
        }
    }
}

/// What a restarted controller does: it opens, and decides once.
fn restart<D: Disk>(disk: &D, told: &mut Told) {
    let Some(mut journal) = open(disk, told) else { return };
    decide(&mut journal, 100 + told.done.len(), told);
}

/// Everything that tells two disks apart.
type Image = (Told, Vec<(String, Option<Content>)>);

fn image(disk: &MemoryDisk, told: &Told) -> Image {
    let content = |name: String| (disk.content(&name), name);
    let files = disk.names().into_iter().map(content).map(|(content, name)| (name, content));
    (told.clone(), files.collect())
}

/// What was tried, to be told.
#[derive(Debug, Default)]
struct Figures {
    operations: u64,
    cuts: u64,
    disks: usize,
    second_cuts: u64,
    second_disks: usize,
}

/// Operations that `act` takes on a copy of a disk.
fn operations(disk: &MemoryDisk, told: &Told, act: fn(&MemoryDisk, &mut Told)) -> u64 {
    let (disk, mut told) = (disk.clone(), told.clone());
    let before = disk.operations();
    act(&disk, &mut told);
    disk.operations() - before
}

/// Cuts power at every operation of `act`, and gives every disk that may be found, each once.
fn cut_everywhere(
    disk: &MemoryDisk,
    told: &Told,
    act: fn(&MemoryDisk, &mut Told),
    seen: &mut BTreeSet<Image>,
) -> (u64, Vec<(MemoryDisk, Told)>) {
    let count = operations(disk, told, act);
    let mut found = Vec::new();
    for cut in 1..=count {
        let (disk, mut told) = (disk.clone(), told.clone());
        disk.cut_at(cut);
        act(&disk, &mut told);
        assert!(disk.is_off(), "operation {cut} of {count}");
        for one in disk.power_cuts() {
            if seen.insert(image(&one.disk, &told)) {
                found.push((one.disk, told.clone()));
            }
        }
    }
    (count, found)
}

/// A journal that a cut may have touched is whole: it verifies, opens, goes on, and has it all after
/// another restart.
fn check(disk: &MemoryDisk, told: &Told) {
    let (disk, mut told) = (disk.clone(), told.clone());
    verify(&disk, None).unwrap();
    restart(&disk, &mut told);
    open(&disk, &mut told).unwrap();
    assert_eq!(told.failed, []);
    verify(&disk, None).unwrap();
}

#[test]
fn no_power_cut_loses_or_invents_a_decision_or_keeps_the_journal_from_opening() {
    let empty = MemoryDisk::default();
    let mut figures = Figures::default();
    let (mut seen, mut seen_again) = (BTreeSet::new(), BTreeSet::new());
    let (count, found) = cut_everywhere(&empty, &Told::default(), script::<MemoryDisk>, &mut seen);
    (figures.operations, figures.cuts, figures.disks) = (count, count, found.len());
    for (disk, told) in &found {
        check(disk, told);
        let (count, again) = cut_everywhere(disk, told, restart::<MemoryDisk>, &mut seen_again);
        figures.second_cuts += count;
        figures.second_disks += again.len();
        for (disk, told) in &again {
            check(disk, told);
        }
    }
    println!("{figures:?}");
    assert!(figures.operations > 60 && figures.disks > 100, "{figures:?}");
}

#[test]
fn a_controller_that_was_killed_and_then_loses_power_has_lost_nothing() {
    let count = operations(&MemoryDisk::default(), &Told::default(), script::<MemoryDisk>);
    let (mut seen, mut disks) = (BTreeSet::new(), 0);
    for kill in 1..=count {
        for when in [When::Before, When::Amid, When::After] {
            // The system has what the controller wrote, durable or not.
            let (disk, mut told) = (MemoryDisk::default(), Told::default());
            script(&Troubled::killed_at(&disk, kill, when), &mut told);
            check(&disk, &told);
            let (_, found) = cut_everywhere(&disk, &told, restart::<MemoryDisk>, &mut seen);
            disks += found.len();
            found.iter().for_each(|(disk, told)| check(disk, told));
        }
    }
    println!("{count} kills, {disks} disks after a power cut that followed");
}

#[test]
fn operations_that_fail_cost_those_decisions_only_and_no_power_cut_finds_another() {
    let count = operations(&MemoryDisk::default(), &Told::default(), script::<MemoryDisk>);
    for (first, more) in (1..=count).flat_map(|first| (0..4).map(move |more| (first, more))) {
        for when in [When::Before, When::Amid, When::After] {
            let disk = MemoryDisk::default();
            let troubled = Troubled::failing_at(&disk, first..=first + more, when);
            let mut told = Told::default();
            let mut opened = (0..=more + 1).filter_map(|_| open(&troubled, &mut told));
            let mut journal = opened.next().expect("it can be opened again afterwards");
            drop(opened);
            for n in 0..REASONS.len() {
                if decide(&mut journal, n, &mut told) || more == 0 {
                    // What failed was cut off, at the latest before the next entry.
                    told.failed.clear();
                    assert_eq!(verify(&disk, None).unwrap().torn, 0);
                }
            }
            assert!(told.done.len() as u64 + more + 1 >= REASONS.len() as u64, "{told:?}");
            for found in disk.power_cuts() {
                check(&found.disk, &told);
            }
        }
    }
}
