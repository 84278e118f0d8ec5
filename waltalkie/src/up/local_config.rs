//! The configuration of a local stack: what was configured, completed by what was started.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use local_stack::LocalStack;
use runtime::config::{Gateway, Ops};
use runtime::names::Database;
use runtime::{Config, Secret};
use tokio::net::TcpListener;
use uuid::Uuid;

/// Completes the configuration.
pub(super) async fn complete(mut config: Config, stack: &LocalStack) -> Result<Config> {
    let names = config.names();
    let endpoints = stack.endpoints();
    if let Some(url) = endpoints.postgres_url(&names.database(Database::Truth)) {
        config.postgres.truth_url = Secret::new(url);
        if config.postgres.replication_url.is_empty()
            && let Some(url) = endpoints.postgres_socket_url(&names.database(Database::Truth))
        {
            config.postgres.replication_url = Secret::new(url);
        }
    }
    if config.postgres.read_url.is_empty() {
        match endpoints.postgres_url(&names.database(Database::Read)) {
            Some(url) => config.postgres.read_url = Secret::new(url),
            None => bail!("postgres.truth_url is set and postgres.read_url isn't: name both databases, or neither"),
        }
    }
    if let Some(brokers) = &endpoints.kafka_brokers {
        config.kafka.brokers.clone_from(brokers);
        // One broker has one copy; a cluster of one's own is what production has.
        (config.kafka.replication_factor, config.kafka.min_insync_replicas) = (1, 1);
    }
    if let Some(url) = &endpoints.registry_url {
        config.registry.url = Secret::new(url.clone());
    }
    if config.registry.cache_dir.is_empty() {
        config.registry.cache_dir = stack.data_dir().join("registry-cache").display().to_string();
    }
    if let Some(url) = &endpoints.redis_url {
        config.redis.url = Secret::new(url.clone());
    }
    config.development = true;
    if config.auth.hs256_secret.is_empty() && config.auth.public_key_pem.is_empty() {
        config.auth.hs256_secret = Secret::new(kept_secret(stack.data_dir(), "token-secret")?);
    }
    let data_dir = stack.data_dir();
    config.gateway.listen = address(&config.gateway.listen, &Gateway::default().listen, data_dir, "gateway").await?;
    if !config.ops.listen.is_empty() {
        config.ops.listen = address(&config.ops.listen, &Ops::default().listen, data_dir, "ops").await?;
    }
    Ok(config)
}

/// The usual address, else the remembered one, else a free one; an address that was configured is left as it is, and
/// an error where it is bound if somebody has it.
async fn address(configured: &str, usual: &str, data_dir: &Path, what: &str) -> Result<String> {
    if configured != usual {
        return Ok(configured.to_owned());
    }
    let memory = data_dir.join(format!("{what}.address"));
    let remembered = fs::read_to_string(&memory).unwrap_or_default();
    for candidate in [remembered.trim(), usual, "127.0.0.1:0"] {
        if candidate.is_empty() {
            continue;
        }
        if let Ok(listener) = TcpListener::bind(candidate).await {
            let address = listener.local_addr()?.to_string();
            fs::write(&memory, &address).with_context(|| format!("{} can't be written", memory.display()))?;
            return Ok(address);
        }
    }
    bail!("no port of this machine can be listened on");
}

/// A secret of the data directory, made at the first start and readable by the owner alone.
pub(super) fn kept_secret(data_dir: &Path, name: &str) -> Result<String> {
    let path = data_dir.join(name);
    match fs::read_to_string(&path) {
        Ok(secret) if secret.len() >= 32 => return Ok(secret),
        // Empty or cut: a first start that was killed just here.
        Ok(_) => fs::remove_file(&path)?,
        Err(_) => {}
    }
    let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.with_context(|| format!("{} can't be made", path.display()))?;
    file.write_all(secret.as_bytes())?;
    Ok(secret)
}
