//! Language models of the Llama type from GGUF, quantised or not: text in, text out.

use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::tokenizer::TokenizerFromGguf;
use candle_transformers::generation::LogitsProcessor;
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};
use serde::Deserialize;
use tidegate_wire::manifest::FileRole;
use tidegate_wire::tensor::{Datatype, TensorSpec};
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::super::{Continuation, Ending, Engine, EngineError, Prompt, Reader, Tensor, Values};
use super::draft::Draft;
use super::{Files, answered, check_specs, failed, guarded, texts};

/// Tokens of a prompt that go through the network together. Between two parts the deadline is
/// looked at; more at a time is hardly faster and takes memory for more attention scores.
const PART_TOKENS: usize = 64;

/// What the bundle tool writes into the settings file under `tidegate`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Tokens to write where a request does not say.
    tokens_max: usize,
    /// Tokens of prompt and answer together, which bounds the memory of one request.
    context_max: usize,
    /// The text ends before the first of these.
    stop: Vec<String>,
}

impl Default for Settings {
    /// A paragraph; and a context that most small models were trained with.
    fn default() -> Self {
        Self { tokens_max: 128, context_max: 2_048, stop: Vec::new() }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Described {
    tidegate: Settings,
}

/// A language model that candle runs.
pub(in super::super) struct LlamaEngine {
    /// Never run itself: a text is written by a copy, which shares the weights and keeps what it
    /// has read (the keys and values of attention) to itself, until it is dropped.
    weights: ModelWeights,
    tokenizer: Tokenizer,
    ends: Vec<u32>,
    settings: Settings,
    /// One text at a time, so that memory is bounded.
    writing: Mutex<()>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

impl LlamaEngine {
    /// Reads weights, settings and tokenizer in `folder`.
    pub(in super::super) fn load(
        folder: &Path,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Self, EngineError> {
        let files = Files(folder);
        guarded(files.path(FileRole::Model), || Self::prepare(&files, inputs, outputs))
    }

    fn prepare(
        files: &Files<'_>,
        inputs: &[TensorSpec],
        outputs: &[TensorSpec],
    ) -> Result<Self, EngineError> {
        check_specs(inputs, outputs, (Datatype::Bytes, &[-1]))?;
        let file = files.path(FileRole::Model);
        let opened = File::open(&file);
        let opened = opened.map_err(|source| EngineError::Unreadable { file, source })?;
        let mut reader = BufReader::new(opened);
        let wrong = |error| files.wrong(FileRole::Model, error);
        let content = Content::read(&mut reader).map_err(wrong)?;
        check_architecture(files, &content)?;
        let mut settings = match files.path(FileRole::Config).exists() {
            true => files.config::<Described>()?.tidegate,
            false => Settings::default(),
        };
        let trained = number(&content, "llama.context_length").unwrap_or(MAX_SEQ_LEN);
        settings.context_max = settings.context_max.min(trained).min(MAX_SEQ_LEN);
        let mut tokenizer = match files.path(FileRole::Tokenizer).exists() {
            true => files.tokenizer()?,
            false => own_tokenizer(&content).map_err(|detail| {
                let advice = "give the model's tokenizer.json as `tokenizer` in model.toml";
                files.wrong(FileRole::Model, format!("its own tokenizer: {detail}; {advice}"))
            })?,
        };
        let plain = tokenizer.with_truncation(None).map_err(failed)?;
        plain.with_padding(None);
        let ends = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
        let ends = ends.into_iter().filter_map(|key| number(&content, key));
        let ends = ends.filter_map(|id| u32::try_from(id).ok()).collect();
        let weights = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu);
        Ok(Self {
            weights: weights.map_err(wrong)?,
            tokenizer,
            ends,
            settings,
            writing: Mutex::new(()),
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
        })
    }

    fn read_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, EngineError> {
        let wrong = |detail| EngineError::Input { name: self.inputs[0].name.clone(), detail };
        // Even where a mark of the beginning makes it a token: that is no question.
        if prompt.text.is_empty() {
            return Err(wrong("the prompt is empty".to_string()));
        }
        let encoded = self.tokenizer.encode_fast(prompt.text.as_str(), true).map_err(failed)?;
        let (tokens, context) = (encoded.get_ids().to_vec(), self.settings.context_max);
        match tokens.len() {
            0 => Err(wrong("the prompt has no token".to_string())),
            count if count >= context => Err(wrong(format!(
                "the prompt has {count} tokens, and {context} are the most for prompt and answer \
                 together: shorten it"
            ))),
            _ => Ok(tokens),
        }
    }

    fn write(&self, prompt: &Prompt, read: &mut Reader<'_>) -> Result<Continuation, EngineError> {
        let tokens = self.read_prompt(prompt)?;
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let stop = [self.settings.stop.as_slice(), prompt.stop.as_slice()].concat();
        let mut draft = Draft::new(&stop);
        let (ending, written) = self.write_tokens(prompt, &tokens, &mut draft, read)?;
        let ending = draft.finish(ending, read);
        let (text, prompt_tokens) = (draft.into_text(), tokens.len());
        Ok(Continuation { text, ending, prompt_tokens, tokens: written })
    }

    /// Writes until there is a reason to end; says which, and how many tokens there were.
    fn write_tokens(
        &self,
        prompt: &Prompt,
        tokens: &[u32],
        draft: &mut Draft<'_>,
        read: &mut Reader<'_>,
    ) -> Result<(Ending, usize), EngineError> {
        let mut run = Run { weights: self.weights.clone(), read: 0 };
        let mut logits = None;
        for part in tokens.chunks(PART_TOKENS) {
            if let Some(ending) = disturbed(prompt, read) {
                return Ok((ending, 0));
            }
            logits = Some(run.after(part)?);
        }
        let temperature = Some(prompt.temperature);
        let mut choice = LogitsProcessor::new(prompt.seed, temperature, prompt.top_p);
        let mut pieces = self.tokenizer.decode_stream(true);
        let room = self.settings.context_max - tokens.len();
        let most = prompt.tokens_max.unwrap_or(self.settings.tokens_max).min(room);
        for written in 0..most {
            if let Some(ending) = disturbed(prompt, read) {
                return Ok((ending, written));
            }
            let Some(scores) = logits.take() else { break };
            let token = choice.sample(&scores).map_err(failed)?;
            if self.ends.contains(&token) {
                return Ok((Ending::EndOfText, written));
            }
            let piece = pieces.step(token).map_err(failed)?.unwrap_or_default();
            if let Some(ending) = draft.push(&piece, read) {
                return Ok((ending, written + 1));
            }
            if written + 1 < most {
                logits = Some(run.after(&[token])?);
            }
        }
        Ok((Ending::Length, most))
    }
}

/// Whether the deadline has passed or nobody reads.
fn disturbed(prompt: &Prompt, read: &mut Reader<'_>) -> Option<Ending> {
    if prompt.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
        return Some(Ending::Deadline);
    }
    read("").is_break().then_some(Ending::Unread)
}

/// The network amid a text.
struct Run {
    weights: ModelWeights,
    read: usize,
}

impl Run {
    /// The scores of what may come after `tokens`.
    fn after(&mut self, tokens: &[u32]) -> Result<candle_core::Tensor, EngineError> {
        let input = candle_core::Tensor::new(tokens, &Device::Cpu).and_then(|one| one.unsqueeze(0));
        let logits = input.and_then(|input| self.weights.forward(&input, self.read));
        self.read += tokens.len();
        logits.and_then(|logits| logits.squeeze(0)).map_err(failed)
    }
}

/// Refuses networks that candle would run wrongly, or not at all.
fn check_architecture(files: &Files<'_>, content: &Content) -> Result<(), EngineError> {
    let key = "general.architecture";
    let found = content.metadata.get(key).and_then(|value| value.to_string().ok());
    let found = found.cloned().unwrap_or_default();
    if found != "llama" {
        let file = files.path(FileRole::Model);
        return Err(EngineError::Architecture { file, found, known: "llama" });
    }
    let scaling = content.metadata.get("llama.rope.scaling.type");
    let scaled =
        scaling.and_then(|value| value.to_string().ok()).is_some_and(|kind| kind != "none");
    if scaled || content.tensor_infos.contains_key("rope_freqs.weight") {
        let text = "it scales its rotary positions (llama.rope.scaling, rope_freqs.weight), which \
                    candle-llama does not: take a model without, such as those before Llama 3.1";
        return Err(files.wrong(FileRole::Model, text));
    }
    Ok(())
}

/// The tokenizer inside the file, if candle reads it rightly: it takes every way of splitting text
/// that it does not know for GPT-2's, and there it puts a space in front that nobody else puts.
fn own_tokenizer(content: &Content) -> Result<Tokenizer, String> {
    const SPLITS: &str = "tokenizer.ggml.pre";
    let splits = content.metadata.get(SPLITS).and_then(|value| value.to_string().ok());
    if splits.is_none_or(|splits| splits != "gpt-2") {
        let found = splits.map(String::as_str).unwrap_or_default();
        return Err(format!("{SPLITS} is {found:?}, and only \"gpt-2\" is known"));
    }
    let mut tokenizer = Tokenizer::from_gguf(content).map_err(|error| error.to_string())?;
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    Ok(tokenizer)
}

fn number(content: &Content, key: &str) -> Option<usize> {
    let number = content.metadata.get(key).map(Value::to_u64)?.ok()?;
    usize::try_from(number).ok()
}

impl Engine for LlamaEngine {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let texts = texts(&self.inputs, inputs)?;
        let mut answers = Vec::with_capacity(texts.len());
        for text in &texts {
            let prompt = Prompt::greedy(*text);
            let answer =
                answered(|| self.write(&prompt, &mut |_: &str| ControlFlow::Continue(())))?;
            answers.push(answer.text.into_bytes());
        }
        Ok(vec![Tensor { shape: vec![texts.len()], values: Values::Bytes(answers) }])
    }

    fn generate(
        &self,
        prompt: &Prompt,
        read: &mut Reader<'_>,
    ) -> Result<Continuation, EngineError> {
        answered(|| self.write(prompt, read))
    }
}
