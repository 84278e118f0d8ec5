//! A group of 100,000 people is made by commands of at most 500, and is then a chat like any other: what is said costs as many
//! deliveries as there are nodes and sockets with it, however many members it has.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{Installation, LONG, Person, Servers, Socket, until};

const PEOPLE: usize = 100_000;
/// What one request takes.
const AT_ONCE: usize = 10_000;
/// Members who are online, on three nodes.
const ONLINE: usize = 50;
/// Less than the commands of one request.
const FEW: [(&str, &str); 1] = [("limits.commands_burst", "20")];

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_people_are_one_chat() -> Result<()> {
    let installation = Installation::make_on(Servers::shared()?, "large-group", &FEW).await?;
    let process = installation.run(&["gateway", "persister", "cdc", "publisher"]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let truth = installation.truth().await?;
    // People who have been here before.
    let sql = "INSERT INTO \"user\" (id, name, created_at, updated_at)
               SELECT 'person-' || n, 'Person ' || n, now(), now() FROM generate_series(1, $1::bigint) n";
    truth.execute(sql, &[&(PEOPLE as i64)]).await?;
    let chat_id = alice.make_group(&[], json!({})).await?;
    let everybody: Vec<String> = (1..=PEOPLE).map(|number| format!("person-{number}")).collect();
    for some in everybody.chunks(AT_ONCE) {
        // Refused over the limit before anything is done, never in the middle.
        let added = until("room for one more request", LONG, async || {
            let answer = alice.post(&format!("/v1/chats/{chat_id}/members"), json!({ "user_ids": some })).await?;
            if answer.status == 429 { Ok(None) } else { answer.expect(201).map(Some) }
        })
        .await?;
        ensure!(added["seqs"].as_array().context("no seqs")?.len() == AT_ONCE / 500, "{added}");
    }
    let row = truth.query_one("SELECT count(*) FROM chat_member WHERE chat_id = $1", &[&chat_id]).await?;
    ensure!(row.get::<_, i64>(0) == PEOPLE as i64 + 1, "{row:?}");
    let largest = "SELECT max(jsonb_array_length(memberships)) FROM chat_change WHERE chat_id = $1";
    ensure!(truth.query_one(largest, &[&chat_id]).await?.get::<_, i32>(0) == 500);
    // The last one added is a member like the first.
    let last = Person::arrive(&config, process.gateway()?, &format!("person-{PEOPLE}")).await?;
    let (second, third) = (installation.run(&["gateway"]).await?, installation.run(&["gateway"]).await?);
    let nodes = [&process, &second, &third];
    let mut sockets = vec![last.connect().await?];
    for number in 1..ONLINE {
        let token = ingest::auth::development_token(&config, &format!("person-{number}"), None, 3_600)?.0;
        sockets.push(Socket::open(nodes[number % nodes.len()].gateway()?, &token).await?);
    }
    let names =
        ["waltalkie_publisher_events_total", "waltalkie_fanout_events_total", "waltalkie_fanout_deliveries_total"];
    let counted = async || {
        let mut counts = [0_u64; 3];
        for (count, name) in counts.iter_mut().zip(names) {
            for node in nodes {
                *count += node.metric(name).await? as u64;
            }
        }
        Ok::<_, anyhow::Error>(counts)
    };
    let said = last.say(&chat_id, "is everybody there?").await?;
    ensure!(said["seq"] == (PEOPLE / 500) as i64 + 2, "{said}");
    for socket in &mut sockets {
        socket.wait("message", |message| message["seq"] == said["seq"]).await?;
    }
    let mut before = counted().await?;
    until("counters to rest", LONG, async || {
        let now = counted().await?;
        let was = std::mem::replace(&mut before, now);
        Ok((was == now).then_some(()))
    })
    .await?;
    let said = last.say(&chat_id, "hello, all of you").await?;
    for socket in &mut sockets {
        socket.wait("message", |message| message["seq"] == said["seq"]).await?;
    }
    let expected = [1, nodes.len() as u64, ONLINE as u64];
    let more = until("all to be counted", LONG, async || {
        let more = counted().await?.iter().zip(before).map(|(now, before)| now - before).collect::<Vec<_>>();
        Ok(more.iter().zip(expected).all(|(more, expected)| *more >= expected).then_some(more))
    })
    .await?;
    ensure!(more == expected, "published, heard by nodes, put into sockets: {more:?} instead of {expected:?}");
    let chat = alice.get(&format!("/v1/chats/{chat_id}")).await?.expect(200)?;
    ensure!(chat["member_count"] == 1_000, "{chat}");
    Ok(())
}
