//! A standby takes over from a process that is killed or stopped in mid-transaction; a worker outlives an outage of Kafka and
//! of the registry. Figures are printed; what is asserted leaves room for a busy machine.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Instant;

use crate::support::victims::{self, Proxied};
use crate::support::{PATIENCE, Stack, eventually};
use anyhow::{Context, Result, ensure};
use cdc_worker::audit;
use faults::Victim;

/// What a takeover never takes, however busy the machine: several times the lease and the work after it, and half of the
/// ten seconds after which Kafka itself ends a transaction that nobody fenced. How long it takes is measured by
/// `waltalkie bench cdc --workload takeover`.
const LATE_MS: i64 = 5_000;

/// One that streams, and another that stands by and will tell its first commit.
async fn pair(stack: &Stack) -> Result<(Victim, Victim)> {
    let first = victims::start(&stack.config, &[])?;
    stack.is_streamed().await?;
    let standby = victims::start(&stack.config, &["begun:1:tell", "committed:1:tell"])?;
    victims::health(&standby, 0, true, "").await?;
    Ok((first, standby))
}

/// Says how long a standby took to stream, in milliseconds, since the fault.
async fn took_over(standby: &Victim, fault: &str, since_ms: i64) -> Result<i64> {
    let streams_ms = victims::reached(standby, "begun").await? - since_ms;
    let committed_ms = victims::reached(standby, "committed").await? - since_ms;
    eprintln!(
        "{fault}: the standby streamed after {streams_ms} ms (goal: 2,000), had committed after {committed_ms} ms"
    );
    Ok(streams_ms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_from_a_killed_one() -> Result<()> {
    let stack = Stack::new().await?;
    let (mut first, standby) = pair(&stack).await?;
    victims::order(&mut first, "row:9000:kill").await?;
    stack.send_many("c", 1, 12_000).await?;
    let killed = victims::reached(&first, "row").await?;
    first.was_killed().await?;
    let took_ms = took_over(&standby, "kill -9 in mid-transaction", killed).await?;
    stack.equals(12_000).await?;
    ensure!(took_ms < LATE_MS, "the takeover took {took_ms} ms");
    victims::end(standby).await?;
    stack.equals(12_000).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_stopped_for_long_publishes_nothing_and_stands_by() -> Result<()> {
    let stack = Stack::new().await?;
    let (mut first, mut standby) = pair(&stack).await?;
    stack.send_many("c", 1, 50).await?;
    stack.equals(50).await?;
    victims::order(&mut first, "produced:1:wait").await?;
    stack.send_many("c", 51, 100).await?;
    let stopped = victims::reached(&first, "produced").await?;
    first.freeze().await?;
    first.tell("go")?;
    let stops = Instant::now();
    let took_ms = took_over(&standby, "SIGSTOP with an open Kafka transaction", stopped).await?;
    stack.equals(100).await?;
    ensure!(took_ms < LATE_MS, "the takeover took {took_ms} ms");
    let aborted = stack.aborted().await?;
    ensure!(aborted > 0, "the stopped one had no transaction open");

    // Past the lease, the transaction's timeout and Kafka's cleanup of such transactions.
    tokio::time::sleep_until((stops + victims::lasting(15)).into()).await;
    first.thaw()?;
    first.report("going on", PATIENCE, |report| report["report"] == "went_on").await?;
    eventually("it notices", async || Ok(first.log_end().contains("standing by"))).await?;
    stack.equals(100).await?;
    ensure!(standby.is_there()? && first.is_there()?);

    // It stands by in earnest: it takes over in turn.
    victims::order(&mut first, "committed:1:tell").await?;
    let taken = first.reports().len();
    standby.kill().await?;
    stack.send_many("c", 101, 200).await?;
    stack.equals(200).await?;
    let again = first.reports().iter().skip(taken).any(|report| report["point"] == "committed");
    ensure!(again, "somebody else published: {:?}", first.reports());
    victims::end(first).await?;
    stack.equals(200).await?;
    ensure!(stack.aborted().await? == aborted, "the stopped one published something");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_stopped_before_it_fences_finds_what_was_published_meanwhile() -> Result<()> {
    let stack = Stack::new().await?;
    let first = victims::start(&stack.config, &["fencing:1:wait"])?;
    victims::reached(&first, "fencing").await?;
    first.freeze().await?;
    // Its lease runs out, another one streams, and publishes what wasn't there when the first looked at the server.
    let second = victims::start(&stack.config, &[])?;
    stack.is_streamed().await?;
    stack.send_many("c", 1, 100).await?;
    stack.equals(100).await?;
    let mut first = first;
    first.tell("go")?;
    first.thaw()?;
    first.report("going on", PATIENCE, |report| report["report"] == "went_on").await?;
    // It has fenced the second, whichever of them publishes now.
    stack.send_many("c", 101, 200).await?;
    stack.equals(200).await?;
    victims::end(first).await?;
    victims::end(second).await?;
    stack.equals(200).await
}

/// Kafka is away, silent or refusing; Postgres gives up connections that don't answer for three seconds.
async fn outage(is_silent: bool) -> Result<()> {
    let stack = Stack::new().await?;
    let database = stack.config.names().database(runtime::names::Database::Truth);
    stack.sql.batch_execute(&format!("ALTER DATABASE \"{database}\" SET wal_sender_timeout = '3s'")).await?;
    let proxied = Proxied::of(&stack.config).await?;
    let mut victim = victims::start(&proxied.config, &[])?;
    stack.is_streamed().await?;
    stack.send_many("c", 1, 50).await?;
    stack.equals(50).await?;

    let heard = victim.reports().len();
    let (began, held) = (Instant::now(), proxied.kafka.held_back());
    if is_silent {
        proxied.kafka.freeze();
    } else {
        let cut = proxied.kafka.refuse();
        ensure!(cut > 0, "nothing was cut");
    }
    let streams = stack.streams().await?.context("the stream")?;
    stack.send_many("c", 51, 100).await?;
    eventually("the fault hits", async || {
        Ok(if is_silent { proxied.kafka.held_back() > held } else { proxied.kafka.resets() > 1 })
    })
    .await?;
    // A silent Kafka is waited for, and the server is answered meanwhile; one that refuses ends the session.
    if is_silent {
        let replies = RefCell::new(BTreeSet::new());
        let sql = "SELECT reply_time::text FROM pg_stat_replication WHERE pid = $1";
        eventually("the server has heard of a worker without Kafka twice", async || {
            let row = stack.sql.query_opt(sql, &[&streams]).await?.context("the server gave the connection up")?;
            replies.borrow_mut().insert(row.get::<_, Option<String>>(0));
            Ok(replies.borrow().len() > 2)
        })
        .await?;
    }
    let problem = victims::health(&victim, heard, false, "Kafka").await?;
    tokio::time::sleep_until((began + victims::lasting(20)).into()).await;
    ensure!(victim.is_there()?, "the worker ended: {:?}", victim.reports());
    ensure!(audit::records_of_all(&stack.config).await?.0 == 50, "something came through");
    proxied.kafka.heal();
    let healed = Instant::now();
    stack.equals(100).await?;
    eprintln!(
        "Kafka away for {:?} ({problem}): all was published {:?} after it was back",
        victims::lasting(20),
        healed.elapsed()
    );
    stack.send_many("c", 101, 150).await?;
    stack.equals(150).await?;
    victims::end(victim).await?;
    stack.equals(150).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_silent_for_a_while() -> Result<()> {
    outage(true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_refuses_for_a_while() -> Result<()> {
    outage(false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_is_away() -> Result<()> {
    let stack = Stack::new().await?;
    let proxied = Proxied::of(&stack.config).await?;
    let mut first = victims::start(&proxied.config, &[])?;
    stack.is_streamed().await?;
    // The running one goes on with the ids that it knows.
    proxied.registry.refuse();
    stack.send_many("c", 1, 100).await?;
    stack.equals(100).await?;
    // One that starts waits, and says for what.
    let second = victims::start(&proxied.config, &[])?;
    let said = victims::health(&second, 0, false, "registry").await?;
    eprintln!("started without a registry: {}", said["problem"]);
    ensure!(proxied.registry.resets() > 0, "nobody asked the registry");
    first.kill().await?;
    stack.send_many("c", 101, 200).await?;
    ensure!(stack.streams().await?.is_none(), "somebody streams");
    proxied.registry.heal();
    stack.equals(200).await?;
    victims::end(second).await?;
    stack.equals(200).await
}
