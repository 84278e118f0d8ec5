//! Commands to one server or to the masters of a cluster.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{join_all, select_ok};
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Arg, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, ServerErrorKind, Value};

use super::Servers;
use super::topology::{Address, Topology};
use crate::config;

/// A server that takes longer may have been replaced: who serves what is asked again after a failure.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection for commands that reconnects by itself and finds the masters of a cluster. Clones share everything.
///
/// Each command's first argument is its key or channel; a pipeline may touch any of them. A pipeline that fails may have
/// been carried out in part, and in a cluster the parts of several masters are in no order among each other.
#[derive(Clone)]
pub struct Commands {
    shared: Arc<Shared>,
}

struct Shared {
    servers: Servers,
    topology: RwLock<Option<Arc<Topology>>>,
    connections: Mutex<HashMap<Address, ConnectionManager>>,
    /// One asks for the topology at a time; with when it failed last, and why.
    asking: tokio::sync::Mutex<Option<(Instant, RedisError)>>,
}

/// Connections for commands, as configured. Making them never waits: the first command does.
pub fn commands(config: &config::Redis) -> Result<Commands, RedisError> {
    let servers = Servers::new(config)?;
    let shared = Shared {
        servers,
        topology: RwLock::default(),
        connections: Mutex::default(),
        asking: tokio::sync::Mutex::default(),
    };
    Ok(Commands { shared: Arc::new(shared) })
}

impl Commands {
    /// Who serves what, as it was told last.
    async fn topology(&self) -> Result<Arc<Topology>, RedisError> {
        let known = || self.shared.topology.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(topology) = known() {
            return Ok(topology);
        }
        let began = Instant::now();
        let mut failed = self.shared.asking.lock().await;
        if let Some(topology) = known() {
            return Ok(topology);
        }
        // Whoever waited while it failed fails with it, instead of trying one after another.
        if let Some((_, error)) = failed.as_ref().filter(|(at, _)| *at >= began) {
            return Err(error.clone());
        }
        match self.ask().await {
            Ok(topology) => {
                *self.shared.topology.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&topology));
                Ok(topology)
            }
            Err(error) => {
                *failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// How many masters share the keys: 1 without a cluster.
    pub async fn masters(&self) -> Result<usize, RedisError> {
        let topology = self.topology().await?;
        Ok(topology.masters().collect::<HashSet<_>>().len())
    }

    /// Asks again who serves what.
    pub(super) async fn survey(&self) -> Result<Arc<Topology>, RedisError> {
        self.distrust();
        self.topology().await
    }

    pub(super) fn servers(&self) -> &Servers {
        &self.shared.servers
    }

    /// What was told last may not be true any more.
    fn distrust(&self) {
        *self.shared.topology.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Asks every address that is known; the first good answer counts.
    async fn ask(&self) -> Result<Arc<Topology>, RedisError> {
        let known: Vec<Address> = self.connections().keys().cloned().collect();
        let asked = self.shared.servers.addresses().chain(known).map(|address| {
            async move {
                let mut connection = self.connection(&address)?;
                let mut question = redis::cmd("CLUSTER");
                match question.arg("SLOTS").query_async::<Value>(&mut connection).await {
                    Ok(slots) => Topology::parse(&slots, &address).ok_or_else(|| {
                        RedisError::from((
                            ErrorKind::Server(ServerErrorKind::ClusterDown),
                            "the cluster serves no slot yet",
                        ))
                    }),
                    // No cluster, or nothing that we may know of.
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::NoPerm)
                        ) =>
                    {
                        Ok(Topology::single(address))
                    }
                    Err(error) => Err(error),
                }
            }
            .boxed()
        });
        let (topology, _) = select_ok(asked).await?;
        self.connections().retain(|address, _| topology.masters().any(|master| master == address));
        Ok(Arc::new(topology))
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<Address, ConnectionManager>> {
        self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self, address: &Address) -> Result<ConnectionManager, RedisError> {
        let mut connections = self.connections();
        if let Some(connection) = connections.get(address) {
            return Ok(connection.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(500));
        let connection = ConnectionManager::new_lazy_with_config(self.shared.servers.client(address)?, config)?;
        connections.insert(address.clone(), connection.clone());
        Ok(connection)
    }

    async fn one(&self, command: &Cmd) -> Result<Value, RedisError> {
        let topology = self.topology().await?;
        let owner = match key_of(command) {
            Some(key) => topology.owner(key),
            None => topology.any(),
        };
        let mut connection = self.connection(owner.ok_or_else(nobody)?)?;
        let answer = connection.req_packed_command(command).await;
        self.judge(answer.as_ref().map(std::slice::from_ref));
        answer
    }

    async fn many(&self, pipeline: &Pipeline, offset: usize, count: usize) -> Result<Vec<Value>, RedisError> {
        let topology = self.topology().await?;
        if let Some(address) = topology.only() {
            let answers = self.connection(address)?.req_packed_commands(pipeline, offset, count).await;
            self.judge(answers.as_deref());
            return answers;
        }
        let mut parts: HashMap<&Address, (Pipeline, Vec<usize>)> = HashMap::new();
        for (place, command) in pipeline.cmd_iter().enumerate() {
            let owner = key_of(command).map_or_else(|| topology.any(), |key| topology.owner(key));
            let (part, places) = parts.entry(owner.ok_or_else(nobody)?).or_default();
            part.add_command(command.clone());
            places.push(place);
        }
        let asked = parts.into_iter().map(|(address, (part, places))| async move {
            let answers = self.connection(address)?.req_packed_commands(&part, 0, places.len()).await;
            self.judge(answers.as_deref());
            Ok::<_, RedisError>((places, answers?))
        });
        let mut all = vec![Value::Nil; pipeline.len()];
        for answered in join_all(asked).await {
            let (places, answers) = answered?;
            for (place, answer) in places.into_iter().zip(answers) {
                all[place] = answer;
            }
        }
        Ok(all)
    }

    /// An answer that tells of lost connections or moved slots: who serves what is asked again before the next command.
    fn judge(&self, answers: Result<&[Value], &RedisError>) {
        let is_misplaced = |code: Option<&str>| {
            matches!(code, Some("MOVED" | "ASK" | "CLUSTERDOWN" | "READONLY" | "MASTERDOWN" | "TRYAGAIN"))
        };
        let is_stale = match answers {
            Ok(answers) => answers.iter().any(|answer| match answer {
                Value::ServerError(error) => is_misplaced(Some(error.code())),
                _ => false,
            }),
            Err(error) => error.is_io_error() || error.is_unrecoverable_error() || is_misplaced(error.code()),
        };
        if is_stale {
            self.distrust();
        }
    }
}

impl ConnectionLike for Commands {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.one(command).boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.many(pipeline, offset, count).boxed()
    }

    fn get_db(&self) -> i64 {
        0
    }
}

/// The first argument; none for `PING`, and `INFO`'s is no key, but any server may answer it.
fn key_of(command: &Cmd) -> Option<&[u8]> {
    match command.args_iter().nth(1) {
        Some(Arg::Simple(key)) => Some(key),
        _ => None,
    }
}

fn nobody() -> RedisError {
    (ErrorKind::Server(ServerErrorKind::ClusterDown), "nobody serves this slot").into()
}
