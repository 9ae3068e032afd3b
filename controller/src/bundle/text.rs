//! Models that take text: which files and settings a device needs beside the weights.
//!
//! What follows an encoder's network stands in the files that sentence-transformers writes
//! (`modules.json`); it and what `[text]` in `model.toml` says goes into the settings file, under
//! `tidegate`, where the engines read it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tidegate_agent::engine::{CANDLE_BERT, CANDLE_LLAMA};
use tidegate_wire::manifest::{FileRole, Task};

use super::BundleFile;
use super::choose::{Chosen, there};
use super::description::{Description, TextSection};
use super::error::{self, BundleError};

/// What a model file is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// safetensors.
    Encoder,
    /// GGUF.
    Decoder,
}

/// The kind of text model that `path` is; none if it is another model.
pub(super) fn kind(path: &Path, description: &Description) -> Result<Option<Kind>, BundleError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    let index = format!("{name}.index.json");
    if name.ends_with(".index.json")
        || name.contains("-of-0")
        || path.with_file_name(index).exists()
    {
        let what = "the weights are in several files (shards), and a device takes one: write them \
                    into one, as with save_pretrained(..., max_shard_size=\"100GB\") or \
                    llama-gguf-split --merge";
        return Err(BundleError::TextModel { path: path.into(), what: what.into() });
    }
    let (kind, engine) = match name.rsplit_once('.') {
        Some((_, "safetensors")) => (Some(Kind::Encoder), CANDLE_BERT),
        Some((_, "gguf")) => (Some(Kind::Decoder), CANDLE_LLAMA),
        _ => (None, ""),
    };
    let forced = description.engine.as_deref().filter(|forced| *forced != engine);
    match (kind, forced) {
        (Some(_), Some(forced)) => {
            let what = format!("engine = {forced:?}: a model of this kind runs on {engine:?} only");
            Err(BundleError::Conversion { path: path.into(), what })
        }
        (None, Some(forced @ (CANDLE_BERT | CANDLE_LLAMA))) => {
            let what = format!(
                "engine = {forced:?} takes model.safetensors (a sentence encoder) or a .gguf (a \
                 language model), by these names"
            );
            Err(BundleError::Conversion { path: path.into(), what })
        }
        _ => Ok(kind),
    }
}

/// What devices get of a text model.
pub(super) fn chosen(
    kind: Kind,
    dir: &Path,
    description: &Description,
    notes: &mut Vec<String>,
) -> Result<Chosen, BundleError> {
    let path = dir.join(&description.model);
    let (engine, task) = match kind {
        Kind::Encoder => (CANDLE_BERT, Task::Embedding),
        Kind::Decoder => (CANDLE_LLAMA, Task::Generation),
    };
    if description.task != task {
        let task = if kind == Kind::Encoder { "embedding" } else { "generation" };
        let what = format!("its task is {task:?}: say so in model.toml");
        return Err(BundleError::TextModel { path, what });
    }
    there(&path, engine)?;
    let mut chosen = Chosen::new(engine, error::read_bytes(&path)?, Vec::new());
    chosen.more = match kind {
        Kind::Encoder => encoder_files(dir, description, notes)?,
        Kind::Decoder => decoder_files(dir, description)?,
    };
    Ok(chosen)
}

/// A file that `model.toml` names, or `default` beside the model; none if there is neither.
fn beside(
    dir: &Path,
    description: &Description,
    named: &Option<PathBuf>,
    default: &str,
) -> PathBuf {
    match named {
        Some(named) => dir.join(named),
        None => dir.join(&description.model).with_file_name(default),
    }
}

fn tokenizer(path: PathBuf) -> Result<BundleFile, BundleError> {
    Ok(BundleFile::new(FileRole::Tokenizer, error::read_bytes(&path)?).from(path))
}

fn encoder_files(
    dir: &Path,
    description: &Description,
    notes: &mut Vec<String>,
) -> Result<Vec<BundleFile>, BundleError> {
    let TextSection { context_max, stop, .. } = &description.text;
    if context_max.is_some() || stop.is_some() {
        let what = "[text]: context_max and stop are for models that write text";
        let (path, what) = (dir.join(super::DESCRIPTION), what.into());
        return Err(BundleError::Description { path, what });
    }
    let config = beside(dir, description, &description.config, "config.json");
    let tokens = beside(dir, description, &description.tokenizer, "tokenizer.json");
    for (key, path) in [("config", &config), ("tokenizer", &tokens)] {
        if !path.exists() {
            let what = format!(
                "there is no such file, and a sentence encoder needs it: save it beside the model, \
                 or name it as `{key}` in model.toml"
            );
            return Err(BundleError::TextModel { path: path.clone(), what });
        }
    }
    let mut settings = object(&config)?;
    let folder = config.parent().unwrap_or(dir);
    let section = after_the_network(folder, &description.text, notes)?;
    settings.insert("tidegate".into(), serde_json::json!(section));
    let bytes = Value::Object(settings).to_string().into_bytes();
    let config = BundleFile::new(FileRole::Config, bytes).from(config);
    Ok(vec![config, tokenizer(tokens)?])
}

fn decoder_files(dir: &Path, description: &Description) -> Result<Vec<BundleFile>, BundleError> {
    let TextSection { pooling, normalize, .. } = &description.text;
    if pooling.is_some() || normalize.is_some() {
        let what = "[text]: pooling and normalize are for sentence encoders";
        let (path, what) = (dir.join(super::DESCRIPTION), what.into());
        return Err(BundleError::Description { path, what });
    }
    let mut files = Vec::new();
    if description.text != TextSection::default() {
        let settings = serde_json::json!({ "tidegate": description.text });
        let file = BundleFile::new(FileRole::Config, settings.to_string().into_bytes());
        files.push(file.from(dir.join(super::DESCRIPTION)));
    }
    // Most GGUF files have one of their own, which an own one overrules.
    let tokens = beside(dir, description, &description.tokenizer, "tokenizer.json");
    if description.tokenizer.is_some() || tokens.exists() {
        files.push(tokenizer(tokens)?);
    }
    Ok(files)
}

fn object(path: &Path) -> Result<Map<String, Value>, BundleError> {
    serde_json::from_str(&error::read_text(path)?).map_err(|error| {
        let what = format!("it is no JSON object: {error}");
        BundleError::TextModel { path: path.into(), what }
    })
}

/// What `[text]` says, and for what it leaves open what sentence-transformers wrote.
fn after_the_network(
    folder: &Path,
    said: &TextSection,
    notes: &mut Vec<String>,
) -> Result<TextSection, BundleError> {
    let mut section = said.clone();
    let modules = folder.join("modules.json");
    if modules.exists() {
        let found = of_modules(folder, &modules)?;
        section.pooling = section.pooling.or(found.pooling);
        section.normalize = section.normalize.or(found.normalize);
        section.tokens_max = section.tokens_max.or(found.tokens_max);
    } else if section.pooling.is_none() {
        let text = "no modules.json beside the model and no `pooling` under [text]: a text's \
                    vector is the mean of its tokens'";
        notes.push(text.into());
    }
    if let Some(other) = section.pooling.as_ref().filter(|p| !matches!(p.as_str(), "mean" | "cls"))
    {
        let what = format!("pooling {other:?} is not known to devices, only \"mean\" and \"cls\"");
        return Err(BundleError::TextModel { path: modules, what });
    }
    Ok(section)
}

/// What sentence-transformers' own files say.
///
/// # Source
/// sentence-transformers 5: `modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json`.
fn of_modules(folder: &Path, path: &Path) -> Result<TextSection, BundleError> {
    let wrong = |what: String| BundleError::TextModel { path: path.into(), what };
    let modules: Vec<Map<String, Value>> = serde_json::from_str(&error::read_text(path)?)
        .map_err(|error| wrong(format!("it is no list of modules: {error}")))?;
    let mut section = TextSection { normalize: Some(false), ..TextSection::default() };
    for module in &modules {
        let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
        match text("type").rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Pooling" => {
                section.pooling = Some(pooling(&folder.join(text("path")).join("config.json"))?)
            }
            "Normalize" => section.normalize = Some(true),
            other => {
                return Err(wrong(format!(
                    "the module {other:?} follows the network, which devices do not run: only \
                     Pooling and Normalize"
                )));
            }
        }
    }
    let length = folder.join("sentence_bert_config.json");
    if length.exists() {
        let max = object(&length)?.get("max_seq_length").and_then(Value::as_u64);
        section.tokens_max = max.and_then(|max| usize::try_from(max).ok());
    }
    Ok(section)
}

/// `mean`, `cls`, or whatever else it is, which is refused later.
fn pooling(path: &Path) -> Result<String, BundleError> {
    const MODE: &str = "pooling_mode_";
    let settings = object(path)?;
    if let Some(mode) = settings.get("pooling_mode").and_then(Value::as_str) {
        return Ok(mode.to_string());
    }
    let on = settings.iter().filter(|(_, value)| value.as_bool() == Some(true));
    let modes: Vec<&str> = on.filter_map(|(key, _)| key.strip_prefix(MODE)).collect();
    Ok(match modes.as_slice() {
        ["mean_tokens"] => "mean".into(),
        ["cls_token"] => "cls".into(),
        other => other.join(" + "),
    })
}
