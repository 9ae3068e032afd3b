//! Text in, text out, as an application on the device asks for it.
#![cfg(feature = "candle")]
#![allow(missing_docs)]

mod client;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Server, post, server};
use serde_json::{Value, json};
use tidegate_agent::engine::CANDLE_LLAMA;
use tidegate_agent::http::Facts;
use tidegate_agent::serving::LoadedModel;
use tidegate_wire::manifest::Manifest;
use tidegate_wire::policy::Gates;
use tidegate_wire::{ArtifactRef, Digest};

const GENERATE: &str = "/v2/models/manual/generate";
const STREAM: &str = "/v2/models/manual/versions/1.0/generate_stream";
const PROMPT: &str = "Q: What does alarm 17 mean?\nA:";
const TEXT: &str = " The oil pressure is low. Stop the pump and fill up.";

/// The model that has learnt a page by heart, which stops for nothing but the context.
fn manual(context_max: usize) -> Arc<LoadedModel> {
    let slot = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/text/models/decoder/model.gguf");
    fs::copy(model, slot.path().join("model")).unwrap();
    let config = json!({"tidegate": {"tokens_max": 4096, "context_max": context_max}});
    fs::write(slot.path().join("config"), config.to_string()).unwrap();
    // Read rather than built: what is not said here has its default.
    let tensor = |name| json!({"name": name, "datatype": "BYTES", "shape": [-1]});
    let manifest = json!({
        "model": "manual", "version": "1.0", "engine": CANDLE_LLAMA, "task": "generation",
        "files": [], "inputs": [tensor("text_input")], "outputs": [tensor("text_output")],
        "gates": Gates::default(), "window_rows": 500,
    });
    let manifest: Manifest = serde_json::from_value(manifest).unwrap();
    let artifact = ArtifactRef { digest: Digest::of(b"manual"), version: manifest.version.clone() };
    Arc::new(LoadedModel::reload(slot.path(), artifact, manifest).unwrap())
}

fn running() -> (Server, Client) {
    let server = server(2, Facts::default());
    server.serving.activate(&"manual".parse().unwrap(), manual(256));
    let client = Client::new(server.address);
    (server, client)
}

fn question(parameters: Value) -> Vec<u8> {
    json!({"text_input": PROMPT, "parameters": parameters}).to_string().into_bytes()
}

/// The answer's head and its events.
fn stream(server: &Server, body: &[u8]) -> (String, Vec<Value>) {
    let mut connection = TcpStream::connect(server.address).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    connection.write_all(&post(STREAM, "connection: close\r\n", body)).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let events = body.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = events.map(|event| serde_json::from_str(event).unwrap()).collect();
    (head.to_ascii_lowercase(), events)
}

fn count(server: &Server, line: &str) -> bool {
    server.serving.metrics().encode().lines().any(|found| found == line)
}

#[test]
fn a_text_comes_whole() {
    let (server, mut client) = running();
    let body = json!({"id": "q1", "text_input": PROMPT}).to_string();
    let answer = client.post(GENERATE, "", body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.body);
    let expected = json!({
        "id": "q1", "model_name": "manual", "model_version": "1.0", "text_output": TEXT,
        "finish_reason": "stop",
    });
    assert_eq!(answer.json(), expected);
    let cut = client.post(GENERATE, "", &question(json!({"max_tokens": 3, "stream": false})));
    assert_eq!(cut.json()["finish_reason"], "length");
    assert!(TEXT.starts_with(cut.json()["text_output"].as_str().unwrap()), "{}", cut.body);
    let stopped = client.post(GENERATE, "", &question(json!({"stop": " Stop"})));
    assert_eq!(stopped.json()["text_output"], " The oil pressure is low.");
    let statistics = server.serving.statistics("manual", None).unwrap();
    assert_eq!((statistics.success.count, statistics.fail.count), (3, 0));
}

#[test]
fn the_protocol_s_own_inference_writes_too() {
    let (_server, mut client) = running();
    let input = json!({"name": "text_input", "datatype": "BYTES", "shape": [2],
        "data": [PROMPT, "Q: What does alarm 18 mean?\nA:"]});
    let body = json!({"inputs": [input]}).to_string();
    let answer = client.post("/v2/models/manual/infer", "", body.as_bytes());
    let data = &answer.json()["outputs"][0]["data"];
    assert_eq!(data, &json!([TEXT, " The belt slips. Tighten it by half a turn."]));
}

#[test]
fn a_text_comes_in_pieces() {
    let (server, _client) = running();
    let (head, events) = stream(&server, &question(json!({"stop": ["fill"]})));
    assert!(head.starts_with("http/1.1 200") && head.contains("text/event-stream"), "{head}");
    let (last, pieces) = events.split_last().unwrap();
    let text: String = pieces.iter().map(|event| event["text_output"].as_str().unwrap()).collect();
    assert_eq!(text, " The oil pressure is low. Stop the pump and ");
    assert!(pieces.len() > 5 && pieces.iter().all(|event| event.get("finish_reason").is_none()));
    assert_eq!((&last["text_output"], &last["finish_reason"]), (&json!(""), &json!("stop")));
    assert_eq!((&last["model_name"], &last["model_version"]), (&json!("manual"), &json!("1.0")));
}

#[test]
fn a_question_that_cannot_be_answered_is_told_why() {
    let (server, mut client) = running();
    let cases = [
        (question(json!({"max_tokens": 0})), "max_tokens"),
        (question(json!({"temperature": -1})), "temperature"),
        (question(json!({"top_p": 0})), "top_p"),
        (question(json!({"stop": [""]})), "stop"),
        (question(json!({"top_k": 3})), "top_k"),
        (b"{}".to_vec(), "text_input"),
        (b"{".to_vec(), "EOF"),
        (json!({"text_input": ""}).to_string().into_bytes(), "empty"),
        (json!({"text_input": PROMPT.repeat(40)}).to_string().into_bytes(), "256 are the most"),
    ];
    let bad = cases.len();
    for (body, word) in cases {
        let answer = client.post(GENERATE, "", &body);
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.error().contains(word), "{word}: {}", answer.error());
        let (head, _) = stream(&server, &body);
        assert!(head.starts_with("http/1.1 400"), "{word}: {head}");
    }
    assert!(count(&server, &format!("tidegate_bad_requests_total {}", 2 * bad)));
    let answer = client.post("/v2/models/other/generate", "", &question(json!({})));
    assert_eq!(answer.status, 404);
    let answer = client.post("/v2/models/manual/versions/2.0/generate", "", &question(json!({})));
    assert_eq!(answer.status, 404);
}

#[test]
fn a_deadline_ends_the_text() {
    let (server, mut client) = running();
    let answer = client.post(GENERATE, "", &question(json!({"timeout": 1})));
    assert_eq!(answer.status, 504, "{}", answer.body);
    let (head, _) = stream(&server, &question(json!({"timeout": 1})));
    assert!(head.starts_with("http/1.1 504"), "{head}");
    let refused = "tidegate_refused_requests_total{model=\"manual\",kind=\"Deadline\"} 2";
    assert!(count(&server, refused), "{}", server.serving.metrics().encode());
}
