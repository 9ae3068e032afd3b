//! The inference protocol's extensions, and what implementers of it get wrong.
#![allow(missing_docs)]

mod client;
mod digits;
mod echo;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use client::{Answer, Client, Server, binary, post, server};
use digits::{loaded, model_name, request, stream};
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};
use serde_json::{Value, json};
use tidegate_agent::engine::Values;
use tidegate_agent::http::{self, Facts, UnixSocket};
use tidegate_wire::tensor::Datatype;
use tokio::sync::oneshot;

const INFER: &str = "/v2/models/digits/infer";
const ECHO: &str = "/v2/models/echo/infer";
const BODY_MAX: usize = 64 * 1024;

fn running() -> (Server, Client) {
    let server = server(2, Facts { body_bytes_max: BODY_MAX, ..Facts::default() });
    server.serving.activate(&model_name(), loaded("1.1.0"));
    server.serving.activate(&echo::model_name(), echo::loaded());
    let client = Client::new(server.address);
    (server, client)
}

fn pixels() -> Vec<u8> {
    stream()[0].iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// One row of digits, raw.
fn raw_input(size: usize) -> Value {
    json!({"inputs": [{"name": "pixels", "shape": [1, 64], "datatype": "FP32",
                       "parameters": {"binary_data_size": size}}]})
}

fn floats(raw: &[u8]) -> Vec<f32> {
    raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn plain(client: &mut Client) -> Vec<f32> {
    let json = client.post(INFER, "", request(&stream()[0]).as_bytes()).json();
    let data = json["outputs"][0]["data"].as_array().unwrap();
    data.iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

#[test]
fn raw_tensors_go_both_ways_and_only_the_header_tells() {
    let (_server, mut client) = running();
    let expected = plain(&mut client);
    let mut json = raw_input(256);
    // In, but not out.
    let (header, body) = binary(&json, &pixels());
    let answer = client.post(INFER, &header, &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("inference-header-content-length"), None);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    // Both, whatever the type of the content is said to be.
    json["parameters"] = json!({"binary_data_output": true});
    json["id"] = json!("7");
    for kind in ["", "content-type: application/json\r\n", "content-type: image/png\r\n"] {
        let (header, body) = binary(&json, &pixels());
        let answer = client.post(INFER, &format!("{header}{kind}"), &body);
        let (about, raw) = answer.parts();
        assert_eq!(floats(raw), expected);
        let output = json!({"name": "probabilities", "datatype": "FP32", "shape": [1, 10],
                            "parameters": {"binary_data_size": 40}});
        assert_eq!((&about["outputs"][0], &about["id"]), (&output, &json!("7")));
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    }
    // An output's own word counts more than the request's.
    json["outputs"] = json!([{"name": "probabilities", "parameters": {"binary_data": false}}]);
    let (header, body) = binary(&json, &pixels());
    assert!(client.post(INFER, &header, &body).json()["outputs"][0]["data"].is_array());
    // Out, but not in: no raw bytes, so no header.
    let mut json: Value = serde_json::from_str(&request(&stream()[0])).unwrap();
    json["outputs"] = json!([{"name": "probabilities", "parameters": {"binary_data": true}}]);
    let answer = client.post(INFER, "", json.to_string().as_bytes());
    assert_eq!(floats(answer.parts().1), expected);
}

#[test]
fn bytes_without_json_are_the_only_input_s() {
    let (_server, mut client) = running();
    let expected = plain(&mut client);
    let header = "Inference-Header-Content-Length: 0\r\n";
    let rows = [pixels(), pixels()].concat();
    let answer = client.post(INFER, header, &rows);
    let (json, raw) = answer.parts();
    assert_eq!(json["outputs"][0]["shape"], json!([2, 10]));
    assert_eq!(floats(raw), [expected.clone(), expected].concat());
    let torn = client.post(INFER, header, &rows[..300]);
    assert_eq!(torn.status, 400);
    assert!(torn.error().contains("\"pixels\": 300 raw bytes given"), "{}", torn.body);
    let two = client.post(ECHO, header, b"x");
    assert!(two.error().contains("models with one input"), "{}", two.body);
}

#[test]
fn what_is_wrong_with_raw_tensors_is_named() {
    let (_server, mut client) = running();
    let with_data = |size| {
        let mut json = raw_input(size);
        json["inputs"][0]["data"] = json!([1]);
        json
    };
    let mut strange = raw_input(256);
    strange["inputs"][0]["parameters"] = json!({"shared_memory_region": "r"});
    let table = [
        (binary(&raw_input(256), &pixels()[..255]), "binary_data_size is 256, but only 255 bytes"),
        (binary(&raw_input(252), &pixels()), "4 bytes behind the last input's"),
        (binary(&raw_input(252), &pixels()[..252]), "\"pixels\": 252 raw bytes given"),
        (binary(&with_data(256), &pixels()), "\"pixels\": both"),
        (binary(&strange, b""), "\"pixels\": in shared memory"),
        ((String::new(), raw_input(256).to_string().into_bytes()), "Content-Length is not"),
        (("Inference-Header-Content-Length: 9999\r\n".into(), b"{}".to_vec()), "is 9999, but"),
        (("Inference-Header-Content-Length: many\r\n".into(), b"{}".to_vec()), "\"many\""),
        (("Inference-Header-Content-Length: 1\r\n".into(), b"{}".to_vec()), "no inference request"),
    ];
    for ((header, body), words) in table {
        let answer = client.post(INFER, &header, &body);
        assert_eq!(answer.status, 400, "{words}: {}", answer.body);
        assert!(answer.error().contains(words), "{words}: {}", answer.body);
    }
}

/// Two rows of each type, with what is special in it.
fn samples() -> Vec<Values> {
    use half::f16;
    vec![
        Values::Bool(vec![true, false, false, true]),
        Values::U8(vec![0, 1, 2, u8::MAX]),
        Values::U16(vec![0, 1, 2, u16::MAX]),
        Values::U32(vec![0, 1, 2, u32::MAX]),
        Values::U64(vec![0, 1, 2, u64::MAX]),
        Values::I8(vec![i8::MIN, -1, 0, i8::MAX]),
        Values::I16(vec![i16::MIN, -1, 0, i16::MAX]),
        Values::I32(vec![i32::MIN, -1, 0, i32::MAX]),
        Values::I64(vec![i64::MIN, -1, 0, i64::MAX]),
        Values::F16(vec![f16::ONE, f16::MIN, f16::MAX, f16::from_f32(0.1)]),
        Values::F32(vec![0.1, f32::MIN, f32::MAX, -0.0]),
        Values::F64(vec![0.1, f64::MIN, f64::MAX, 5e-324]),
        Values::Bytes(vec![b"a".to_vec(), vec![], "ü".into(), b"\"q\"".to_vec()]),
    ]
}

fn as_json(values: &Values) -> Value {
    match values {
        Values::Bool(values) => json!(values),
        Values::U8(values) => json!(values),
        Values::U16(values) => json!(values),
        Values::U32(values) => json!(values),
        Values::U64(values) => json!(values),
        Values::I8(values) => json!(values),
        Values::I16(values) => json!(values),
        Values::I32(values) => json!(values),
        Values::I64(values) => json!(values),
        Values::F16(values) => json!(values.iter().map(|v| v.to_f32()).collect::<Vec<_>>()),
        Values::F32(values) => json!(values),
        Values::F64(values) => json!(values),
        Values::Bytes(values) => {
            json!(values.iter().map(|v| String::from_utf8_lossy(v)).collect::<Vec<_>>())
        }
    }
}

/// JSON's numbers as numbers of `datatype`: they are written as short as that allows.
fn rounded(data: &Value, datatype: Datatype) -> Value {
    if !matches!(datatype, Datatype::Fp16 | Datatype::Fp32) {
        return data.clone();
    }
    data.as_array().unwrap().iter().map(|number| json!(number.as_f64().unwrap() as f32)).collect()
}

/// Asks for an echo of `samples`; those of `raw` types go as bytes.
fn ask_echo(client: &mut Client, samples: &[Values], raw: fn(Datatype) -> bool) -> Answer {
    let (mut inputs, mut outputs, mut bytes) = (vec![], vec![], vec![]);
    for values in samples {
        let datatype = values.datatype();
        let name = echo::input_name(datatype);
        let mut input = json!({"name": name, "shape": [2, 2], "datatype": datatype.name()});
        if raw(datatype) {
            let before = bytes.len();
            values.put_le_bytes(&mut bytes);
            input["parameters"] = json!({"binary_data_size": bytes.len() - before});
        } else {
            input["data"] = as_json(values);
        }
        inputs.push(input);
        let name = echo::output_name(datatype);
        outputs.push(json!({"name": name, "parameters": {"binary_data": raw(datatype)}}));
    }
    let (header, body) = binary(&json!({"inputs": inputs, "outputs": outputs}), &bytes);
    client.post(ECHO, &header, &body)
}

#[test]
fn every_element_type_goes_both_ways_in_both_forms() {
    let (_server, mut client) = running();
    let samples = samples();
    assert_eq!(samples.len(), Datatype::ALL.len());
    let choices: [fn(Datatype) -> bool; 4] = [
        |_| true,
        |_| false,
        |datatype| datatype.name().len() == 4,
        |datatype| datatype.name().len() != 4,
    ];
    for raw in choices {
        let answer = ask_echo(&mut client, &samples, raw);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let any_raw = samples.iter().any(|values| raw(values.datatype()));
        let (json, mut rest) =
            if any_raw { answer.parts() } else { (answer.json(), &answer.bytes[..0]) };
        for (values, output) in samples.iter().zip(json["outputs"].as_array().unwrap()) {
            let datatype = values.datatype();
            assert_eq!(
                (&output["datatype"], &output["shape"]),
                (&json!(datatype.name()), &json!([2, 2]))
            );
            if !raw(datatype) {
                assert_eq!(rounded(&output["data"], datatype), rounded(&as_json(values), datatype));
                continue;
            }
            let size = output["parameters"]["binary_data_size"].as_u64().unwrap();
            let (own, others) = rest.split_at(size as usize);
            assert_eq!(&Values::from_le_bytes(datatype, own), values);
            rest = others;
        }
        assert!(rest.is_empty());
    }
}

#[test]
fn what_json_cannot_say_is_null_or_replaced_and_raw_bytes_say_it() {
    let (_server, mut client) = running();
    let mut samples = samples();
    samples[10] = Values::F32(vec![f32::NAN, f32::INFINITY, -1.0, f32::NEG_INFINITY]);
    let answer = ask_echo(&mut client, &samples, |_| true);
    let (json, raw) = answer.parts();
    let before: u64 = json["outputs"].as_array().unwrap()[..10]
        .iter()
        .map(|output| output["parameters"]["binary_data_size"].as_u64().unwrap())
        .sum();
    let own = floats(&raw[before as usize..][..16]);
    assert!(own[0].is_nan() && own[1] == f32::INFINITY, "{own:?}");
    // Raw in, JSON out.
    let mut bytes = vec![];
    let inputs: Vec<Value> = samples
        .iter()
        .map(|values| {
            let (datatype, before) = (values.datatype(), bytes.len());
            values.put_le_bytes(&mut bytes);
            json!({"name": echo::input_name(datatype), "shape": [2, 2], "datatype": datatype.name(),
                   "parameters": {"binary_data_size": bytes.len() - before}})
        })
        .collect();
    let outputs = json!([{"name": "out_FP32"}]);
    let (header, body) = binary(&json!({"inputs": inputs, "outputs": outputs}), &bytes);
    let json = client.post(ECHO, &header, &body).json();
    assert_eq!(json["outputs"][0]["data"], json!([null, null, -1.0, null]));
}

#[test]
fn classes_come_by_score_with_their_labels() {
    let (_server, mut client) = running();
    let scores = plain(&mut client);
    let mut json: Value = serde_json::from_str(&request(&stream()[0])).unwrap();
    json["outputs"] = json!([{"name": "probabilities", "parameters": {"classification": 3}}]);
    let answer = client.post(INFER, "", json.to_string().as_bytes()).json();
    let output = &answer["outputs"][0];
    assert_eq!((&output["datatype"], &output["shape"]), (&json!("BYTES"), &json!([1, 3])));
    let mut order: Vec<usize> = (0..10).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let expected: Vec<String> =
        order[..3].iter().map(|class| format!("{}:{class}:{class}", scores[*class])).collect();
    assert_eq!(output["data"], json!(expected));
}

fn packed(coding: &str, plain: &[u8]) -> Vec<u8> {
    let mut packed = vec![];
    match coding {
        "gzip" => GzEncoder::new(plain, Compression::best()).read_to_end(&mut packed).unwrap(),
        _ => ZlibEncoder::new(plain, Compression::best()).read_to_end(&mut packed).unwrap(),
    };
    packed
}

#[test]
fn bodies_may_be_compressed_both_ways() {
    let (_server, mut client) = running();
    let rows = stream()[..40].concat();
    let expected = client.post(INFER, "", request(&rows).as_bytes());
    for coding in ["gzip", "deflate"] {
        let headers = format!("content-encoding: {coding}\r\naccept-encoding: {coding}\r\n");
        let body = packed(coding, request(&rows).as_bytes());
        let answer = client.post(INFER, &headers, &body);
        assert_eq!(answer.header("content-encoding"), Some(coding), "{}", answer.body);
        let mut plain = vec![];
        match coding {
            "gzip" => GzDecoder::new(&*answer.bytes).read_to_end(&mut plain).unwrap(),
            _ => ZlibDecoder::new(&*answer.bytes).read_to_end(&mut plain).unwrap(),
        };
        assert_eq!(plain, expected.bytes);
        // The length is the JSON's before it was packed.
        let (header, body) = binary(&raw_input(256), &pixels());
        let headers = format!("{header}content-encoding: {coding}\r\n");
        let answer = client.post(INFER, &headers, &packed(coding, &body));
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("content-encoding"), None);
        let answer = client.post(INFER, &headers, b"{}");
        assert_eq!(
            (answer.status, answer.error().contains(coding)),
            (400, true),
            "{}",
            answer.body
        );
    }
    // Small answers are not worth it.
    let one = client.post(INFER, "accept-encoding: gzip\r\n", request(&stream()[0]).as_bytes());
    assert_eq!(one.header("content-encoding"), None);
}

#[test]
fn a_bomb_is_413_before_it_unfolds() {
    let (_server, mut client) = running();
    let bomb = vec![b' '; 200 << 20];
    for coding in ["gzip", "deflate"] {
        let body = packed(coding, &bomb);
        assert!(body.len() > BODY_MAX, "the packed body is refused for its own size");
        let fits = packed(coding, &bomb[..32 << 20]);
        for body in [body, fits] {
            let answer = client.post(INFER, &format!("content-encoding: {coding}\r\n"), &body);
            assert_eq!(answer.status, 413, "{}", answer.body);
            assert!(answer.error().contains("65536"), "{}", answer.body);
        }
    }
    assert_eq!(client.post(INFER, "", request(&stream()[0]).as_bytes()).status, 200);
}

#[test]
fn the_index_lists_models_and_nothing_is_loaded_over_the_api() {
    let (server, mut client) = running();
    server.serving.announce(&"cats".parse().unwrap());
    let index = |client: &mut Client, body: &str| {
        let answer = client.post("/v2/repository/index", "", body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    let all = index(&mut client, "");
    let digits = json!({"name": "digits", "version": "1.1.0", "state": "READY"});
    assert_eq!((&all[0]["name"], &all[0]["state"]), (&json!("cats"), &json!("UNAVAILABLE")));
    assert!(all[0]["reason"].is_string() && all[0].get("version").is_none(), "{all}");
    assert_eq!((&all[1], all.as_array().unwrap().len()), (&digits, 3));
    assert_eq!(index(&mut client, "{\"ready\": true}"), json!([digits, all[2]]));
    assert_eq!(index(&mut client, " {} "), all);
    assert_eq!(client.post("/v2/repository/index", "", b"[").status, 400);
    for call in ["load", "unload"] {
        let path = format!("/v2/repository/models/digits/{call}");
        let answer = client.post(&path, "", b"{}");
        assert_eq!((answer.status, answer.error().contains("rollout")), (403, true));
    }
    assert_eq!(client.get("/v2/models/digits/ready").status, 200);
}

#[test]
fn statistics_and_configuration_are_triton_s() {
    let (_server, mut client) = running();
    client.post(INFER, "", request(&stream()[0]).as_bytes());
    client.post(INFER, "", request(&stream()[..3].concat()).as_bytes());
    for path in ["/v2/models/digits/stats", "/v2/models/digits/versions/1.1.0/stats"] {
        let stats = client.get(path).json();
        let stats = &stats["model_stats"][0];
        assert_eq!((&stats["name"], &stats["version"]), (&json!("digits"), &json!("1.1.0")));
        assert_eq!(stats["inference_count"], 4);
        assert_eq!(stats["inference_stats"]["success"]["count"], 2);
        assert!(stats["inference_stats"]["compute_infer"]["ns"].as_u64().unwrap() > 0);
        assert_eq!(stats["inference_stats"]["cache_hit"]["count"], 0);
    }
    let all = client.get("/v2/models/stats").json();
    assert_eq!(all["model_stats"].as_array().unwrap().len(), 2);
    assert_eq!(client.get("/v2/models/cats/stats").status, 404);
    let config = client.get("/v2/models/digits/config").json();
    let input = json!([{"name": "pixels", "data_type": "TYPE_FP32", "dims": [64]}]);
    assert_eq!((&config["input"], &config["name"]), (&input, &json!("digits")));
    assert!(config["max_batch_size"].as_u64().unwrap() > 1_000);
}

#[test]
fn a_request_may_say_how_long_it_is_worth_answering() {
    let (_server, mut client) = running();
    let mut json: Value = serde_json::from_str(&request(&stream()[0])).unwrap();
    // Microseconds; 0 is no limit.
    for (timeout, status) in [(1, 504), (0, 200), (60_000_000, 200), (u64::MAX, 200)] {
        json["parameters"] = json!({"timeout": timeout});
        let answer = client.post(INFER, "", json.to_string().as_bytes());
        assert_eq!(answer.status, status, "{timeout}: {}", answer.body);
    }
    json["parameters"] = json!({"timeout": -1});
    assert_eq!(client.post(INFER, "", json.to_string().as_bytes()).status, 400);
}

#[test]
fn a_unix_socket_answers_and_what_has_begun_is_finished() {
    let server = server(1, Facts::default());
    server.serving.activate(&model_name(), loaded("1.0.0"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let entered = server.runtime.enter();
    let (listener, file) = UnixSocket::bind(&path, 0o600).unwrap().into_parts();
    drop(entered);
    let router = http::router(server.serving.clone(), Facts::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = async { drop(stopped.await) };
    let serving = server.runtime.spawn(http::serve_unix(listener, router, ended));
    let request = post(INFER, "", request(&stream()[0]).as_bytes());
    let (early, late) = request.split_at(request.len() - 10);
    let mut connection = UnixStream::connect(&path).unwrap();
    // One whole request, so that the connection is known to be served, and most of another.
    connection.write_all(&[early, late, early].concat()).unwrap();
    let mut first = [0; 12];
    connection.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stop.send(()).unwrap();
    drop(file);
    assert!(!path.exists());
    connection.write_all(late).unwrap();
    let mut received = String::new();
    connection.read_to_string(&mut received).unwrap();
    assert_eq!(received.matches("HTTP/1.1 200 OK").count(), 1, "{received}");
    assert_eq!(received.matches("probabilities").count(), 2, "{received}");
    server.runtime.block_on(serving).unwrap().unwrap();
}
