//! A model's folder as a publisher made it: `model.toml`, the arrays of golden set and reference
//! sample, the model file.

use tidegate_agent::engine::Values;
use tidegate_controller::bundle::{Bundle, Description};
use tidegate_wire::envelope::open;
use tidegate_wire::manifest::{DriftReference, FileRole, Manifest};

use crate::script::{pieces, write};

/// Where nothing else is said.
const TEXT: &str = "\
name = \"digits\"\nversion = \"1.2.0\"\nmodel = \"model\"\ngolden = \"golden\"\n\
reference = \"reference\"\ntask = \"classification\"\n\
[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 2]\nrange = [0, 16]\n\
[[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n";

/// The whole of `model.toml`.
const TOML: u8 = 0;
/// One file as it is: golden set, reference, model.
const WHOLE: [(u8, &str); 3] = [(1, "golden"), (2, "reference"), (3, "model")];
/// An array, as a `.npy`, of the golden set and of the reference: its name is in the table.
const ARRAYS: [(u8, &str, &str); 4] = [
    (4, "golden", "input.x.npy"),
    (5, "golden", "output.y.npy"),
    (6, "reference", "input.x.npy"),
    (7, "reference", "output.y.npy"),
];

/// A folder of these pieces is refused with words, or becomes what devices can read.
pub fn bundle(bytes: &[u8]) {
    match read(bytes) {
        None => {}
        Some(Err(error)) => assert!(!error.is_empty()),
        Some(Ok(bundle)) => readable(&bundle),
    }
}

/// None if it is a folder that is better not read here.
fn read(bytes: &[u8]) -> Option<Result<Bundle, String>> {
    let pieces = pieces(bytes, 12);
    let of = |tag: u8| pieces.iter().filter(move |piece| piece.tag % 8 == tag);
    let text = of(TOML).next().map_or(Ok(TEXT), |piece| std::str::from_utf8(piece.bytes));
    let text = text.ok()?;
    match Description::parse(text) {
        Err(error) => return Some(Err(error)),
        // A publisher may name any file of the machine. We do not read those.
        Ok(description) if !is_here(&description) => return None,
        Ok(_) => {}
    }
    let folder = tempfile::tempdir().expect("there is room");
    let put = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).expect("there is room");
    };
    put("model.toml", text.as_bytes());
    for file in ["golden", "reference"] {
        let arrays = ARRAYS.iter().filter(|(_, of_file, _)| *of_file == file);
        let arrays = arrays.filter_map(|(tag, _, name)| Some((*name, of(*tag).next()?.bytes)));
        put(file, &zip(&arrays.collect::<Vec<_>>()));
    }
    put("model", b"");
    for (tag, file) in WHOLE {
        if let Some(piece) = of(tag).next() {
            put(file, piece.bytes);
        }
    }
    Some(Bundle::read(folder.path()).map_err(|error| error.to_string()))
}

fn is_here(description: &Description) -> bool {
    let named =
        [Some(&description.golden), Some(&description.model), description.reference.as_ref()];
    let ours = |path: &&std::path::PathBuf| WHOLE.iter().any(|(_, name)| path.as_os_str() == *name);
    description.card.is_none() && named.iter().flatten().all(ours)
}

fn readable(bundle: &Bundle) {
    let manifest: Manifest = open(&bundle.manifest_bytes).expect("devices read it");
    assert_eq!(manifest.files.len(), bundle.files.len());
    assert_eq!(manifest.length(), bundle.length());
    if let Some(file) = bundle.file(FileRole::Reference) {
        let reference: DriftReference = open(&file.bytes).expect("devices read it");
        assert!(reference.features.len() <= tidegate_controller::bundle::FEATURES_MAX);
    }
    for tensor in bundle.golden.inputs.iter().chain(&bundle.golden.outputs) {
        let count: u64 = tensor.shape.iter().product();
        let values = Values::from_le_bytes(tensor.datatype, &tensor.bytes);
        assert_eq!(values.len() as u64, count);
    }
}

/// Files in an archive, not compressed, with the right checksums.
///
/// # Source
/// PKWARE's APPNOTE 6.3, sections 4.3.7, 4.3.12 and 4.3.16.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let offset = out.len() as u32;
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        common.extend_from_slice(&sum.checksum(bytes).to_le_bytes());
        common.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        common.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        common.extend_from_slice(&(name.len() as u16).to_le_bytes());
        common.extend_from_slice(&[0, 0]);
        out.extend_from_slice(b"PK\x03\x04");
        out.extend_from_slice(&common);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(bytes);
        directory.extend_from_slice(b"PK\x01\x02\x14\x00");
        directory.extend_from_slice(&common);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let (at, count) = (out.len() as u32, (files.len() as u16).to_le_bytes());
    out.extend_from_slice(&directory);
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend_from_slice(&[count, count].concat());
    out.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    out.extend_from_slice(&at.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out
}

/// An array of `<f4`.
///
/// # Source
/// NEP 1, format version 1.0.
fn npy(shape: &str, values: &[f32]) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend_from_slice(&(header.len() as u16).to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    out
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let rows: Vec<f32> = (0..120).map(|value| (value % 17) as f32).collect();
    let golden = (npy("(2, 2)", &rows[..4]), npy("(2, 2)", &[0.25, 0.75, 1.0, 0.0]));
    let sample = (npy("(60, 2)", &rows), npy("(60, 2)", &[0.5; 120]));
    let (text, whole) = (TEXT.as_bytes(), zip(&[("input.x.npy", &golden.0)]));
    let regression = TEXT.replace("classification", "regression").replace("range", "# ");
    vec![
        write([(TOML, text), (4, &golden.0), (5, &golden.1), (6, &sample.0), (7, &sample.1)]),
        write([(TOML, regression.as_bytes()), (4, &golden.0), (5, &golden.1), (6, &sample.0)]),
        write([(4, golden.0.as_slice()), (5, &golden.1)]),
        write([(1, whole.as_slice()), (6, &sample.0)]),
        write([(TOML, text)]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_reach_a_bundle() {
        let read: Vec<_> = seeds().iter().filter_map(|seed| read(seed)).collect();
        assert!(read[..2].iter().all(|bundle| bundle.is_ok()), "{read:?}");
    }
}
