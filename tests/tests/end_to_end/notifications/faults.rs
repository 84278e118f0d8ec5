//! Providers that limit, fail, hang and cut, devices that are gone, a notifier that is killed, a Redis that forgets: nothing is
//! lost and nothing comes twice.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use notify::fakes::Instead;
use serde_json::{Value, json};
use waltalkie_tests::harness::{LONG, until};

use super::company::Pair;
use super::world::{OTHERS, World, apple_token};

fn patience(status: u16) -> Instead {
    Instead::Answer { status, retry_after: Some("1".into()), body: String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_that_fail_are_tried_again_and_nothing_comes_twice() -> Result<()> {
    let world = World::make("tried-again", &[]).await?;
    let process = world.run().await?;
    let (alice, bob) = (world.arrive(&process, "alice").await?, world.arrive(&process, "bob").await?);
    let browser = world.give_devices(&bob, 1).await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    for instead in [patience(429), Instead::status(500), Instead::Hang, Instead::Cut, patience(503)] {
        world.apns.next(instead.clone());
        world.fcm.next(instead.clone());
        world.push.next(instead);
    }
    for number in 1..=4 {
        alice.say(&chat_id, &format!("number {number}")).await?;
    }
    world.apple_has(1, 4).await?;
    world.settled().await?;
    let mut bodies: Vec<Value> =
        world.apple(1).iter().map(|sent| sent.payload["aps"]["alert"]["body"].clone()).collect();
    bodies.sort_by_key(Value::to_string);
    ensure!(bodies == ["number 1", "number 2", "number 3", "number 4"], "{bodies:?}");
    ensure!(world.android(1).len() == 4 && world.browser(&browser).len() == 4, "each once");
    ensure!(process.metric("waltalkie_notifier_tries_total").await? >= 12.0 + 10.0, "the faults hit");
    ensure!(process.metric("waltalkie_notifier_dead_letters_total").await? < 0.5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_left_alone_for_as_long_as_it_says() -> Result<()> {
    let world = World::make("retry-after", &[]).await?;
    let process = world.run().await?;
    let Pair { alice, chat_id, .. } = world.pair(&process).await?;
    // Our own pauses are 400 ms at most.
    world.apns.next(Instead::Answer { status: 429, retry_after: Some("3".into()), body: String::new() });
    let began = Instant::now();
    alice.say(&chat_id, "later").await?;
    world.apple_has(1, 1).await?;
    ensure!(began.elapsed() >= Duration::from_secs(3), "again after {:?}", began.elapsed());
    ensure!(process.metric("waltalkie_notifier_tries_total").await? >= 2.0, "the fault hit");
    Ok(())
}

/// Each provider takes a message and its answer is lost: the same goes out again, with what makes a device show it once.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_without_an_answer_goes_out_again_under_the_same_key() -> Result<()> {
    let world = World::make("lost-answers", &[]).await?;
    let process = world.run().await?;
    let (alice, bob) = (world.arrive(&process, "alice").await?, world.arrive(&process, "bob").await?);
    let browser = world.give_devices(&bob, 1).await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    // Google's token first: behind this, the next request is a message's.
    alice.say(&chat_id, "answered").await?;
    world.apple_has(1, 1).await?;
    world.settled().await?;
    world.apns.next(Instead::CutAfter);
    world.fcm.next(Instead::CutAfter);
    world.push.next(Instead::CutAfter);
    let said = alice.say(&chat_id, "and not").await?;
    let message_id = said["message_id"].as_str().context("an id")?;
    let pushed = || world.push.delivered().into_iter().filter(|pushed| pushed.endpoint == browser.endpoint);
    until("each to come twice", LONG, async || {
        Ok((world.apple(1).len() >= 3 && world.android(1).len() >= 3 && pushed().count() >= 3).then_some(()))
    })
    .await?;
    world.settled().await?;

    let apple = world.apple(1);
    ensure!(apple.len() == 3 && apple[1].payload == apple[2].payload, "{apple:?}");
    ensure!(apple[1..].iter().all(|sent| sent.fields["apns-collapse-id"] == message_id), "{apple:?}");
    let android = world.android(1);
    ensure!(android.len() == 3 && android[1] == android[2], "{android:?}");
    ensure!(android[1].message["android"]["notification"]["tag"] == message_id, "{android:?}");
    ensure!(android[1].message["android"]["collapse_key"] == chat_id, "{android:?}");
    // A push service keeps the last of a topic; the service worker shows one of a tag.
    let pushed: Vec<_> = pushed().collect();
    ensure!(pushed.len() == 3 && pushed[1] == pushed[2] && pushed[1].topic.is_some(), "{pushed:?}");
    ensure!(world.browser(&browser)[2]["tag"] == message_id, "{pushed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_gone_is_removed_unless_it_was_registered_again() -> Result<()> {
    let world = World::make("gone-device", &[]).await?;
    let process = world.run().await?;
    let (alice, bob) = (world.arrive(&process, "alice").await?, world.arrive(&process, "bob").await?);
    let browser = world.give_devices(&bob, 1).await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    // Apple says since when: long before this phone registered, so it isn't this one that is gone.
    world.apns.unregister(&apple_token(1), 1_000);
    world.fcm.unregister("android-1");
    world.push.unsubscribe(&browser);
    alice.say(&chat_id, "anybody?").await?;
    let devices = async || -> Result<Vec<String>> {
        let list = bob.get("/v1/users/me/devices").await?.expect(200)?;
        let ids = list["devices"].as_array().into_iter().flatten().filter_map(|device| device["device_id"].as_str());
        Ok(ids.map(str::to_owned).collect())
    };
    until("two devices to be removed", LONG, async || Ok((devices().await? == ["phone"]).then_some(()))).await?;
    // Gone now.
    world.apns.unregister(&apple_token(1), runtime::clock::now_ms() + 60_000);
    alice.say(&chat_id, "nobody?").await?;
    until("the phone to be removed", LONG, async || Ok(devices().await?.is_empty().then_some(()))).await?;
    world.settled().await?;
    ensure!(world.apns.accepted().is_empty() && world.push.delivered().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notifier_that_is_killed_loses_nothing_and_repeats_nothing() -> Result<()> {
    let world = World::make("killed-notifier", &[]).await?;
    let rest = world.installation.run(&OTHERS).await?;
    let mut notifier = world.installation.run(&["notifier"]).await?;
    let Pair { alice, chat_id, .. } = world.pair(&rest).await?;
    alice.say(&chat_id, "before").await?;
    world.apple_has(1, 1).await?;
    // Until the notifier has written down that it is done: a killed one has to send it again.
    world.settled().await?;
    // The next one is under way when the process is killed.
    world.apns.next(Instead::Hang);
    alice.say(&chat_id, "under way").await?;
    let read = world.installation.read().await?;
    until("the call to be under way", LONG, async || {
        let sql = "SELECT count(*) FROM notify_task WHERE attempt = 1";
        Ok((read.query_one(sql, &[]).await?.get::<_, i64>(0) == 1).then_some(()))
    })
    .await?;
    notifier.kill()?;
    // What comes meanwhile waits in the topic.
    alice.say(&chat_id, "meanwhile").await?;
    let _again = world.installation.run(&["notifier"]).await?;
    world.apple_has(1, 3).await?;
    world.settled().await?;
    let mut bodies: Vec<Value> =
        world.apple(1).iter().map(|sent| sent.payload["aps"]["alert"]["body"].clone()).collect();
    bodies.sort_by_key(Value::to_string);
    ensure!(bodies == ["before", "meanwhile", "under way"], "{bodies:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgets_makes_nobody_offline() -> Result<()> {
    let world = World::make("forgetful-redis", &[]).await?;
    let process = world.run().await?;
    let mut company = world.company(&process).await?;
    ensure!(world.flush().await? > 0, "there was something to forget");
    company.say("after").await?;
    world.only_who_is_away_is_told(2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_try_brings_through_is_a_dead_letter_that_can_be_tried_again() -> Result<()> {
    let world = World::make("dead-notification", &[("notify.tries", "2")]).await?;
    let process = world.run().await?;
    let Pair { alice, chat_id, .. } = world.pair(&process).await?;
    world.apns.next(Instead::status(500));
    world.apns.next(Instead::status(500));
    alice.say(&chat_id, "twice in vain").await?;
    let letters = async || -> Result<Vec<Value>> {
        let mut command = world.installation.command()?;
        command.args(["dlq", "list", "--topic", "notifications", "--json"]);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let lines = String::from_utf8(output.stdout)?;
        Ok(lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    };
    let open = until("a dead letter", LONG, async || {
        let letters = letters().await?;
        Ok((letters.len() == 1).then_some(letters))
    })
    .await?;
    ensure!(
        open[0]["key"] == "bob" && open[0]["reason"].as_str().context("why")?.contains("after 2 tries"),
        "{open:?}"
    );
    world.settled().await?;
    ensure!(world.apple(1).is_empty());
    let mut command = world.installation.command()?;
    command.args(["dlq", "retry", "--topic", "notifications", "--open"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pushed = world.apple_has(1, 1).await?;
    ensure!(pushed[0].payload["aps"]["alert"]["body"] == "twice in vain", "{pushed:?}");
    ensure!(letters().await?.is_empty(), "it is settled");
    Ok(())
}
