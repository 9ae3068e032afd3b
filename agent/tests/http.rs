//! The local API as an application on the device sees it.
#![allow(missing_docs)]

mod client;
mod digits;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use client::{Client, Server, server};
use digits::{loaded, model_name, request, stream};
use serde_json::{Value, json};
use tidegate_agent::http::Facts;

const INFER: &str = "/v2/models/digits/infer";

fn running() -> (Server, Client) {
    let server = server(2, Facts { body_bytes_max: 64 * 1024, ..Facts::default() });
    server.serving.activate(&model_name(), loaded("1.1.0"));
    let client = Client::new(server.address);
    (server, client)
}

fn input(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut body: Value = serde_json::from_str(&request(&stream()[0])).unwrap();
    change(&mut body);
    body.to_string().into_bytes()
}

fn class(answer: &Value) -> usize {
    let data = answer["outputs"][0]["data"].as_array().unwrap();
    let value = |index: &usize| data[*index].as_f64().unwrap();
    (0..10).max_by(|a, b| value(a).total_cmp(&value(b))).unwrap()
}

#[test]
fn an_inference_has_the_protocol_s_shape() {
    let (_server, mut client) = running();
    let body = input(|body| body["id"] = json!("q \"1\""));
    let answer = client.post(INFER, "", &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.head.contains("content-type: application/json"));
    let json = answer.json();
    assert_eq!(json["id"], "q \"1\"");
    assert_eq!((&json["model_name"], &json["model_version"]), (&json!("digits"), &json!("1.1.0")));
    let output = &json["outputs"][0];
    assert_eq!(output["name"], "probabilities");
    assert_eq!((&output["datatype"], &output["shape"]), (&json!("FP32"), &json!([1, 10])));
    let sum: f64 = output["data"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-4);
    let without = client.post(INFER, "", &input(|_| ()));
    assert!(!without.body.contains("id\":") && !without.body.contains("null"), "{}", without.body);
}

#[test]
fn forms_of_one_request_get_one_answer() {
    let (_server, mut client) = running();
    let plain = client.post(INFER, "", &input(|_| ()));
    let nested = input(|body| {
        let flat = body["inputs"][0]["data"].as_array().unwrap().clone();
        body["inputs"][0]["data"] = json!([flat]);
    });
    let nulls = input(|body| {
        body["id"] = Value::Null;
        body["parameters"] = json!({"binary_data_output": true});
        body["outputs"] = json!([{"name": "probabilities", "parameters": {"binary_data": false}}]);
    });
    for (headers, body) in [
        ("", nested),
        ("", nulls),
        ("content-type: application/octet-stream\r\n", input(|_| ())),
        ("content-type: text/nonsense\r\ncontent-encoding: identity\r\n", input(|_| ())),
    ] {
        assert_eq!(client.post(INFER, headers, &body).body, plain.body);
    }
    for path in
        ["/v2/models/digits/versions/1.1.0/infer", "/v2/models/%64igits/versions/1%2E1.0/infer"]
    {
        assert_eq!(client.post(path, "", &input(|_| ())).body, plain.body);
    }
    let rows = &stream()[..3];
    let batch = client.post(INFER, "", request(&rows.concat()).as_bytes()).json();
    assert_eq!(batch["outputs"][0]["shape"], json!([3, 10]));
    assert_eq!(class(&batch), class(&plain.json()));
}

#[test]
fn bad_requests_are_400_and_name_what_was_expected() {
    let (server, mut client) = running();
    type Change = fn(&mut Value);
    let table: &[(Change, &[&str])] = &[
        (|b| b["inputs"] = json!([]), &["\"pixels\" is missing", "FP32 [-1, 64]"]),
        (|b| b["inputs"][0]["name"] = json!("image"), &["no input \"image\"", "pixels"]),
        (|b| b["inputs"][0]["shape"] = json!([1, 63]), &["pixels", "[1, 63]", "[-1, 64]"]),
        (|b| b["inputs"][0]["shape"] = json!([64]), &["pixels", "[64] given"]),
        (|b| b["inputs"][0]["shape"] = json!([0, 64]), &["pixels", "[0, 64]"]),
        (|b| b["inputs"][0]["shape"] = json!([-1, 64]), &["pixels", "[-1, 64] given"]),
        (|b| b["inputs"][0]["shape"] = json!([2, 64]), &["pixels", "64 values", "128"]),
        (|b| b["inputs"][0]["shape"] = json!([i64::MAX, 64]), &["pixels", "too large"]),
        (|b| b["inputs"][0]["datatype"] = json!("INT64"), &["pixels", "INT64 given", "FP32"]),
        (|b| b["inputs"][0]["data"] = json!([1, 2]), &["pixels", "2 values given", "64"]),
        (|b| b["inputs"][0]["data"][3] = json!("x"), &["pixels", "\"x\""]),
        (|b| b["inputs"][0]["data"] = Value::Null, &["pixels", "no \"data\""]),
        (|b| drop(b["inputs"][0].as_object_mut().unwrap().remove("data")), &["pixels", "\"data\""]),
        (|b| b["outputs"] = json!([{"name": "label"}]), &["no output \"label\"", "probabilities"]),
        (|b| *b = json!({"instances": []}), &["inputs"]),
        (|b| *b = json!([]), &["inference request"]),
        (|b| b["id"] = json!(7), &["inference request", "string"]),
    ];
    for (change, words) in table {
        let body = input(change);
        let answer = client.post(INFER, "", &body);
        assert_eq!(answer.status, 400, "{}: {}", String::from_utf8_lossy(&body), answer.body);
        let error = answer.error();
        words.iter().for_each(|word| assert!(error.contains(word), "{error}: {word}"));
    }
    let twice = input(|body| {
        let first = body["inputs"][0].clone();
        body["inputs"].as_array_mut().unwrap().push(first);
    });
    assert!(client.post(INFER, "", &twice).error().contains("given twice"));
    for body in [&b""[..], b"{", b"\xff\xfe", b"{\"inputs\":[{]}"] {
        assert_eq!(client.post(INFER, "", body).status, 400);
    }
    let text = server.serving.metrics().encode();
    assert!(text.contains("tidegate_bad_requests_total 22"), "{text}");
    assert!(text.contains("tidegate_inferences_total{model=\"digits\"} 0"), "{text}");
}

#[test]
fn other_errors_have_their_status_and_say_why() {
    let (server, mut client) = running();
    let body = input(|_| ());
    let table = [
        ("/v2/models/cats/infer", 404, "digits"),
        ("/v2/models/digits/versions/9/infer", 404, "1.1.0"),
        ("/v2/nothing", 404, "/v2/nothing"),
        ("/v2/models/%ff/infer", 400, "path"),
    ];
    for (path, status, word) in table {
        let answer = client.post(path, "", &body);
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.error().contains(word), "{}", answer.body);
    }
    let answer = client.get(INFER);
    assert_eq!((answer.status, answer.error().contains("GET")), (405, true), "{}", answer.body);
    let large = vec![b' '; 64 * 1024 + 1];
    let answer = client.post(INFER, "", &large);
    assert_eq!((answer.status, answer.error().contains("65536")), (413, true), "{}", answer.body);
    let answer = client.post(INFER, "", &body);
    assert_eq!(answer.status, 200, "the connection goes on: {}", answer.body);
    // This one leaves the body unread, so the connection ends.
    let answer = Client::new(server.address).post(INFER, "content-encoding: br\r\n", &body);
    assert_eq!((answer.status, answer.error().contains("gzip")), (415, true), "{}", answer.body);
}

#[test]
fn a_model_on_its_way_is_503_with_a_time_to_retry() {
    let server = server(1, Facts::default());
    let mut client = Client::new(server.address);
    assert_eq!(client.get("/v2/health/ready").json(), json!({"live": true, "ready": false}));
    assert_eq!(client.post(INFER, "", &input(|_| ())).status, 404);
    server.serving.announce(&model_name());
    let answer = client.post(INFER, "", &input(|_| ()));
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.head.contains("retry-after: "), "{}", answer.head);
    assert!(answer.error().contains("not ready"), "{}", answer.body);
    assert_eq!(client.get("/v2/models/digits").status, 503);
    let ready = client.get("/v2/models/digits/ready");
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &json!(false)));
    assert_eq!(client.get("/v2/health/live").status, 200);
    server.serving.activate(&model_name(), loaded("1.0.0"));
    assert_eq!(client.post(INFER, "", &input(|_| ())).status, 200);
    assert_eq!(client.get("/v2/health/ready").status, 200);
}

#[test]
fn server_and_model_describe_themselves() {
    let (_server, mut client) = running();
    let about = client.get("/v2").json();
    let extensions = json!([
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "model_repository(index)",
        "statistics"
    ]);
    assert_eq!((&about["name"], &about["extensions"]), (&json!("tidegate-agent"), &extensions));
    for path in ["/v2/health/live", "/v2/health/ready"] {
        assert_eq!(client.get(path).json(), json!({"live": true, "ready": true}));
    }
    for path in ["/v2/models/digits", "/v2/models/digits/versions/1.1.0"] {
        let model = client.get(path).json();
        assert_eq!((&model["name"], &model["versions"]), (&json!("digits"), &json!(["1.1.0"])));
        let input = json!([{"name": "pixels", "datatype": "FP32", "shape": [-1, 64]}]);
        assert_eq!(model["inputs"], input);
        assert_eq!(model["outputs"][0]["parameters"]["labels"][9], "9");
        let ready = client.get(&format!("{path}/ready")).json();
        assert_eq!(ready, json!({"name": "digits", "ready": true}));
    }
    assert_eq!(client.get("/v2/models/digits/versions/2/ready").status, 404);
    client.post(INFER, "", &input(|_| ()));
    let metrics = client.get("/metrics");
    assert!(metrics.head.contains("application/openmetrics-text"));
    for line in [
        "tidegate_inferences_total{model=\"digits\"} 1",
        "tidegate_engine_time_seconds_count{model=\"digits\"} 1",
        "tidegate_model_active{model=\"digits\",version=\"1.1.0\"",
    ] {
        assert!(metrics.body.contains(line), "{line} is not in {}", metrics.body);
    }
}

#[test]
fn a_switch_under_load_fails_no_request() {
    let server = server(2, Facts::default());
    let versions = [loaded("1.0.0"), loaded("1.1.0")];
    server.serving.activate(&model_name(), versions[0].clone());
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let rows = stream();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = Client::new(server.address);
                for pixels in rows.iter().cycle() {
                    let answer = client.post(INFER, "", request(pixels).as_bytes());
                    assert_eq!(answer.status, 200, "{}", answer.body);
                    let version = answer.json()["model_version"].clone();
                    assert!(version == "1.0.0" || version == "1.1.0");
                    answered.fetch_add(1, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        for round in 0..100 {
            let version = &versions[(round + 1) % 2];
            server.serving.activate(&model_name(), version.clone());
            let until = answered.load(Ordering::Relaxed) + 5;
            while answered.load(Ordering::Relaxed) < until {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let text = server.serving.metrics().encode();
    let count = format!("tidegate_inferences_total{{model=\"digits\"}} {}", answered.into_inner());
    assert!(text.contains(&count), "{count} is not in {text}");
}
