//! Which outputs a request wants, and how.

use tidegate_wire::manifest::Manifest;
use tidegate_wire::tensor::Datatype;

use super::ApiError;
use super::check::{names, shown};

/// How a tensor travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As values that the message's own format has: JSON numbers, typed fields of gRPC.
    Values,
    /// As little-endian bytes behind or beside the message.
    Raw,
}

/// An output that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its place among the model's outputs.
    pub place: usize,
    /// How it travels.
    pub form: Form,
    /// Only so many classes of highest score, as strings `score:index:label`.
    pub classes: Option<usize>,
}

/// An output as a request names it.
pub(crate) struct Asked<'a> {
    pub(crate) name: &'a str,
    pub(crate) form: Form,
    /// Triton's parameter `classification`.
    pub(crate) classes: Option<u64>,
}

/// Every output.
pub(crate) fn all_outputs(manifest: &Manifest, form: Form) -> Vec<Wanted> {
    (0..manifest.outputs.len()).map(|place| Wanted { place, form, classes: None }).collect()
}

/// The outputs that are asked for, in the order in which they are asked for.
///
/// # Errors
/// 400 with the output's name and what the model has.
pub(crate) fn select<'a>(
    asked: impl ExactSizeIterator<Item = Asked<'a>>,
    manifest: &Manifest,
) -> Result<Vec<Wanted>, ApiError> {
    // More than the model has would repeat some of them, which only makes the answer long.
    if asked.len() > manifest.outputs.len() {
        let text = format!("{} outputs are asked for, some twice", asked.len());
        return Err(ApiError::bad(format!("{text}; {}", names("outputs", &manifest.outputs))));
    }
    asked.map(|asked| find(&asked, manifest)).collect()
}

fn find(asked: &Asked<'_>, manifest: &Manifest) -> Result<Wanted, ApiError> {
    let name = asked.name;
    let Some(place) = manifest.outputs.iter().position(|spec| spec.name == name) else {
        let known = names("outputs", &manifest.outputs);
        let (model, name) = (&manifest.model, shown(name));
        return Err(ApiError::bad(format!("model {model} has no output {name:?}; {known}")));
    };
    let spec = &manifest.outputs[place];
    let classes = asked.classes.filter(|count| *count > 0);
    if classes.is_some() && spec.datatype == Datatype::Bytes {
        let text = "has no scores to classify by: leave `classification` out";
        return Err(ApiError::bad(format!("output {name:?} is {} and {text}", spec.datatype)));
    }
    let classes = classes.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    Ok(Wanted { place, form: asked.form, classes })
}
