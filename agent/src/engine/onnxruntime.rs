//! ONNX models through ONNX Runtime, from a shared library that the device has.
//!
//! The library is loaded once per process, with the first model that wants it. It is told to use
//! `engines.threads` threads, whose waiting costs no time of the processor.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Outlet, TensorElementType, TensorRef, ValueType};
use tidegate_wire::tensor::{Datatype, TensorSpec};

use super::schema::check_specs;
use super::settings::settings;
use super::tract::words;
use super::{Engine, EngineError, Tensor, Values};

/// Where the library is, if the configuration does not say: the name that `ort` uses, too.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// A model that ONNX Runtime runs.
pub(super) struct OrtEngine {
    /// Not to be run by two threads at a time.
    session: Mutex<Session>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    batched: bool,
    /// The graph takes one row at a time although the manifest allows several.
    one_by_one: bool,
}

impl OrtEngine {
    /// Reads and optimises the graph in `file`.
    pub(super) fn load(
        file: &Path,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Self, EngineError> {
        let batched = check_specs(inputs, outputs)?;
        library()?;
        // Unlike the runtime, which says that "it" does not exist.
        std::fs::metadata(file)
            .map_err(|source| EngineError::Unreadable { file: file.into(), source })?;
        let prepared = catch_unwind(|| open(file));
        let prepare = |detail: String| EngineError::Prepare { file: file.into(), detail };
        let session = prepared
            .map_err(|panic| prepare(format!("it panicked: {}", words(&*panic))))?
            .map_err(|error| prepare(error.to_string()))?;
        check_names("inputs", session.inputs(), inputs)?;
        let mut one_by_one = false;
        for spec in inputs {
            let shape = check_outlet(outlet(session.inputs(), spec, "input")?, spec)?;
            one_by_one |= batched && shape.first() == Some(&1);
        }
        for spec in outputs {
            check_outlet(outlet(session.outputs(), spec, "output")?, spec)?;
        }
        let (session, inputs, outputs) = (Mutex::new(session), inputs.to_vec(), outputs.to_vec());
        Ok(Self { session, inputs, outputs, batched, one_by_one })
    }

    /// One call of the runtime.
    fn call(&self, session: &mut Session, inputs: &[Tensor]) -> ort::Result<Vec<Tensor>> {
        let strings: Vec<Vec<String>> = inputs.iter().map(strings).collect();
        let mut given: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for ((spec, input), strings) in self.inputs.iter().zip(inputs).zip(&strings) {
            given.push((spec.name.as_str(), value(input, strings)?));
        }
        let answers = session.run(given)?;
        self.outputs.iter().map(|spec| tensor(&answers[spec.name.as_str()], spec)).collect()
    }

    /// One call of the runtime for each row.
    fn call_each(
        &self,
        session: &mut Session,
        inputs: &[Tensor],
        rows: usize,
    ) -> ort::Result<Vec<Tensor>> {
        let mut all: Vec<Tensor> = Vec::with_capacity(self.outputs.len());
        for row in 0..rows {
            let one: Vec<Tensor> = inputs.iter().map(|input| row_of(input, row, rows)).collect();
            let answers = self.call(session, &one)?;
            if all.is_empty() {
                all = answers;
                continue;
            }
            for (all, answer) in all.iter_mut().zip(&answers) {
                // Both were read as the type of the output's specification.
                let appended = all.values.append(&answer.values);
                debug_assert!(appended);
                all.shape[0] += answer.shape.first().copied().unwrap_or(0);
            }
        }
        Ok(all)
    }
}

/// The library, loaded at the first call. What is wrong with it stays wrong until the agent starts
/// again: asked a second time after a failure, ort 2.0.0-rc.13 takes it for loaded.
fn library() -> Result<(), EngineError> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(load_library);
    loaded.clone().map_err(|detail| EngineError::Library { detail })
}

fn load_library() -> Result<(), String> {
    let configured = settings().onnxruntime.clone();
    let path = configured.or_else(|| std::env::var_os(LIBRARY_VARIABLE).map(PathBuf::from));
    let path = path.ok_or("no path to it is set")?;
    match catch_unwind(|| ort::init_from(&path)) {
        Ok(Ok(environment)) => {
            // False if there is an environment already, which would be the same one.
            let _ = environment.commit();
            Ok(())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(format!("{} panicked: {}", path.display(), words(&*panic))),
    }
}

fn open(file: &Path) -> ort::Result<Session> {
    Session::builder()?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(settings().threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .commit_from_file(file)
}

/// Every input of the graph must be in the manifest: the runtime asks for all of them.
fn check_names(what: &str, have: &[Outlet], specs: &[TensorSpec]) -> Result<(), EngineError> {
    let missing = have.iter().find(|outlet| specs.iter().all(|spec| spec.name != outlet.name()));
    let Some(missing) = missing else { return Ok(()) };
    let known: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let detail =
        format!("the graph's {what} have {:?}, the manifest has {known:?}", missing.name());
    Err(EngineError::Schema { detail })
}

fn outlet<'a>(
    have: &'a [Outlet],
    spec: &TensorSpec,
    kind: &str,
) -> Result<&'a Outlet, EngineError> {
    have.iter().find(|outlet| outlet.name() == spec.name).ok_or_else(|| {
        let known: Vec<&str> = have.iter().map(Outlet::name).collect();
        let detail = format!("the graph has no {kind} {:?}, only {known:?}", spec.name);
        EngineError::Schema { detail }
    })
}

/// The graph's shape of a tensor, −1 for dimensions that are open, if the manifest agrees with it.
fn check_outlet<'a>(outlet: &'a Outlet, spec: &TensorSpec) -> Result<&'a [i64], EngineError> {
    let name = &spec.name;
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        let detail = format!(
            "{name:?} is no tensor but a list or map, which no device takes (scikit-learn's \
             ZipMap: export with options={{\"zipmap\": False}})"
        );
        return Err(EngineError::Schema { detail });
    };
    if *ty != element(spec.datatype) || spec.datatype == Datatype::Fp16 {
        let detail = format!("{name:?} is {ty} in the graph and {} in the manifest", spec.datatype);
        return Err(EngineError::Schema { detail });
    }
    let fits = |(at, (have, want)): (usize, (&i64, &i64))| {
        *have < 0 || have == want || at == 0 && *want == -1 && *have == 1
    };
    // Outputs often come without any shape.
    let open = shape.is_empty() && !spec.shape.is_empty();
    let same =
        shape.len() == spec.shape.len() && shape.iter().zip(&spec.shape).enumerate().all(fits);
    if !open && !same {
        let detail =
            format!("{name:?} is {shape:?} in the graph and {:?} in the manifest", spec.shape);
        return Err(EngineError::Schema { detail });
    }
    Ok(shape)
}

fn element(datatype: Datatype) -> TensorElementType {
    match datatype {
        Datatype::Bool => TensorElementType::Bool,
        Datatype::Uint8 => TensorElementType::Uint8,
        Datatype::Uint16 => TensorElementType::Uint16,
        Datatype::Uint32 => TensorElementType::Uint32,
        Datatype::Uint64 => TensorElementType::Uint64,
        Datatype::Int8 => TensorElementType::Int8,
        Datatype::Int16 => TensorElementType::Int16,
        Datatype::Int32 => TensorElementType::Int32,
        Datatype::Int64 => TensorElementType::Int64,
        Datatype::Fp16 => TensorElementType::Float16,
        Datatype::Fp32 => TensorElementType::Float32,
        Datatype::Fp64 => TensorElementType::Float64,
        Datatype::Bytes => TensorElementType::String,
    }
}

/// A copy of one of the `rows` rows of a tensor.
fn row_of(tensor: &Tensor, row: usize, rows: usize) -> Tensor {
    let (mut shape, len) = (tensor.shape.clone(), tensor.values.len() / rows);
    shape[0] = 1;
    Tensor { shape, values: tensor.values.slice(row * len..(row + 1) * len) }
}

/// The strings of a tensor of them, as text; the runtime has no others.
fn strings(tensor: &Tensor) -> Vec<String> {
    let Values::Bytes(values) = &tensor.values else { return Vec::new() };
    values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

/// A view of `tensor`, which is not copied; `strings` are its strings.
fn value<'a>(tensor: &'a Tensor, strings: &[String]) -> ort::Result<SessionInputValue<'a>> {
    let shape = tensor.shape.as_slice();
    macro_rules! view {
        ($values:expr) => {
            TensorRef::from_array_view((shape, $values.as_slice()))?.into()
        };
    }
    Ok(match &tensor.values {
        Values::Bool(values) => view!(values),
        Values::U8(values) => view!(values),
        Values::U16(values) => view!(values),
        Values::U32(values) => view!(values),
        Values::U64(values) => view!(values),
        Values::I8(values) => view!(values),
        Values::I16(values) => view!(values),
        Values::I32(values) => view!(values),
        Values::I64(values) => view!(values),
        Values::F32(values) => view!(values),
        Values::F64(values) => view!(values),
        Values::F16(_) => return Err(ort::Error::new("FP16 tensors are not passed on")),
        Values::Bytes(_) => ort::value::Tensor::from_string_array((shape, strings))?.into(),
    })
}

/// A copy of what the runtime answered.
fn tensor(value: &DynValue, spec: &TensorSpec) -> ort::Result<Tensor> {
    macro_rules! copy {
        ($variant:ident, $number:ty) => {{
            let (shape, values) = value.try_extract_tensor::<$number>()?;
            (shape.to_vec(), Values::$variant(values.to_vec()))
        }};
    }
    let (shape, values) = match spec.datatype {
        Datatype::Bool => copy!(Bool, bool),
        Datatype::Uint8 => copy!(U8, u8),
        Datatype::Uint16 => copy!(U16, u16),
        Datatype::Uint32 => copy!(U32, u32),
        Datatype::Uint64 => copy!(U64, u64),
        Datatype::Int8 => copy!(I8, i8),
        Datatype::Int16 => copy!(I16, i16),
        Datatype::Int32 => copy!(I32, i32),
        Datatype::Int64 => copy!(I64, i64),
        Datatype::Fp32 => copy!(F32, f32),
        Datatype::Fp64 => copy!(F64, f64),
        Datatype::Fp16 => return Err(ort::Error::new("FP16 tensors are not passed on")),
        Datatype::Bytes => {
            let (shape, values) = value.try_extract_strings()?;
            let values = values.into_iter().map(String::into_bytes).collect();
            (shape.to_vec(), Values::Bytes(values))
        }
    };
    let shape = shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).collect();
    Ok(Tensor { shape, values })
}

impl Engine for OrtEngine {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let failed = |detail: String| EngineError::Run { detail };
        let first = inputs.first().and_then(|input| input.shape.first());
        let rows = if self.batched { first.copied().unwrap_or(0) } else { 1 };
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let run = AssertUnwindSafe(|| match self.one_by_one && rows > 1 {
            true => self.call_each(&mut session, inputs, rows),
            false => self.call(&mut session, inputs),
        });
        let answers = catch_unwind(run)
            .map_err(|panic| failed(format!("the engine panicked: {}", words(&*panic))))?
            .map_err(|error| failed(error.to_string()))?;
        for (answer, spec) in answers.iter().zip(&self.outputs) {
            let wanted: Vec<usize> =
                spec.shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(rows)).collect();
            if answer.shape != wanted {
                let (name, found) = (&spec.name, &answer.shape);
                return Err(failed(format!("output {name:?} has shape {found:?}, not {wanted:?}")));
            }
        }
        Ok(answers)
    }
}
