//! One service, or one device, that takes everything up: it leaves room for the others.

use anyhow::{Result, ensure};
use notify::fakes::Instead;
use serde_json::json;
use waltalkie_tests::harness::{LONG, until};

use super::world::{World, apple_token};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_leaves_room_for_the_others() -> Result<()> {
    let world =
        World::make("hanging-service", &[("notify.sends_at_once", "4"), ("notify.timeout_ms", "15000")]).await?;
    let process = world.run().await?;
    let alice = world.arrive(&process, "alice").await?;
    let mut with_phones = Vec::new();
    for number in 0..7 {
        let person = world.arrive(&process, &format!("person-{number}")).await?;
        let phone = json!({ "device_id": "phone", "platform": "ios", "address": apple_token(number) });
        person.post("/v1/users/me/devices", phone).await?.expect(201)?;
        with_phones.push(person);
        world.apns.next(Instead::Hang);
    }
    let with_tablet = world.arrive(&process, "with-tablet").await?;
    let tablet = json!({ "device_id": "tablet", "platform": "android", "address": "android-7" });
    with_tablet.post("/v1/users/me/devices", tablet).await?.expect(201)?;

    let all: Vec<_> = with_phones.iter().collect();
    let phones = alice.make_group(&all, json!({})).await?;
    let tablets = alice.make_group(&[&with_tablet], json!({})).await?;
    alice.say(&phones, "does it hang?").await?;
    until("Apple hangs", LONG, async || Ok((world.apns.unmet() <= 5).then_some(()))).await?;
    // More pushes to Apple are due than there are places, and the Android's comes after them.
    alice.say(&tablets, "is there room?").await?;
    until("the Android's push", LONG, async || Ok((!world.android(7).is_empty()).then_some(()))).await?;
    ensure!(world.apns.unmet() == 5, "Apple has {} of 4 places, and may have half", 7 - world.apns.unmet());
    let tries = process.metric("waltalkie_notifier_tries_total").await?;
    ensure!(tries < 2.0, "Apple's pushes had ended before: {tries} tries");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_refused_again_and_again_is_given_up_where_others_are_not_refused() -> Result<()> {
    let world = World::make("refused-device", &[]).await?;
    let process = world.run().await?;
    let (alice, bob) = (world.arrive(&process, "alice").await?, world.arrive(&process, "bob").await?);
    let carol = world.arrive(&process, "carol").await?;
    for (person, number) in [(&bob, 1), (&carol, 2)] {
        let ios = json!({ "device_id": "phone", "platform": "ios", "address": apple_token(number) });
        person.post("/v1/users/me/devices", ios).await?.expect(201)?;
    }
    let truth = world.installation.truth().await?;
    // Apple answers BadDeviceToken.
    truth.execute("UPDATE user_device SET address = '0a0b' WHERE user_id = 'bob'", &[]).await?;
    let (with_bob, with_carol) =
        (alice.make_group(&[&bob], json!({})).await?, alice.make_group(&[&carol], json!({})).await?);
    let devices = async || -> Result<usize> {
        let list = bob.get("/v1/users/me/devices").await?.expect(200)?;
        Ok(list["devices"].as_array().map_or(0, Vec::len))
    };
    // Nothing was taken yet: the fault may be ours.
    for number in 0..6 {
        alice.say(&with_bob, &format!("in vain {number}")).await?;
    }
    world.settled().await?;
    ensure!(process.metric("waltalkie_notifier_dead_letters_total").await? > 5.5, "all of them are refused");
    ensure!(devices().await? == 1, "the device is gone although nothing was taken");
    alice.say(&with_carol, "this is taken").await?;
    world.apple_has(2, 1).await?;
    world.settled().await?;
    for number in 0..5 {
        ensure!(devices().await? == 1, "the device is gone after {number} refusals");
        alice.say(&with_bob, &format!("in vain again {number}")).await?;
        world.settled().await?;
    }
    ensure!(devices().await? == 0, "the device is still there");
    Ok(())
}
