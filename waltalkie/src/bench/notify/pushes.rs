//! Messages one by one, and when each is at the provider's door.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::Value;
use uuid::Uuid;

use super::rows::{self, FIRST_SEQ, LARGE_CHAT, LARGE_SENDER};
use super::run::{Bench, STALL, said};
use crate::bench::program::Program;

/// What came of them.
pub(super) struct Pushed {
    /// Of messages in 1:1 chats, in microseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) lost: u64,
    pub(super) repeated: u64,
    /// From the first message to the last push.
    pub(super) seconds: f64,
    pub(super) peak_rss_bytes: u64,
}

/// Says as many messages in 1:1 chats as asked for, each with its row; beside one in the large chat that `devices` of its
/// members are told of, and then for as long as that takes.
pub(super) async fn one_by_one(bench: &mut Bench<'_>, notifier: &mut Program, devices: u64) -> Result<Pushed> {
    let mut latency = Histogram::new(3)?;
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / bench.args.rate));
    let mut sent: HashMap<String, Instant> = HashMap::new();
    // Times that a person's device was told of a message.
    let mut seen: HashMap<(String, String), u64> = HashMap::new();
    let mut looked_at = bench.service.delivered().len();
    let began = Instant::now();
    if devices > 0 {
        let (seq, message_id) = (FIRST_SEQ + 1, Uuid::now_v7());
        rows::say(&bench.truth, LARGE_CHAT, LARGE_SENDER, seq, message_id).await?;
        bench.publish(&said(LARGE_CHAT, seq, LARGE_SENDER, message_id)).await?;
    }
    // Devices told of the large chat's message; when it was last one more of them, or one of the others.
    let mut told = 0;
    let (mut news, mut last) = (began, began);
    loop {
        let missing = sent.len() as u64 + devices - seen.len() as u64;
        let is_said = sent.len() >= bench.args.pushes as usize && told >= devices;
        if (is_said && missing == 0) || news.elapsed() > STALL {
            let repeated = seen.values().map(|count| count - 1).sum();
            let (seconds, peak_rss_bytes) = ((last - began).as_secs_f64(), notifier.peak_rss_bytes());
            return Ok(Pushed { latency, lost: missing, repeated, seconds, peak_rss_bytes });
        }
        tokio::select! {
            biased;
            // Waiting anew each time: what came meanwhile is seen all the same.
            arrived = bench.service.after(looked_at) => {
                let now = Instant::now();
                for pushed in &arrived {
                    let payload: Value = serde_json::from_slice(&pushed.plaintext)?;
                    let message_id = payload["message_id"].as_str().context("no message is named")?.to_owned();
                    let said_at = sent.get(&message_id);
                    let times = seen.entry((pushed.endpoint.clone(), message_id)).or_default();
                    *times += 1;
                    match said_at {
                        _ if *times > 1 => {}
                        Some(said_at) => latency.record(now.duration_since(*said_at).as_micros() as u64)?,
                        None => told += 1,
                    }
                    if said_at.is_none() || told >= devices {
                        news = now;
                    }
                }
                looked_at += arrived.len();
                last = now;
            }
            _ = tick.tick(), if !is_said => {
                notifier.must_run().context("the notifier")?;
                let (chat, message_id) = (sent.len() as u64 % bench.args.chats, Uuid::now_v7());
                let event = bench.event(chat, message_id);
                rows::say(&bench.truth, &event.chat_id, &event.actor_id, event.seq, message_id).await?;
                sent.insert(message_id.to_string(), Instant::now());
                bench.publish(&event).await?;
            }
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}
