//! Every target on the committed inputs, on its seeds, and on inputs made from them.
//!
//! `TIDEGATE_SEED` repeats a run, `TIDEGATE_FUZZ_INPUTS` changes how many inputs a target gets.

use std::path::{Path, PathBuf};

use tidegate_fuzz::{Mutator, TARGETS, Target, target};

/// Inputs per target: a few seconds for all of them, unoptimised.
const INPUTS: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn committed(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let entries = std::fs::read_dir(&folder);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Runs one input; whoever reads the panic can repeat it.
fn run(target: &Target, input: &[u8]) {
    let run = || (target.run)(input);
    if let Err(panic) = std::panic::catch_unwind(run) {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{}: panics on {hex}", target.name);
        std::panic::resume_unwind(panic);
    }
}

fn all_inputs(name: &str) {
    let target = target(name).unwrap();
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("TIDEGATE_SEED").unwrap_or(clock);
    println!("{name}: TIDEGATE_SEED={seed}");
    let inputs = [committed(target), (target.seeds)()].concat();
    inputs.iter().for_each(|input| run(target, input));
    let mut mutator = Mutator::new(seed);
    for _ in 0..number("TIDEGATE_FUZZ_INPUTS").unwrap_or(INPUTS) {
        run(target, &mutator.next_from(&inputs));
    }
}

macro_rules! targets {
    ($($(#[$condition:meta])? $name:ident)*) => {
        const TESTED: &[&str] = &[$($(#[$condition])? stringify!($name)),*];
        $(
            $(#[$condition])?
            #[test]
            fn $name() {
                all_inputs(stringify!($name));
            }
        )*
    };
}

targets! {
    messages cose metadata refresh texts record fetch journal books policy trees
    #[cfg(feature = "shells")]
    inference
    #[cfg(feature = "shells")]
    tensors
    #[cfg(feature = "shells")]
    bundle
}

#[test]
fn no_target_is_left_out() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, TESTED);
}
