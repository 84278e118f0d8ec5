//! Twenty people talk while everything breaks in turn; at the end nothing is lost, repeated, out of order or leaked.
//!
//! With `WALTALKIE_TEST_CHAOS_S` set, random faults go on for that many seconds after each has been tried once; its seed is
//! printed and taken from `WALTALKIE_TEST_SEED`. `WALTALKIE_TEST_FAULT`, such as `KillServer(Kafka)`, keeps to one of them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use waltalkie_tests::faults::{ALL, EACH, Fault, World};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_whatever_breaks() -> Result<()> {
    runtime::tls::install_provider();
    let only = std::env::var("WALTALKIE_TEST_FAULT").unwrap_or_default();
    let is_wanted = |fault: &Fault| only.is_empty() || format!("{fault:?}") == only;
    let drawn: Vec<Fault> = ALL.into_iter().filter(is_wanted).collect();
    ensure!(!drawn.is_empty(), "{only} is none of {ALL:?}");
    let mut world = Box::pin(World::start("faults", 20)).await?;
    for fault in EACH.into_iter().filter(is_wanted) {
        Box::pin(world.suffer(fault)).await?;
    }
    let chaos_s = number("WALTALKIE_TEST_CHAOS_S").unwrap_or(0);
    let seed = number("WALTALKIE_TEST_SEED").unwrap_or_else(rand::random);
    let mut random = StdRng::seed_from_u64(seed);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(chaos_s) {
        let fault = drawn[random.random_range(0..drawn.len())];
        Box::pin(world.suffer(fault)).await.map_err(|error| error.context(format!("seed {seed}")))?;
    }
    Box::pin(world.judge()).await.map_err(|error| error.context(format!("seed {seed}")))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
