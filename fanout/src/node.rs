//! A node: the hub, the sessions and what every socket of this process shares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use deadpool_postgres::Pool;
use runtime::retry::Backoff;
use runtime::{Config, RoleHealth, Shutdown, postgres};
use schemas::registry::Registry;
use schemas::wire::Limits;
use schemas::{ChatEvent, Decoder};
use uuid::Uuid;

use crate::error::Error;
use crate::hub::Hub;
use crate::inbound::Inbound;
use crate::session::Sessions;

/// Connections of one pool of this node; resumes are bounded below it, so that heads and gaps always find one.
const POOL_SIZE: usize = 8;

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
    pub(crate) shutdown: Shutdown,
    connections: Mutex<HashMap<String, usize>>,
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
        let registry = Arc::new(Registry::new(config.registry.url.expose(), &config.names.prefix)?);
        // A registry that is away now is asked again with the first event; until then gaps are read from Postgres.
        let own_id = registry.id_of::<ChatEvent>().await.unwrap_or(u32::MAX);
        let decoder = Decoder::new(registry, own_id);
        let epoch = epoch(&truth, &health, &shutdown).await?;
        let node_id = match config.gateway.node_id.as_str() {
            "" => Uuid::now_v7().to_string(),
            named => named.to_owned(),
        };
        let sessions = Sessions::start(&config, node_id, &shutdown)?;
        let hub = Hub::start(&config, truth, read, decoder, health, &shutdown)?;
        let limits = Limits { content_bytes: config.limits.content_bytes, ..Limits::default() };
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                limits,
                epoch,
                inbound,
                hub,
                sessions,
                shutdown,
                connections: Mutex::default(),
            }),
        })
    }

    /// Open connections of this node.
    pub fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl Shared {
    /// A place for one more connection of a person; none if they have as many as they may.
    pub(crate) fn seat(self: &Arc<Self>, user_id: &str) -> Option<Seat> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = connections.entry(user_id.to_owned()).or_default();
        if *taken >= self.config.limits.connections_per_user {
            return None;
        }
        *taken += 1;
        metrics::gauge!(crate::metrics::CONNECTIONS).increment(1.0);
        Some(Seat { shared: Arc::clone(self), user_id: user_id.to_owned() })
    }
}

/// One connection's place, given back when dropped.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    user_id: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = connections.get_mut(&self.user_id) {
            *taken -= 1;
            if *taken == 0 {
                connections.remove(&self.user_id);
            }
        }
        metrics::gauge!(crate::metrics::CONNECTIONS).decrement(1.0);
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
