//! Models that come and go leave no memory behind.
#![allow(missing_docs)]

mod digits;

use std::sync::Arc;

use digits::{model_name, row, slot, stream};
use tidegate_agent::self_test::self_test;
use tidegate_agent::serving::{Ask, Serving};
use tidegate_wire::policy::Gates;
use tokio::sync::mpsc;

/// Cycles before the first measurement: arenas, caches and windows have their size by then.
const WARM_UP: usize = 100;
const CYCLES: usize = 1_000;

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
fn a_thousand_loads_and_unloads_leave_memory_flat() {
    let (sender, mut windows) = mpsc::channel(64);
    let serving = Serving::new(sender, 7);
    let slots = ["1.0.0", "1.1.0"].map(|version| slot(version, Gates::default()));
    let (golden, rows) = (slots.each_ref().map(|slot| slot.golden()), stream());
    let mut before = 0;
    for cycle in 0..WARM_UP + CYCLES {
        if cycle == WARM_UP {
            before = resident_kib();
        }
        let loaded = slots[cycle % 2].load().unwrap();
        assert_eq!(self_test(&loaded, &golden[cycle % 2]).verdict, Ok(()));
        serving.activate(&model_name(), Arc::new(loaded));
        let turn = serving.turn("digits", None).unwrap();
        turn.infer_here(Ask::new(row(&rows[cycle % rows.len()]), 1)).unwrap();
        drop(turn);
        serving.deactivate(&model_name());
        while windows.try_recv().is_ok() {}
    }
    let after = resident_kib();
    println!("{CYCLES} cycles: {before} KiB resident before, {after} KiB after");
    assert!(after.abs_diff(before) * 20 <= before, "{before} KiB before, {after} KiB after");
}
