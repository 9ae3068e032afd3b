//! A client at full rate over real HTTP while one version follows another: each is loaded and
//! self-tested, runs in the shadow, and takes over.
#![allow(dead_code, missing_docs)] // Each of its users uses some of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_agent::background;
use tidegate_agent::http::Facts;
use tidegate_agent::self_test::self_test;
use tidegate_agent::serving::{LoadedModel, Serving};
use tidegate_lifecycle::gates::Verdict;
use tidegate_wire::policy::{Gates, ShadowPolicy};

use crate::client::{Client, post, server};
use crate::digits::{Slot, model_name, request, slot, stream};

const PATH: &str = "/v2/models/digits/infer";
const VERSIONS: [&str; 2] = ["1.0.0", "1.1.0"];

/// How long requests took, in order of that.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn at(&self, share: f64) -> Duration {
        self.0[(share * (self.0.len() - 1) as f64) as usize]
    }
}

const QUIET: usize = 0;
const LOADING: usize = 1;
const SHADOW: usize = 2;

/// What the clients saw.
#[derive(Default)]
pub struct Seen {
    /// While nothing changed; while a version was loaded and tested; while it was in the shadow and
    /// took over.
    pub phases: [Times; 3],
    /// Requests that were not answered with 200.
    pub failed: usize,
    /// Which versions answered.
    pub versions: [usize; 2],
}

/// Switches so many times, with `quiet` before each.
pub fn switch(switches: usize, clients: usize, quiet: Duration) -> Seen {
    let server = server(2, Facts::default());
    let slots = VERSIONS.map(|version| {
        let shadow = ShadowPolicy { samples_min: 20, ..ShadowPolicy::default() };
        Arc::new(slot(version, Gates { shadow, ..Gates::default() }))
    });
    server.serving.activate(&model_name(), Arc::new(slots[0].load().unwrap()));
    let (phase, over) = (AtomicUsize::new(QUIET), AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    thread::scope(|scope| {
        let ask = || ask(server.address, &phase, &over);
        let asking: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
        for number in 1..=switches {
            thread::sleep(quiet);
            runtime.block_on(switch_once(&server.serving, &slots[number % 2], &phase));
        }
        over.store(true, Ordering::SeqCst);
        let seen: Vec<Seen> = asking.into_iter().map(|one| one.join().unwrap()).collect();
        seen.into_iter().fold(Seen::default(), Seen::and).sorted()
    })
}

/// What the driver does, with the gates' verdicts in between.
async fn switch_once(serving: &Serving, slot: &Arc<Slot>, phase: &AtomicUsize) {
    phase.store(LOADING, Ordering::SeqCst);
    let model = model_name();
    let own = Arc::clone(slot);
    let load = move || {
        let loaded = own.load().unwrap();
        let outcome = self_test(&loaded, &own.golden());
        assert_eq!(outcome.verdict, Ok(()), "{}", outcome.detail);
        Arc::new(loaded)
    };
    let candidate: Arc<LoadedModel> = background::run("self-test", load).await.unwrap();
    phase.store(SHADOW, Ordering::SeqCst);
    serving.start_shadow(&model, Arc::clone(&candidate));
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Some((Verdict::Pending { .. }, text)) = serving.shadow_verdict(&model, Instant::now())
    {
        assert!(Instant::now() < deadline, "the shadow sees nothing: {text}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    serving.activate(&model, candidate);
    serving.start_trial(&model);
    phase.store(QUIET, Ordering::SeqCst);
}

fn ask(address: SocketAddr, phase: &AtomicUsize, over: &AtomicBool) -> Seen {
    let requests: Vec<_> =
        stream().iter().map(|pixels| post(PATH, "", request(pixels).as_bytes())).collect();
    let (mut client, mut seen) = (Client::new(address), Seen::default());
    for request in requests.iter().cycle() {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let before = phase.load(Ordering::SeqCst);
        let begun = Instant::now();
        client.send(request);
        let answer = client.receive();
        let took = begun.elapsed();
        let during = before.max(phase.load(Ordering::SeqCst));
        seen.phases[during].0.push(took);
        seen.failed += usize::from(answer.status != 200);
        for (count, version) in seen.versions.iter_mut().zip(VERSIONS) {
            *count += usize::from(answer.body.contains(&format!("\"{version}\"")));
        }
    }
    seen
}

impl Seen {
    fn and(mut self, other: Self) -> Self {
        for (own, other) in self.phases.iter_mut().zip(other.phases) {
            own.0.extend(other.0);
        }
        self.failed += other.failed;
        self.versions = [0, 1].map(|which| self.versions[which] + other.versions[which]);
        self
    }

    /// Whatever went on.
    pub fn during(&self) -> Times {
        let mut all = [&self.phases[LOADING].0[..], &self.phases[SHADOW].0].concat();
        all.sort_unstable();
        Times(all)
    }

    fn sorted(mut self) -> Self {
        self.phases.iter_mut().for_each(|times| times.0.sort_unstable());
        self
    }
}
