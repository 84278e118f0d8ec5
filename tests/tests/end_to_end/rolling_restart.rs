//! Two gateways behind HAProxy are restarted one after the other while people talk: nothing is lost, and nobody sees an error.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use uuid::Uuid;
use waltalkie::history::{Kind, Op};
use waltalkie_tests::checker::{self, count};
use waltalkie_tests::faults::Crowd;
use waltalkie_tests::harness::{Balancer, Installation, LONG, Person, RoleProcess, Servers, chats, evidence_of, until};

/// People on WebSockets.
const PEOPLE: usize = 20;
/// People who ask by HTTP, without a pause.
const ASKING: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_loses_nothing_and_shows_no_error() -> Result<()> {
    let settings = [("limits.commands_per_s", "1000"), ("limits.commands_burst", "1000")];
    let installation = Installation::make_on(Servers::shared()?, "rolling-restart", &settings).await?;
    let behind = installation.run(&["persister", "cdc", "projector", "publisher"]).await?;
    let mut addresses = Vec::new();
    let mut gateways = Vec::new();
    for _ in 0..2 {
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        gateways.push(gateway(&installation, &listen).await?);
        addresses.push(listen);
    }
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let balancer = Balancer::start(installation.logs(), &addresses).await?;
    let path = installation.logs().join("history.jsonl");
    let mut crowd = Crowd::gather(&installation, &balancer.url, PEOPLE, &path).await?;
    let is_over = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let mut asking = Vec::new();
    for number in 0..ASKING {
        let person = Person::arrive(&installation.config()?, &balancer.url, &format!("asking-{number}")).await?;
        asking.push(tokio::spawn(ask(person, Arc::clone(&is_over), Arc::clone(&asked))));
    }
    everybody(&installation, &crowd).await?;

    for number in 1..=2 {
        let process = gateways.remove(0);
        let before = opened(&crowd).await?;
        crowd.note(&format!("gateway {number} stops")).await;
        ensure!(process.stop().await?.success(), "gateway {number} ends well");
        balancer.state(number, "DOWN").await?;
        everybody(&installation, &crowd).await?;
        let moved = opened(&crowd).await? - before;
        ensure!(moved > 0, "nobody was on gateway {number}");
        gateways.push(gateway(&installation, addresses[number - 1]).await?);
        balancer.state(number, "UP").await?;
        everybody(&installation, &crowd).await?;
        println!("gateway {number} restarted: {moved} connections moved");
    }

    is_over.store(true, Ordering::Relaxed);
    for asking in asking {
        asking.await??;
    }
    crowd.fall_silent().await?;
    let heads = chats(&installation.truth().await?).await?;
    crowd.reach(&heads).await?;
    let lines = crowd.lines().await?;
    let refused: Vec<_> = lines
        .iter()
        .filter(|line| match &line.op {
            // 1001 says: connect again.
            Op::Close { code } => !matches!(code, Some(1_000 | 1_001)),
            // A handshake that failed, a frame or a command that was refused.
            Op::Note { text } => text.starts_with("no connection") || text.starts_with("error"),
            // An edit that comes late, over another connection, after a newer one of the same person: nothing to undo.
            Op::Command { code, .. } => line.kind == Kind::Fail && code.as_deref() != Some("conflict"),
            _ => false,
        })
        .collect();
    ensure!(refused.is_empty(), "clients saw {refused:#?}");
    println!("{} requests by HTTP, {} connections", asked.load(Ordering::Relaxed), opened(&crowd).await?);
    let observers = checker::observers_of(&lines);
    until("everything to be at rest and right", LONG, async || {
        checker::insist(&evidence_of(&installation, observers.clone()).await?).map(Some)
    })
    .await?;
    crowd.leave().await;
    ensure!(behind.stop().await?.success(), "roles end well");
    Ok(())
}

async fn gateway(installation: &Installation, listen: &str) -> Result<RoleProcess> {
    installation.run_with(&["gateway"], &[("gateway.listen", listen)]).await
}

async fn opened(crowd: &Crowd) -> Result<usize> {
    Ok(count(&crowd.lines().await?, |op| matches!(op, Op::Open { .. })))
}

/// Waits until what is said from now on has reached everybody.
async fn everybody(installation: &Installation, crowd: &Crowd) -> Result<()> {
    let before = chats(&installation.truth().await?).await?;
    let heads = until("new messages in all chats", LONG, async || {
        let now = chats(&installation.truth().await?).await?;
        Ok(before.iter().all(|place| !now.contains(place)).then_some(now))
    })
    .await?;
    crowd.reach(&heads).await
}

/// Writes and reads by HTTP until it is over; every answer must be a good one.
async fn ask(person: Person, is_over: Arc<AtomicBool>, asked: Arc<AtomicUsize>) -> Result<()> {
    let chat_id = person.make_group(&[], json!({})).await?;
    let mut said = 0_i64;
    while !is_over.load(Ordering::Relaxed) {
        said += 1;
        let key = Uuid::new_v4().to_string();
        let body = json!({ "content": format!("number {said}") });
        let path = format!("/v1/chats/{chat_id}/messages");
        let sent = person.post_once(&path, &key, body).await.context("a message")?.expect(201)?;
        ensure!(sent["seq"] == said + 1, "{sent} is message {said}");
        let page = person.get(&format!("{path}?limit=1")).await.context("the latest message")?.expect(200)?;
        ensure!(page["messages"][0]["message_id"] == sent["message_id"], "{page} after {sent}");
        asked.fetch_add(2, Ordering::Relaxed);
    }
    Ok(())
}
