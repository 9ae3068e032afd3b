//! No body makes the parser panic, and what it lets through is what the manifest says.

use proptest::prelude::*;
use tidegate_wire::manifest::{Manifest, Task};
use tidegate_wire::policy::Gates;
use tidegate_wire::tensor::{Datatype, TensorSpec};

use super::json::{self, Data};
use super::{numbers, parse};
use crate::protocol::{Described, Form, Wanted};

fn manifest() -> Manifest {
    let spec = |name: &str, datatype, shape: &[i64]| TensorSpec {
        name: name.to_string(),
        datatype,
        shape: shape.to_vec(),
        labels: vec![],
        limits: None,
    };
    Manifest {
        model: "m".parse().unwrap(),
        version: "1".parse().unwrap(),
        engine: "any".to_string(),
        task: Task::Regression,
        files: vec![],
        inputs: vec![spec("a", Datatype::Fp32, &[-1, 2]), spec("b", Datatype::Int64, &[-1, 1])],
        outputs: vec![spec("y", Datatype::Fp32, &[-1, 1]), spec("z", Datatype::Fp32, &[-1, 1])],
        gates: Gates::default(),
        window_rows: 100,
        humility: vec![],
    }
}

const GOOD: &str = r#"{"id":"q","parameters":{"x":1},"inputs":[
    {"name":"b","shape":[2,1],"datatype":"INT64","data":[[7],[-8]]},
    {"name":"a","shape":[2,2],"datatype":"FP32","data":[1,2,3,4],"parameters":{}}],
    "outputs":[{"name":"z"}]}"#;

/// What is read in one pass is what is read thoroughly.
fn check_straight(body: &[u8]) {
    let Some(straight) = json::straight(body) else { return };
    let Ok(thorough) = json::thorough(body) else { panic!("it was read in one pass") };
    assert_eq!(straight.inputs.len(), thorough.inputs.len());
    for (straight, thorough) in straight.inputs.iter().zip(&thorough.inputs) {
        assert_eq!(straight.name(), thorough.name());
        assert_eq!(straight.shape(), thorough.shape());
        match (&straight.data, &thorough.data) {
            (Some(Data::Read(values)), Some(Data::Text(text))) => {
                let again = numbers::read(text, values.datatype(), values.len()).unwrap();
                assert_eq!(format!("{values:?}"), format!("{again:?}"));
            }
            (one, other) => assert_eq!(one.is_some(), other.is_some()),
        }
    }
}

fn check(body: &[u8]) -> bool {
    check_straight(body);
    let manifest = manifest();
    let Ok(question) = parse(body, None, &manifest) else { return false };
    assert_eq!(question.inputs.len(), manifest.inputs.len());
    for (input, spec) in question.inputs.iter().zip(&manifest.inputs) {
        assert_eq!(input.shape[0], question.rows);
        assert_eq!(input.values.len(), question.rows * spec.row_len());
        assert_eq!(input.values.datatype(), spec.datatype);
    }
    assert!(question.outputs.iter().all(|wanted| wanted.place < manifest.outputs.len()));
    true
}

#[test]
fn inputs_come_in_any_order_and_outputs_are_selected() {
    let manifest = manifest();
    let question = parse(GOOD.as_bytes(), None, &manifest).unwrap();
    assert_eq!((question.id.as_deref(), question.rows), (Some("q"), 2));
    assert_eq!(question.inputs[1].values.as_f32()[1], -8.0);
    assert_eq!(question.outputs, [Wanted { place: 1, form: Form::Values, classes: None }]);
}

#[test]
fn values_are_read_at_once_where_type_and_shape_come_first() {
    let read = |body: &str| {
        let body = json::straight(body.as_bytes()).unwrap();
        matches!(body.inputs[0].data, Some(Data::Read(_)))
    };
    let late = r#"{"inputs":[{"data":[1,2],"name":"a","shape":[1,2],"datatype":"FP32"}]}"#;
    assert!(read(GOOD) && !read(late));
    // Both are checked in the end, and what is wrong is said of the input.
    let null = late.replace("[1,2],\"name", "null,\"name");
    assert!(json::straight(null.as_bytes()).unwrap().inputs[0].data.is_none());
    for body in [GOOD, &GOOD.replace("[1,2,3,4]", "[1,2,3]"), late, &late.replace("2]", "\"x\"]")] {
        check_straight(body.as_bytes());
    }
    let wrong = parse(GOOD.replace("3,4]", "true,4]").as_bytes(), None, &manifest()).unwrap_err();
    assert!(wrong.text.starts_with("input \"a\": value 2 is true"), "{}", wrong.text);
}

/// JSON that looks like a request in places.
fn lookalike() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_string()),
        Just("true".to_string()),
        Just("1e400".to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        prop::sample::select(vec!["a", "b", "FP32", "INT64", "", "\u{fffd}", "\\ud800"])
            .prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let keys = vec!["inputs", "outputs", "name", "shape", "datatype", "data", "id", "x"];
        let entry = (prop::sample::select(keys), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(|all| format!("[{}]", all.join(","))),
            prop::collection::vec(entry, 0..6).prop_map(|all| {
                let each: Vec<_> = all.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
                format!("{{{}}}", each.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&body);
    }

    #[test]
    fn lookalikes_never_panic(body in lookalike()) {
        check(body.as_bytes());
    }

    #[test]
    fn damaged_requests_never_panic(
        place in 0..GOOD.len(), length in 0_usize..20, with in prop::collection::vec(any::<u8>(), 0..20)
    ) {
        let mut body = GOOD.as_bytes().to_vec();
        let end = (place + length).min(body.len());
        body.splice(place..end, with);
        check(&body);
    }

    #[test]
    fn shapes_are_checked_before_anything_is_reserved(dims in prop::collection::vec(any::<i64>(), 0..4)) {
        let body = GOOD.replace("[2,2]", &format!("{dims:?}"));
        prop_assert!(dims == [2, 2] || !check(body.as_bytes()));
    }
}
