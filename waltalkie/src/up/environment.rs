//! Where the servers of an `up` are, kept in its data directory for other commands and programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use runtime::Config;

/// The file's name.
const FILE: &str = "environment.json";

fn variables(config: &Config, gateway_url: &str) -> BTreeMap<String, String> {
    let kafka = &config.kafka;
    let mut variables: BTreeMap<String, String> = [
        ("WALTALKIE_POSTGRES__TRUTH_URL", config.postgres.truth_url.expose()),
        ("WALTALKIE_POSTGRES__READ_URL", config.postgres.read_url.expose()),
        ("WALTALKIE_POSTGRES__REPLICATION_URL", config.postgres.replication_url.expose()),
        ("WALTALKIE_KAFKA__BROKERS", kafka.brokers.as_str()),
        ("WALTALKIE_REGISTRY__URL", config.registry.url.expose()),
        ("WALTALKIE_REDIS__URL", config.redis.url.expose()),
        ("WALTALKIE_AUTH__HS256_SECRET", config.auth.hs256_secret.expose()),
        ("WALTALKIE_MEDIA__BUCKET", config.media.bucket.as_str()),
        ("WALTALKIE_MEDIA__ENDPOINT", config.media.endpoint.as_str()),
        ("WALTALKIE_MEDIA__ACCESS_KEY_ID", config.media.access_key_id.as_str()),
        ("WALTALKIE_MEDIA__SECRET_ACCESS_KEY", config.media.secret_access_key.expose()),
        ("WALTALKIE_NAMES__PREFIX", config.names.prefix.as_str()),
        ("WALTALKIE_GATEWAY__LISTEN", gateway_url.trim_start_matches("http://")),
        ("WALTALKIE_URL", gateway_url),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    variables.insert("WALTALKIE_DEVELOPMENT".into(), config.development.to_string());
    variables.insert("WALTALKIE_KAFKA__PARTITIONS".into(), kafka.partitions.to_string());
    variables.insert("WALTALKIE_KAFKA__REPLICATION_FACTOR".into(), kafka.replication_factor.to_string());
    variables.insert("WALTALKIE_KAFKA__MIN_INSYNC_REPLICAS".into(), kafka.min_insync_replicas.to_string());
    variables
}

/// Keeps the variables. Readable by the owner alone: passwords are among them.
pub(super) fn save(data_dir: &Path, config: &Config, gateway_url: &str) -> Result<()> {
    let path = data_dir.join(FILE);
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("{} can't be written", path.display()))?;
    serde_json::to_writer_pretty(file, &variables(config, gateway_url))?;
    Ok(())
}

fn saved(data_dir: &Path) -> Result<BTreeMap<String, String>> {
    let path = data_dir.join(FILE);
    let text = fs::read_to_string(&path).with_context(|| {
        format!("{} can't be read: has `waltalkie up` run with this data directory?", path.display())
    })?;
    serde_json::from_str(&text).with_context(|| format!("{} is damaged: `waltalkie up` writes it anew", path.display()))
}

/// `export NAME='value'` lines for a shell's `eval`.
pub(super) fn export_lines(data_dir: &Path) -> Result<String> {
    let mut lines = String::new();
    for (name, value) in saved(data_dir)? {
        // In single quotes a shell reads nothing but the closing quote.
        let _ = writeln!(lines, "export {name}='{}'", value.replace('\'', r"'\''"));
    }
    Ok(lines)
}

/// The configuration as it is if it names servers; else with the servers that the last `up` on this machine started.
pub(crate) fn or_local(config: Config) -> Result<Config> {
    let names_servers = !config.postgres.truth_url.is_empty() || !config.kafka.brokers.is_empty();
    if names_servers {
        return Ok(config);
    }
    let data_dir = std::env::var_os("WALTALKIE_DATA_DIR").map_or_else(local_stack::default_data_dir, PathBuf::from);
    let Ok(saved) = saved(&data_dir) else {
        bail!(
            "no servers are known: start them with `waltalkie up`, or name them in waltalkie.toml (WALTALKIE_DATA_DIR finds an \
             `up` with another data directory; looked in {})",
            data_dir.display()
        );
    };
    let path = Some(PathBuf::from("waltalkie.toml")).filter(|path| path.is_file());
    let known = saved.into_iter().filter(|(name, _)| name != "WALTALKIE_URL");
    runtime::config::load(path.as_deref(), known.chain(std::env::vars())).context("configuration")
}
