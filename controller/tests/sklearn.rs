//! Pipelines as scikit-learn's exporter writes them, with ONNX Runtime's answers as golden sets:
//! each is rewritten for devices, and answers the same.
//!
//! `sklearn/fixtures` has a few; `sklearn/run.sh` makes all of them and names their folder in
//! `TIDEGATE_SKLEARN`.

use std::path::{Path, PathBuf};

use tidegate_controller::bundle::Bundle;
use tidegate_controller::bundle::check::check;

fn folders_of(parent: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).unwrap_or_else(|error| panic!("{parent:?}: {error}"));
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("model.toml").exists());
    folders.sort();
    folders
}

/// One line: the engine, the worst deviation, what was rewritten.
fn try_one(folder: &Path) -> Result<String, String> {
    let bundle = Bundle::read(folder).map_err(|error| error.to_string())?;
    let checked = check(&bundle).map_err(|error| error.to_string())?;
    let (engine, worst) = (&bundle.manifest.engine, checked.worst);
    let rows = checked.rows;
    Ok(format!("{engine}, {rows} rows, off by {worst:.1e}; {}", bundle.rewrites.join("; ")))
}

fn try_all(parent: &Path) {
    let folders = folders_of(parent);
    assert!(!folders.is_empty(), "{parent:?} has no model");
    let mut failed = Vec::new();
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        match try_one(&folder) {
            Ok(line) => println!("{name}: {line}"),
            Err(error) => {
                println!("{name}: FAILED: {error}");
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn all_pipelines_answer_as_onnx_runtime() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sklearn/fixtures");
    let made = std::env::var_os("TIDEGATE_SKLEARN").map(PathBuf::from);
    try_all(&made.unwrap_or(fixtures));
}
