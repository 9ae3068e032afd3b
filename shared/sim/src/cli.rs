//! The command line.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use tidegate_sim::invariants;
use tidegate_sim::many::{Many, Stop, run_many};
use tidegate_sim::scenario::{DEVICES_MAX, FaultName, HOURS_MAX, Scenario, Wanted};
use tidegate_sim::shrink::shrink;
use tidegate_sim::timeline::Detail;
use tidegate_sim::verdict::{Verdict, failure};
use tidegate_sim::world::{QUIET_HOURS, run};

/// Runs a whole Tidegate fleet in one process under virtual time: devices, controller, broker and
/// mirrors, with faults and with operators, all drawn from a seed. The decisions are those of the
/// real agent and controller. Invariants are checked after every event; the same seed runs the same
/// way every time.
///
/// Exit status: 0 if every invariant held, 1 if one was broken, 2 if the arguments are wrong.
#[derive(Debug, Parser)]
#[command(name = "tidegate-sim", version)]
#[command(after_help = "Examples:
  tidegate-sim --seed 7 --devices 20 --hours 72      one run, with its timeline
  tidegate-sim --seeds 1000 --from 1                 a thousand runs; prints those that fail
  tidegate-sim --seed 7 --faults loss,power-cut      only these faults (see --list)
  tidegate-sim --seed 7 --shrink                     makes a failing run small, and keeps it
  tidegate-sim --replay shared/sim/regressions/x.toml")]
struct Arguments {
    /// Seed of the run
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Devices in the fleet, 1 to 100000
    #[arg(long, value_name = "N", default_value_t = 12)]
    devices: u32,
    /// Hours in which faults and operators act; a quiet time follows, in which all must settle
    #[arg(long, value_name = "H", default_value_t = 72)]
    hours: u64,
    /// Which faults there may be: `all`, `none`, or names separated by commas
    #[arg(long, value_name = "WHICH", default_value = "all", value_parser = wanted)]
    faults: Wanted,
    /// Run so many seeds, on all cores, and print those that fail
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["seed", "replay", "shrink"])]
    seeds: Option<u64>,
    /// The first of many seeds
    #[arg(long, value_name = "S", requires = "seeds", default_value_t = 1)]
    from: u64,
    /// Stop at the first seed that fails
    #[arg(long, requires = "seeds")]
    until_failure: bool,
    /// Threads for many seeds; by default one for each core
    #[arg(long, value_name = "COUNT", requires = "seeds")]
    threads: Option<NonZeroUsize>,
    /// Run a scenario from a file, or all that lie in a folder
    #[arg(long, value_name = "PATH", conflicts_with = "seed")]
    replay: Option<PathBuf>,
    /// Make a failing run small (fewer devices, faults, acts, hours) and keep it as a regression
    #[arg(long)]
    shrink: bool,
    /// How long to shrink, seconds
    #[arg(long, value_name = "SECONDS", requires = "shrink", default_value_t = 120)]
    patience: u64,
    /// Where a shrunk scenario is written
    #[arg(long, value_name = "FOLDER", requires = "shrink")]
    #[arg(default_value = "shared/sim/regressions")]
    keep: PathBuf,
    /// Print the scenario itself, as a file that --replay reads, and run nothing
    #[arg(long, conflicts_with_all = ["seeds", "shrink"])]
    print: bool,
    /// Print no timeline
    #[arg(long, conflicts_with = "verbose")]
    quiet: bool,
    /// Print every step of every device
    #[arg(long)]
    verbose: bool,
    /// Print all faults and all invariants
    #[arg(long)]
    list: bool,
}

fn wanted(text: &str) -> Result<Wanted, String> {
    match text {
        "all" => Ok(Wanted::All),
        "none" => Ok(Wanted::None),
        names => {
            let parse = |name: &str| name.trim().parse::<FaultName>();
            let names: Result<BTreeSet<_>, _> = names.split(',').map(parse).collect();
            names.map(Wanted::Only).map_err(|error| error.to_string())
        }
    }
}

/// Does what the arguments say.
pub fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.list {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    arguments.validate()?;
    if let Some(count) = arguments.seeds {
        return Ok(many(&arguments, count));
    }
    let scenarios = arguments.scenarios()?;
    if arguments.print {
        scenarios.iter().for_each(|(_, scenario)| print!("{}", scenario.text()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut verdict = Verdict::default();
    let started = Instant::now();
    for (name, scenario) in &scenarios {
        if arguments.shrink {
            keep_small(&arguments, scenario)?;
        } else {
            one(&arguments, name, scenario, &mut verdict);
        }
    }
    if arguments.shrink {
        return Ok(ExitCode::SUCCESS);
    }
    verdict.took(started.elapsed());
    println!("{verdict}");
    Ok(exit(&verdict))
}

fn exit(verdict: &Verdict) -> ExitCode {
    if verdict.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Arguments {
    fn validate(&self) -> anyhow::Result<()> {
        if self.devices == 0 || self.devices > DEVICES_MAX {
            bail!("--devices {}: a fleet has 1 to {DEVICES_MAX} devices", self.devices);
        }
        if self.hours == 0 || self.hours > HOURS_MAX {
            bail!("--hours {}: a run has 1 to {HOURS_MAX} hours", self.hours);
        }
        Ok(())
    }

    fn scenarios(&self) -> anyhow::Result<Vec<(String, Scenario)>> {
        let Some(path) = &self.replay else {
            let Self { seed, devices, hours, faults, .. } = self;
            let scenario = Scenario::from_seed(*seed, *devices, *hours, faults);
            return Ok(vec![(format!("seed {seed}"), scenario)]);
        };
        let files = if path.is_dir() { files_in(path)? } else { vec![path.clone()] };
        if files.is_empty() {
            bail!("{}: there is no scenario (*.toml) in this folder", path.display());
        }
        let read = |file: PathBuf| Ok((file.display().to_string(), Scenario::read(&file)?));
        files.into_iter().map(read).collect()
    }

    fn detail(&self) -> Detail {
        match (self.quiet, self.verbose) {
            (true, _) => Detail::Quiet,
            (_, true) => Detail::Everything,
            _ => Detail::Usual,
        }
    }
}

fn files_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder);
    let entries = entries.with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

fn list() {
    println!("faults:");
    FaultName::ALL.iter().for_each(|name| println!("  {name}"));
    println!("invariants:");
    for invariant in invariants::all() {
        println!("  {}: {}", invariant.name(), invariant.says());
    }
}

fn one(arguments: &Arguments, name: &str, scenario: &Scenario, verdict: &mut Verdict) {
    let Scenario { devices, hours, .. } = scenario;
    println!("{name}: {devices} devices, {hours} hours and {QUIET_HOURS} quiet ones");
    let outcome = run(scenario, arguments.detail());
    print!("{}", outcome.timeline);
    verdict.add(&outcome);
    if let Some(text) = failure(&outcome) {
        println!("{text}");
    }
}

fn many(arguments: &Arguments, count: u64) -> ExitCode {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let many = Many {
        from: arguments.from,
        count,
        devices: arguments.devices,
        hours: arguments.hours,
        wanted: arguments.faults.clone(),
        threads: arguments.threads.map_or(cores, NonZeroUsize::get),
        stop: if arguments.until_failure { Stop::AtFirstFailure } else { Stop::AfterAll },
    };
    let (mut verdict, started) = (Verdict::default(), Instant::now());
    let Many { from, devices, hours, .. } = &many;
    println!("{count} seeds from {from}: {devices} devices, {hours} hours and {QUIET_HOURS} quiet");
    run_many(&many, |seed, outcome| {
        verdict.add(&outcome);
        if let Some(text) = failure(&outcome) {
            println!("seed {seed}: {text}");
        }
    });
    verdict.took(started.elapsed());
    println!("{verdict}");
    exit(&verdict)
}

fn keep_small(arguments: &Arguments, scenario: &Scenario) -> anyhow::Result<()> {
    let patience = Duration::from_secs(arguments.patience);
    let Some(shrunk) = shrink(scenario, patience) else {
        println!("every invariant holds: there is nothing to shrink");
        return Ok(());
    };
    let mut small = shrunk.scenario;
    let text = failure(&shrunk.outcome).unwrap_or_default();
    small.note = text.clone();
    let name = format!("{}-{}.toml", small.broke, small.seed);
    std::fs::create_dir_all(&arguments.keep)
        .with_context(|| format!("cannot make {}", arguments.keep.display()))?;
    let path = arguments.keep.join(name);
    small.write(&path)?;
    print!("{}", shrunk.outcome.timeline);
    println!("{text}");
    println!(
        "{} devices, {} hours, {} faults, {} acts are left after {} tries: {}",
        small.devices,
        small.hours,
        small.faults.len(),
        small.acts.len(),
        shrunk.tried,
        path.display()
    );
    Ok(())
}
