//! A sampled command is followed from the gateway to the socket, through Kafka, Postgres' log, Kafka again and Redis.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{Collected, Collector, Installation, LONG, Person, read_all, read_events, until};

/// The stations of a trace, with the services that they belong to, in order.
const STATIONS: [(&str, &str); 5] = [
    ("gateway", "waltalkie-gateway"),
    ("persister", "waltalkie-persister"),
    ("cdc", "waltalkie-cdc"),
    ("publisher", "waltalkie-publisher"),
    ("node", "waltalkie-gateway"),
];

/// Waits for the trace of an event, whole: each station once, the child of the one before, none begun earlier than that.
async fn followed(collector: &Collector, event_id: &str) -> Result<Vec<Collected>> {
    let what = format!("the trace of {event_id}");
    let spans = until(&what, LONG, async || {
        let spans = collector.trace_of("persister", "waltalkie.event_id", event_id);
        Ok((spans.len() >= STATIONS.len()).then_some(spans))
    })
    .await?;
    let told: Vec<(&str, &str)> = spans.iter().map(|told| (told.span.name.as_str(), told.service.as_str())).collect();
    ensure!(told == STATIONS, "{told:?}");
    ensure!(spans[0].span.parent_span_id.is_empty(), "{:?}", spans[0]);
    for (before, after) in spans.iter().zip(&spans[1..]) {
        ensure!(after.span.parent_span_id == before.span.span_id, "{after:?} after {before:?}");
    }
    for told in &spans {
        ensure!(
            told.span.end_time_unix_nano >= told.span.start_time_unix_nano && told.span.status.is_none(),
            "{told:?}"
        );
        ensure!(told.span.flags & 1 == 1, "{told:?}");
    }
    let last = spans.last().context("none")?;
    ensure!(last.attribute("waltalkie.event_id") == Some(event_id), "{last:?}");
    ensure!(last.span.end_time_unix_nano > spans[2].span.start_time_unix_nano, "{last:?}");
    Ok(spans)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sampled_command_is_followed_to_the_socket_and_another_leaves_no_trace() -> Result<()> {
    let collector = Collector::start().await?;
    let installation = Installation::make("traces").await?;
    let config = installation.config()?;
    let traced = [("trace.otlp_endpoint", collector.url.as_str()), ("trace.sample_ratio", "1.0")];
    let process = installation.run_with(&["all"], &traced).await?;
    let alice = Person::arrive(&config, process.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, process.gateway()?, "bob").await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let mut socket = bob.connect().await?;

    let sent = alice.say(&chat_id, "whispered words").await?;
    let message_id = sent["message_id"].as_str().context("no id")?.to_owned();
    socket.wait("message", |message| message["seq"] == 2).await?;
    let spans = followed(&collector, &format!("{chat_id}/2")).await?;
    ensure!(spans[0].attribute("waltalkie.message_id") == Some(&message_id), "{:?}", spans[0]);
    // What a consumer goes on with is the worker's span.
    let events = read_events(&config).await?;
    let (_, logged) = events.iter().find(|(event, _)| event.seq == 2).context("no event")?;
    let traceparent = format!("00-{}-{}-01", hex(&spans[2].span.trace_id), hex(&spans[2].span.span_id));
    ensure!(logged.header("traceparent") == Some(&traceparent), "{logged:?}");

    // A change, which takes another way through the worker; and one that is refused, which goes no further.
    let path = format!("/v1/chats/{chat_id}/messages/{message_id}");
    alice.patch(&path, json!({ "content": "other words" })).await?.expect(200)?;
    followed(&collector, &format!("{chat_id}/3")).await?;
    bob.patch(&path, json!({ "content": "not his" })).await?.expect(404)?;
    let refused = until("the refused one's trace", LONG, async || {
        let all = collector.all();
        Ok(all
            .into_iter()
            .find(|told| told.span.status.as_ref().is_some_and(|status| status.message == "message_not_found")))
    })
    .await?;
    ensure!(refused.span.name == "persister", "{refused:?}");
    let told = format!("{:?}", collector.all());
    ensure!(!["whispered", "other words", "not his"].iter().any(|words| told.contains(words)), "a body in a span");

    // The same way without a trace.
    let silent = installation.run_with(&["gateway"], &[traced[0], ("trace.sample_ratio", "0.0")]).await?;
    alice.at(silent.gateway()?).say(&chat_id, "unheard of").await?;
    socket.wait("message", |message| message["seq"] == 4).await?;
    for topic in [schemas::topics::Topic::ChatCommands, schemas::topics::Topic::ChatEvents] {
        let records = read_all(&config, topic).await?;
        let traced = records.iter().filter(|logged| logged.header("traceparent").is_some()).count();
        ensure!(traced == records.len() - 1, "{traced} of {} records of {topic:?}", records.len());
    }
    alice.say(&chat_id, "heard of again").await?;
    followed(&collector, &format!("{chat_id}/5")).await?;
    let is_of_it = |told: &Collected| told.attribute("waltalkie.event_id") == Some(&format!("{chat_id}/4"));
    ensure!(!collector.all().iter().any(is_of_it), "spans of what isn't sampled");
    ensure!(process.metric("waltalkie_trace_dropped_spans_total").await? < 0.5, "spans were dropped");

    // A collector that is gone holds nobody up.
    drop(collector);
    let answer = alice.say(&chat_id, "and on").await?;
    ensure!(answer["seq"] == 6, "{answer}");
    socket.wait("message", |message| message["seq"] == 6).await?;
    until("dropped spans to be counted", LONG, async || {
        Ok((process.metric("waltalkie_trace_dropped_spans_total").await? > 0.5).then_some(()))
    })
    .await
}
