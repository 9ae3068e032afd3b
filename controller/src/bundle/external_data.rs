//! ONNX weights that lie in files beside the model, as PyTorch and MLflow write them by default: put
//! into the model file, since a device fetches one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use prost::Message;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, SparseTensorProto, TensorProto};

use super::error::BundleError;

/// A protocol buffer has at most 2 GiB.
///
/// # Source
/// protobuf.dev, "Encoding": "the maximum size of a serialized message is 2 GiB".
const MODEL_SIZE_MAX: u64 = 1 << 31;

/// The ONNX file with all weights in it, and a line for `rewrites` if some were beside it. What is no
/// ONNX comes back as it is.
pub(super) fn inlined(
    path: &Path,
    bytes: Vec<u8>,
    rewrites: &mut Vec<String>,
) -> Result<Vec<u8>, BundleError> {
    let Ok(mut model) = ModelProto::decode(bytes.as_slice()) else {
        return Ok(bytes);
    };
    let wrong = |what: String| BundleError::ExternalData { path: path.into(), what };
    let mut tensors = Vec::new();
    model.graph.iter_mut().for_each(|graph| of_graph(graph, &mut tensors));
    tensors.retain(|tensor| is_external(tensor));
    if tensors.is_empty() {
        return Ok(bytes);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut total = bytes.len() as u64;
    let mut files = BTreeMap::<String, (File, u64)>::new();
    let count = tensors.len();
    for tensor in tensors {
        let place = place(tensor).map_err(wrong)?;
        total = total.saturating_add(place.length);
        if total > MODEL_SIZE_MAX {
            return Err(wrong(
                "with its weights it is larger than 2 GiB, more than one ONNX file may have: \
                 export it with smaller numbers (float16), or as several models"
                    .to_string(),
            ));
        }
        if !files.contains_key(&place.location) {
            let open = open(folder, &place.location).map_err(wrong)?;
            files.insert(place.location.clone(), open);
        }
        let (file, length) = files.get_mut(&place.location).expect("it was opened above");
        tensor.raw_data = read(file, *length, &place).map_err(wrong)?;
        tensor.external_data.clear();
        tensor.data_location = None;
    }
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    rewrites.push(format!("{count} tensors put into the model file from {}", names.join(", ")));
    Ok(model.encode_to_vec())
}

/// Where a tensor's values lie.
struct Place {
    tensor: String,
    location: String,
    offset: u64,
    length: u64,
}

fn is_external(tensor: &TensorProto) -> bool {
    tensor.raw_data.is_empty() && tensor.data_location == Some(DataLocation::External as i32)
}

fn of_graph<'a>(graph: &'a mut GraphProto, found: &mut Vec<&'a mut TensorProto>) {
    found.extend(graph.initializer.iter_mut());
    graph.sparse_initializer.iter_mut().for_each(|sparse| of_sparse(sparse, found));
    for attribute in graph.node.iter_mut().flat_map(|node| node.attribute.iter_mut()) {
        of_attribute(attribute, found);
    }
}

fn of_attribute<'a>(attribute: &'a mut AttributeProto, found: &mut Vec<&'a mut TensorProto>) {
    found.extend(attribute.t.iter_mut().chain(attribute.tensors.iter_mut()));
    let graphs = attribute.g.iter_mut().chain(attribute.graphs.iter_mut());
    graphs.for_each(|graph| of_graph(graph, found));
    let sparse = attribute.sparse_tensor.iter_mut().chain(attribute.sparse_tensors.iter_mut());
    sparse.for_each(|sparse| of_sparse(sparse, found));
}

fn of_sparse<'a>(sparse: &'a mut SparseTensorProto, found: &mut Vec<&'a mut TensorProto>) {
    found.extend(sparse.values.iter_mut().chain(sparse.indices.iter_mut()));
}

/// # Source
/// onnx.proto3, `TensorProto.external_data`: `location` is required, `offset` and `length` are bytes.
fn place(tensor: &TensorProto) -> Result<Place, String> {
    let name = &tensor.name;
    let of = |key: &str| {
        let entry = tensor.external_data.iter().find(|entry| entry.key == key);
        entry.map(|entry| entry.value.as_str())
    };
    let number = |key: &str| {
        let parsed = of(key).map(|text| text.trim().parse::<u64>().map_err(|_| text));
        parsed.transpose().map_err(|text| format!("tensor {name:?}: {key} {text:?} is no number"))
    };
    let location = of("location").filter(|location| !location.is_empty()).ok_or_else(|| {
        format!("tensor {name:?} lies in another file, but the model does not say in which")
    })?;
    let length = bytes_of(tensor).ok_or_else(|| {
        format!("tensor {name:?} in {location} has a shape or type that cannot be read")
    })?;
    if let Some(said) = number("length")?
        && said != length
    {
        return Err(format!(
            "tensor {name:?} has {said} bytes in {location}, its shape and type need {length}"
        ));
    }
    let offset = number("offset")?.unwrap_or(0);
    Ok(Place { tensor: name.clone(), location: location.to_owned(), offset, length })
}

/// Bytes that a tensor's elements take.
fn bytes_of(tensor: &TensorProto) -> Option<u64> {
    let width = match DataType::try_from(tensor.data_type).ok()? {
        DataType::Bool | DataType::Uint8 | DataType::Int8 => 1,
        DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16 => 2,
        DataType::Uint32 | DataType::Int32 | DataType::Float => 4,
        DataType::Uint64 | DataType::Int64 | DataType::Double => 8,
        _ => return None,
    };
    let dims = tensor.dims.iter().map(|dim| u64::try_from(*dim).ok());
    dims.into_iter().try_fold(width, |product: u64, dim| product.checked_mul(dim?))
}

/// Opens a file beside the model, and nothing else: a model that was downloaded must not put other
/// files of this machine into a release.
fn open(folder: &Path, location: &str) -> Result<(File, u64), String> {
    let plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
    let outside = || {
        format!(
            "it keeps weights in {location:?}, outside its own folder: put that file beside it and \
             export it anew, or as one file"
        )
    };
    if !Path::new(location).components().all(plain) {
        return Err(outside());
    }
    let missing = |error: std::io::Error| {
        format!(
            "it keeps weights in {location}, which cannot be read beside it ({error}): copy that \
             file there too, or export the model as one file (onnx.save_model(onnx.load(…), …))"
        )
    };
    let whole: PathBuf = folder.join(location).canonicalize().map_err(missing)?;
    if !whole.starts_with(folder.canonicalize().map_err(missing)?) {
        return Err(outside());
    }
    let file = File::open(whole).map_err(missing)?;
    let metadata = file.metadata().map_err(missing)?;
    if !metadata.is_file() {
        return Err(format!("it keeps weights in {location}, which is no file"));
    }
    Ok((file, metadata.len()))
}

fn read(file: &mut File, file_length: u64, place: &Place) -> Result<Vec<u8>, String> {
    let Place { tensor, location, offset, length } = place;
    let end = offset.checked_add(*length).filter(|end| *end <= file_length);
    if end.is_none() {
        return Err(format!(
            "tensor {tensor:?} has {length} bytes from byte {offset} of {location}, which has only \
             {file_length}: was it copied whole, and is it of the same export?"
        ));
    }
    let mut bytes = Vec::with_capacity(*length as usize);
    let read = file
        .seek(SeekFrom::Start(*offset))
        .and_then(|_| file.take(*length).read_to_end(&mut bytes))
        .map_err(|error| format!("{location} cannot be read: {error}"))?;
    if read as u64 != *length {
        return Err(format!("{location} became shorter while it was read"));
    }
    Ok(bytes)
}
