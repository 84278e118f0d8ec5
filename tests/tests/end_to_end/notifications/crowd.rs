//! A large group whose members are all away: one record for all of them, each is told once, and who is written to alone
//! doesn't stand in line behind them.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use schemas::topics::Topic;
use serde_json::json;
use waltalkie_tests::harness::{LONG, read_all, until};

use super::world::{World, apple_token};

const MEMBERS: i64 = 2_000;
/// Every fourth has none.
const WITH_DEVICE: usize = 1_500;

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_is_one_record_and_nobody_waits_behind_it() -> Result<()> {
    let world = World::make("crowd", &[("notify.large_chat_members", "1000"), ("notify.sends_at_once", "4")]).await?;
    let process = world.run().await?;
    let alice = world.arrive(&process, "alice").await?;
    let _bob = world.arrive_with_phone(&process, "bob", 1).await?;
    let truth = world.installation.truth().await?;
    // People who have been here before, and their phones.
    let people = "INSERT INTO \"user\" (id, name, created_at, updated_at)
                  SELECT 'person-' || n, 'Person ' || n, now(), now() FROM generate_series(1, $1::bigint) n";
    truth.execute(people, &[&MEMBERS]).await?;
    let phones = "INSERT INTO user_device (user_id, device_id, platform, address, created_at, updated_at)
                  SELECT 'person-' || n, 'phone', 'ios', 'c0' || lpad(to_hex(n), 62, '0'), now(), now()
                    FROM generate_series(1, $1::bigint) n WHERE n % 4 <> 0";
    ensure!(truth.execute(phones, &[&MEMBERS]).await? == WITH_DEVICE as u64);
    let crowd = alice.make_group(&[], json!({ "name": "Crowd" })).await?;
    let everybody: Vec<String> = (1..=MEMBERS).map(|number| format!("person-{number}")).collect();
    alice.post(&format!("/v1/chats/{crowd}/members"), json!({ "user_ids": everybody })).await?.expect(201)?;
    let direct = alice.post("/v1/chats", json!({ "is_group": false, "member_ids": ["bob"] })).await?.expect(201)?;
    let direct = direct["chat_id"].as_str().context("no chat_id")?;

    alice.say(&crowd, "to all of you").await?;
    until("the first of the crowd to be told", LONG, async || Ok((!world.apns.accepted().is_empty()).then_some(())))
        .await?;
    alice.say(direct, "to you alone").await?;
    world.apple_has(1, 1).await?;
    world.settled().await?;

    let told = world.apns.accepted();
    let devices: HashSet<&str> = told.iter().map(|sent| sent.device.as_str()).collect();
    ensure!(
        told.len() == WITH_DEVICE + 1 && devices.len() == told.len(),
        "{} told, {} of them",
        told.len(),
        devices.len()
    );
    let place = told.iter().position(|sent| sent.device == apple_token(1)).context("bob")?;
    ensure!(place + 500 < told.len(), "bob waited behind {place} of {}", told.len());
    let logged = read_all(&world.config, Topic::ChatNotifications).await?;
    let of_crowd = logged.iter().filter(|record| record.key == crowd).count();
    ensure!(of_crowd == 1 && logged.len() == 2, "{of_crowd} of {} records", logged.len());
    Ok(())
}
