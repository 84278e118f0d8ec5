//! A node: the hub, the sessions and what every socket of this process shares.

use std::sync::Arc;

use deadpool_postgres::Pool;
use runtime::retry::Backoff;
use runtime::{Config, Names, RoleHealth, Shutdown, postgres};
use schemas::wire::Limits;
use schemas::{ChatEvent, Decoder};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::error::Error;
use crate::hub::{Hub, Pools};
use crate::inbound::{Identity, Inbound};
use crate::roll::{Roll, Seat};
use crate::session::Sessions;
use crate::whisper::Whispers;

/// Connections of one pool of this node; resumes are bounded below it, so that heads and gaps always find one.
const POOL_SIZE: usize = 8;

/// Handshakes at a time, the others wait in order. When a crowd comes at once, whatever else this node does waits behind so
/// many of them, and not behind all.
const ARRIVALS: usize = 128;

/// What the sockets of this process share. Clones are the same node.
#[derive(Clone)]
pub struct Node {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) limits: Limits,
    pub(crate) epoch: String,
    pub(crate) inbound: Arc<dyn Inbound>,
    pub(crate) hub: Hub,
    pub(crate) sessions: Sessions,
    pub(crate) whispers: Whispers,
    pub(crate) names: Names,
    pub(crate) shutdown: Shutdown,
    /// Places of those who are coming in.
    pub(crate) arrivals: Arc<Semaphore>,
    roll: Arc<Roll>,
}

impl Node {
    /// Starts hub and sessions. Waits for Postgres, which has the epoch, and for nothing else.
    ///
    /// `health` is the hub's; its tasks end with `shutdown`, after the connections were drained.
    pub async fn start(
        config: Arc<Config>,
        inbound: Arc<dyn Inbound>,
        health: RoleHealth,
        shutdown: Shutdown,
    ) -> Result<Self, Error> {
        let size = config.postgres.pool_size.clamp(2, POOL_SIZE);
        let truth = postgres::pool(&config.postgres.truth_url, "postgres.truth_url", size)?;
        let read = postgres::pool(&config.postgres.read_url, "postgres.read_url", size)?;
        let registry = Arc::new(config.registry_client()?);
        // A registry that is away now is asked again with the first event; until then gaps are read from Postgres.
        let own_id = registry.id_of::<ChatEvent>().await.unwrap_or(u32::MAX);
        let decoder = Decoder::new(registry, own_id);
        let epoch = epoch(&truth, &health, &shutdown).await?;
        let node_id = match config.gateway.node_id.as_str() {
            "" => Uuid::now_v7().to_string(),
            named => named.to_owned(),
        };
        let whispers = Whispers::start(runtime::redis::commands(&config.redis)?, &shutdown);
        let hub = Hub::start(&config, Pools { truth, read }, decoder, whispers.clone(), health, &shutdown)?;
        let sessions = Sessions::start(&config, node_id, &shutdown)?;
        let limits = Limits::new(config.limits.content_bytes, config.media.is_on());
        let names = config.names();
        let (arrivals, roll) = (Arc::new(Semaphore::new(ARRIVALS)), Arc::default());
        let shared =
            Shared { config, limits, epoch, inbound, hub, sessions, whispers, names, shutdown, arrivals, roll };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Open connections of this node.
    pub fn connections(&self) -> usize {
        self.shared.roll.connections()
    }

    /// Somebody's standing has changed: ends those of their connections whose tokens don't count any more.
    pub fn reconsider(&self, user_id: &str) {
        let inbound = &self.shared.inbound;
        self.shared.roll.reconsider(user_id, |issued_at_ms| inbound.standing(user_id, issued_at_ms));
    }
}

impl Shared {
    /// A place for one more connection of a person; none if they have as many as they may.
    pub(crate) fn seat(&self, identity: &Identity) -> Option<Seat> {
        self.roll.seat(&identity.user_id, identity.issued_at_ms, self.config.limits.connections_per_user)
    }
}

async fn epoch(truth: &Pool, health: &RoleHealth, shutdown: &Shutdown) -> Result<String, Error> {
    let mut backoff = Backoff::default();
    loop {
        let asked = async {
            let client = truth.get().await.map_err(|error| error.to_string())?;
            client
                .query_opt("SELECT value FROM installation WHERE name = 'epoch'", &[])
                .await
                .map_err(|error| error.to_string())
        };
        match asked.await {
            Ok(Some(row)) => return Ok(row.get(0)),
            Ok(None) => return Err(Error::NoEpoch),
            Err(error) => {
                tracing::warn!(%error, "the epoch can't be read from Postgres; asking again");
                health.not_ready("Postgres is away");
                if !shutdown.pause(backoff.next_pause()).await {
                    return Err(Error::Stopped);
                }
            }
        }
    }
}
