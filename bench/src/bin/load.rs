//! One client with one kept connection that asks the same question again and again, and says how
//! long the answers took.
//!
//! `load 127.0.0.1:8470 /v2/models/digits/infer question.json --seconds 3`

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tidegate_bench::{Bounds, Times};

/// Requests before anything is measured.
const WARM_UP: usize = 50;

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Bytes that an answer may have: more than any model here gives.
const ANSWER_SIZE_MAX: usize = 64 << 20;

#[derive(Debug, Parser)]
struct Arguments {
    /// The server.
    address: SocketAddr,
    /// What is asked, as in /v2/models/digits/infer.
    path: String,
    /// The request's body.
    body: PathBuf,
    /// Time to measure for.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Requests at most.
    #[arg(long, default_value_t = 200_000)]
    requests_max: usize,
    /// A header more, as in `name: value`.
    #[arg(long)]
    header: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(figures) => {
            println!("{figures}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<serde_json::Value, String> {
    let body = std::fs::read(&arguments.body)
        .map_err(|error| format!("{}: {error}", arguments.body.display()))?;
    let (address, path, length) = (arguments.address, &arguments.path, body.len());
    let headers: String = arguments.header.iter().map(|header| format!("{header}\r\n")).collect();
    let json = "content-type: application/json\r\n";
    let headers =
        if headers.to_lowercase().contains("content-type:") { headers } else { headers + json };
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {length}\r\n\r\n"
    )
    .into_bytes();
    request.extend_from_slice(&body);
    let mut client = Client::connect(address)?;
    let asked = |_| client.ask(&request);
    let warm_up = Bounds { runs_min: 1, runs_max: WARM_UP, time: Duration::from_secs(5) };
    let mut asked = asked;
    Times::measure(warm_up, &mut asked)?;
    let bounds = Bounds {
        runs_min: 1,
        runs_max: arguments.requests_max,
        time: Duration::from_secs_f64(arguments.seconds),
    };
    let times = Times::measure(bounds, &mut asked)?;
    Ok(json!({
        "requests": times.count(),
        "p50_us": times.at_us(0.5),
        "p99_us": times.at_us(0.99),
        "per_second": times.per_second(),
    }))
}

struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Result<Self, String> {
        let connect = || -> std::io::Result<TcpStream> {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            Ok(stream)
        };
        let stream = connect().map_err(|error| format!("{address}: {error}"))?;
        Ok(Self { stream, received: Vec::with_capacity(1 << 20) })
    }

    /// Sends a request and reads the whole answer, which must be a success.
    fn ask(&mut self, request: &[u8]) -> Result<(), String> {
        self.stream.write_all(request).map_err(|error| format!("sending: {error}"))?;
        self.received.clear();
        let head = loop {
            let end = self.received.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(end) = end {
                break end + 4;
            }
            self.more()?;
        };
        let text = String::from_utf8_lossy(&self.received[..head]).to_ascii_lowercase();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
        };
        let success = text.get(9..12) == Some("200");
        if value("transfer-encoding:").as_deref() == Some("chunked") {
            while !self.received.ends_with(b"0\r\n\r\n") {
                self.more()?;
            }
        } else {
            let length = value("content-length:").and_then(|length| length.parse::<usize>().ok());
            let length = length.ok_or("an answer without a length")?;
            while self.received.len() < head + length {
                self.more()?;
            }
        }
        if success {
            return Ok(());
        }
        let answer = String::from_utf8_lossy(&self.received);
        Err(format!("not a success: {}", answer.chars().take(500).collect::<String>()))
    }

    fn more(&mut self) -> Result<(), String> {
        let mut buffer = [0; 64 * 1024];
        let count = self.stream.read(&mut buffer).map_err(|error| format!("reading: {error}"))?;
        if count == 0 {
            return Err("the server closed the connection".to_string());
        }
        self.received.extend_from_slice(&buffer[..count]);
        if self.received.len() > ANSWER_SIZE_MAX {
            return Err("the answer does not end".to_string());
        }
        Ok(())
    }
}
