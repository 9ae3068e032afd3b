//! The library of ONNX Runtime is missing, or is something else: each in a process of its own, since
//! a library is loaded once.
#![cfg(feature = "onnxruntime")]
#![allow(missing_docs)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tidegate_agent::engine::{self, EngineError, EnginesConfig, ONNXRUNTIME};
use tidegate_wire::Reason;
use tidegate_wire::manifest::Manifest;
use tidegate_wire::policy::Gates;

/// Names the library to the process that the test starts of itself.
const LIBRARY: &str = "TIDEGATE_TEST_LIBRARY";

fn problem(folder: &Path) -> EngineError {
    let tensor = json!({"name": "x", "datatype": "FP32", "shape": [-1, 1]});
    let manifest = json!({
        "model": "some", "version": "1", "engine": ONNXRUNTIME, "task": "regression", "files": [],
        "inputs": [tensor], "outputs": [tensor], "gates": Gates::default(), "window_rows": 500,
    });
    let manifest: Manifest = serde_json::from_value(manifest).unwrap();
    engine::load(folder, &manifest).err().expect("it was loaded")
}

/// A shared library that this very process has loaded.
fn some_library() -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    paths.find(|path| path.contains("libc.so") || path.contains("libc-")).unwrap().to_string()
}

/// What a process says that has this library configured.
fn told(library: &Path) -> String {
    let name = "a_library_that_cannot_be_used_is_named_with_what_to_do";
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(LIBRARY, library)
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn a_library_that_cannot_be_used_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(library) = std::env::var_os(LIBRARY) {
        let onnxruntime = Some(library.into());
        engine::configure(&EnginesConfig { onnxruntime, ..Default::default() });
        // A second model is told the same.
        let errors = [problem(folder.path()), problem(folder.path())];
        assert!(errors.iter().all(|error| error.reason() == Reason::Incompatible), "{errors:?}");
        assert_eq!(errors[0].to_string(), errors[1].to_string());
        println!("{}", errors[0]);
        return;
    }
    let path = folder.path().join("libonnxruntime.so");
    let texts = [
        told(&path),
        told({
            fs::write(&path, b"no library").unwrap();
            &path
        }),
        told({
            fs::copy(some_library(), &path).unwrap();
            &path
        }),
    ];
    for text in &texts {
        assert!(text.contains(&path.display().to_string()), "{text}");
        assert!(text.contains("engines.onnxruntime"), "{text}");
    }
    assert!(texts[2].contains("does not export"), "{}", texts[2]);
}
