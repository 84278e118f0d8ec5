//! Every role starts while the schema registry is away, with the ids that it met before.

use anyhow::{Context, Result, ensure};
use faults::Proxy;
use notify::fakes::FcmFake;
use schemas::topics::Topic;
use serde_json::json;
use waltalkie_tests::harness::{Installation, LONG, Person, Servers, read_all, target_dir, until};

const ROLES: [&str; 8] = ["gateway", "persister", "cdc", "projector", "publisher", "operators", "notifier", "janitor"];

#[tokio::test(flavor = "multi_thread")]
async fn every_role_starts_with_ids_that_it_met_before() -> Result<()> {
    let servers = Servers::shared()?;
    let (registry, url) = Proxy::before_url(&servers.registry).await?;
    let folder = tempfile::tempdir_in(target_dir()?)?;
    let cache = folder.path().join("registry");
    let cache = cache.to_str().context("a path")?;
    // Without a way out the notifier would have nothing to do.
    runtime::tls::install_provider();
    let fcm = FcmFake::start().await.config();
    let settings = [
        ("registry.url", url.as_str()),
        ("registry.cache_dir", cache),
        ("operators.gather_ms", "50"),
        ("notify.public_url", "http://chat.example"),
        ("notify.fcm_service_account", fcm.service_account.expose()),
        ("notify.fcm_endpoint", fcm.endpoint.as_str()),
    ];
    let installation = Installation::make_on(servers, "registry-away", &settings).await?;
    let config = installation.config()?;
    let process = installation.run(&ROLES).await?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let tablet = json!({ "device_id": "tablet", "platform": "android", "address": "android-7" });
    bob.post("/v1/users/me/devices", tablet).await?.expect(201)?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    alice.say(&chat_id, "while it is there").await?;
    let told = async |count: usize| {
        until("a notification", LONG, async || {
            Ok((read_all(&config, Topic::ChatNotifications).await?.len() >= count).then_some(()))
        })
        .await
    };
    told(1).await?;
    ensure!(process.stop().await?.success());

    registry.refuse();
    let refused = registry.resets();
    let process = installation.run(&ROLES).await?;
    let (alice, bob) = (alice.at(process.gateway()?), bob.at(process.gateway()?));
    let before = read_all(&config, Topic::ChatNotifications).await?.len();
    alice.say(&chat_id, "while bob is away too").await?;
    told(before + 1).await?;
    let mut socket = bob.connect().await?;
    let said = alice.say(&chat_id, "while it is away").await?;
    socket.wait("message", |payload| payload["message_id"] == said["message_id"]).await?;
    // The read models, receipts, and what the operators remember.
    let read = installation.read().await?;
    socket.send("mark_read", json!({ "marks": { &chat_id: said["seq"] } })).await?;
    let sql =
        "SELECT (SELECT head_seq FROM chat_head) = $1 AND EXISTS (SELECT FROM inbox_cursor WHERE delivered_seq = $1)";
    let seq = said["seq"].as_i64().context("no seq")?;
    until("the read models", LONG, async || Ok(read.query_one(sql, &[&seq]).await?.get::<_, bool>(0).then_some(())))
        .await?;
    until("the operators' state", LONG, async || {
        let events = process.metric("waltalkie_operators_events_total").await?;
        Ok((events > 0.0 && !read_all(&config, Topic::OperatorsState).await?.is_empty()).then_some(()))
    })
    .await?;
    ensure!(registry.resets() > refused, "nobody asked the registry");
    ensure!(process.stop().await?.success());
    Ok(())
}
