//! A small HTTP client over one kept-alive connection, and the API on a loopback port.
#![allow(dead_code, missing_docs)] // Each test file uses some of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use serde_json::Value;
use tidegate_agent::http::{self, Facts};
use tidegate_agent::serving::{ModelConfigs, Serving, ServingConfig};
use tidegate_wire::report::Window;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// The API on a runtime of its own, which ends with it.
pub struct Server {
    pub address: SocketAddr,
    pub serving: Arc<Serving>,
    pub windows: mpsc::Receiver<Window>,
    pub runtime: Runtime,
}

pub fn server(threads: usize, facts: Facts) -> Server {
    server_with(threads, facts, ModelConfigs::default())
}

pub fn server_with(threads: usize, facts: Facts, models: ModelConfigs) -> Server {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .unwrap();
    let (sender, windows) = mpsc::channel(1024);
    let serving = Serving::with(ServingConfig::default(), models, sender, 7);
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let router = http::router(Arc::clone(&serving), facts);
    runtime.spawn(http::serve(listener, router, std::future::pending()));
    Server { address, serving, windows, runtime }
}

pub struct Answer {
    pub status: u16,
    /// In small letters.
    pub head: String,
    pub bytes: Vec<u8>,
    /// The same for people.
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &'_ str| line.split_once(": ").filter(|(key, _)| *key == name).is_some();
        let line = self.head.lines().find(|line| named(line))?;
        line.split_once(": ").map(|(_, value)| value)
    }

    /// Its JSON, and what follows it.
    pub fn parts(&self) -> (Value, &[u8]) {
        let length = self.header("inference-header-content-length").expect("it is binary");
        let (json, raw) = self.bytes.split_at(length.parse().unwrap());
        (serde_json::from_slice(json).unwrap(), raw)
    }

    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error: {}", self.body)).into()
    }
}

pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::with_capacity(64 * 1024) }
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
        self.receive()
    }

    pub fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Answer {
        self.send(&post(path, headers, body));
        self.receive()
    }

    pub fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).unwrap();
    }

    pub fn receive(&mut self) -> Answer {
        let (head, length) = loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                let head = String::from_utf8(self.received[..end].to_vec()).unwrap();
                break (head, end + 4);
            }
            self.more();
        };
        let lower = head.to_ascii_lowercase();
        let body_length: usize = lower
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(0, |length| length.trim().parse().unwrap());
        while self.received.len() < length + body_length {
            self.more();
        }
        let bytes = self.received[length..length + body_length].to_vec();
        let body = String::from_utf8_lossy(&bytes).into_owned();
        self.received.drain(..length + body_length);
        let status = head[9..12].parse().unwrap();
        Answer { status, head: lower, bytes, body }
    }

    fn more(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the server closed the connection");
        self.received.extend_from_slice(&buffer[..count]);
    }
}

pub fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut request =
        format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n")
            .into_bytes();
    request.extend_from_slice(body);
    request
}

/// JSON with raw tensors behind it, and the header that says so.
pub fn binary(json: &Value, raw: &[u8]) -> (String, Vec<u8>) {
    let json = json.to_string().into_bytes();
    let header = format!("Inference-Header-Content-Length: {}\r\n", json.len());
    (header, [json.as_slice(), raw].concat())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
