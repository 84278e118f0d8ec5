//! A provider that fails again and again is spared for a while, the others go on, and what was held back is sent when it works.

use std::time::Instant;

use anyhow::{Result, ensure};
use notify::breaker::Policy;
use notify::fakes::Instead;
use serde_json::json;
use waltalkie_tests::harness::{LONG, until};

use super::company::Pair;
use super::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_again_and_again_is_spared_and_the_others_go_on() -> Result<()> {
    // More tries than it takes to break.
    let world = World::make("breaker", &[("notify.tries", "40")]).await?;
    let process = world.run().await?;
    let Pair { alice, bob, chat_id } = world.pair(&process).await?;
    let android = json!({ "device_id": "tablet", "platform": "android", "address": "android-1" });
    bob.post("/v1/users/me/devices", android).await?.expect(201)?;
    let Policy { failures, first: spared, .. } = Policy::default();
    for _ in 0..failures {
        world.apns.next(Instead::status(500));
    }
    let open = async || process.metric("waltalkie_notifier_open_breakers").await;
    alice.say(&chat_id, "tried again and again").await?;
    let mut closed_at = Instant::now();
    until("the breaker to open", LONG, async || {
        let now = Instant::now();
        // It opens by the last failure, so after any moment at which that hadn't come.
        if world.apns.unmet() > 0 {
            closed_at = now;
        }
        Ok((open().await? > 0.5).then_some(()))
    })
    .await?;
    ensure!(world.apns.unmet() == 0, "it broke early");
    for number in 1..=3 {
        alice.say(&chat_id, &format!("meanwhile {number}")).await?;
    }
    until("Android's to come", LONG, async || Ok((world.android(1).len() == 4).then_some(()))).await?;
    // Whatever reached it would have been taken.
    ensure!(world.apple(1).is_empty() || closed_at.elapsed() >= spared, "Apple wasn't spared");
    world.apple_has(1, 1).await?;
    ensure!(closed_at.elapsed() >= spared, "Apple was spared for {:?} only", closed_at.elapsed());
    world.apple_has(1, 4).await?;
    until("the breaker to close", LONG, async || Ok((open().await? < 0.5).then_some(()))).await?;
    world.settled().await?;
    ensure!((world.apple(1).len(), world.android(1).len()) == (4, 4), "each once");
    ensure!(process.metric("waltalkie_notifier_dead_letters_total").await? < 0.5);
    Ok(())
}
