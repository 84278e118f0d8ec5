//! Kafka and PostgreSQL are away from the notifier for a while, and break off in the middle: everything arrives afterwards, once.

use anyhow::{Result, ensure};
use faults::Proxy;
use serde_json::json;
use waltalkie_tests::harness::{LONG, Person, until};

use super::world::{OTHERS, World};

async fn say(alice: &Person, chat_id: &str, said: &mut Vec<String>) -> Result<()> {
    let content = format!("number {:03}", said.len());
    alice.say(chat_id, &content).await?;
    said.push(content);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_away_for_a_while_cost_nothing_but_time() -> Result<()> {
    let world = World::make("notifier-outages", &[]).await?;
    let rest = world.installation.run(&OTHERS).await?;
    let kafka = Proxy::before_kafka(&world.config.kafka.brokers).await?;
    let (read, read_url) = Proxy::before_url(world.config.postgres.read_url.expose()).await?;
    let address = kafka.address().to_string();
    let through = [("kafka.brokers", address.as_str()), ("postgres.read_url", &read_url)];
    let notifier = world.installation.run_with(&["notifier"], &through).await?;
    let alice = world.arrive(&rest, "alice").await?;
    let bob = world.arrive_with_phone(&rest, "bob", 1).await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let mut said = Vec::new();
    for (name, server) in [("Kafka", &kafka), ("PostgreSQL", &read)] {
        say(&alice, &chat_id, &mut said).await?;
        world.apple_has(1, said.len()).await?;
        ensure!(server.refuse() > 0, "{name} had no connection");
        let resets = server.resets();
        for _ in 0..3 {
            say(&alice, &chat_id, &mut said).await?;
        }
        until(&format!("the notifier to say that {name} is away"), LONG, async || {
            Ok((!notifier.is_ready().await && server.resets() > resets).then_some(()))
        })
        .await?;
        ensure!(world.apple(1).len() == said.len() - 3, "{name} was not away");
        server.heal();
        // It comes back and breaks off again, with work in hand.
        for number in 0..12 {
            say(&alice, &chat_id, &mut said).await?;
            if number % 4 == 3 {
                server.cut();
            }
        }
        world.apple_has(1, said.len()).await?;
        notifier.ready().await?;
    }
    world.settled().await?;
    let mut told: Vec<String> = Vec::new();
    for sent in world.apple(1) {
        told.extend(sent.payload["aps"]["alert"]["body"].as_str().map(str::to_owned));
    }
    told.sort();
    ensure!(told == said, "{told:?}");
    Ok(())
}
