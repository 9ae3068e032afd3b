//! Who reads a text, who waits for one, and what ends it: with an engine that writes until it is
//! told to stop.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use tidegate_wire::manifest::Manifest;
use tidegate_wire::policy::Gates;
use tidegate_wire::tensor::TensorSpec;
use tokio::runtime::Runtime;

use super::*;
use crate::engine::{Engine, EngineError, Reader, Tensor};
use crate::http::{Facts, router, serve};
use crate::serving::{ModelConfigs, Serving, ServingConfig};

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes without end, and tells when it begins and why it ends.
struct Endless {
    specs: Vec<TensorSpec>,
    tell: Mutex<std_mpsc::Sender<Option<Ending>>>,
}

impl Engine for Endless {
    fn inputs(&self) -> &[TensorSpec] {
        &self.specs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.specs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        Ok(inputs.to_vec())
    }

    fn generate(
        &self,
        prompt: &Prompt,
        read: &mut Reader<'_>,
    ) -> Result<Continuation, EngineError> {
        let tell = self.tell.lock().unwrap().clone();
        tell.send(None).unwrap();
        let (mut tokens, mut text) = (0, String::new());
        // The first prompt says whether there is anything to read at all.
        let piece = if prompt.text == "silent" { "" } else { "la " };
        let ending = loop {
            if read(piece).is_break() {
                break Ending::Unread;
            }
            if prompt.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break Ending::Deadline;
            }
            (tokens, text) = (tokens + 1, piece.to_string());
            std::thread::yield_now();
        };
        tell.send(Some(ending)).unwrap();
        Ok(Continuation { text, ending, prompt_tokens: 1, tokens })
    }
}

struct Stage {
    serving: Arc<Serving>,
    address: SocketAddr,
    told: std_mpsc::Receiver<Option<Ending>>,
    _runtime: Runtime,
}

/// The API with that engine, and room for one that waits.
fn stage() -> Stage {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (sender, _windows) = mpsc::channel(8);
    let config = ServingConfig { queue_max: 1, ..ServingConfig::default() };
    let serving = Serving::with(config, ModelConfigs::default(), sender, 1);
    let (tell, told) = std_mpsc::channel();
    let tensor = json!({"name": "text", "datatype": "BYTES", "shape": [-1]});
    let manifest: Manifest = serde_json::from_value(json!({
        "model": "endless", "version": "1", "engine": "x", "task": "generation", "files": [],
        "inputs": [tensor], "outputs": [tensor], "gates": Gates::default(), "window_rows": 500,
    }))
    .unwrap();
    let engine = Endless { specs: manifest.inputs.clone(), tell: Mutex::new(tell) };
    let loaded = LoadedModel::with_engine(Box::new(engine), manifest);
    let _entered = runtime.enter();
    serving.activate(&"endless".parse().unwrap(), Arc::new(loaded));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(Arc::clone(&serving), Facts::default());
    runtime.spawn(serve(listener, router, std::future::pending()));
    drop(_entered);
    Stage { serving, address, told, _runtime: runtime }
}

impl Stage {
    fn ask(&self, how: &str, text: &str, parameters: &Value) -> TcpStream {
        let body = json!({"text_input": text, "parameters": parameters}).to_string();
        let length = body.len();
        let mut connection = TcpStream::connect(self.address).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("POST /v2/models/endless/{how} HTTP/1.1\r\nhost: x\r\n");
        write!(connection, "{head}content-length: {length}\r\n\r\n{body}").unwrap();
        connection
    }

    fn next(&self) -> Option<Ending> {
        self.told.recv_timeout(PATIENCE).unwrap()
    }
}

fn read_until(connection: &mut TcpStream, wanted: &str) -> String {
    let mut answer = String::new();
    let mut buffer = [0; 256];
    while !answer.contains(wanted) {
        let count = connection.read(&mut buffer).unwrap();
        assert!(count > 0, "the connection ended after {answer:?}");
        answer.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    answer
}

#[test]
fn a_text_that_nobody_reads_any_more_is_not_written_on() {
    let stage = stage();
    for (how, text) in [("generate_stream", "loud"), ("generate", "loud"), ("generate", "silent")] {
        let mut connection = stage.ask(how, text, &json!({}));
        assert_eq!(stage.next(), None);
        if how == "generate_stream" {
            read_until(&mut connection, "\"la \"");
        }
        drop(connection);
        assert_eq!(stage.next(), Some(Ending::Unread), "{how} {text}");
    }
    // Half texts count neither way.
    let counted = stage.serving.statistics("endless", None).unwrap();
    assert_eq!((counted.success.count, counted.fail.count), (0, 0));
}

#[test]
fn one_text_is_written_at_a_time_and_few_wait() {
    let stage = stage();
    let mut first = stage.ask("generate_stream", "loud", &json!({}));
    assert_eq!(stage.next(), None);
    read_until(&mut first, "\"la \"");
    let second = stage.ask("generate_stream", "loud", &json!({}));
    let waits = "tidegate_requests_waiting{model=\"endless\"} 1";
    let until = Instant::now() + PATIENCE;
    while !stage.serving.metrics().encode().contains(waits) {
        assert!(Instant::now() < until, "{}", stage.serving.metrics().encode());
        std::thread::yield_now();
    }
    let mut third = stage.ask("generate", "loud", &json!({}));
    let answer = read_until(&mut third, "}").to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 503") && answer.contains("retry-after"), "{answer}");
    drop(first);
    assert_eq!(stage.next(), Some(Ending::Unread));
    // Only now the second begins.
    assert_eq!(stage.next(), None);
    drop(second);
    assert_eq!(stage.next(), Some(Ending::Unread));
}

#[test]
fn a_deadline_amid_the_text_is_an_error_or_the_last_event() {
    let stage = stage();
    let soon = json!({"timeout": 50_000});
    let answer = read_until(&mut stage.ask("generate", "loud", &soon), "tokens were written");
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    let mut connection = stage.ask("generate_stream", "loud", &soon);
    let answer = read_until(&mut connection, "tokens were written");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"error\""), "{answer}");
}
