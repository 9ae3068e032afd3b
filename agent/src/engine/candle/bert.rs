//! Sentence encoders of the BERT type: text in, one vector a text out.
//!
//! # Source
//! sentence-transformers: `Transformer`, `Pooling` and `Normalize` modules.

use std::path::Path;

use candle_core::{DType, Device, IndexOp};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use serde::Deserialize;
use tidegate_wire::manifest::FileRole;
use tidegate_wire::tensor::{Datatype, TensorSpec};
use tokenizers::{Tokenizer, TruncationParams};

use super::super::{Engine, EngineError, Tensor, Values};
use super::{Files, answered, check_specs, failed, guarded, texts};

/// Rows of one pass through the network times the tokens of its longest: bounds the memory of
/// attention scores, 48 MiB for 12 heads and 512 tokens.
const PASS_TOKENS_MAX: usize = 2_048;

/// What a `config.json` has to say besides the network's dimensions.
#[derive(Deserialize)]
struct Described {
    #[serde(flatten)]
    network: Config,
    #[serde(default)]
    tidegate: Settings,
}

/// What follows the network; the bundle tool writes it into `config.json` under `tidegate`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    pooling: Pooling,
    normalize: bool,
    /// Longer texts are cut; none: as many as the network has positions for.
    tokens_max: Option<usize>,
}

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// The first one's.
    Cls,
}

/// A sentence encoder that candle runs.
pub(in super::super) struct BertEngine {
    model: BertModel,
    tokenizer: Tokenizer,
    settings: Settings,
    width: usize,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

/// One text as the network takes it, and which row of the request it is.
struct Row {
    place: usize,
    tokens: Vec<u32>,
    kinds: Vec<u32>,
}

impl BertEngine {
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
        let kind: Kind = files.config()?;
        if kind.model_type.as_deref() != Some("bert") {
            let found = kind.model_type.unwrap_or_default();
            let file = files.path(FileRole::Config);
            return Err(EngineError::Architecture { file, found, known: "bert" });
        }
        let Described { network, tidegate: settings } = files.config()?;
        let width = network.hidden_size;
        let row = i64::try_from(width).unwrap_or(0);
        check_specs(inputs, outputs, (Datatype::Fp32, &[-1, row]))?;
        let mut tokenizer = files.tokenizer()?;
        let positions = network.max_position_embeddings;
        let max_length = settings.tokens_max.map_or(positions, |max| max.min(positions));
        let truncation = TruncationParams { max_length, ..TruncationParams::default() };
        let wrong = |error| files.wrong(FileRole::Tokenizer, error);
        tokenizer.with_truncation(Some(truncation)).map_err(wrong)?.with_padding(None);
        let bytes = files.read(FileRole::Model)?;
        let wrong = |error| files.wrong(FileRole::Model, error);
        let weights = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu)
            .map_err(wrong)?;
        let model = BertModel::load(weights, &network).map_err(wrong)?;
        let (inputs, outputs) = (inputs.to_vec(), outputs.to_vec());
        Ok(Self { model, tokenizer, settings, width, inputs, outputs })
    }

    fn tokens(&self, place: usize, text: &str) -> Result<Row, EngineError> {
        let encoded = self.tokenizer.encode_fast(text, true).map_err(failed)?;
        let (tokens, kinds) = (encoded.get_ids().to_vec(), encoded.get_type_ids().to_vec());
        if tokens.is_empty() {
            let (name, detail) = (self.inputs[0].name.clone(), format!("row {place} has no token"));
            return Err(EngineError::Input { name, detail });
        }
        Ok(Row { place, tokens, kinds })
    }

    /// The vectors of rows of similar length, in one pass: shorter ones are filled up and masked.
    fn embed(&self, rows: &[Row]) -> candle_core::Result<Vec<Vec<f32>>> {
        let longest = rows.iter().map(|row| row.tokens.len()).max().unwrap_or(0);
        let shape = (rows.len(), longest);
        let filled = |of: fn(&Row) -> &[u32]| {
            let one = |row| of(row).iter().copied().chain(std::iter::repeat(0)).take(longest);
            let all: Vec<u32> = rows.iter().flat_map(one).collect();
            candle_core::Tensor::from_vec(all, shape, &Device::Cpu)
        };
        let mask: Vec<f32> = rows
            .iter()
            .flat_map(|row| (0..longest).map(|at| f32::from(u8::from(at < row.tokens.len()))))
            .collect();
        let mask = candle_core::Tensor::from_vec(mask, shape, &Device::Cpu)?;
        let vectors = self.model.forward(
            &filled(|row| &row.tokens)?,
            &filled(|row| &row.kinds)?,
            Some(&mask),
        )?;
        let pooled = match self.settings.pooling {
            Pooling::Cls => vectors.i((.., 0))?,
            Pooling::Mean => {
                let sums = vectors.broadcast_mul(&mask.unsqueeze(2)?)?.sum(1)?;
                sums.broadcast_div(&mask.sum_keepdim(1)?)?
            }
        };
        pooled.to_vec2()
    }
}

/// What kind of network a `config.json` describes.
#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
}

impl Engine for BertEngine {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        let texts = texts(&self.inputs, inputs)?;
        answered(|| {
            let tokens = |(place, text): (usize, &&str)| self.tokens(place, text);
            let mut rows = texts.iter().enumerate().map(tokens).collect::<Result<Vec<Row>, _>>()?;
            rows.sort_by_key(|row| row.tokens.len());
            let mut values = vec![0.0; texts.len() * self.width];
            for pass in passes(&rows) {
                let vectors = self.embed(pass).map_err(failed)?;
                for (row, mut vector) in pass.iter().zip(vectors) {
                    if self.settings.normalize {
                        normalize(&mut vector);
                    }
                    values[row.place * self.width..][..self.width].copy_from_slice(&vector);
                }
            }
            let shape = vec![texts.len(), self.width];
            Ok(vec![Tensor { shape, values: Values::F32(values) }])
        })
    }
}

/// `rows`, shortest first, in parts that one pass can take.
fn passes(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let fits =
            |(before, row): &(usize, &Row)| (before + 1) * row.tokens.len() <= PASS_TOKENS_MAX;
        let count = rest.iter().enumerate().take_while(fits).count().max(1).min(rest.len());
        let (pass, left) = rest.split_at(count);
        rest = left;
        (!pass.is_empty()).then_some(pass)
    })
}

/// To length 1. A vector of zeros stays one.
fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|value| *value /= length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_bounded_by_its_longest_row() {
        let row = |tokens| Row { place: 0, tokens: vec![0; tokens], kinds: vec![0; tokens] };
        let lengths = |rows: &[Row]| -> Vec<Vec<usize>> {
            passes(rows).map(|pass| pass.iter().map(|row| row.tokens.len()).collect()).collect()
        };
        let rows: Vec<Row> = [5, 512, 512, 512, 512, 512].map(row).into();
        assert_eq!(lengths(&rows), [vec![5, 512, 512, 512], vec![512, 512]]);
        assert_eq!(lengths(&[row(5_000), row(5_000)]), [[5_000], [5_000]]);
        assert!(lengths(&[]).is_empty());
    }
}
