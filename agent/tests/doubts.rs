//! Doubts, late labels and recent inputs, as an application on the device sees them.
#![allow(missing_docs)]

mod client;
mod digits;
mod faulty;

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Client, Server, server_with};
use digits::{Slot, model_name};
use faulty::{Fault, Mood, gates, row_of, slot, special};
use serde_json::{Value, json};
use tidegate_agent::http::Facts;
use tidegate_agent::serving::{FeedbackConfig, ModelConfig, ModelConfigs};
use tidegate_lifecycle::gates::Verdict;
use tidegate_wire::Reason;
use tidegate_wire::humility::{Action, Condition, HumilityRule};
use tidegate_wire::manifest::Task;

const INFER: &str = "/v2/models/digits/infer";
const FEEDBACK: &str = "/v2/models/digits/feedback";

fn running(slot: &Slot, config: ModelConfig) -> (Server, Client) {
    let models: ModelConfigs = [(model_name(), config)].into();
    let server = server_with(2, Facts::default(), models);
    server.serving.activate(&model_name(), Arc::new(slot.load().unwrap()));
    let client = Client::new(server.address);
    (server, client)
}

fn body(id: Option<&str>, rows: &[[f32; 4]]) -> Vec<u8> {
    let data: Vec<f32> = rows.iter().flatten().copied().collect();
    let shape = [rows.len(), 4];
    let input = json!({"name": "x", "shape": shape, "datatype": "FP32", "data": data});
    json!({"id": id, "inputs": [input]}).to_string().into_bytes()
}

fn rule(name: &str, feature: u32, high: f64, action: Action) -> HumilityRule {
    let when = Condition::OutlyingInput { feature: Some(feature), range: Some([0.0, high]) };
    HumilityRule { name: name.to_string(), when, action }
}

fn data(answer: &Value) -> Vec<f64> {
    let data = answer["outputs"][0]["data"].as_array().unwrap();
    data.iter().map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn rules_flag_override_refuse_and_count() {
    let rules = vec![
        rule("seen", 0, 10.0, Action::None),
        rule("odd", 1, 10.0, Action::Flag),
        rule("far", 2, 10.0, Action::Override(vec![0.25, 0.25, 0.5])),
        rule("never", 3, 10.0, Action::Error),
    ];
    let model = special("1.0.0", Fault::None, gates(), Task::Classification, rules);
    let (mut server, mut client) = running(&model, ModelConfig::default());
    let usual = row_of(0, Mood::Usual);
    let with = |feature: usize| {
        let mut row = usual;
        row[feature] = 11.0;
        row
    };
    let plain = client.post(INFER, "", &body(None, &[usual])).json();
    assert_eq!(plain["parameters"], Value::Null);
    let seen = client.post(INFER, "", &body(None, &[with(0)])).json();
    assert_eq!((&seen["parameters"], data(&seen).len()), (&Value::Null, 3));
    let odd = client.post(INFER, "", &body(None, &[usual, with(1)])).json();
    assert_eq!(odd["parameters"]["humility"], json!(["odd"]));
    assert_eq!(data(&odd)[..3], data(&plain)[..]);
    // Only the row that the rule is about is answered otherwise.
    let far = client.post(INFER, "", &body(None, &[usual, with(2)])).json();
    assert_eq!(far["parameters"]["humility"], json!(["far"]));
    assert_eq!(data(&far)[..3], data(&plain)[..]);
    assert_eq!(data(&far)[3..], [0.25, 0.25, 0.5]);
    let never = client.post(INFER, "", &body(None, &[usual, with(3)]));
    assert_eq!(never.status, 422, "{}", never.body);
    assert!(never.error().contains("\"never\""), "{}", never.body);
    assert_eq!(client.post(INFER, "", b"{}").status, 400);

    let many: Vec<[f32; 4]> = (0..60).map(|_| with(1)).collect();
    client.post(INFER, "", &body(None, &many));
    server.serving.close_windows(Duration::ZERO);
    let window = server.windows.try_recv().unwrap();
    let counts = ["seen", "odd", "far", "never"].map(|name| window.humility[name]);
    assert_eq!((counts, window.bad_inputs, window.rows), ([1, 61, 1, 1], 1, 68));
    // What the model said itself is watched, not what was put in its place.
    assert_eq!(window.outputs.unwrap().classes().counts()[..3], [66, 1, 1]);
    let metrics = client.get("/metrics").body;
    let line = "tidegate_humility_total{model=\"digits\",rule=\"odd\"} 61";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn a_rule_that_the_model_cannot_follow_is_refused_when_it_is_loaded() {
    let rules = vec![rule("beyond", 4, 1.0, Action::Flag)];
    let model = special("1.0.0", Fault::None, gates(), Task::Classification, rules);
    let error = model.load().unwrap_err();
    assert_eq!(error.reason(), Reason::SchemaMismatch);
    assert!(error.to_string().contains("\"beyond\": feature = 4"), "{error}");
}

#[test]
fn labels_find_their_answers_by_id() {
    let feedback = FeedbackConfig { rows: 80, make_ids: true };
    let config = ModelConfig { feedback, ..ModelConfig::default() };
    let model = slot("1.0.0", Fault::None, gates());
    let (mut server, mut client) = running(&model, config);
    let rows = [row_of(0, Mood::Usual), row_of(1, Mood::Usual)];
    let echoed = client.post(INFER, "", &body(Some("a"), &rows)).json();
    assert_eq!(echoed["id"], "a");
    let mut say = |id: &str, label: Value| {
        client.post(FEEDBACK, "", json!({"id": id, "label": label}).to_string().as_bytes())
    };
    let counted = say("a", json!([0, 2]));
    assert_eq!(counted.status, 200, "{}", counted.body);
    assert_eq!(counted.json(), json!({"id": "a", "matched": 2, "correct": 1}));
    assert_eq!(say("a", json!([0, 2])).json()["repeated"], true);
    let conflict = say("a", json!([0, 1]));
    assert!(conflict.status == 409 && conflict.error().contains("\"a\""), "{}", conflict.body);
    let unknown = say("b", json!(1));
    assert!(unknown.status == 404 && unknown.error().contains("\"b\""), "{}", unknown.body);
    for (label, expected) in [
        (json!([0]), "2 rows, and 1 labels"),
        (json!([0, 3]), "classes are 0 to 2"),
        (json!(["cat", 1]), "\"cat\" is no class"),
        (json!({"of": 1}), "must be a class"),
    ] {
        let answer = say("a", label);
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert!(answer.error().contains(expected), "{}", answer.body);
    }
    assert_eq!(client.post(FEEDBACK, "", b"[]").status, 400);
    // Without an id of its own a request gets one, which is as good.
    let made = client.post(INFER, "", &body(None, &rows[..1])).json();
    let id = made["id"].as_str().unwrap();
    let said = json!({"id": id, "label": 0}).to_string();
    assert_eq!(client.post(FEEDBACK, "", said.as_bytes()).json()["correct"], 1);
    let elsewhere = client.post("/v2/models/cats/feedback", "", said.as_bytes());
    assert_eq!(elsewhere.status, 404);

    for row in 0..100 {
        client.post(INFER, "", &body(None, &[row_of(row, Mood::Usual)]));
    }
    server.serving.close_windows(Duration::ZERO);
    let told = server.windows.try_recv().unwrap().feedback.unwrap();
    assert_eq!((told.matched, told.correct, told.unmatched), (3, 2, 1));
    assert_eq!((told.repeated, told.conflicting, told.evicted), (2, 2, 20));
}

#[test]
fn feedback_that_is_off_says_so() {
    let feedback = FeedbackConfig { rows: 0, make_ids: true };
    let config = ModelConfig { feedback, ..ModelConfig::default() };
    let (_server, mut client) = running(&slot("1.0.0", Fault::None, gates()), config);
    let answer = client.post(INFER, "", &body(Some("a"), &[row_of(0, Mood::Usual)])).json();
    assert_eq!(answer["id"], "a");
    let refused = client.post(FEEDBACK, "", br#"{"id": "a", "label": 0}"#);
    assert_eq!(refused.status, 404);
    assert!(refused.error().contains("feedback.rows = 0"), "{}", refused.body);
}

/// What a shadow that nothing live is shown to comes to, in the end.
fn shadow_of(candidate: &Slot, config: ModelConfig) -> (Verdict, String) {
    let (server, mut client) = running(&slot("1.0.0", Fault::None, gates()), config);
    for row in 0..60 {
        client.post(INFER, "", &body(None, &[row_of(row, Mood::Usual)]));
    }
    let candidate = Arc::new(candidate.load().unwrap());
    server.serving.start_shadow(&model_name(), candidate);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let told = server.serving.shadow_verdict(&model_name(), Instant::now()).unwrap();
        if !matches!(told.0, Verdict::Pending { .. }) || Instant::now() > deadline {
            return told;
        }
        std::thread::yield_now();
    }
}

#[test]
fn recent_inputs_are_replayed_while_nobody_asks() {
    let mut candidate = slot("2.0.0", Fault::None, gates());
    candidate.manifest.gates.shadow.idle_seconds = 0;
    let config = ModelConfig { recent_inputs_kib: 64, ..ModelConfig::default() };
    let (verdict, text) = shadow_of(&candidate, config);
    assert_eq!(verdict, Verdict::Passed, "{text}");
    assert!(text.contains("of them replayed recent inputs"), "{text}");
}

#[test]
fn a_golden_set_alone_is_too_little_to_pass_and_is_said() {
    let mut candidate = slot("2.0.0", Fault::None, gates());
    let shadow = &mut candidate.manifest.gates.shadow;
    (shadow.idle_seconds, shadow.seconds_max) = (0, 1);
    let (verdict, text) = shadow_of(&candidate, ModelConfig::default());
    assert_eq!(verdict, Verdict::Inconclusive { have: 32, need: 40 }, "{text}");
    assert!(text.starts_with("inconclusive, 32 of 40: "), "{text}");
    assert!(text.contains("32 of them golden rows"), "{text}");
}
