use tidegate_wire::manifest::Manifest;
use tidegate_wire::tensor::{Datatype, TensorSpec};
use tokio::sync::mpsc;

use super::*;
use crate::engine::{Engine, EngineError, Values};

/// Never asked: these tests bring the answers themselves.
struct Silent;

impl Engine for Silent {
    fn inputs(&self) -> &[TensorSpec] {
        &[]
    }

    fn outputs(&self) -> &[TensorSpec] {
        &[]
    }

    fn run(&self, _: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        Ok(Vec::new())
    }
}

fn model(version: &str, task: Task, width: i64, names: &[&str]) -> LoadedModel {
    let spec = TensorSpec {
        name: "y".to_string(),
        datatype: Datatype::Fp32,
        shape: vec![-1, width],
        labels: names.iter().map(ToString::to_string).collect(),
        limits: None,
    };
    let manifest = Manifest {
        model: "m".parse().unwrap(),
        version: version.parse().unwrap(),
        engine: "silent".to_string(),
        task,
        files: vec![],
        inputs: vec![spec.clone()],
        outputs: vec![spec],
        gates: Default::default(),
        window_rows: 100,
        humility: vec![],
    };
    LoadedModel::with_engine(Box::new(Silent), manifest)
}

fn memory(rows: usize) -> Memory {
    let config = FeedbackConfig { rows, make_ids: true };
    Memory::new("m".parse().unwrap(), config, 3, Arc::new(Metrics::new()))
}

fn answer(rows: usize, values: &[f32]) -> Tensor {
    Tensor { shape: vec![rows, values.len() / rows], values: Values::F32(values.to_vec()) }
}

fn number(label: f64) -> [Option<Label>; 1] {
    [Some(Label::Number(label))]
}

const RIGHT: Result<Labelled, NotLabelled> = Ok(Labelled::Counted { matched: 1, correct: 1 });
const WRONG: Result<Labelled, NotLabelled> = Ok(Labelled::Counted { matched: 1, correct: 0 });

#[test]
fn a_label_is_counted_once() {
    let (memory, cats) = (memory(10), model("1", Task::Classification, 2, &["cat", "dog"]));
    let dog = answer(1, &[0.1, 0.9]);
    let id = memory.remember(Some("a".to_string()), &cats, Some(&dog), 1);
    assert_eq!(id.as_deref(), Some("a"));
    let made = memory.remember(None, &cats, Some(&dog), 1).unwrap();
    assert_eq!(made, "3-0");
    let say = |id: &str, name: &str| memory.label(id, &[Some(Label::Name(name.into()))], &cats);
    assert_eq!(say("a", "dog"), RIGHT);
    assert_eq!(say("a", "dog"), Ok(Labelled::Repeated));
    assert_eq!(memory.label("a", &number(1.0), &cats), Ok(Labelled::Repeated), "the same class");
    assert!(matches!(say("a", "cat"), Err(NotLabelled::Conflict { .. })));
    assert_eq!(say(&made, "cat"), WRONG);
    assert!(matches!(say("b", "cat"), Err(NotLabelled::Unknown { .. })));
    let told = memory.take(&cats.artifact.digest).unwrap();
    assert_eq!((told.matched, told.correct, told.unmatched), (2, 1, 1));
    assert_eq!((told.repeated, told.conflicting, told.evicted), (2, 1, 0));
    assert!(told.confusion.is_empty(), "two labels would show themselves");
    assert_eq!(memory.take(&cats.artifact.digest), None);
}

#[test]
fn the_table_waits_until_labels_are_many() {
    let (memory, cats) = (memory(1_000), model("1", Task::Classification, 2, &[]));
    for row in 0..60 {
        let id = memory.remember(None, &cats, Some(&answer(1, &[0.1, 0.9])), 1).unwrap();
        memory.label(&id, &number(f64::from(row % 2)), &cats).unwrap();
        if row == 30 {
            assert!(memory.take(&cats.artifact.digest).unwrap().confusion.is_empty());
        }
    }
    let told = memory.take(&cats.artifact.digest).unwrap();
    assert_eq!((told.matched, told.confusion), (29, vec![0, 30, 0, 30]));
}

#[test]
fn the_oldest_answers_are_forgotten_and_counted() {
    let (memory, cats) = (memory(4), model("1", Task::Classification, 2, &[]));
    let two_rows = answer(2, &[0.1, 0.9, 0.8, 0.2]);
    for id in ["a", "b", "b", "c"] {
        memory.remember(Some(id.to_string()), &cats, Some(&two_rows), 2);
    }
    let labels = [Some(Label::Number(1.0)), None];
    assert!(matches!(memory.label("a", &labels, &cats), Err(NotLabelled::Unknown { .. })));
    assert_eq!(memory.label("b", &labels, &cats), RIGHT, "the newer of two");
    memory.remember(Some("d".to_string()), &cats, Some(&two_rows), 2);
    memory.remember(Some("e".to_string()), &cats, Some(&answer(4, &[0.5; 8])), 4);
    let told = memory.take(&cats.artifact.digest).unwrap();
    // a, the older b, c and d; the newer b had its label.
    assert_eq!((told.evicted, told.unmatched), (8, 1));
    let inner = memory.inner();
    assert_eq!((inner.rows, inner.entries.len(), inner.numbers.len()), (4, 1, 1));
}

#[test]
fn what_does_not_fit_is_named() {
    let (memory, cats) = (memory(9), model("1", Task::Classification, 2, &["cat", "dog"]));
    memory.remember(Some("a".to_string()), &cats, Some(&answer(1, &[0.1, 0.9])), 1);
    let cases: [(&[Option<Label>], &str); 5] = [
        (&[], "has 1 rows, and 0 labels"),
        (&[Some(Label::Number(2.0))], "classes are 0 to 1"),
        (&[Some(Label::Number(0.5))], "classes are 0 to 1"),
        (&[Some(Label::Number(f64::NAN))], "classes are 0 to 1"),
        (&[Some(Label::Name("cow".to_string()))], "\"cow\" is no class"),
    ];
    for (labels, expected) in cases {
        let error = memory.label("a", labels, &cats).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(memory.label("a", &number(1.0), &cats), RIGHT, "none of these counted");
}

#[test]
fn numbers_are_right_within_the_tolerance() {
    let (memory, price) = (memory(9), model("1", Task::Regression, 1, &[]));
    memory.remember(Some("a".to_string()), &price, Some(&answer(1, &[104.0])), 1);
    memory.remember(Some("b".to_string()), &price, Some(&answer(1, &[120.0])), 1);
    assert_eq!(memory.label("a", &number(100.0), &price), RIGHT);
    assert_eq!(memory.label("b", &number(100.0), &price), WRONG);
    let told = memory.take(&price.artifact.digest).unwrap();
    assert_eq!((told.mean_error(), told.accuracy()), (Some(12.0), Some(0.5)));
    let text = [Some(Label::Name("dear".to_string()))];
    memory.remember(Some("c".to_string()), &price, Some(&answer(1, &[1.0])), 1);
    assert!(memory.label("c", &text, &price).is_err());
    let vector = model("2", Task::Embedding, 3, &[]);
    memory.remember(Some("d".to_string()), &vector, Some(&answer(1, &[1.0, 2.0, 3.0])), 1);
    assert!(memory.label("d", &number(1.0), &vector).is_err(), "a vector has no label");
}

#[test]
fn a_label_that_comes_after_a_switch_counts_for_what_answered() {
    let memory = memory(9);
    let versions = ["1", "2"].map(|version| model(version, Task::Classification, 2, &[]));
    memory.remember(Some("a".to_string()), &versions[0], Some(&answer(1, &[0.1, 0.9])), 1);
    memory.remember(Some("b".to_string()), &versions[1], Some(&answer(1, &[0.1, 0.9])), 1);
    assert_eq!(memory.label("a", &number(1.0), &versions[1]), RIGHT);
    let (closed, mut windows) = mpsc::channel(4);
    let metrics = Arc::new(Metrics::new());
    let outbox = Outbox { closed, boot: 3, next: AtomicU64::new(5), metrics };
    memory.close_old(Duration::from_secs(3_600), &outbox);
    assert!(windows.try_recv().is_err());
    memory.close_old(Duration::ZERO, &outbox);
    let window = windows.try_recv().unwrap();
    assert_eq!((window.artifact, window.rows), (versions[0].artifact.clone(), 0));
    assert_eq!((window.boot, window.window, window.feedback.unwrap().correct), (3, 5, 1));
    assert!(windows.try_recv().is_err(), "nothing is to be told of the other");
}
