//! Cheap clients, thousands to a process of their own: they stay in step, send heartbeats, come back and resume as the contract
//! asks, but look only at `chat_id` and `seq` of messages, by a scan instead of JSON.
//!
//! ```text
//!   bench ──orders, a JSON line each──▶ `bench readers` ──▶ one task a connection ──▶ tally: latencies, losses, order
//!         ◀─────────answers───────────
//! ```
//!
//! All of it is one thread, so that it costs the machine under measurement little and is never in its own way. A message's
//! latency ends when its bytes have been read by that thread.

mod dial;
mod frames;
mod process;
mod reader;
mod scan;
mod seen;
mod tally;
mod told;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, to_value};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

use super::figures::Percentiles;
use super::helper;
use super::schedule::Schedule;
use reader::Reader;
use tally::Tally;

pub(crate) use process::Readers;

/// Parts of a heartbeat's time in which a part of the readers each sends its own.
const BEATS: usize = 100;

/// What the process is asked to do.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Connect(Connect),
    /// A run begins.
    Begin {
        schedule: Schedule,
        /// Keeps each delivery, to be asked for those of a span.
        keeps_each: bool,
    },
    Look,
    Outcome,
    /// When readers stood again whose connection had ended.
    Returned,
    Within {
        from_us: u64,
        to_us: u64,
    },
}

/// Readers to be made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Connect {
    /// Nodes, over which the readers are spread.
    pub(crate) urls: Vec<String>,
    /// Where readers go once their connection has ended, if not to the same node.
    pub(crate) later_url: Option<String>,
    /// One a reader.
    pub(crate) tokens: Vec<String>,
    /// Connections a second.
    pub(crate) per_s: f64,
    /// How often each sends a heartbeat.
    pub(crate) heartbeat_ms: u64,
    /// Readers that stop reading once they are in step, spread evenly.
    pub(crate) stalled_percent: usize,
}

impl Connect {
    /// Whether a reader is one of those that stop.
    pub(crate) const fn stalls(stalled_percent: usize, number: usize) -> bool {
        number * stalled_percent / 100 != (number + 1) * stalled_percent / 100
    }
}

/// How it stands.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Look {
    /// Readers that are connected and know their chats up to the end.
    pub(crate) standing: usize,
    /// Times that one stood again whose connection had ended.
    pub(crate) returned: usize,
    /// Messages of the run, each once a reader.
    pub(crate) received: u64,
    pub(crate) refused: u64,
    pub(crate) last_refusal: Option<String>,
}

/// A run's end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) latency: Percentiles,
    /// Messages of the run, each once a reader.
    pub(crate) received: u64,
    /// Those after the warm-up.
    pub(crate) measured: u64,
    pub(crate) frame_bytes: u64,
    pub(crate) repeated: u64,
    pub(crate) out_of_order: u64,
    pub(crate) closed_connections: u64,
}

/// What the readers of a process share.
#[derive(Default)]
struct Shared {
    tally: Mutex<Tally>,
    streams: Mutex<Vec<Option<Arc<TcpStream>>>>,
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader has a connection for heartbeats, or none.
    fn hold(&self, number: usize, stream: Option<Arc<TcpStream>>) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.len() <= number {
            streams.resize(number + 1, None);
        }
        streams[number] = stream;
    }

    /// Sends everybody's heartbeats, each in its part of the time.
    async fn beat(self: Arc<Self>, heartbeat_ms: u64) {
        let mut frame = Vec::new();
        frames::put(frames::TEXT, br#"{"event":"heartbeat"}"#, &mut frame);
        let mut tick = tokio::time::interval(Duration::from_millis(heartbeat_ms) / BEATS as u32);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for part in (0..BEATS).cycle() {
            tick.tick().await;
            let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            for stream in streams.iter().skip(part).step_by(BEATS).flatten() {
                // A socket that has no room for so little is about to be closed anyway.
                let _ = stream.try_write(&frame);
            }
        }
    }
}

/// The process: takes orders until whoever gives them is gone.
pub(crate) async fn serve() -> Result<()> {
    runtime::dedicated::run("load-readers", || async {
        let shared = Arc::<Shared>::default();
        let mut count = 0;
        helper::serve(async |order: Order| -> Result<Value> {
            Ok(match order {
                Order::Connect(connect) => {
                    if count == 0 {
                        tokio::spawn(Arc::clone(&shared).beat(connect.heartbeat_ms));
                    }
                    let first = count;
                    count += connect.tokens.len();
                    tokio::spawn(arrive(Arc::clone(&shared), first, connect));
                    Value::Null
                }
                Order::Begin { schedule, keeps_each } => to_value(shared.tally().begin(schedule, keeps_each))?,
                Order::Look => to_value(shared.tally().look())?,
                Order::Outcome => to_value(shared.tally().outcome())?,
                Order::Returned => to_value(shared.tally().returned_us())?,
                Order::Within { from_us, to_us } => to_value(shared.tally().within(from_us, to_us))?,
            })
        })
        .await
    })
    .await?
}

async fn arrive(shared: Arc<Shared>, first: usize, connect: Connect) {
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / connect.per_s));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let urls: Vec<Arc<str>> = connect.urls.iter().map(|url| url.as_str().into()).collect();
    let later: Option<Arc<str>> = connect.later_url.map(Into::into);
    for (number, token) in (first..).zip(connect.tokens) {
        pace.tick().await;
        let url = &urls[number % urls.len()];
        let urls = [Arc::clone(url), later.as_ref().map_or_else(|| Arc::clone(url), Arc::clone)];
        let stalls = Connect::stalls(connect.stalled_percent, number);
        tokio::spawn(Reader::new(&shared, number, token, urls, stalls).live());
    }
}
