//! Which engine runs a model on devices, and which file it gets there.
//!
//! The publisher's file is turned into what is smallest and fastest on a device, as long as the
//! golden set comes out the same; every such step is told. `engine` in `model.toml` overrules.

use std::path::Path;

use tidegate_agent::engine::{
    ONNX_OPSETS, ONNXRUNTIME, TRACT_NNEF, TRACT_ONNX, TREES, feature_of, names, opset,
};
use tidegate_wire::tensor::{Datatype, GoldenSet};

use super::description::Description;
use super::error::{self, BundleError};
use super::nnef::{self, NotConverted};
use super::{BundleFile, external_data, onnx, text};

/// What devices get.
#[derive(Debug)]
pub(super) struct Chosen {
    /// The engine's name in the manifest.
    pub engine: &'static str,
    /// The model file.
    pub model: Vec<u8>,
    /// Further files that the engine needs.
    pub more: Vec<BundleFile>,
    /// The ONNX operator set that devices must know.
    pub opset: Option<u32>,
    /// What was done to the model file, and what could not be.
    pub rewrites: Vec<String>,
}

impl Chosen {
    pub(super) fn new(engine: &'static str, model: Vec<u8>, rewrites: Vec<String>) -> Self {
        Self { engine, model, more: Vec::new(), opset: None, rewrites }
    }
}

/// Chooses by the kind of file, and by what comes out of the conversions.
pub(super) fn choose(
    dir: &Path,
    description: &Description,
    golden: &GoldenSet,
    notes: &mut Vec<String>,
) -> Result<Chosen, BundleError> {
    let path = dir.join(&description.model);
    if let Some(kind) = text::kind(&path, description)? {
        return text::chosen(kind, dir, description, notes);
    }
    let bytes = error::read_bytes(&path)?;
    let chosen = if description.engine.as_deref() == Some(ONNXRUNTIME) {
        there(&path, ONNXRUNTIME)?;
        let mut rewrites = Vec::new();
        let bytes = external_data::inlined(&path, bytes, &mut rewrites)?;
        // The library on the device says which operator sets it knows, when it loads the model.
        Chosen::new(ONNXRUNTIME, bytes, rewrites)
    } else {
        from_onnx(&path, bytes, description, golden, notes)?
    };
    if let (Some(opset), TRACT_NNEF) = (description.requirements.opset, chosen.engine) {
        return Err(BundleError::Description {
            path: dir.join(super::DESCRIPTION),
            what: format!(
                "requirements.opset = {opset}: devices get the model as NNEF, which has no operator \
                 sets; remove it, or set engine = {TRACT_ONNX:?}"
            ),
        });
    }
    Ok(chosen)
}

/// Refuses a model whose engine this program was built without.
pub(super) fn there(path: &Path, engine: &'static str) -> Result<(), BundleError> {
    match feature_of(engine) {
        Some(feature) if !names().contains(&engine) => {
            let (path, engine) = (path.into(), engine.into());
            Err(BundleError::EngineMissing { path, engine, feature })
        }
        _ => Ok(()),
    }
}

/// An ONNX file, or what is taken for one: the check says so if it is none.
fn from_onnx(
    path: &Path,
    bytes: Vec<u8>,
    description: &Description,
    golden: &GoldenSet,
    notes: &mut Vec<String>,
) -> Result<Chosen, BundleError> {
    let mut rewrites = Vec::new();
    let bytes = external_data::inlined(path, bytes, &mut rewrites)?;
    let forced = description.engine.as_deref();
    let double = description.inputs[0].datatype == Datatype::Fp64;
    let rewritten = onnx::rewrite(&bytes, double)
        .map_err(|error| BundleError::Unwritable { path: path.into(), error })?;
    rewrites.extend(rewritten.notes);
    let bytes = rewritten.onnx.unwrap_or(bytes);
    match rewritten.trees.filter(|_| forced.is_none_or(|engine| engine == TREES)) {
        Some(trees) => {
            rewrites
                .push("the graph is one ensemble of trees: it gets an engine of its own".into());
            return Ok(Chosen::new(TREES, trees, rewrites));
        }
        None if forced == Some(TREES) => {
            let what = format!("engine = {TREES:?}: the graph is not one ensemble of trees alone");
            return Err(BundleError::Conversion { path: path.into(), what });
        }
        None => {}
    }
    if forced.is_none_or(|engine| engine == TRACT_NNEF) {
        match nnef::converted(&bytes, description, golden) {
            Ok(archive) => {
                rewrites.push("converted from ONNX to NNEF; golden outputs are the same".into());
                return Ok(Chosen::new(TRACT_NNEF, archive, rewrites));
            }
            Err(NotConverted::NotLoaded) => {}
            Err(NotConverted::Refused(why)) if forced.is_none() => {
                rewrites.push(format!(
                    "stays ONNX, so devices need an agent that reads it; not converted to NNEF: {why}"
                ));
            }
            Err(NotConverted::Refused(what)) => {
                let what = format!("engine = {TRACT_NNEF:?}: {what}");
                return Err(BundleError::Conversion { path: path.into(), what });
            }
        }
    }
    let opset = known_opset(path, notes);
    Ok(Chosen { opset, ..Chosen::new(TRACT_ONNX, bytes, rewrites) })
}

/// The operator set that the model was exported for, if devices can be asked for it.
fn known_opset(model: &Path, notes: &mut Vec<String>) -> Option<u32> {
    // What is no ONNX is told by the check, which loads it.
    let opset = opset(model).ok()??;
    if ONNX_OPSETS.contains(&opset) {
        return Some(opset);
    }
    let (first, last) = (ONNX_OPSETS.start(), ONNX_OPSETS.end());
    notes.push(format!(
        "the model is exported for ONNX operator set {opset}; {TRACT_ONNX} is tested with {first} \
         to {last}, so only the golden set says whether a device runs it rightly"
    ));
    None
}
