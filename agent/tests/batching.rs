//! Requests of several callers that run together get the answers that each would get alone.
#![allow(missing_docs)]

mod digits;

use std::sync::Arc;
use std::thread;

use digits::{loaded, model_name, row, stream};
use tidegate_agent::serving::{Ask, Batching, ModelConfig, ModelConfigs, Serving, ServingConfig};
use tokio::sync::mpsc;

const CALLERS: usize = 8;
const ASKS: usize = 60;

fn serving(batching: Batching) -> Arc<Serving> {
    let (sender, _windows) = mpsc::channel(64);
    let own = ModelConfig { batching, ..ModelConfig::default() };
    let models: ModelConfigs = [(model_name(), own)].into();
    Serving::with(ServingConfig::default(), models, sender, 7)
}

fn ask(serving: &Serving, pixels: &[f32]) -> Vec<f32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let rows = pixels.len() / digits::PIXELS;
    let turn = serving.turn("digits", None).unwrap();
    let answered = runtime.block_on(turn.infer(Ask::new(row(pixels), rows))).unwrap();
    assert_eq!(answered.outputs[0].shape, [rows, 10]);
    answered.outputs[0].values.as_f32().into_owned()
}

#[test]
fn digits_are_recognised_together_as_they_are_alone() {
    let model = loaded("1.1.0");
    let alone = serving(Batching::default());
    alone.activate(&model_name(), Arc::clone(&model));
    let together = serving(Batching { rows_max: 8, wait_us: 20_000 });
    together.activate(&model_name(), Arc::clone(&model));
    let rows = stream();
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (alone, together, rows) = (&alone, &together, &rows);
            scope.spawn(move || {
                for index in 0..ASKS {
                    // One to three rows.
                    let first = (caller * ASKS + index) % (rows.len() - 3);
                    let pixels = rows[first..=first + index % 3].concat();
                    let (expected, got) = (ask(alone, &pixels), ask(together, &pixels));
                    let apart = expected.iter().zip(&got).map(|(one, other)| (one - other).abs());
                    assert!(apart.fold(0.0, f32::max) < 1e-5, "{expected:?} {got:?}");
                }
            });
        }
    });
    let counted = together.statistics("digits", None).unwrap();
    assert_eq!(counted.success.count, (CALLERS * ASKS) as u64);
    // Whether several rows at once are faster was measured when the model was loaded here.
    let batch_max = model.batch_max().min(8);
    let largest = counted.batches.last().unwrap().rows;
    assert_eq!(counted.executions < counted.success.count, batch_max > 1);
    assert!(largest <= batch_max.max(3) && largest >= batch_max.min(4), "{largest}");
}
