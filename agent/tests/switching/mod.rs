//! A client at full rate over real HTTP while one version follows another: each is loaded and
//! self-tested, runs in the shadow, and takes over.
#![allow(dead_code, missing_docs)] // Each of its users uses some of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// What the clients saw.
#[derive(Default)]
pub struct Seen {
    /// While nothing changed.
    pub quiet: Times,
    /// While a version was loaded, tested, in the shadow, or took over.
    pub during: Times,
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
    let (switching, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    thread::scope(|scope| {
        let ask = || ask(server.address, &switching, &over);
        let asking: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
        for number in 1..=switches {
            thread::sleep(quiet);
            switching.store(true, Ordering::SeqCst);
            runtime.block_on(switch_once(&server.serving, &slots[number % 2]));
            switching.store(false, Ordering::SeqCst);
        }
        over.store(true, Ordering::SeqCst);
        let seen: Vec<Seen> = asking.into_iter().map(|one| one.join().unwrap()).collect();
        seen.into_iter().fold(Seen::default(), Seen::and).sorted()
    })
}

/// What the driver does, with the gates' verdicts in between.
async fn switch_once(serving: &Serving, slot: &Arc<Slot>) {
    let model = model_name();
    let own = Arc::clone(slot);
    let load = move || {
        let loaded = own.load().unwrap();
        let outcome = self_test(&loaded, &own.golden());
        assert_eq!(outcome.verdict, Ok(()), "{}", outcome.detail);
        Arc::new(loaded)
    };
    let candidate: Arc<LoadedModel> = background::run("self-test", load).await.unwrap();
    serving.start_shadow(&model, Arc::clone(&candidate));
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Some((Verdict::Pending { .. }, text)) = serving.shadow_verdict(&model, Instant::now())
    {
        assert!(Instant::now() < deadline, "the shadow sees nothing: {text}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    serving.activate(&model, candidate);
    serving.start_trial(&model);
}

fn ask(address: SocketAddr, switching: &AtomicBool, over: &AtomicBool) -> Seen {
    let requests: Vec<_> =
        stream().iter().map(|pixels| post(PATH, "", request(pixels).as_bytes())).collect();
    let (mut client, mut seen) = (Client::new(address), Seen::default());
    for request in requests.iter().cycle() {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let before = switching.load(Ordering::SeqCst);
        let begun = Instant::now();
        client.send(request);
        let answer = client.receive();
        let took = begun.elapsed();
        let during = before || switching.load(Ordering::SeqCst);
        let times = if during { &mut seen.during } else { &mut seen.quiet };
        times.0.push(took);
        seen.failed += usize::from(answer.status != 200);
        for (count, version) in seen.versions.iter_mut().zip(VERSIONS) {
            *count += usize::from(answer.body.contains(&format!("\"{version}\"")));
        }
    }
    seen
}

impl Seen {
    fn and(mut self, other: Self) -> Self {
        self.quiet.0.extend(other.quiet.0);
        self.during.0.extend(other.during.0);
        self.failed += other.failed;
        self.versions = [0, 1].map(|which| self.versions[which] + other.versions[which]);
        self
    }

    fn sorted(mut self) -> Self {
        self.quiet.0.sort_unstable();
        self.during.0.sort_unstable();
        self
    }
}
