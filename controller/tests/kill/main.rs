//! SIGKILL for agents and controller at random moments, over and over, on the real file system,
//! while models are installed, committed and reverted, reports come in, and an operator decides.
//!
//! After every kill, by name: *journal-intact* (the controller starts, the entries that were there
//! are there, unchanged, and new ones follow them), *acknowledged-stays* (every decision that an
//! operator was told of is one of them), *runnable-model* (an agent that answered answers again, by a
//! model whose every byte is what was signed), *generations-rise* and *versions-rise* (what a device
//! has on its disk is not older than before). At the end: every report that left a spool is stored,
//! once, and nothing but signed versions ever answered.
//!
//! `TIDEGATE_KILL_ROUNDS` and `TIDEGATE_SEED` change the number of rounds and repeat a run;
//! `kill.sh` is for a thousand.

mod clerk;
mod controller;
mod witness;
mod world;

use std::time::{Duration, Instant};

use world::World;

/// Some seconds: it is run with all other tests.
const ROUNDS: u64 = 30;
/// No round begins after so many seconds, unless the number of rounds was asked for.
const SECONDS_MAX: u64 = 30;
/// The longest wait before a kill, milliseconds: an install of the small model takes some two seconds.
const WAIT_MS_MAX: u64 = 700;

/// SplitMix64: all that is needed is a number to repeat a run by.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_by_kills() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let asked = number("TIDEGATE_KILL_ROUNDS");
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = number("TIDEGATE_SEED").unwrap_or(clock);
    println!("TIDEGATE_SEED={seed}");
    let mut dice = Dice(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::start(folder.path()).await;
    world.keep_installing().await;
    world.all_have_a_model().await;
    let (begun, mut agents, mut controllers) = (Instant::now(), 0, 0);
    for _ in 0..asked.unwrap_or(ROUNDS) {
        if asked.is_none() && begun.elapsed() > Duration::from_secs(SECONDS_MAX) {
            break;
        }
        world.keep_installing().await;
        // The moment of the kill is what is random here; nothing waits for this to be over.
        let wait = tokio::time::sleep(Duration::from_millis(dice.roll(WAIT_MS_MAX)));
        if dice.roll(2) == 0 {
            wait.await;
            world.kill_agent(dice.roll(u64::from(world::DEVICES)) as usize).await;
            agents += 1;
        } else {
            world.kill_controller(wait).await;
            controllers += 1;
        }
    }
    world.check().await;
    let (released, reverted, decided) = world.done().await;
    println!(
        "{agents} kills of agents, {controllers} of the controller, {released} versions released \
         ({reverted} taken back), {decided} decisions acknowledged, {} s",
        begun.elapsed().as_secs()
    );
}
