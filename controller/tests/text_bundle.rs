//! Folders of models that take text: what devices get of them, and what is refused.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_agent::engine;
use tidegate_controller::bundle::{Bundle, check};
use tidegate_wire::manifest::FileRole;

/// A copy of a model's folder with one change.
fn folder(model: &str, change: impl FnOnce(&Path)) -> TempDir {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/tests/text/models");
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(models.join(model)).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, copy.path().join(from.file_name().unwrap())).unwrap();
    }
    change(copy.path());
    copy
}

fn replace(file: PathBuf, from: &str, to: &str) {
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from:?} is not in {text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

/// What the publisher is told, from reading the folder to running the model.
fn told(model: &str, change: impl FnOnce(&Path)) -> String {
    let folder = folder(model, change);
    match Bundle::read(folder.path()).and_then(|bundle| check::check(&bundle).map(|_| ())) {
        Ok(()) => panic!("nothing was told"),
        Err(error) => error.to_string(),
    }
}

/// Whether this build has the engines.
fn has_candle() -> bool {
    engine::names().contains(&engine::CANDLE_BERT)
}

#[test]
fn without_the_engine_it_is_said_how_to_build_it() {
    if has_candle() {
        return;
    }
    for (model, name) in [("encoder", "candle-bert"), ("decoder", "candle-llama")] {
        let text = told(model, |_| ());
        assert!(text.contains(name) && text.contains("--features candle"), "{text}");
    }
}

#[test]
fn a_sentence_encoder_is_checked_against_its_golden_vectors() {
    if !has_candle() {
        return;
    }
    let folder = folder("encoder", |_| ());
    let bundle = Bundle::read(folder.path()).unwrap();
    let checked = check::check(&bundle).unwrap();
    assert_eq!((bundle.manifest.engine.as_str(), checked.rows), ("candle-bert", 8));
    assert!(checked.worst < 1e-4, "{checked:?}");
    assert_eq!(bundle.requirements.engines, ["candle-bert"]);
    let roles: Vec<FileRole> = bundle.files.iter().map(|file| file.role).collect();
    use FileRole::{Config, Golden, Model, Tokenizer};
    assert_eq!(roles, [Model, Golden, Config, Tokenizer]);
    let config: Value = serde_json::from_slice(&bundle.file(Config).unwrap().bytes).unwrap();
    let settings = json!({"pooling": "mean", "normalize": true, "tokens_max": 48});
    assert_eq!((&config["tidegate"], &config["hidden_size"]), (&settings, &json!(32)));
    // The same folder, the same artifact.
    assert_eq!(Bundle::read(folder.path()).unwrap().digest(), bundle.digest());
}

/// Writes what sentence-transformers writes beside a model.
fn modules(folder: &Path, last: &str, mode: &str) {
    replace(
        folder.join("model.toml"),
        "pooling = \"mean\"\nnormalize = true\ntokens_max = 48\n",
        "",
    );
    let module = |name: &str, path: &str| json!({"name": "n", "path": path, "type": format!("sentence_transformers.models.{name}")});
    let list =
        json!([module("Transformer", ""), module("Pooling", "1_Pooling"), module(last, "2")]);
    fs::write(folder.join("modules.json"), list.to_string()).unwrap();
    fs::create_dir(folder.join("1_Pooling")).unwrap();
    let mut pooling = json!({"word_embedding_dimension": 32, "pooling_mode_mean_tokens": false});
    pooling[mode] = json!(true);
    fs::write(folder.join("1_Pooling/config.json"), pooling.to_string()).unwrap();
    let length = json!({"max_seq_length": 48, "do_lower_case": false});
    fs::write(folder.join("sentence_bert_config.json"), length.to_string()).unwrap();
}

#[test]
fn what_sentence_transformers_wrote_is_taken_over() {
    if !has_candle() {
        return;
    }
    let read = folder("encoder", |folder| modules(folder, "Normalize", "pooling_mode_mean_tokens"));
    check::check(&Bundle::read(read.path()).unwrap()).unwrap();
    let text = told("encoder", |folder| modules(folder, "Dense", "pooling_mode_mean_tokens"));
    assert!(text.contains("modules.json") && text.contains("\"Dense\""), "{text}");
    let text = told("encoder", |folder| modules(folder, "Normalize", "pooling_mode_max_tokens"));
    assert!(text.contains("\"max_tokens\""), "{text}");
    let text = told("encoder", |folder| modules(folder, "Normalize", "pooling_mode_cls_token"));
    assert!(text.contains("golden outputs do not come out"), "{text}");
}

#[test]
fn an_encoder_that_devices_cannot_run_is_refused_with_what_to_do() {
    if !has_candle() {
        return;
    }
    let remove =
        |name: &'static str| move |folder: &Path| fs::remove_file(folder.join(name)).unwrap();
    for (file, key) in [("tokenizer.json", "`tokenizer`"), ("config.json", "`config`")] {
        let text = told("encoder", remove(file));
        assert!(text.contains(file) && text.contains(key), "{text}");
    }
    let text = told("encoder", |folder| {
        replace(folder.join("config.json"), "\"bert\"", "\"mpnet\"");
    });
    assert!(text.contains("config.json") && text.contains("\"mpnet\""), "{text}");
    let text = told("encoder", |folder| {
        fs::write(folder.join("model.safetensors.index.json"), "{}").unwrap();
    });
    assert!(text.contains("shards"), "{text}");
    let text = told("encoder", |folder| {
        replace(folder.join("model.toml"), "model.safetensors", "model-00001-of-00002.safetensors");
    });
    assert!(text.contains("shards"), "{text}");
    let text = told("encoder", |folder| {
        replace(folder.join("model.toml"), "task = \"embedding\"", "task = \"regression\"");
    });
    assert!(text.contains("\"embedding\""), "{text}");
    let text = told("encoder", |folder| {
        replace(folder.join("model.toml"), "[text]", "[text]\nstop = [\"x\"]");
    });
    assert!(text.contains("model.toml") && text.contains("stop"), "{text}");
    let text = told("encoder", |folder| {
        replace(folder.join("model.toml"), "task =", "engine = \"tract-onnx\"\ntask =");
    });
    assert!(text.contains("candle-bert"), "{text}");
    let text = told("encoder", |folder| {
        replace(folder.join("golden.json"), "\"input.text\"", "\"input.txt\"");
    });
    assert!(text.contains("golden.json") && text.contains("\"input.txt\""), "{text}");
    let text = told("encoder", |folder| fs::write(folder.join("tokenizer.json"), "{}").unwrap());
    assert!(text.contains("tokenizer.json"), "{text}");
}

#[test]
fn a_language_model_is_checked_to_the_letter() {
    if !has_candle() {
        return;
    }
    let good = folder("decoder", |_| ());
    let bundle = Bundle::read(good.path()).unwrap();
    let checked = check::check(&bundle).unwrap();
    assert_eq!((bundle.manifest.engine.as_str(), checked.rows), ("candle-llama", 3));
    let config = &bundle.file(FileRole::Config).unwrap().bytes;
    assert_eq!(config, br#"{"tidegate":{"tokens_max":64}}"#);
    let text = told("decoder", |folder| replace(folder.join("golden.json"), "85 °C", "86 °C"));
    assert!(text.contains("row 1") && text.contains("86 °C") && text.contains("85 °C"), "{text}");
    let text = told("decoder", |folder| {
        replace(folder.join("model.toml"), "tokens_max = 64", "tokens_max = 3");
    });
    assert!(text.contains("golden text does not come out"), "{text}");
    let text = told("decoder", |folder| {
        replace(folder.join("model.toml"), "tokens_max = 64", "pooling = \"mean\"");
    });
    assert!(text.contains("pooling"), "{text}");
    let text = told("decoder", |folder| {
        let file = folder.join("model.gguf");
        let mut bytes = fs::read(&file).unwrap();
        let place = bytes.windows(5).position(|window| window == b"llama").unwrap();
        bytes[place..place + 5].copy_from_slice(b"gemma");
        fs::write(file, bytes).unwrap();
    });
    assert!(text.contains("model.gguf") && text.contains("\"gemma\""), "{text}");
}
