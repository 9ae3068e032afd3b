use super::*;
use alloc::string::String;
use tidegate_disk::memory::MemoryDisk;
use tidegate_drift::LatencySummary;
use tidegate_wire::report::{Transition, Window};
use tidegate_wire::{ArtifactRef, Digest, Generation, State};

const ROOMY: SpoolLimits = SpoolLimits { entries_max: 1_000, bytes_max: 1 << 20 };

fn sender() -> Sender {
    Sender { fleet: "oslo".parse().unwrap(), device: "pi-1".parse().unwrap() }
}

fn open(disk: &MemoryDisk, limits: SpoolLimits) -> Spool<Log<&MemoryDisk>> {
    Spool::open(&mut LogSpool::new(disk, 7), sender(), limits).unwrap().0
}

fn window(number: u64) -> Body {
    Body::Window(Window {
        model: "digits".parse().unwrap(),
        artifact: ArtifactRef { digest: Digest::of(b"m"), version: "1.0.0".parse().unwrap() },
        boot: 1,
        window: number,
        opened: 0,
        closed: 1,
        rows: 10,
        errors: 0,
        reference: None,
        features: vec![],
        outputs: None,
        latency: LatencySummary::default(),
        bad_inputs: 0,
        humility: Default::default(),
        feedback: None,
    })
}

fn transition() -> Body {
    Body::Transition(Transition {
        model: "digits".parse().unwrap(),
        generation: Generation(1),
        artifact: None,
        state: State::Idle,
        active: None,
        reason: None,
        detail: String::new(),
    })
}

fn seqs(spool: &Spool<Log<&MemoryDisk>>) -> Vec<u64> {
    spool.seqs().collect()
}

#[test]
fn entries_stay_until_they_are_acknowledged() {
    let disk = MemoryDisk::default();
    let mut spool = open(&disk, ROOMY);
    let id = spool.id();
    for number in 0..4 {
        assert_eq!(spool.append(7, window(number)).unwrap(), number);
    }
    spool.append(7, transition()).unwrap();
    let foreign = Ack { spool: id ^ 1, seqs: vec![(0, u64::MAX)] };
    assert!(spool.acknowledge(&foreign).unwrap().is_empty());
    let ack = Ack { spool: id, seqs: vec![(1, 2), (9, 3), (4, u64::MAX)] };
    assert_eq!(spool.acknowledge(&ack).unwrap(), [1, 2, 4]);
    assert_eq!(seqs(&spool), [0, 3]);
    spool.flush().unwrap();
    drop(spool);

    let mut spool = open(&disk, ROOMY);
    assert_eq!((spool.id(), spool.len(), spool.dropped()), (id, 2, 0));
    assert_eq!(seqs(&spool), [0, 3]);
    // 4 was used and acknowledged: it is never given again.
    assert_eq!(spool.append(7, window(4)).unwrap(), 5);
    let report: Report = envelope::open(&spool.sealed(3).unwrap().unwrap()).unwrap();
    assert_eq!((report.seq, report.oldest, report.body), (3, 0, window(3)));
}

#[test]
fn a_full_spool_drops_the_oldest_windows_and_keeps_transitions() {
    let disk = MemoryDisk::default();
    let mut spool = open(&disk, SpoolLimits { entries_max: 4, ..ROOMY });
    spool.append(7, transition()).unwrap();
    for number in 1..=5 {
        spool.append(7, window(number)).unwrap();
    }
    assert_eq!((seqs(&spool), spool.dropped()), (vec![0, 3, 4, 5], 2));
    for _ in 0..5 {
        spool.append(7, transition()).unwrap();
    }
    // No window is left: now the oldest transitions go.
    assert_eq!((seqs(&spool), spool.dropped()), (vec![7, 8, 9, 10], 7));
    drop(spool);
    let spool = open(&disk, ROOMY);
    assert_eq!((spool.len(), spool.dropped()), (4, 7));
    let report: Report = envelope::open(&spool.sealed(7).unwrap().unwrap()).unwrap();
    assert_eq!((report.oldest, report.dropped), (7, 7));
}

#[test]
fn bytes_are_bounded_too() {
    let one = {
        let disk = MemoryDisk::default();
        let mut spool = open(&disk, ROOMY);
        spool.append(7, window(0)).unwrap();
        spool.bytes()
    };
    let bytes_max = 10 * (one + 8);
    let disk = MemoryDisk::default();
    let mut spool = open(&disk, SpoolLimits { bytes_max, ..ROOMY });
    for number in 0..40 {
        spool.append(7, window(number)).unwrap();
        assert!(spool.bytes() <= bytes_max);
    }
    assert_eq!(spool.len() + spool.dropped(), 40);
    assert!(spool.len() >= 9);
}

#[test]
fn what_a_killed_agent_left_is_durable_before_it_is_believed() {
    let disk = MemoryDisk::default();
    let mut spool = open(&disk, ROOMY);
    disk.cut_at(2);
    spool.append(7, transition()).unwrap_err();
    let disk = disk.after_kill();
    assert_eq!(seqs(&open(&disk, ROOMY)), [0]);
    assert_eq!(seqs(&open(&disk.after_power_cut(&[]), ROOMY)), [0]);
    // Nor is its name.
    for cut in 1..20 {
        let disk = MemoryDisk::default();
        disk.cut_at(cut);
        drop(Spool::open(&mut LogSpool::new(&disk, 7), sender(), ROOMY));
        let disk = disk.after_kill();
        open(&disk, ROOMY).append(7, transition()).unwrap();
        assert_eq!(seqs(&open(&disk.after_power_cut(&[]), ROOMY)), [0], "{cut}");
    }
}

#[test]
fn a_log_of_the_past_is_written_anew() {
    let disk = MemoryDisk::default();
    let mut spool = open(&disk, ROOMY);
    let kept = spool.append(7, transition()).unwrap();
    for number in 1..500 {
        let seq = spool.append(7, window(number)).unwrap();
        spool.acknowledge(&Ack { spool: spool.id(), seqs: vec![(seq, seq)] }).unwrap();
    }
    assert!(disk.bytes() < 32 * 1024, "{}", disk.bytes());
    let found = disk.after_power_cut(&[]);
    let spool = open(&found, ROOMY);
    assert_eq!((seqs(&spool)[0], spool.seq_next(), spool.id()), (kept, 500, 7));
}
