//! What the roles need before their loops begin, asked for until it is there.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use deadpool_postgres::Pool;
use migrations::Installation;
use runtime::kafka::admin::Admin;
use runtime::retry::Backoff;
use runtime::{Config, RoleHealth, Shutdown, postgres};
use schemas::Record;
use schemas::registry::Registry;
use schemas::topics::Topic;

use crate::error::Error;

/// How long a transaction of these roles may stand still: none waits for anything but the database. About as long as Kafka
/// waits for a member of a group, so that whoever takes a stopped persister's partitions isn't held up by its locks.
const STANDSTILL: Duration = Duration::from_secs(10);

/// The servers as this installation knows them.
pub(crate) struct Ground {
    pub(crate) pool: Pool,
    /// Of the commands' topic.
    pub(crate) log_id: String,
    pub(crate) installation: Installation,
}

/// Connects to the source of truth and to Kafka; `None` when it is time to stop first.
pub(crate) async fn ground(config: &Config, health: &RoleHealth, shutdown: &Shutdown) -> Result<Option<Ground>, Error> {
    let names = config.names();
    let (url, size) = (&config.postgres.truth_url, config.postgres.pool_size);
    let pool = postgres::pool_that_lets_go(url, "postgres.truth_url", size, STANDSTILL)?;
    let commands = names.topic(Topic::ChatCommands);
    let admin = Admin::new(&config.kafka)?;
    let Some(log_id) = until_there("Kafka", health, shutdown, || admin.log_id(&commands)).await else {
        return Ok(None);
    };
    let opened = until_there("Postgres", health, shutdown, || async {
        let client = pool.get().await.map_err(|error| error.to_string())?;
        match Installation::open(&client, &names).await {
            Err(migrations::MigrateError::Statement { source, .. }) => {
                Err(format!("{source}; `waltalkie migrate` makes the tables"))
            }
            other => Ok(other),
        }
    })
    .await;
    let Some(installation) = opened else { return Ok(None) };
    // On a server that the data have just moved to, nothing may be written before the hand-over is finished.
    let free = until_there("Postgres", health, shutdown, || async {
        let client = pool.get().await.map_err(|error| error.to_string())?;
        match migrations::find_pause(&client).await.map_err(|error| error.to_string())? {
            Some(_) => {
                Err("a hand-over is under way; waiting for `waltalkie cdc handover finish` or `cancel`".to_owned())
            }
            None => Ok(()),
        }
    });
    if free.await.is_none() {
        return Ok(None);
    }
    Ok(Some(Ground { pool, log_id, installation: installation? }))
}

/// Our own schema's id of a record; `None` when it is time to stop first.
pub(crate) async fn schema_id<R: Record>(registry: &Registry, health: &RoleHealth, shutdown: &Shutdown) -> Option<u32> {
    until_there("the schema registry", health, shutdown, || registry.id_of::<R>()).await
}

/// Asks until there is an answer; `None` when it is time to stop first.
pub(crate) async fn until_there<T, E: Display, F: Future<Output = Result<T, E>>>(
    what: &str,
    health: &RoleHealth,
    shutdown: &Shutdown,
    mut ask: impl FnMut() -> F,
) -> Option<T> {
    let mut backoff = Backoff::default();
    loop {
        let asked = tokio::select! {
            biased;
            () = shutdown.begun() => return None,
            asked = ask() => asked,
        };
        match asked {
            Ok(there) => return Some(there),
            Err(error) => {
                tracing::warn!(error = %error, "{what} can't be used yet; asking again");
                health.not_ready(format!("{what}: {error}"));
            }
        }
        if !shutdown.pause(backoff.next_pause()).await {
            return None;
        }
    }
}
