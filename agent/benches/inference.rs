//! Inference over HTTP against the bare engine call, side by side: one kept-alive loopback
//! connection, one server thread, the digits model, one row of 64 numbers a request.
//!
//! `cargo bench -p tidegate-agent --bench inference`
#![allow(missing_docs)]

#[path = "../tests/client/mod.rs"]
mod client;
#[path = "../tests/digits/mod.rs"]
mod digits;

use std::hint::black_box;
use std::time::{Duration, Instant};

use client::{Client, post, server};
use digits::{loaded, model_name, request, row, stream};
use tidegate_agent::http::Facts;
use tidegate_agent::serving::Ask;

const WARM_UP: usize = 2_000;
const RUNS: usize = 30_000;
/// Requests on their way at a time in the run for throughput: what keeps one core busy while the
/// client, on another, sends and reads.
const PIPELINED: usize = 16;

struct Times {
    p50_us: f64,
    p99_us: f64,
    per_second: f64,
}

fn measure(mut run: impl FnMut(usize)) -> Times {
    (0..WARM_UP).for_each(&mut run);
    let mut each: Vec<Duration> = Vec::with_capacity(RUNS);
    let begun = Instant::now();
    for index in 0..RUNS {
        let one = Instant::now();
        run(index);
        each.push(one.elapsed());
    }
    let per_second = RUNS as f64 / begun.elapsed().as_secs_f64();
    each.sort_unstable();
    let at = |share: f64| each[(share * (RUNS - 1) as f64) as usize].as_secs_f64() * 1e6;
    Times { p50_us: at(0.5), p99_us: at(0.99), per_second }
}

fn show(name: &str, times: &Times) {
    let Times { p50_us, p99_us, per_second } = times;
    println!("{name:<34} p50 {p50_us:>8.2} µs   p99 {p99_us:>8.2} µs   {per_second:>9.0} /s");
}

fn main() {
    let rows = stream();
    for version in ["1.0.0", "1.1.0"] {
        println!("digits {version}");
        let model = loaded(version);
        let tensors: Vec<_> = rows.iter().map(|pixels| row(pixels)).collect();
        let bare = measure(|index| {
            black_box(model.run(&tensors[index % tensors.len()]).unwrap());
        });
        show("  engine alone", &bare);

        let server = server(1, Facts::default());
        server.serving.activate(&model_name(), model);
        let counted = measure(|index| {
            let turn = server.serving.turn("digits", None).unwrap();
            black_box(
                turn.infer_here(Ask::new(tensors[index % tensors.len()].clone(), 1)).unwrap(),
            );
        });
        show("  engine, counted and sketched", &counted);

        let bodies: Vec<_> = rows.iter().map(|pixels| request(pixels)).collect();
        let path = "/v2/models/digits/infer";
        let requests: Vec<_> = bodies.iter().map(|body| post(path, "", body.as_bytes())).collect();
        let mut client = Client::new(server.address);
        let http = measure(|index| {
            client.send(&requests[index % requests.len()]);
            assert_eq!(black_box(client.receive()).status, 200);
        });
        show("  HTTP JSON, one at a time", &http);

        let begun = Instant::now();
        let batches: Vec<_> = requests.chunks(PIPELINED).map(|some| some.concat()).collect();
        let mut answered = 0;
        for (batch, some) in batches.iter().zip(requests.chunks(PIPELINED)).cycle() {
            client.send(batch);
            some.iter().for_each(|_| assert_eq!(client.receive().status, 200));
            answered += some.len();
            if answered >= RUNS {
                break;
            }
        }
        let per_second = answered as f64 / begun.elapsed().as_secs_f64();
        println!("  HTTP JSON, {PIPELINED} pipelined {per_second:>53.0} /s");
        println!("  HTTP p50 is {:.1} times the engine's", http.p50_us / bare.p50_us);
    }
}
