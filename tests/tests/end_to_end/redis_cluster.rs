//! Redis as a cluster, behind TLS and a password: masters die, come back and hand over their slots, all nodes lose everything, and
//! people talk on. And a single server behind both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use local_stack::{LoneRedisCluster, RedisLock};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use redis::Pipeline;
use runtime::redis::{Commands, Heard};
use runtime::{Secret, Shutdown, config};
use serde_json::json;
use tokio::sync::mpsc;
use uuid::Uuid;
use waltalkie_tests::harness::{Installation, LONG, Person, Servers, Socket, until, within};

const CHANNELS: usize = 300;
/// Three masters with a replica each.
const NODES: usize = 6;
/// After so long a word that may have been lost is said again.
const AGAIN: Duration = Duration::from_secs(5);

/// A CA, and a key with its certificate for this machine.
fn lock(folder: &Path) -> Result<RedisLock> {
    let mut params = CertificateParams::default();
    // Another name than the key's below: OpenSSL takes a certificate that names itself as issuer for its own.
    params.distinguished_name.push(DnType::CommonName, "the tests' authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &ca)?;
    let lock = RedisLock {
        password: "open sesame".replace(' ', "-"),
        certificate: folder.join("server.pem"),
        ca: folder.join("ca.pem"),
    };
    fs::write(&lock.certificate, format!("{}{}", certificate.pem(), key.serialize_pem()))?;
    fs::write(&lock.ca, ca.pem())?;
    Ok(lock)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_server_behind_tls_and_a_password_carries_commands_and_channels() -> Result<()> {
    runtime::tls::install_provider();
    let folder = tempfile::tempdir()?;
    let RedisLock { password, certificate, ca } = lock(folder.path())?;
    let plain = Servers::shared()?.redis;
    let mut owner = redis::Client::open(plain.as_str())?.get_multiplexed_async_connection().await?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let [certificate, ca_file] = [&certificate, &ca].map(|path| path.to_string_lossy().into_owned());
    let settings = [
        ("tls-cert-file", certificate.as_str()),
        ("tls-key-file", certificate.as_str()),
        ("tls-ca-cert-file", ca_file.as_str()),
        ("tls-auth-clients", "no"),
        ("tls-port", port.as_str()),
    ];
    // A second listener of the server that all share; others don't notice.
    for (name, value) in settings {
        redis::cmd("CONFIG").arg(&["SET", name, value]).exec_async(&mut owner).await.context(name.to_owned())?;
    }
    let user = format!("behind-tls-{}", Uuid::new_v4().simple());
    let word = format!(">{password}");
    redis::cmd("ACL")
        .arg(&["SETUSER", &user, "reset", "on", &word, "~*", "&*", "+@all"])
        .exec_async(&mut owner)
        .await?;

    let to = |password: &str| Secret::new(format!("rediss://{user}:{password}@127.0.0.1:{port}"));
    let config = config::Redis { url: to(&password), ca_file };
    let (shutdown, mut commands) = (Shutdown::new(), runtime::redis::commands(&config)?);
    let mut pipeline = Pipeline::new();
    pipeline.cmd("SET").arg(&user).arg(1).arg("PX").arg(60_000).ignore().cmd("GET").arg(&user);
    ensure!(pipeline.query_async::<Vec<i64>>(&mut commands).await? == [1]);
    let (subscriptions, mut hearing) = runtime::redis::subscriber(&config, &shutdown)?;
    let channels = [user.clone()];
    subscriptions.subscribe(user.clone()).await;
    subscribed(&mut hearing, &channels, false).await?;
    said_and_heard(&mut commands, &mut hearing, &channels, "behind tls").await?;

    // Neither a wrong password nor a certificate of nobody's comes in.
    let strangers = [
        config::Redis { url: to("wrong"), ca_file: config.ca_file.clone() },
        config::Redis { url: config.url.clone(), ca_file: String::new() },
    ];
    for stranger in strangers {
        let mut commands = runtime::redis::commands(&stranger)?;
        let mut pipeline = Pipeline::new();
        let answer = pipeline.cmd("GET").arg(&user).query_async::<Vec<i64>>(&mut commands).await;
        ensure!(answer.is_err(), "{stranger:?} came in");
    }
    shutdown.begin();
    redis::cmd("ACL").arg(&["DELUSER", &user]).exec_async(&mut owner).await?;
    redis::cmd("CONFIG").arg(&["SET", "tls-port", "0"]).exec_async(&mut owner).await?;
    Ok(())
}

/// A cluster behind TLS and a password, and how clients come in.
pub(super) async fn cluster(folder: &Path) -> Result<(LoneRedisCluster, config::Redis)> {
    runtime::tls::install_provider();
    let lock = lock(folder)?;
    let ca_file = lock.ca.to_string_lossy().into_owned();
    let cluster = LoneRedisCluster::start(folder.join("nodes"), Some(lock)).await?;
    let config = config::Redis { url: Secret::new(cluster.url()), ca_file };
    Ok((cluster, config))
}

/// Sends a word on each channel until Redis has taken them all, as the publisher does.
async fn say(redis: &mut Commands, channels: &[String], word: &str) -> Result<()> {
    let mut pipeline = Pipeline::with_capacity(channels.len());
    for channel in channels {
        pipeline.cmd("SPUBLISH").arg(channel).arg(word).ignore();
    }
    until("Redis to take all words", LONG, async || Ok(Some(pipeline.exec_async(redis).await?))).await
}

/// Hears until each channel was subscribed, after a loss if there has to be one.
async fn subscribed(hearing: &mut mpsc::Receiver<Heard>, channels: &[String], after_a_loss: bool) -> Result<()> {
    let mut missing: BTreeSet<&str> = channels.iter().map(String::as_str).collect();
    let mut is_lost = !after_a_loss;
    let all = async {
        while !is_lost || !missing.is_empty() {
            match hearing.recv().await.context("the subscriber ended")? {
                Heard::Lost => {
                    is_lost = true;
                    missing = channels.iter().map(String::as_str).collect();
                }
                Heard::Subscribed(channel) => {
                    missing.remove(&*channel);
                }
                Heard::Message { .. } => {}
            }
        }
        Ok(())
    };
    within("all channels to be subscribed", LONG, all).await?
}

/// Hears until the word has come on each channel, and tells the most often that it came on one so far.
async fn heard(hearing: &mut mpsc::Receiver<Heard>, channels: &[String], word: &str, limit: Duration) -> Result<usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let all = async {
        while counts.len() < channels.len() {
            match hearing.recv().await.context("the subscriber ended")? {
                Heard::Message { channel, payload } if payload == word.as_bytes() => {
                    *counts.entry(channel).or_default() += 1;
                }
                Heard::Lost => anyhow::bail!("lost while nothing happened"),
                _ => {}
            }
        }
        Ok(())
    };
    within(&format!("{word} on all channels"), limit, all).await??;
    ensure!(channels.iter().all(|channel| counts.contains_key(channel)), "other channels than those asked for");
    Ok(counts.into_values().max().unwrap_or_default())
}

/// Says a word until it is heard on all channels, and once on each: what was said before the nodes had found each other again
/// went nowhere, as Pub/Sub may.
async fn said_and_heard(
    redis: &mut Commands,
    hearing: &mut mpsc::Receiver<Heard>,
    channels: &[String],
    word: &str,
) -> Result<()> {
    let mut tries = 0;
    until(&format!("{word} to be taken and heard"), LONG, async || {
        tries += 1;
        // Another word each time, so that none of an earlier try counts.
        let word = format!("{word} {tries}");
        say(redis, channels, &word).await?;
        let most_often = heard(hearing, channels, &word, AGAIN).await?;
        ensure!(most_often == 1, "a channel is subscribed {most_often} times");
        Ok(Some(()))
    })
    .await
}

/// Waits until the cluster has three masters, and this node is one of them or isn't.
async fn until_master(cluster: &mut LoneRedisCluster, node: usize, is_master: bool) -> Result<()> {
    until("the failover", LONG, async || {
        let masters = cluster.masters().await;
        Ok((masters.len() == 3 && masters.contains(&node) == is_master).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_channels_find_their_masters_however_those_change() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut cluster, config) = cluster(folder.path()).await?;
    let (shutdown, mut redis) = (Shutdown::new(), runtime::redis::commands(&config)?);
    ensure!(redis.masters().await? == 3);
    let mut pipeline = Pipeline::new();
    for number in 0..200 {
        pipeline.cmd("SET").arg(format!("key-{number}")).arg(number).arg("GET");
        pipeline.cmd("EXISTS").arg(format!("key-{number}"));
    }
    let answers: Vec<(Option<i64>, i64)> = pipeline.query_async(&mut redis).await?;
    ensure!(answers.iter().all(|answer| *answer == (None, 1)), "{answers:?}");
    let answers: Vec<(Option<i64>, i64)> = pipeline.query_async(&mut redis).await?;
    ensure!(answers.iter().zip(0..).all(|(answer, number)| *answer == (Some(number), 1)), "out of order: {answers:?}");

    let (subscriptions, mut hearing) = runtime::redis::subscriber(&config, &shutdown)?;
    let channels: Vec<String> = (0..CHANNELS).map(|number| format!("channel-{number}")).collect();
    for channel in &channels {
        subscriptions.subscribe(channel.clone()).await;
    }
    subscribed(&mut hearing, &channels, false).await?;
    said_and_heard(&mut redis, &mut hearing, &channels, "first").await?;

    // A master dies: its replica takes its place.
    cluster.kill(0).await;
    subscribed(&mut hearing, &channels, true).await?;
    until_master(&mut cluster, 0, false).await?;
    said_and_heard(&mut redis, &mut hearing, &channels, "second").await?;

    // It comes back as a replica and takes its place again, in an orderly way: commands follow. It refuses until it has its
    // master's answers, and gives up where its master is slow.
    cluster.start_again(0).await?;
    cluster.whole().await?;
    until("the order of a failover, and the failover", LONG, async || {
        if cluster.masters().await.contains(&0) {
            return Ok(Some(()));
        }
        cluster.order(0, "CLUSTER FAILOVER").await?;
        within("the failover", AGAIN, until_master(&mut cluster, 0, true)).await?.map(Some)
    })
    .await?;
    cluster.whole().await?;
    said_and_heard(&mut redis, &mut hearing, &channels, "third").await?;

    // A slot moves from one master to another: its channel moves too.
    let channel = &channels[..1];
    let slot = cluster.ask(0, &format!("CLUSTER KEYSLOT {}", channel[0])).await?;
    let (mut from, mut to) = (None, None);
    for master in cluster.masters().await {
        let is_here = !cluster.ask(master, &format!("EXISTS {}", channel[0])).await?.starts_with("-MOVED");
        *if is_here { &mut from } else { &mut to } = Some(master);
    }
    let (from, to) = (from.context("nobody has the slot")?, to.context("one master only")?);
    let (source, target) = (cluster.ask(from, "CLUSTER MYID").await?, cluster.ask(to, "CLUSTER MYID").await?);
    cluster.order(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {source}")).await?;
    cluster.order(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {target}")).await?;
    for node in [to, from] {
        cluster.order(node, &format!("CLUSTER SETSLOT {slot} NODE {target}")).await?;
    }
    subscribed(&mut hearing, channel, true).await?;
    said_and_heard(&mut redis, &mut hearing, channel, "fourth").await?;
    drop(subscriptions);
    shutdown.begin();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_talk_on_when_masters_die_or_freeze_and_when_all_is_lost() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut cluster, config) = cluster(folder.path()).await?;
    let servers = Servers { redis: config.url.expose().to_owned(), ..Servers::shared()? };
    let installation = Installation::make_on(servers, "redis-cluster", &[("redis.ca_file", &config.ca_file)]).await?;
    let process = installation.run(&["all"]).await?;
    let alice = Person::arrive(&installation.config()?, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&installation.config()?, process.gateway()?, "bob").await?;
    let mut chats = Vec::new();
    for _ in 0..6 {
        chats.push(alice.make_group(&[&bob], json!({})).await?);
    }
    let (mut here, mut there) = (alice.connect().await?, bob.connect().await?);
    everywhere(&chats, &mut here, &mut there, "before").await?;
    for victim in [0, 1] {
        if victim == 0 {
            cluster.kill(victim).await;
        } else {
            cluster.freeze(victim).await;
        }
        until("its replica to take its place", LONG, async || {
            Ok(cluster.masters().await.contains(&(victim + 3)).then_some(()))
        })
        .await?;
        // None is lost while the gateway finds its way.
        everywhere(&chats, &mut here, &mut there, &format!("after {victim}")).await?;
        // What isn't healed from the tables comes live: published by one process, heard by another.
        until("messages to come live again", LONG, async || {
            let healed = process.metric("waltalkie_fanout_healed_events_total").await?;
            everywhere(&chats, &mut here, &mut there, "live").await?;
            Ok((process.metric("waltalkie_fanout_healed_events_total").await? <= healed).then_some(()))
        })
        .await?;
    }

    // All that Redis holds goes. The frozen one would answer late that it isn't one of them.
    cluster.kill(1).await;
    let masters = cluster.masters().await;
    ensure!(masters.len() == 3, "masters are {masters:?}");
    for master in masters {
        cluster.order(master, "FLUSHALL").await?;
    }
    everywhere(&chats, &mut here, &mut there, "after FLUSHALL").await?;
    // Then all of its nodes, at once.
    for node in 0..NODES {
        cluster.kill(node).await;
    }
    here.say(&chats[0], &Uuid::now_v7().to_string(), "while there is no Redis").await?;
    for node in 0..NODES {
        cluster.start_again(node).await?;
    }
    cluster.whole().await?;
    there.wait("message", |message| message["content"] == "while there is no Redis").await?;
    everywhere(&chats, &mut here, &mut there, "after a restart of all nodes").await?;
    as_in_postgres(&installation, &mut here).await
}

/// Waits until a connection has been sent what Postgres has, in all chats and since the first message.
async fn as_in_postgres(installation: &Installation, socket: &mut Socket) -> Result<()> {
    let truth = installation.truth().await?;
    let rows = truth.query("SELECT chat_id, sequence_number, content FROM message", &[]).await?;
    let kept: BTreeSet<(String, i64, String)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    until("a view that equals Postgres", LONG, async || {
        let messages = socket.unread().iter().filter(|frame| frame["event"] == "message");
        let messages = messages.filter_map(|frame| {
            let message = &frame["payload"];
            let [chat_id, content] = ["chat_id", "content"].map(|key| message[key].as_str().map(str::to_owned));
            Some((chat_id?, message["seq"].as_i64()?, content?))
        });
        let seen: BTreeSet<(String, i64, String)> = messages.collect();
        ensure!(seen == kept, "Postgres has {} messages, and {} were sent", kept.len(), seen.len());
        Ok(Some(()))
    })
    .await
}

/// One says something in each chat and the other sees it.
async fn everywhere(chats: &[String], here: &mut Socket, there: &mut Socket, content: &str) -> Result<()> {
    for chat_id in chats {
        let content = format!("{content} in {chat_id}: {}", Uuid::new_v4());
        here.say(chat_id, &Uuid::now_v7().to_string(), &content).await?;
        there.wait("message", |message| message["content"] == content).await?;
    }
    Ok(())
}
