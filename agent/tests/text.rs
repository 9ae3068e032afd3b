//! Text models against what their reference implementations answered: those in `text/models`, and
//! those in the folder that `TIDEGATE_TEXT_MODELS` names (`text/oracle/run.py` makes some).
#![cfg(feature = "candle")]
#![allow(missing_docs)]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_agent::engine::{
    self, CANDLE_BERT, CANDLE_LLAMA, Continuation, Ending, Engine, EngineError, Prompt, Tensor,
    Values,
};
use tidegate_agent::self_test::self_test;
use tidegate_agent::serving::LoadedModel;
use tidegate_wire::manifest::{Manifest, Task};
use tidegate_wire::policy::Gates;
use tidegate_wire::tensor::{Datatype, GoldenSet, TensorData, TensorSpec};
use tidegate_wire::{ArtifactRef, Digest, Reason};

/// What the issue allows an embedding to differ by.
const EMBEDDING_OFF_MAX: f32 = 1e-4;

fn models(kind: &str) -> Vec<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/text/models");
    let more = std::env::var_os("TIDEGATE_TEXT_MODELS").map(PathBuf::from);
    let folders = [Some(own), more].into_iter().flatten();
    let all = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
    let all = all.map(|entry| entry.unwrap().path());
    let found: Vec<PathBuf> = all.filter(|folder| folder.join(kind).exists()).collect();
    assert!(!found.is_empty());
    found
}

fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
    TensorSpec { name: name.into(), datatype, shape: shape.into(), labels: vec![], limits: None }
}

/// Read rather than built: what is not said here has its default.
fn manifest(engine: &str, output: TensorSpec) -> Manifest {
    let task = if engine == CANDLE_BERT { Task::Embedding } else { Task::Generation };
    let inputs = [spec("text", Datatype::Bytes, &[-1])];
    let manifest = json!({
        "model": "text", "version": "1", "engine": engine, "task": task, "files": [],
        "inputs": inputs, "outputs": [output], "gates": Gates::default(), "window_rows": 500,
    });
    serde_json::from_value(manifest).unwrap()
}

/// The slot of a model's folder: files by their roles, settings in one of them.
fn slot(folder: &Path) -> tempfile::TempDir {
    let slot = tempfile::tempdir().unwrap();
    let take = |from: &str, role: &str| fs::copy(folder.join(from), slot.path().join(role)).is_ok();
    assert!(take("model.safetensors", "model") || take("model.gguf", "model"));
    take("tokenizer.json", "tokenizer");
    let described: toml::Table =
        toml::from_str(&fs::read_to_string(folder.join("model.toml")).unwrap()).unwrap();
    let config = fs::read(folder.join("config.json"));
    let mut config: Value =
        config.map_or(json!({}), |bytes| serde_json::from_slice(&bytes).unwrap());
    config["tidegate"] = serde_json::to_value(&described["text"]).unwrap();
    fs::write(slot.path().join("config"), config.to_string()).unwrap();
    slot
}

fn change_config(slot: &Path, change: impl FnOnce(&mut Value)) {
    let file = slot.join("config");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut config);
    fs::write(file, config.to_string()).unwrap();
}

fn bytes(texts: &[&str]) -> [Tensor; 1] {
    let values = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    [Tensor { shape: vec![texts.len()], values: Values::Bytes(values) }]
}

#[derive(Deserialize)]
struct Embedded {
    #[serde(rename = "input.text")]
    texts: Vec<String>,
    #[serde(rename = "output.embedding")]
    vectors: Vec<Vec<f32>>,
}

fn embedded(folder: &Path) -> Embedded {
    serde_json::from_slice(&fs::read(folder.join("golden.json")).unwrap()).unwrap()
}

fn load_encoder(slot: &Path, width: i64) -> Result<Box<dyn Engine>, EngineError> {
    engine::load(slot, &manifest(CANDLE_BERT, spec("embedding", Datatype::Fp32, &[-1, width])))
}

fn embed(engine: &dyn Engine, texts: &[&str]) -> Vec<f32> {
    let answers = engine.run(&bytes(texts)).unwrap();
    let [Tensor { shape, values: Values::F32(values) }] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(shape[0], texts.len());
    values.clone()
}

/// By how much the two differ at most.
fn off(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
}

#[test]
fn embeddings_are_those_of_the_reference() {
    for folder in models("model.safetensors") {
        let Embedded { texts, vectors } = embedded(&folder);
        let width = vectors[0].len();
        let slot = slot(&folder);
        let engine = load_encoder(slot.path(), width as i64).unwrap();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let worst = off(&embed(engine.as_ref(), &texts), &vectors.concat());
        println!("{}: off by {worst:.1e} at most", folder.display());
        assert!(worst <= EMBEDDING_OFF_MAX, "{}: off by {worst}", folder.display());
        // Alone or beside others, long or short: the same.
        for (text, vector) in texts.iter().zip(&vectors) {
            let worst = off(&embed(engine.as_ref(), &[text]), vector);
            assert!(worst <= EMBEDDING_OFF_MAX, "{text:?}: off by {worst}");
        }
    }
}

fn encoder() -> (tempfile::TempDir, Embedded) {
    let folder = models("model.safetensors").swap_remove(0);
    (slot(&folder), embedded(&folder))
}

#[test]
fn pooling_and_length_are_what_the_settings_say() {
    let (slot, Embedded { texts, .. }) = encoder();
    let plain = embed(load_encoder(slot.path(), 32).unwrap().as_ref(), &[&texts[0]]);
    let length = plain.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    change_config(slot.path(), |config| config["tidegate"]["normalize"] = false.into());
    let free = embed(load_encoder(slot.path(), 32).unwrap().as_ref(), &[&texts[0]]);
    assert!(off(&plain, &free) > 0.1);
    change_config(slot.path(), |config| config["tidegate"]["pooling"] = "cls".into());
    let first = embed(load_encoder(slot.path(), 32).unwrap().as_ref(), &[&texts[0]]);
    assert!(off(&free, &first) > 0.1);
    // Cut at four tokens, the end of the sentence does not matter any more.
    change_config(slot.path(), |config| config["tidegate"]["tokens_max"] = 4.into());
    let engine = load_encoder(slot.path(), 32).unwrap();
    assert_eq!(embed(engine.as_ref(), &["the pump is hot"]), embed(engine.as_ref(), &["the pump"]));
}

#[test]
fn an_encoder_that_cannot_be_run_says_why() {
    let (slot, _) = encoder();
    let problem = |slot: &Path| load_encoder(slot, 32).err().expect("it was loaded");
    let text = load_encoder(slot.path(), 33).err().unwrap().to_string();
    assert!(text.contains("FP32 [-1, 32]") && text.contains("FP32 [-1, 33]"), "{text}");
    change_config(slot.path(), |config| config["model_type"] = "mpnet".into());
    let error = problem(slot.path());
    assert_eq!(error.reason(), Reason::UnsupportedOperator);
    assert!(error.to_string().contains("\"mpnet\""), "{error}");
    change_config(slot.path(), |config| config["model_type"] = "bert".into());
    change_config(slot.path(), |config| config["num_hidden_layers"] = 3.into());
    let error = problem(slot.path());
    assert!(error.to_string().contains("encoder.layer.2"), "{error}");
    for (file, text) in [("model", "model"), ("tokenizer", "tokenizer.json"), ("config", "config")]
    {
        let (slot, _) = encoder();
        fs::write(slot.path().join(file), b"{\"x\": 1}").unwrap();
        let error = problem(slot.path());
        assert!(error.to_string().contains(text), "{error}");
        fs::remove_file(slot.path().join(file)).unwrap();
        assert!(matches!(problem(slot.path()), EngineError::Unreadable { .. }));
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_by_row() {
    let (slot, _) = encoder();
    let engine = load_encoder(slot.path(), 32).unwrap();
    let values = Values::Bytes(vec![b"good".to_vec(), vec![0xff, 0xfe]]);
    let error = engine.run(&[Tensor { shape: vec![2], values }]).unwrap_err();
    assert!(matches!(&error, EngineError::Input { name, .. } if name == "text"), "{error}");
    assert!(error.to_string().contains("row 1"), "{error}");
    let error = engine.generate(&Prompt::greedy("x"), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(error, Err(EngineError::NoText)));
}

#[derive(Deserialize)]
struct Asked {
    prompt: String,
    prompt_tokens: usize,
    tokens_max: usize,
    stop: Vec<String>,
    text: String,
}

impl Asked {
    fn prompt(&self) -> Prompt {
        let (tokens_max, stop) = (Some(self.tokens_max), self.stop.clone());
        Prompt { tokens_max, stop, ..Prompt::greedy(&self.prompt) }
    }
}

fn load_decoder(slot: &Path) -> Result<Box<dyn Engine>, EngineError> {
    engine::load(slot, &manifest(CANDLE_LLAMA, spec("answer", Datatype::Bytes, &[-1])))
}

fn decoder() -> (tempfile::TempDir, Vec<Asked>) {
    let folder = models("model.gguf").swap_remove(0);
    (slot(&folder), asked(&folder))
}

fn asked(folder: &Path) -> Vec<Asked> {
    serde_json::from_slice(&fs::read(folder.join("asked.json")).unwrap()).unwrap()
}

/// What comes, with the pieces in which it came.
fn write(engine: &dyn Engine, prompt: &Prompt) -> (Continuation, Vec<String>) {
    let mut pieces = Vec::new();
    let mut read = |piece: &str| {
        pieces.push(piece.to_string());
        ControlFlow::Continue(())
    };
    let written = engine.generate(prompt, &mut read).unwrap();
    pieces.retain(|piece| !piece.is_empty());
    (written, pieces)
}

#[test]
fn greedy_continuations_are_those_of_the_reference() {
    for folder in models("model.gguf") {
        let slot = slot(&folder);
        let engine = load_decoder(slot.path()).unwrap();
        for asked in asked(&folder) {
            let (written, pieces) = write(engine.as_ref(), &asked.prompt());
            assert_eq!(written.text, asked.text, "{}: {:?}", folder.display(), asked.prompt);
            assert_eq!(pieces.concat(), asked.text);
            assert_eq!(written.prompt_tokens, asked.prompt_tokens, "{:?}", asked.prompt);
            assert!(pieces.len() > 2, "{pieces:?}");
            let ending = match (&asked.stop[..], asked.tokens_max) {
                ([], 64) => Ending::EndOfText,
                ([], _) => Ending::Length,
                _ => Ending::StopString,
            };
            assert_eq!(written.ending, ending);
        }
        println!("{}: the same text", folder.display());
    }
}

#[test]
fn rows_are_continued_one_by_one() {
    let (slot, asked) = decoder();
    let engine = load_decoder(slot.path()).unwrap();
    let answers = engine.run(&bytes(&[&asked[0].prompt, &asked[1].prompt])).unwrap();
    let texts = [&asked[0].text, &asked[1].text].map(|text| text.as_bytes().to_vec());
    assert_eq!(answers, [Tensor { shape: vec![2], values: Values::Bytes(texts.into()) }]);
}

#[test]
fn a_self_test_wants_the_text_to_the_letter() {
    let (slot, asked) = decoder();
    let manifest = manifest(CANDLE_LLAMA, spec("answer", Datatype::Bytes, &[-1]));
    let artifact = ArtifactRef { digest: Digest::of(b"x"), version: manifest.version.clone() };
    let loaded = LoadedModel::reload(slot.path(), artifact, manifest).unwrap();
    let strings = |name: &str, texts: [&str; 2]| {
        let mut bytes = Vec::new();
        let values = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        Values::Bytes(values).put_le_bytes(&mut bytes);
        let (name, datatype) = (name.to_string(), Datatype::Bytes);
        TensorData { name, datatype, shape: vec![2], bytes }
    };
    let inputs = vec![strings("text", [&asked[0].prompt, &asked[1].prompt])];
    let outputs = vec![strings("answer", [&asked[0].text, &asked[1].text])];
    let good = GoldenSet { inputs: inputs.clone(), outputs };
    let outcome = self_test(&loaded, &good);
    assert_eq!((outcome.verdict, outcome.tally.rows), (Ok(()), 2), "{}", outcome.detail);
    let bad = asked[1].text.replace("85", "86");
    let outputs = vec![strings("answer", [&asked[0].text, &bad])];
    let outcome = self_test(&loaded, &GoldenSet { inputs, outputs });
    assert_eq!(outcome.verdict, Err(Reason::GoldenMismatch), "{}", outcome.detail);
    assert_eq!((outcome.tally.rows, outcome.tally.outside), (2, 1));
}

#[test]
fn a_seed_draws_the_same_text_again() {
    let (slot, asked) = decoder();
    let engine = load_decoder(slot.path()).unwrap();
    let drawn = |seed, temperature, top_p| {
        let prompt = Prompt { seed, temperature, top_p, ..asked[0].prompt() };
        write(engine.as_ref(), &prompt).0.text
    };
    assert_eq!(drawn(1, 9.0, None), drawn(1, 9.0, None));
    assert_ne!(drawn(1, 9.0, None), drawn(2, 9.0, None));
    assert_eq!(drawn(1, 9.0, Some(1e-6)), asked[0].text);
}

#[test]
fn writing_ends_when_nobody_reads_or_the_time_is_over() {
    let (slot, asked) = decoder();
    let engine = load_decoder(slot.path()).unwrap();
    let mut heard = String::new();
    let mut read = |piece: &str| {
        heard.push_str(piece);
        if heard.len() < 10 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let written = engine.generate(&asked[0].prompt(), &mut read).unwrap();
    assert_eq!(written.ending, Ending::Unread);
    assert!(heard.len() < asked[0].text.len() && asked[0].text.starts_with(&heard));
    let deadline = Some(Instant::now());
    let (written, _) = write(engine.as_ref(), &Prompt { deadline, ..asked[0].prompt() });
    assert_eq!((written.ending, written.tokens), (Ending::Deadline, 0));
    let deadline = Some(Instant::now() + Duration::from_secs(600));
    let (written, _) = write(engine.as_ref(), &Prompt { deadline, ..asked[0].prompt() });
    assert_eq!(written.ending, Ending::EndOfText);
}

#[test]
fn the_context_bounds_prompt_and_answer() {
    let (slot, asked) = decoder();
    let engine = load_decoder(slot.path()).unwrap();
    let (full, _) = write(engine.as_ref(), &asked[0].prompt());
    let context = full.prompt_tokens + 3;
    change_config(slot.path(), |config| config["tidegate"]["context_max"] = context.into());
    let engine = load_decoder(slot.path()).unwrap();
    let (written, _) = write(engine.as_ref(), &asked[0].prompt());
    assert_eq!((written.ending, written.tokens), (Ending::Length, 3));
    let long = Prompt { text: asked[0].prompt.repeat(2), ..asked[0].prompt() };
    let error = engine.generate(&long, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains(&format!("{context} are the most")), "{error}");
    let error = engine.run(&bytes(&[""])).unwrap_err();
    assert!(error.to_string().contains("the prompt is empty"), "{error}");
}

#[test]
fn a_decoder_that_cannot_be_run_says_why() {
    let (slot, _) = decoder();
    let file = slot.path().join("model");
    let good = fs::read(&file).unwrap();
    let problem = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        load_decoder(slot.path()).err().expect("it was loaded")
    };
    let renamed = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let place = good.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = good.clone();
        bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    // The first "llama" is the architecture's name.
    let error = problem(&renamed("llama", "gemma"));
    assert_eq!(error.reason(), Reason::UnsupportedOperator);
    assert!(error.to_string().contains("\"gemma\""), "{error}");
    let error = problem(&renamed("blk.1.attn_v.weight", "blk.1.attn_x.weight"));
    assert!(error.to_string().contains("blk.1.attn_v.weight"), "{error}");
    let error = problem(&renamed("tokenizer.ggml.merges", "tokenizer.ggml.mirges"));
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
    let error = problem(&renamed("gpt-2", "other"));
    assert!(error.to_string().contains("tokenizer.ggml.pre is \"other\""), "{error}");
    for broken in [&b""[..], b"hello", &good[..good.len() / 2], &good[..40]] {
        let error = problem(broken);
        assert_eq!(error.reason(), Reason::LoadFailed, "{error}");
        assert!(error.to_string().contains("/model"), "{error}");
    }
}
