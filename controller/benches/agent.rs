//! A whole agent as a process of its own, with the digits model: resident memory, time from start
//! to first answer, requests a second over one kept-alive loopback connection.
//!
//! `cargo build --release && cargo bench -p tidegate-controller --bench agent`
//!
//! The agent is `tidegate-agent` if it lies beside this program's folder, else `tidegate agent`.
#![allow(missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidegate_controller::api::types::{DeviceTokenRequest, RolloutStart};
use tidegate_controller::client::Client;
use tidegate_controller::demo::{Device, Feeder, Stream, write_model};
use tidegate_controller::{BrokerConfig, ServeConfig, Server, cli};
use tidegate_wire::invitation::Pass;

const STARTS: usize = 20;
const REQUESTS: usize = 50_000;

fn agent() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let beside = own.ancestors().nth(2).unwrap().join("tidegate-agent");
    if beside.exists() { beside } else { env!("CARGO_BIN_EXE_tidegate").into() }
}

/// One kept-alive connection that speaks just enough HTTP.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(url: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(url.trim_start_matches("http://"))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Whether the request was answered with 200.
    fn infer(&mut self, body: &[u8]) -> bool {
        let head = format!(
            "POST /v2/models/digits/infer HTTP/1.1\r\nhost: device\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        self.0.get_mut().write_all(&request).unwrap();
        let (mut line, mut length, mut well) = (String::new(), 0, false);
        loop {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            well |= line.starts_with("HTTP/1.1 200");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut answer = vec![0; length];
        self.0.read_exact(&mut answer).unwrap();
        well
    }
}

/// Waits for the address file without sleeping longer than it takes to be fair.
fn address(data: &Path) -> String {
    loop {
        match std::fs::read_to_string(data.join("api-address")) {
            Ok(address) if !address.trim().is_empty() => return address.trim().to_owned(),
            _ => std::thread::sleep(Duration::from_micros(200)),
        }
    }
}

fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// A device that has committed `digits 1.1.0`.
async fn committed(folder: &Path) -> (Server, Device) {
    let loopback = ([127, 0, 0, 1], 0).into();
    let (data, keys) = (folder.join("controller"), folder.join("keys"));
    let init = cli::trust::initialise(&data, "bench".parse().unwrap(), &keys).unwrap();
    let config = ServeConfig::new(data, loopback, BrokerConfig::Embedded { listen: loopback });
    let server = Server::start(config).await.unwrap();
    let controller = server.url().to_owned();
    let client = Client::new(&Pass { controller, ..init.pass }).unwrap();
    let labels = Default::default();
    let request = DeviceTokenRequest { labels, uses: 1, expires_seconds: 600, why: String::new() };
    let token = client.device_token(&request).await.unwrap().token;
    let mut device = Device::prepare(folder, 1, server.url(), &token).unwrap();
    device.start(&agent()).unwrap();
    let mut feeder = Feeder::new(Stream::read().unwrap().into(), 0, 100);
    feeder.ask(device.url().await.unwrap());
    let model = write_model(folder, "1.1.0", "1.1.0").unwrap();
    cli::model::publish(&client, &model, &init.publisher_key).await.unwrap();
    let start = RolloutStart {
        model: "digits".parse().unwrap(),
        version: "1.1.0".parse().unwrap(),
        policy_toml: Some("[[waves]]\npercent = 100\nsoak_seconds = 0\n".to_owned()),
        why: "something to measure".to_owned(),
    };
    let id = client.start_rollout(&start).await.unwrap().summary.id;
    while client.rollout(id).await.unwrap().summary.status.is_open() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    feeder.pause().await;
    (server, device)
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (server, mut device) = runtime.block_on(committed(folder.path()));
    let stream = Stream::read().unwrap();
    println!("agent: {}", agent().file_name().unwrap().to_string_lossy());

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        runtime.block_on(device.kill()).unwrap();
        let begun = Instant::now();
        runtime.block_on(async { device.start(&agent()) }).unwrap();
        let address = address(&device.data_folder());
        let mut connection = Connection::open(&address).unwrap();
        while !connection.infer(&stream.requests[0]) {}
        starts.push(begun.elapsed());
    }
    starts.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "start to first answer: median {:.1} ms, worst {:.1} ms of {STARTS} starts",
        ms(starts[STARTS / 2]),
        ms(starts[STARTS - 1])
    );

    let pid = device.pid().unwrap();
    println!("resident after the first answer: {:.1} MiB", resident_mib(pid));
    let mut connection = Connection::open(&address(&device.data_folder())).unwrap();
    let mut each = Vec::with_capacity(REQUESTS);
    let begun = Instant::now();
    for index in 0..REQUESTS {
        let one = Instant::now();
        assert!(connection.infer(&stream.requests[index % stream.requests.len()]));
        each.push(one.elapsed());
    }
    let seconds = begun.elapsed().as_secs_f64();
    each.sort_unstable();
    let us = |share: f64| each[(share * (REQUESTS - 1) as f64) as usize].as_secs_f64() * 1e6;
    println!(
        "JSON inference: {:.0} requests/s, p50 {:.1} µs, p99 {:.1} µs",
        REQUESTS as f64 / seconds,
        us(0.5),
        us(0.99)
    );
    println!("resident after {REQUESTS} answers: {:.1} MiB", resident_mib(pid));
    runtime.block_on(device.kill()).unwrap();
    runtime.block_on(server.stop());
}
