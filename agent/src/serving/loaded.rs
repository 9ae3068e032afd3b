//! A model read from its slot.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate_wire::humility;
use tidegate_wire::manifest::{DriftReference, FileRole, Manifest, Task};
use tidegate_wire::policy::SelfTestPolicy;
use tidegate_wire::tensor::GoldenSet;
use tidegate_wire::{ArtifactRef, Digest, Reason, codec, envelope};

use super::clock;
use crate::engine::{self, Engine, EngineError, Tensor, Values};
use crate::heap;

/// Features that a model may have under watch: a thousand fill one report.
pub const FEATURES_MAX: usize = 1_000;

/// Engine time of a request from which on it leaves the thread that serves the network. A
/// millisecond is what other requests can wait unnoticed.
const LONG: Duration = Duration::from_millis(1);

/// A model that is ready to answer.
pub struct LoadedModel {
    /// Which one.
    pub artifact: ArtifactRef,
    /// Its manifest.
    pub manifest: Manifest,
    /// Milliseconds that loading took.
    pub load_ms: u64,
    /// Mebibytes by which loading raised the process's resident memory.
    pub rss_mib: u64,
    pub(crate) engine: Box<dyn Engine>,
    reference: Option<Reference>,
    row_ns: AtomicU64,
    /// Where its files lie.
    slot_dir: Option<PathBuf>,
}

/// What live inputs are binned by.
pub(crate) struct Reference {
    /// Of the file, as in the manifest.
    pub(crate) digest: Digest,
    /// What is in it.
    pub(crate) drift: DriftReference,
}

/// Why a model was not loaded from its slot.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The engine refused it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A file of the slot cannot be read.
    #[error("cannot read {} in the model's slot", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the slot is not what its role says.
    #[error("{} in the model's slot is not a {kind}: {source}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What it should be.
        kind: &'static str,
        /// Why it is not.
        source: codec::DecodeError,
    },
    /// The drift reference belongs to another model.
    #[error("{detail}; make the reference from this version's training rows and push it again")]
    ForeignReference {
        /// Which figures differ.
        detail: String,
    },
    /// A rule cannot be followed by this model.
    #[error("{detail}; mend the rule in model.toml and push it again")]
    Humility {
        /// Which rule, and what is wrong with it.
        detail: String,
    },
    /// It took too long.
    #[error("loading took {took_ms} ms, {max_ms} ms are allowed (self_test.load_ms_max)")]
    TooSlow {
        /// What it took.
        took_ms: u64,
        /// What the manifest allows.
        max_ms: u32,
    },
    /// It took too much memory.
    #[error("loading took {took_mib} MiB, {max_mib} MiB are allowed (self_test.rss_mib_max)")]
    TooMuchMemory {
        /// What it took.
        took_mib: u64,
        /// What the manifest allows.
        max_mib: u32,
    },
    /// It needed more memory than it may take, or than there was.
    #[error("loading ended for want of memory, {max_mib} MiB are allowed (self_test.rss_mib_max)")]
    OutOfMemory {
        /// What the manifest allows.
        max_mib: u32,
    },
    /// It took its process down.
    #[error("loading broke down: {detail}; report this with the model file")]
    BrokeDown {
        /// How the process ended.
        detail: String,
    },
}

impl LoadError {
    /// The reason that travels.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Engine(error) => error.reason(),
            Self::Unreadable { .. } => Reason::StorageFailed,
            Self::Malformed { source, .. } => source.reason(),
            Self::ForeignReference { .. } | Self::Humility { .. } => Reason::SchemaMismatch,
            Self::TooSlow { .. } => Reason::LoadTooSlow,
            Self::TooMuchMemory { .. } | Self::OutOfMemory { .. } => Reason::TooMuchMemory,
            Self::BrokeDown { .. } => Reason::LoadFailed,
        }
    }
}

impl LoadedModel {
    /// Loads a candidate from its slot, where files are named by [`FileRole::name`], within the
    /// time and memory that its manifest allows. Blocks.
    ///
    /// # Errors
    /// [`LoadError`], which names the file, the operator, the tensor or the limit.
    pub fn load(
        slot_dir: &Path,
        artifact: ArtifactRef,
        manifest: Manifest,
    ) -> Result<Self, LoadError> {
        let limits = manifest.gates.self_test;
        let loaded = Self::reload(slot_dir, artifact, manifest)?;
        check_limits(&limits, loaded.load_ms, loaded.rss_mib)?;
        Ok(loaded)
    }

    /// Loads a committed model again, for example after a restart. It has shown already that it
    /// fits, so a device that is slow today does not lose it.
    ///
    /// # Errors
    /// [`LoadError`], never for time or memory.
    pub fn reload(
        slot_dir: &Path,
        artifact: ArtifactRef,
        manifest: Manifest,
    ) -> Result<Self, LoadError> {
        check_rules(&manifest)?;
        let (begun, before) = (Instant::now(), clock::resident_bytes());
        let engine = engine::load(slot_dir, &manifest)?;
        let reference = read_reference(slot_dir, &manifest)?;
        // The first run allocates what the later ones reuse, so it belongs to loading. A model may
        // well refuse zeros; then only its speed stays unknown, which counts as slow.
        let row_ns = warm_up(engine.as_ref()).unwrap_or(u64::MAX);
        heap::give_back();
        let after = clock::resident_bytes();
        let grown = after.unwrap_or(0).saturating_sub(before.unwrap_or(0));
        Ok(Self {
            artifact,
            manifest,
            load_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            rss_mib: grown >> 20,
            engine,
            reference,
            row_ns: AtomicU64::new(row_ns),
            slot_dir: Some(slot_dir.to_path_buf()),
        })
    }

    /// A model with an engine of a test's own, no files and no reference.
    #[cfg(test)]
    pub(crate) fn with_engine(engine: Box<dyn Engine>, manifest: Manifest) -> Self {
        let digest = Digest::of(manifest.version.as_str().as_bytes());
        let artifact = ArtifactRef { digest, version: manifest.version.clone() };
        let row_ns = AtomicU64::new(0);
        let (reference, slot_dir) = (None, None);
        Self { artifact, manifest, load_ms: 0, rss_mib: 0, engine, reference, row_ns, slot_dir }
    }

    /// Answers `inputs`; nothing is counted. See [`Engine::run`].
    ///
    /// # Errors
    /// Those of the engine.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        self.engine.run(inputs)
    }

    /// Rows that the engine is faster with than row by row, at most; 1 if it is not. See
    /// [`Engine::batch_max`].
    pub fn batch_max(&self) -> usize {
        self.engine.batch_max()
    }

    /// Whether `rows` rows are likely to take so long that they must not hold up the network.
    pub fn is_long(&self, rows: usize) -> bool {
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        self.row_ns.load(Ordering::Relaxed).saturating_mul(rows) >= LONG.as_nanos() as u64
    }

    /// Notes a better measurement of the time for one row.
    pub(crate) fn measured(&self, row: Duration) {
        let row_ns = u64::try_from(row.as_nanos()).unwrap_or(u64::MAX);
        self.row_ns.store(row_ns, Ordering::Relaxed);
    }

    /// Notes what a run of `rows` rows took. The estimate follows slowly, and one hiccup of the
    /// device, however long, moves it by less than half.
    pub(crate) fn ran(&self, rows: usize, wall: Duration) {
        let wall = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        let row = wall / u64::try_from(rows).unwrap_or(u64::MAX).max(1);
        let before = self.row_ns.load(Ordering::Relaxed);
        let now = match before {
            u64::MAX => row,
            _ => before - before / 16 + row.min(before.saturating_mul(8).max(1_000)) / 16,
        };
        self.row_ns.store(now, Ordering::Relaxed);
    }

    /// Classes of the first output, if the model is a classifier.
    pub(crate) fn classes(&self) -> Option<usize> {
        let first = self.manifest.outputs.first()?;
        (self.manifest.task == Task::Classification).then(|| first.row_len())
    }

    pub(crate) fn reference(&self) -> Option<&Reference> {
        self.reference.as_ref()
    }

    /// Its golden set, read anew: it is seldom needed. None if it has none that can be read.
    pub(crate) fn golden(&self) -> Option<GoldenSet> {
        read_golden(self.slot_dir.as_deref()?, &self.manifest).ok().flatten()
    }
}

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LoadedModel({} {})", self.manifest.model, self.artifact)
    }
}

/// Reads the golden set of a slot; `None` if the manifest has none.
///
/// # Errors
/// [`LoadError::Unreadable`] or [`LoadError::Malformed`].
pub fn read_golden(slot_dir: &Path, manifest: &Manifest) -> Result<Option<GoldenSet>, LoadError> {
    read_message(slot_dir, manifest, FileRole::Golden)
}

fn check_rules(manifest: &Manifest) -> Result<(), LoadError> {
    let (Some(input), Some(output)) = (manifest.inputs.first(), manifest.outputs.first()) else {
        return Ok(());
    };
    let has_reference = manifest.file(FileRole::Reference).is_some();
    let model = (manifest.task, input, output);
    match humility::problem(&manifest.humility, model, has_reference) {
        Some(detail) => Err(LoadError::Humility { detail }),
        None => Ok(()),
    }
}

fn read_reference(slot_dir: &Path, manifest: &Manifest) -> Result<Option<Reference>, LoadError> {
    let drift: Option<DriftReference> = read_message(slot_dir, manifest, FileRole::Reference)?;
    let (Some(drift), Some(entry)) = (drift, manifest.file(FileRole::Reference)) else {
        return Ok(None);
    };
    let features = drift.features.len();
    let row = manifest.inputs.first().map_or(0, |input| input.row_len());
    if features != row || features > FEATURES_MAX {
        let detail = format!(
            "the drift reference has {features} features, a row of the first input has {row} \
             values, and {FEATURES_MAX} can be watched"
        );
        return Err(LoadError::ForeignReference { detail });
    }
    Ok(Some(Reference { digest: entry.digest, drift }))
}

fn read_message<M: envelope::Message>(
    slot_dir: &Path,
    manifest: &Manifest,
    role: FileRole,
) -> Result<Option<M>, LoadError> {
    if manifest.file(role).is_none() {
        return Ok(None);
    }
    let file = slot_dir.join(role.name());
    let bytes = match std::fs::read(&file) {
        Ok(bytes) => bytes,
        Err(source) => return Err(LoadError::Unreadable { file, source }),
    };
    match envelope::open(&bytes) {
        Ok(message) => Ok(Some(message)),
        Err(source) => Err(LoadError::Malformed { file, kind: M::KIND, source }),
    }
}

fn check_limits(policy: &SelfTestPolicy, took_ms: u64, took_mib: u64) -> Result<(), LoadError> {
    if took_ms > u64::from(policy.load_ms_max) {
        return Err(LoadError::TooSlow { took_ms, max_ms: policy.load_ms_max });
    }
    if took_mib > u64::from(policy.rss_mib_max) {
        return Err(LoadError::TooMuchMemory { took_mib, max_mib: policy.rss_mib_max });
    }
    Ok(())
}

/// The fastest of three rows of zeros, nanoseconds.
fn warm_up(engine: &dyn Engine) -> Option<u64> {
    let zeros: Vec<Tensor> = engine
        .inputs()
        .iter()
        .map(|spec| {
            let shape = spec.shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(1)).collect();
            Tensor { shape, values: Values::zeros(spec.datatype, spec.row_len()) }
        })
        .collect();
    let time = |_| {
        let begun = Instant::now();
        engine.run(&zeros).ok()?;
        u64::try_from(begun.elapsed().as_nanos()).ok()
    };
    (0..3).filter_map(time).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_inclusive_and_each_has_its_reason() {
        let policy =
            SelfTestPolicy { load_ms_max: 100, rss_mib_max: 10, ..SelfTestPolicy::default() };
        assert!(check_limits(&policy, 100, 10).is_ok());
        let slow = check_limits(&policy, 101, 0).unwrap_err();
        assert_eq!(slow.reason(), Reason::LoadTooSlow);
        assert!(slow.to_string().contains("101 ms, 100 ms are allowed"));
        let large = check_limits(&policy, 0, 11).unwrap_err();
        assert_eq!(large.reason(), Reason::TooMuchMemory);
    }
}
