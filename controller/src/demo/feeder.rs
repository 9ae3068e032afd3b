//! The application on each device: it sends the held-back images to its agent's local API, one
//! after the other, and counts what comes back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::material::Stream;

/// What one application has seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Answers by the version that gave them.
    pub answers: BTreeMap<String, u64>,
    /// Right answers by version.
    pub right: BTreeMap<String, u64>,
    /// Requests that got no answer, with the last error.
    pub failed: u64,
    /// Why the last one failed.
    pub last_failure: Option<String>,
}

impl Seen {
    /// Requests that got an answer.
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }
}

/// Whether the application asks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Demand {
    Idle,
    Ask(String),
}

/// The application of one device.
pub struct Feeder {
    demand: watch::Sender<Demand>,
    idle: watch::Receiver<bool>,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Feeder {
    /// An application that waits to be told where its agent is.
    pub fn new(stream: Arc<Stream>, start: usize, per_second: u32) -> Self {
        let (demand, asked) = watch::channel(Demand::Idle);
        let (idle_sender, idle) = watch::channel(true);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(feed(stream, start, per_second, asked, idle_sender, seen.clone()));
        Self { demand, idle, seen, task }
    }

    /// Starts to ask the agent at `url`, as soon as it has a model.
    pub fn ask(&self, url: String) {
        self.demand.send_replace(Demand::Ask(url));
    }

    /// Stops to ask, and waits for the request that is under way.
    pub async fn pause(&mut self) {
        self.demand.send_replace(Demand::Idle);
        let _ = self.idle.wait_for(|idle| *idle).await;
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("no panic while counting").clone()
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Deserialize)]
struct Answer {
    model_version: String,
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    data: Vec<f32>,
}

async fn feed(
    stream: Arc<Stream>,
    start: usize,
    per_second: u32,
    mut asked: watch::Receiver<Demand>,
    idle: watch::Sender<bool>,
    seen: Arc<Mutex<Seen>>,
) {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build();
    let http = http.expect("a client without options can be built");
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut index = start;
    loop {
        let demand = asked.borrow_and_update().clone();
        let Demand::Ask(url) = demand else {
            idle.send_replace(true);
            if asked.changed().await.is_err() {
                return;
            }
            continue;
        };
        idle.send_replace(false);
        let ready = http.get(format!("{url}/v2/models/digits/ready")).send().await;
        if !ready.is_ok_and(|response| response.status().is_success()) {
            // No model has arrived yet: the application has not begun.
            tokio::select! {
                _ = tokio::time::sleep(Duration::from_millis(50)) => continue,
                _ = asked.changed() => continue,
            }
        }
        while matches!(asked.has_changed(), Ok(false)) {
            ticks.tick().await;
            let image = index % stream.requests.len();
            let result = ask(&http, &url, stream.requests[image].clone()).await;
            note(&seen, result, stream.labels[image]);
            index += 1;
        }
    }
}

async fn ask(http: &reqwest::Client, url: &str, body: bytes::Bytes) -> Result<Answer, String> {
    let request = http.post(format!("{url}/v2/models/digits/infer")).body(body);
    let response = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = response.status();
    let body = response.bytes().await.map_err(|error| format!("{error:?}"))?;
    if !status.is_success() {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
    }
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

fn note(seen: &Mutex<Seen>, result: Result<Answer, String>, label: usize) {
    let mut seen = seen.lock().expect("no panic while counting");
    match result {
        Ok(answer) => {
            let right = answer.outputs.first().is_some_and(|output| largest(&output.data) == label);
            *seen.right.entry(answer.model_version.clone()).or_default() += u64::from(right);
            *seen.answers.entry(answer.model_version).or_default() += 1;
        }
        Err(error) => {
            seen.failed += 1;
            seen.last_failure = Some(error);
        }
    }
}

fn largest(probabilities: &[f32]) -> usize {
    let places = probabilities.iter().enumerate();
    places.max_by(|(_, one), (_, two)| one.total_cmp(two)).map_or(usize::MAX, |(place, _)| place)
}
