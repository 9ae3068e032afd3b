//! Inference requests with raw tensors behind their JSON, and those that are nothing but a tensor.

use tidegate_agent::http::read_request;
use tidegate_wire::manifest::Manifest;
use tidegate_wire::tensor::{Datatype, TensorSpec};

use crate::inference;

/// The first byte chooses a model, and who says where the JSON ends: a line feed there, or the next
/// two bytes. What follows is the body.
pub fn tensors(bytes: &[u8]) {
    let Some((&which, rest)) = bytes.split_first() else { return };
    let manifest = manifest(which);
    if which & 0x80 != 0 {
        let Some((length, body)) = rest.split_first_chunk::<2>() else { return };
        read(body, usize::from(u16::from_le_bytes(*length)), &manifest);
        return;
    }
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return };
    read(rest, end + 1, &manifest);
}

fn read(body: &[u8], json_length: usize, manifest: &Manifest) {
    let question = match read_request(body, Some(json_length), manifest) {
        Ok(question) => question,
        Err(error) => {
            assert!(!error.is_empty());
            return;
        }
    };
    assert!(json_length <= body.len());
    inference::holds(&question, manifest, body.len());
    // All that is behind the JSON belongs to some input, so of one input it is the whole.
    let raw = &body[json_length..];
    let [tensor] = question.inputs.as_slice() else { return };
    if !raw.is_empty() && tensor.values.datatype() != Datatype::Bool {
        let mut written = Vec::new();
        tensor.values.put_le_bytes(&mut written);
        assert_eq!(written, raw, "a tensor is not the bytes that were sent");
    }
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
        1 => vec![tensor("s", Datatype::Bytes, &[-1, 2])],
        2 => vec![
            tensor("a", Datatype::Bytes, &[-1]),
            tensor("b", Datatype::Fp16, &[-1, 3]),
            tensor("c", Datatype::Uint64, &[2]),
        ],
        _ => vec![tensor("t", Datatype::Bool, &[])],
    };
    let outputs = vec![tensor("y", Datatype::Fp32, &[-1, 2]), tensor("z", Datatype::Fp32, &[-1])];
    Manifest { inputs, outputs, ..crate::messages::manifest() }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let torn = requests().into_iter().map(|mut seed| {
        seed.pop();
        seed
    });
    let wrong = [&b"\x80\xff\xff{}"[..], b"\x81\0\0\x01\0\0\0a", b"\x81\0\0\xff\xff\xff\xffa"];
    requests().into_iter().chain(torn).chain(wrong.map(<[u8]>::to_vec)).collect()
}

fn requests() -> Vec<Vec<u8>> {
    let input = |name: &str, shape: &str, datatype: &str, size: usize| {
        format!(
            r#"{{"name":"{name}","shape":{shape},"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}"#
        )
    };
    let request = |which: u8, inputs: &[String], rest: &str, raw: &[u8]| {
        let json = format!("{{\"inputs\":[{}]{rest}}}\n", inputs.join(","));
        [&[which], json.as_bytes(), raw].concat()
    };
    let strings = b"\x02\0\0\0ab\0\0\0\0";
    let outputs =
        r#","outputs":[{"name":"z","parameters":{"binary_data":true,"classification":2}}]"#;
    let several = [
        input("c", "[2]", "UINT64", 16),
        input("a", "[1]", "BYTES", 5),
        input("b", "[1,3]", "FP16", 6),
    ];
    let several_raw = [&[7; 16][..], b"\x01\0\0\0z", &[0x3c; 6]].concat();
    vec![
        request(0, &[input("x", "[1,2]", "FP32", 8)], outputs, &[0, 0, 128, 63, 0, 0, 0, 64]),
        request(1, &[input("s", "[1,2]", "BYTES", 10)], "", strings),
        request(2, &several, r#","parameters":{"binary_data_output":true}"#, &several_raw),
        request(3, &[input("t", "[]", "BOOL", 1)], r#","parameters":{"timeout":5}"#, &[2]),
        [&[0x80, 0, 0][..], &[1; 16]].concat(),
        [&[0x81, 0, 0][..], strings].concat(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_requests() {
        for seed in requests() {
            let manifest = manifest(seed[0]);
            let (body, length) = match seed[0] & 0x80 {
                0 => (&seed[1..], seed.iter().position(|byte| *byte == b'\n').unwrap()),
                _ => (&seed[3..], usize::from(u16::from_le_bytes([seed[1], seed[2]]))),
            };
            read_request(body, Some(length), &manifest).unwrap();
        }
    }
}
