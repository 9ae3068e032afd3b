//! Inference requests of the agent's local API, all of them JSON.

use tidegate_agent::http::{Question, read_request};
use tidegate_wire::manifest::Manifest;
use tidegate_wire::tensor::{Datatype, TensorSpec};

/// The first byte chooses a model, the rest is the body.
pub fn inference(bytes: &[u8]) {
    let Some((&which, body)) = bytes.split_first() else { return };
    let manifest = manifest(which);
    let question = match read_request(body, None, &manifest) {
        Ok(question) => question,
        Err(error) => {
            assert!(!error.is_empty());
            return;
        }
    };
    holds(&question, &manifest, body.len());
}

/// What must hold of a request that is accepted, whatever its bytes were.
pub(crate) fn holds(question: &Question<'_>, manifest: &Manifest, sent: usize) {
    assert_eq!(question.inputs.len(), manifest.inputs.len());
    for (tensor, spec) in question.inputs.iter().zip(&manifest.inputs) {
        let count: usize = tensor.shape.iter().product();
        assert_eq!(tensor.values.len(), count, "{}", spec.name);
        assert!(count <= sent, "more values than were sent");
        assert_eq!(tensor.shape.len(), spec.shape.len(), "{}", spec.name);
        for (dim, wanted) in tensor.shape.iter().zip(&spec.shape) {
            let expected = usize::try_from(*wanted).unwrap_or(question.rows);
            assert_eq!(*dim, expected, "{}", spec.name);
        }
    }
    assert!(question.rows > 0 && question.outputs.len() <= manifest.outputs.len());
    assert!(question.outputs.iter().all(|wanted| wanted.place < manifest.outputs.len()));
}

fn manifest(which: u8) -> Manifest {
    let tensor = |name: &str, datatype, shape: &[i64]| TensorSpec {
        name: name.to_string(),
        datatype,
        shape: shape.to_vec(),
        labels: vec![],
        limits: None,
    };
    let inputs = match which % 4 {
        0 => vec![tensor("x", Datatype::Fp32, &[-1, 2])],
        1 => vec![
            tensor("x", Datatype::Fp64, &[-1, 2]),
            tensor("ids", Datatype::Int64, &[-1]),
            tensor("mask", Datatype::Uint8, &[2, 3]),
        ],
        2 => vec![tensor("n", Datatype::Int32, &[])],
        _ => vec![tensor("a", Datatype::Int32, &[-1, 1, 4]), tensor("b", Datatype::Fp32, &[-1])],
    };
    let outputs = vec![tensor("y", Datatype::Fp32, &[-1, 2]), tensor("z", Datatype::Fp32, &[-1])];
    Manifest { inputs, outputs, ..crate::messages::manifest() }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let wrong = ["[1]", "[1,2,3]", "[[1],[2],[]", "[1,1e39]", "[1,null]"].map(|data| {
        format!(r#"0{{"inputs":[{{"name":"x","shape":[1,2],"datatype":"FP32","data":{data}}}]}}"#)
    });
    let large =
        r#"0{"inputs":[{"name":"x","shape":[4611686018427387904,2],"datatype":"FP32","data":[]}]}"#;
    let wrong = wrong.into_iter().chain([large.to_string()]).map(String::into_bytes);
    requests().into_iter().chain(wrong).collect()
}

fn requests() -> Vec<Vec<u8>> {
    let bodies = [
        "0{\"inputs\":[{\"name\":\"x\",\"shape\":[1,2],\"datatype\":\"FP32\",\"data\":[1,-2.5]}]}",
        "0{\"id\":\"a\\u0062\",\"inputs\":[{\"name\":\"x\",\"shape\":[2,2],\"datatype\":\"FP32\",\
         \"data\":[[1,2],[3e0,4]]}],\"outputs\":[{\"name\":\"z\"}]}",
        "1{\"inputs\":[{\"name\":\"ids\",\"shape\":[1],\"datatype\":\"INT64\",\"data\":[9007199254]},\
         {\"name\":\"mask\",\"shape\":[2,3],\"datatype\":\"UINT8\",\"data\":[0,1,0,1,0,255]},\
         {\"name\":\"x\",\"shape\":[1,2],\"datatype\":\"FP64\",\"data\":[1e300,0]}]}",
        "2{\"inputs\":[{\"name\":\"n\",\"shape\":[],\"datatype\":\"INT32\",\"data\":[3.0]}]}",
        "3{\"inputs\":[{\"name\":\"a\",\"shape\":[1,1,4],\"datatype\":\"INT32\",\"data\":[[1,2],[3,4]]},\
         {\"name\":\"b\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[0.5]}]}",
    ];
    bodies.iter().map(|body| body.as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_requests() {
        for seed in requests() {
            read_request(&seed[1..], None, &manifest(seed[0])).unwrap();
        }
    }
}
