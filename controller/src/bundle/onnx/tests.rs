//! What is refused, and what is told. What rewritten graphs answer is tried in `tests/sklearn.rs`.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, OperatorSetIdProto, ValueInfoProto};

use super::*;

fn node(operator: &str, input: &str, output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: operator.to_string(),
        domain: ML.to_string(),
        input: vec![input.to_string()],
        output: vec![output.to_string()],
        attribute,
        ..NodeProto::default()
    }
}

fn floats(name: &str, floats: &[f32]) -> AttributeProto {
    let kind = AttributeType::Floats as i32;
    AttributeProto {
        name: name.into(),
        r#type: kind,
        floats: floats.to_vec(),
        ..AttributeProto::default()
    }
}

fn model(node: Vec<NodeProto>) -> Vec<u8> {
    let info = |name: &str| ValueInfoProto { name: name.into(), ..ValueInfoProto::default() };
    let output = vec![info(&node[node.len() - 1].output[0])];
    let graph = GraphProto { node, output, input: vec![info("x")], ..GraphProto::default() };
    let opset = OperatorSetIdProto { domain: String::new(), version: 18 };
    let proto =
        ModelProto { graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() };
    proto.encode_to_vec()
}

fn scaler(input: &str, output: &str) -> NodeProto {
    let attributes = vec![floats("offset", &[1.0, 2.0]), floats("scale", &[0.5, 0.25])];
    node("Scaler", input, output, attributes)
}

#[test]
fn what_is_done_twice_is_told_once() {
    let bytes = model(vec![scaler("x", "y"), scaler("y", "z")]);
    let rewritten = rewrite(&bytes, false).unwrap();
    let line = "rewrote node \"y\" and 1 more (ai.onnx.ml.Scaler) to Cast, Sub, Mul";
    assert_eq!(rewritten.notes, [line]);
    assert_eq!(rewritten.trees, None);
    let proto = ModelProto::decode(&rewritten.onnx.unwrap()[..]).unwrap();
    let graph = proto.graph.unwrap();
    let operators: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
    assert_eq!(operators, ["Cast", "Sub", "Mul", "Cast", "Sub", "Mul"]);
    assert_eq!(graph.node[5].output, ["z"]);
    // Every name is there once.
    let names: BTreeSet<&String> = graph.node.iter().flat_map(|node| &node.output).collect();
    assert_eq!(names.len(), 6);
}

#[test]
fn graphs_of_the_standard_domain_stay_as_they_are() {
    let mut relu = node("Relu", "x", "y", vec![]);
    relu.domain.clear();
    assert_eq!(rewrite(&model(vec![relu]), false).unwrap(), Rewritten::default());
    assert_eq!(rewrite(b"no protocol buffer", false).unwrap(), Rewritten::default());
}

#[test]
fn what_cannot_be_said_otherwise_is_refused_with_what_to_do() {
    let refused = |node: NodeProto| rewrite(&model(vec![node]), false).unwrap_err().to_string();
    assert_eq!(
        refused(node("DictVectorizer", "x", "y", vec![])),
        "node \"y\" is an ai.onnx.ml.DictVectorizer, which devices cannot run; train on columns \
         instead of dictionaries (OneHotEncoder in a ColumnTransformer)"
    );
    let post = AttributeProto {
        name: "post_transform".into(),
        s: b"PROBIT".to_vec(),
        ..AttributeProto::default()
    };
    assert_eq!(
        refused(node("LinearRegressor", "x", "y", vec![floats("coefficients", &[1.0]), post])),
        "node \"y\" is an ai.onnx.ml.LinearRegressor, which devices cannot run (the \
         post-transform PROBIT); export it with skl2onnx's default options, which devices can run"
    );
    let broken = refused(node("TreeEnsembleRegressor", "x", "y", vec![]));
    assert!(broken.contains("ai.onnx.ml.TreeEnsembleRegressor") && broken.contains("no node"));
}
