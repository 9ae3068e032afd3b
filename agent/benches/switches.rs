//! What a client at full rate sees of a hundred switches, and of the time between them.
//!
//! `cargo bench -p tidegate-agent --bench switches`
#![allow(missing_docs)]

#[path = "../tests/client/mod.rs"]
mod client;
#[path = "../tests/digits/mod.rs"]
mod digits;
#[path = "../tests/switching/mod.rs"]
mod switching;

use std::time::Duration;

use switching::Times;

const SWITCHES: usize = 100;
/// About as long as a switch takes, so that what else the machine does disturbs both alike.
const QUIET: Duration = Duration::from_millis(60);

fn show(name: &str, times: &Times) {
    let us = |share| times.at(share).as_secs_f64() * 1e6;
    println!(
        "{name:<10} {:>7} requests   p50 {:>7.1} µs   p99 {:>7.1} µs   p99.9 {:>7.1} µs   \
         most {:>8.1} µs",
        times.count(),
        us(0.5),
        us(0.99),
        us(0.999),
        us(1.0)
    );
}

fn main() {
    let clients = std::env::var("CLIENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let seen = switching::switch(SWITCHES, clients, QUIET);
    println!("{SWITCHES} switches under {clients} client(s) at full rate, {} failed", seen.failed);
    let (quiet, during) = (&seen.phases[0], seen.during());
    show("quiet", quiet);
    show("loading", &seen.phases[1]);
    show("shadow", &seen.phases[2]);
    show("switching", &during);
    let ratio = during.at(0.99).as_secs_f64() / quiet.at(0.99).as_secs_f64();
    println!("p99 while switching is {ratio:.2} times that before (aim: at most 2)");
}
