//! Several notifiers: they share people and tasks, one is killed with calls under way and one joins, and everybody is told of
//! everything once.

use anyhow::{Context, Result, ensure};
use notify::fakes::{ApnsFake, Instead};
use serde_json::json;
use waltalkie_tests::harness::{LONG, Person, until};

use super::world::{OTHERS, World, apple_token};

/// More than chats' and people's keys have partitions, so that each notifier gets some.
const PEOPLE: u8 = 6;
/// More than it may have under way at once.
const HANGS: usize = 100;

/// What is said to everybody, one after the other.
struct Talk<'a> {
    alice: &'a Person,
    chats: Vec<String>,
    said: Vec<String>,
}

impl Talk<'_> {
    async fn say(&mut self) -> Result<()> {
        let content = format!("number {:03}", self.said.len());
        for chat_id in &self.chats {
            self.alice.say(chat_id, &content).await?;
        }
        self.said.push(content);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_is_killed_and_one_joins_and_everybody_is_told_once() -> Result<()> {
    let world =
        World::make("several-notifiers", &[("limits.commands_per_s", "1000"), ("limits.commands_burst", "1000")])
            .await?;
    let rest = world.installation.run(&OTHERS).await?;
    // The first has an Apple of its own: what it has under way shows there.
    let apple = ApnsFake::start().await;
    let folder = tempfile::tempdir()?;
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, apple.ca_pem())?;
    let of_apple = apple.config();
    let settings = [
        ("notify.apns_endpoint", of_apple.endpoint.as_str()),
        ("notify.apns_key", of_apple.key.expose()),
        ("notify.ca_file", ca_file.to_str().context("a path")?),
        // It is killed before it gives up.
        ("notify.timeout_ms", "3000"),
    ];
    let mut first = world.installation.run_with(&["notifier"], &settings).await?;
    let _second = world.installation.run(&["notifier"]).await?;
    let alice = world.arrive(&rest, "alice").await?;
    let mut talk = Talk { alice: &alice, chats: Vec::new(), said: Vec::new() };
    for number in 0..PEOPLE {
        let person = world.arrive_with_phone(&rest, &format!("person-{number}"), number).await?;
        talk.chats.push(alice.make_group(&[&person], json!({})).await?);
    }
    until("both to have work", LONG, async || {
        talk.say().await?;
        Ok((!apple.accepted().is_empty() && !world.apns.accepted().is_empty()).then_some(()))
    })
    .await?;
    world.settled().await?;

    for _ in 0..HANGS {
        apple.next(Instead::Hang);
    }
    until("the first to have calls under way", LONG, async || {
        talk.say().await?;
        Ok((apple.unmet() < HANGS).then_some(()))
    })
    .await?;
    first.kill()?;
    let read = world.installation.read().await?;
    // Only what nobody has an answer to is leased for that long.
    let leased =
        "SELECT count(*) FROM notify_task WHERE attempt = 1 AND due_at > clock_timestamp() + interval '17 seconds'";
    ensure!(read.query_one(leased, &[]).await?.get::<_, i64>(0) > 0, "it was killed with nothing under way");
    let (third, talked) = tokio::join!(world.installation.run(&["notifier"]), async {
        for _ in 0..5 {
            talk.say().await?;
        }
        anyhow::Ok(())
    });
    let _third = third?;
    talked?;
    talk.say().await?;

    let told = |number: u8| {
        let all = apple.accepted().into_iter().chain(world.apns.accepted());
        let of_person = all.filter(|sent| sent.device == apple_token(number));
        let mut bodies: Vec<String> =
            of_person.filter_map(|sent| sent.payload["aps"]["alert"]["body"].as_str().map(str::to_owned)).collect();
        bodies.sort();
        bodies
    };
    for number in 0..PEOPLE {
        until(&format!("person {number} to be told"), LONG, async || {
            Ok((told(number).len() >= talk.said.len()).then_some(()))
        })
        .await?;
    }
    world.settled().await?;
    for number in 0..PEOPLE {
        let told = told(number);
        ensure!(told == talk.said, "person {number}: {told:?}");
    }
    Ok(())
}
