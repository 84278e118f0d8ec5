//! The hub: which chats this node follows, who of them is connected, and every event to each of them once and in order.
//!
//! ```text
//!  connection ──Ask──▶ ┌─────────── loop (task.rs) ───────────┐ ──frames──▶ Desk (queue of a connection)
//!  subscriber ─Heard─▶ │ chats: Sequence → entitlement → links │ ──channels─▶ subscriber
//!  reads ──────Found─▶ └───────────────────────────────────────┘ ──reads────▶ Postgres (tasks, bounded)
//! ```
//!
//! *Progress.* A chat is followed while a member is connected, and a while longer. Its channel is subscribed first, then
//! its head and the stays of the connected members are read in one snapshot, then the members are attached at that head;
//! what came over the channel meanwhile follows by `seq`. From then on [`sequence`] holds the chat's order.
//!
//! *Failure.* What Pub/Sub loses is a gap or an unreached head and is read from Postgres, one read a chat at a time. After
//! a lost subscription every chat is compared with its head at once, and again when it is subscribed anew. A channel
//! that can't be subscribed for [`SUBSCRIBE_PATIENCE_MS`] delays nobody longer: its chat then lives on heads.

mod chat;
mod desk;
mod entitlement;
mod filler;
mod follow;
mod heads;
mod hearing;
mod join;
mod load;
mod members;
mod plan;
mod presence;
mod present;
mod ranges;
mod reads;
mod receipts;
mod resume;
mod sequence;
mod task;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use deadpool_postgres::Pool;
use runtime::{Config, RoleHealth, Shutdown};
use schemas::{ChatEvent, Decoder};
use serde_json::Value;
use tokio::sync::mpsc;
use uuid::Uuid;

pub(crate) use desk::Desk;
pub(crate) use present::State;

use crate::error::Error;
use crate::whisper::Whispers;

/// How long a subscription that Redis doesn't confirm may hold somebody up.
const SUBSCRIBE_PATIENCE_MS: u64 = 2_000;
/// Requests of connections that wait for the hub.
const QUEUED_ASKS: usize = 4_096;

enum Ask {
    Connect { user_id: Arc<str>, desk: Arc<Desk> },
    Disconnect { connection: u64 },
    Resume { connection: u64, cursors: Vec<(String, i64)>, id: Option<Value> },
}

/// Where the hub reads.
pub(crate) struct Pools {
    pub(crate) truth: Pool,
    pub(crate) read: Pool,
}

/// The connections' end of the hub.
#[derive(Clone)]
pub(crate) struct Hub {
    asks: mpsc::Sender<Ask>,
    next_connection: Arc<AtomicU64>,
}

impl Hub {
    pub(crate) fn start(
        config: &Config,
        pools: Pools,
        decoder: Decoder<ChatEvent>,
        whispers: Whispers,
        health: RoleHealth,
        shutdown: &Shutdown,
    ) -> Result<Self, Error> {
        let (asks, asked) = mpsc::channel(QUEUED_ASKS);
        let redis = runtime::redis::commands(&config.redis)?;
        // Of this process: one that is started anew under its node's name knows nobody of the one before.
        let life_id = Uuid::now_v7().to_string();
        let presence = presence::Presence::new(life_id.into(), whispers, redis, config.gateway.presence_people);
        let (subscriptions, hearing) = runtime::redis::subscriber(&config.redis, shutdown)?;
        let task = task::Task::new(config, pools, decoder, subscriptions, presence, health, shutdown.clone());
        shutdown.spawn(task.run(asked, hearing));
        Ok(Self { asks, next_connection: Arc::default() })
    }

    /// A desk for a new connection.
    pub(crate) fn desk(&self, outgoing_bytes: usize) -> Desk {
        Desk::new(self.next_connection.fetch_add(1, Ordering::Relaxed), outgoing_bytes)
    }

    /// Brings a connection in: it gets its `chats`, then live events. Everything goes into the desk's queue.
    pub(crate) async fn connect(&self, user_id: Arc<str>, desk: Arc<Desk>) -> Attendance {
        let connection = desk.connection;
        // The hub ends only after its connections, with the process.
        let _ = self.asks.send(Ask::Connect { user_id, desk }).await;
        Attendance { hub: self.clone(), connection }
    }
}

/// A connection's presence at the hub; [`Attendance::leave`] ends it.
pub(crate) struct Attendance {
    hub: Hub,
    connection: u64,
}

impl Attendance {
    /// Reads what is missing after these cursors into the desk's queue.
    pub(crate) async fn resume(&self, cursors: Vec<(String, i64)>, id: Option<Value>) {
        let _ = self.hub.asks.send(Ask::Resume { connection: self.connection, cursors, id }).await;
    }

    /// Ends it.
    pub(crate) async fn leave(self) {
        let _ = self.hub.asks.send(Ask::Disconnect { connection: self.connection }).await;
    }
}
