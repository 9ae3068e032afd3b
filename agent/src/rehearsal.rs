//! A candidate is first loaded in a process of its own, within the limits of time and memory that
//! its manifest states.
//!
//! No thread can be stopped while an engine prepares a graph, and no allocation that is too large
//! can be refused to it alone. A process can be: the kernel refuses it memory beyond its limit, and
//! it is killed when its time is over. So a model that would take the whole device's memory, hang or
//! crash an engine takes a child down, and the models that answer go on. What was measured there is
//! remembered beside the model, so loading it afterwards in the agent measures nothing.
//!
//! A model that was committed is loaded without rehearsal: it has shown that it fits.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate_wire::manifest::Manifest;
use tidegate_wire::policy::SelfTestPolicy;

use crate::alone;
use crate::serving::LoadError;

/// For starting the program, milliseconds; what is left is for loading.
const START_MS: u64 = 500;

/// Between two looks whether it has ended: short beside any model's loading.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Memory that the program has without a model, beside what it has when it begins: stacks of
/// threads, the allocator's reserve. MiB.
const PROGRAM_MIB: u64 = 24;

/// What Rust says where it is refused memory, and what tract says.
///
/// # Source
/// std, `alloc::rust_oom`; tract-data 0.23.9, `src/blob.rs`.
const NO_MEMORY: [&str; 2] = ["memory allocation of", "failed to allocate"];

/// Bytes of its last words that are read.
const WORDS_MAX: u64 = 4096;

/// How to start the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rehearsal {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Rehearsal {
    /// A program that calls [`load`] with its last argument, the model's folder.
    pub fn new(program: PathBuf, arguments: &[&str]) -> Self {
        Self { program, arguments: arguments.iter().map(OsString::from).collect() }
    }

    /// This program again, with `arguments` and then the model's folder; it calls [`load`]. None if
    /// the system does not say where this program is.
    pub fn by_this_program(arguments: &[&str]) -> Option<Self> {
        Some(Self::new(std::env::current_exe().ok()?, arguments))
    }

    /// Loads the model in `slot`, and waits. That it cannot be loaded is no error: loading it here
    /// says why. A process that cannot be started is none either: then it is loaded without.
    ///
    /// # Errors
    /// [`LoadError`] if it exceeds a limit or takes the process down.
    pub fn run(&self, slot: &Path, manifest: &Manifest) -> Result<(), LoadError> {
        let limits = &manifest.gates.self_test;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(slot).stdin(Stdio::null()).stdout(Stdio::null());
        // A backtrace needs memory, of which there may be none left.
        command.env("RUST_BACKTRACE", "0");
        let mut child = match command.stderr(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => {
                tracing::warn!("a candidate is loaded without rehearsal: {error}");
                return Ok(());
            }
        };
        let begun = Instant::now();
        let time = Duration::from_millis(u64::from(limits.load_ms_max) + START_MS);
        let Some(status) = wait(&mut child, time) else {
            let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            return Err(LoadError::TooSlow { took_ms, max_ms: limits.load_ms_max });
        };
        judge(status, &last_words(&mut child), limits)
    }
}

/// The process's end, or none if its time was over; then it was killed.
fn wait(child: &mut Child, time: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + time;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(LOOK_EVERY),
            // Its time is over, or nothing can be learnt about it.
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

fn last_words(child: &mut Child) -> String {
    let mut bytes = Vec::new();
    if let Some(stderr) = &mut child.stderr {
        // Without them it is only said how it ended.
        let _ = stderr.take(WORDS_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).trim().to_string()
}

fn judge(status: ExitStatus, words: &str, limits: &SelfTestPolicy) -> Result<(), LoadError> {
    /// # Source
    /// signal(7): SIGKILL and SIGXCPU, the same on every architecture of ours.
    const KILL: i32 = 9;
    const TIME: i32 = 24;
    // An engine may make an error of it, and end well.
    let no_memory = NO_MEMORY.iter().any(|said| words.contains(said));
    if no_memory {
        return Err(LoadError::OutOfMemory { max_mib: limits.rss_mib_max });
    }
    let Some(signal) = status.signal() else { return Ok(()) };
    match signal {
        TIME => Err(LoadError::TooSlow {
            took_ms: u64::from(limits.load_ms_max),
            max_ms: limits.load_ms_max,
        }),
        // Killed, and not by us: the kernel ran out of memory.
        KILL => Err(LoadError::OutOfMemory { max_mib: limits.rss_mib_max }),
        signal => {
            let words = words.lines().last().unwrap_or_default();
            Err(LoadError::BrokeDown { detail: format!("signal {signal} {words}") })
        }
    }
}

/// In the process: sets its limits and loads the model in `slot`, for nothing.
pub fn load(slot: &Path) {
    let Ok(manifest) = alone::manifest(slot) else { return };
    let limits = &manifest.gates.self_test;
    let memory = (data_bytes() >> 20) + PROGRAM_MIB + u64::from(limits.rss_mib_max);
    limit(Resource::Data, memory << 20);
    // Should the agent die meanwhile, nobody else ends it.
    limit(Resource::Cpu, (u64::from(limits.load_ms_max) + START_MS).div_ceil(1_000) + 1);
    limit(Resource::Core, 0);
    // Why it cannot be loaded is found and said where it is loaded in earnest.
    let _ = alone::load(slot);
}

/// Where a limit cannot be set, the agent looks at what was used after loading.
fn limit(resource: Resource, most: u64) {
    let maximum = getrlimit(resource).maximum;
    let most = maximum.map_or(most, |maximum| maximum.min(most));
    let _ = setrlimit(resource, Rlimit { current: Some(most), maximum });
}

/// What counts against the limit so far: private memory that can be written.
fn data_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
