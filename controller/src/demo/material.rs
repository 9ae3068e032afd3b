//! The models and the live data of the demo, carried in the binary so that it runs from anywhere.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use anyhow::Context;
use ndarray_npy::NpzReader;

macro_rules! example {
    ($version:literal) => {
        [
            ("model.toml", example!($version, "model.toml")),
            ("model.onnx", example!($version, "model.onnx")),
            ("golden.npz", example!($version, "golden.npz")),
            ("reference.npz", example!($version, "reference.npz")),
            ("card.md", example!($version, "card.md")),
        ]
    };
    ($version:literal, $file:literal) => {
        include_bytes!(concat!("../../../examples/digits/", $version, "/", $file)).as_slice()
    };
}

type Files = [(&'static str, &'static [u8]); 5];

/// The trained versions of `examples/digits`.
const TRAINED: [(&str, Files); 3] =
    [("1.0.0", example!("1.0.0")), ("1.1.0", example!("1.1.0")), ("1.2.0", example!("1.2.0"))];

const STREAM: &[u8] = include_bytes!("../../../examples/digits/stream.npz");

/// Waits of minutes, which production wants, become seconds.
const SHORT_GATES: &str = "
[gates.shadow]
sample_percent = 100
samples_min = 40
seconds_max = 30

[gates.trial]
seconds_min = 1
samples_min = 40
";

/// Pixels of one image.
pub const PIXELS: usize = 64;

/// Writes the model folder of `trained`, released as `version`, below `folder`.
pub fn write_model(folder: &Path, trained: &str, version: &str) -> anyhow::Result<PathBuf> {
    let (_, files) = TRAINED.iter().find(|(name, _)| *name == trained).context("no such model")?;
    let folder = folder.join(version);
    std::fs::create_dir_all(&folder)?;
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes)?;
    }
    let description = std::str::from_utf8(files[0].1)?
        .replace(&format!("version = \"{trained}\""), &format!("version = \"{version}\""));
    let description = format!("window_rows = 60\n{description}{SHORT_GATES}");
    std::fs::write(folder.join("model.toml"), description)?;
    Ok(folder)
}

/// The held-back images, each as the JSON body of an inference request, and their labels.
pub struct Stream {
    /// Request bodies.
    pub requests: Vec<bytes::Bytes>,
    /// What the images show.
    pub labels: Vec<usize>,
}

impl Stream {
    /// Reads the embedded stream.
    pub fn read() -> anyhow::Result<Self> {
        let mut npz = NpzReader::new(Cursor::new(STREAM))?;
        let pixels: ndarray::Array2<f32> = npz.by_name("pixels")?;
        let labels: ndarray::Array1<i64> = npz.by_name("labels")?;
        let requests = pixels.rows().into_iter().map(|row| request(&row.to_vec()).into()).collect();
        Ok(Self { requests, labels: labels.iter().map(|label| *label as usize).collect() })
    }
}

fn request(pixels: &[f32]) -> String {
    let input = serde_json::json!({
        "name": "pixels", "datatype": "FP32", "shape": [1, PIXELS], "data": pixels,
    });
    serde_json::json!({ "inputs": [input] }).to_string()
}
