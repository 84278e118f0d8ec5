//! Reading the configuration. Every error names the file and line, or the environment variable, and the nearest known
//! key; none shows a value, which may be a secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, TrustedProxies};

const ENV_PREFIX: &str = "WALTALKIE_";

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: can't be read", path.display())]
    Unreadable {
        /// File.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is wrong at a line.
    #[error("{place}: {problem}")]
    Wrong {
        /// File and line, or variable.
        place: String,
        /// What is wrong, and the nearest right thing.
        problem: String,
    },
}

/// The configuration from a file (none: defaults) with environment variables laid over it.
pub fn load(path: Option<&Path>, env: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let mut table = match path {
        None => Table::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
            let place = path.display().to_string();
            // Checked on its own first: only here are there lines to name.
            toml::from_str::<Config>(&text).map_err(|error| wrong_file(&place, &text, &error))?;
            toml::from_str(&text).map_err(|error| wrong_file(&place, &text, &error))?
        }
    };
    let variables: BTreeMap<String, String> = env
        .into_iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(ENV_PREFIX)?.to_owned(), value)))
        .filter(|(name, _)| name.contains("__") || name == "DEVELOPMENT")
        .collect();
    let known = known_keys();
    for (name, value) in variables {
        lay_over(&mut table, &known, &name, &value)?;
    }
    let mut config: Config = Value::Table(table).try_into().map_err(|error: toml::de::Error| ConfigError::Wrong {
        place: "configuration".into(),
        problem: error.message().to_owned(),
    })?;
    check(&config)?;
    config.postgres.carry_ca();
    Ok(config)
}

fn check(config: &Config) -> Result<(), ConfigError> {
    let wrong =
        |key: &str, problem: &str| Err(ConfigError::Wrong { place: key.to_owned(), problem: problem.to_owned() });
    let prefix = &config.names.prefix;
    if prefix.len() > 32 || !prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return wrong("names.prefix", "use at most 32 of a-z, 0-9 and -");
    }
    if config.kafka.partitions == 0 {
        return wrong("kafka.partitions", "at least 1 partition is needed");
    }
    if config.gateway.heartbeat_ms < 100 {
        return wrong("gateway.heartbeat_ms", "at least 100 ms");
    }
    if config.gateway.drain_ms > 10_000 {
        return wrong(
            "gateway.drain_ms",
            "at most 10000: a process waits 20 s for its roles, and what they wrote last",
        );
    }
    if config.gateway.resume_events == 0 {
        return wrong("gateway.resume_events", "at least 1, or nobody who was away ever comes back");
    }
    if let Some(text) = config.gateway.allowed_origins.iter().find(|origin| !is_origin(origin)) {
        return wrong("gateway.allowed_origins", &format!("`{text}` is no origin such as https://chat.example.com"));
    }
    if let Some(text) = config.ops.peers.iter().find(|peer| !is_origin(peer)) {
        return wrong("ops.peers", &format!("`{text}` is no address such as http://10.0.0.7:8090"));
    }
    if let Err(text) = TrustedProxies::parse(&config.gateway.trusted_proxies) {
        let problem = format!("`{text}` is neither an address nor a network such as 10.0.0.0/8");
        return wrong("gateway.trusted_proxies", &problem);
    }
    if !config.auth.hs256_secret.is_empty() {
        if !config.development {
            return wrong(
                "auth.hs256_secret",
                "is for development only; set auth.public_key_pem, or development = true",
            );
        }
        if config.auth.hs256_secret.expose().len() < 32 {
            return wrong("auth.hs256_secret", "needs at least 32 bytes, such as the output of `openssl rand -hex 32`");
        }
    }
    let jwks_url = &config.auth.jwks_url;
    let is_plain = config.development && jwks_url.starts_with("http://");
    if !(jwks_url.is_empty() || jwks_url.starts_with("https://") || is_plain) {
        return wrong("auth.jwks_url", "begins with https:// (or http:// with development = true)");
    }
    if config.auth.jwks_refresh_s < 5 {
        return wrong("auth.jwks_refresh_s", "at least 5 s");
    }
    let operators = &config.operators;
    for (key, length_ms) in
        [("flood_window_ms", operators.flood_window_ms), ("repeat_window_ms", operators.repeat_window_ms)]
    {
        if !(1_000..=3_600_000).contains(&length_ms) {
            return wrong(&format!("operators.{key}"), "at least a second and at most an hour, in milliseconds");
        }
    }
    if operators.watermark_delay_ms > 3_600_000 || operators.lateness_ms > 86_400_000 {
        return wrong("operators", "watermark_delay_ms is at most an hour, lateness_ms at most a day");
    }
    if let Err((key, problem)) = config.media.check(config.development) {
        return wrong(key, &problem);
    }
    if let Some((key, problem)) = config.notify.problem(config.development) {
        return wrong(key, problem);
    }
    let trace = &config.trace;
    if !(trace.otlp_endpoint.is_empty() || is_origin(&trace.otlp_endpoint)) {
        return wrong("trace.otlp_endpoint", "is no address such as http://collector:4318; /v1/traces is added to it");
    }
    if !(0.0..=1.0).contains(&trace.sample_ratio) {
        return wrong("trace.sample_ratio", "at least 0 and at most 1");
    }
    let limits = &config.limits;
    if [limits.commands_per_s, limits.requests_per_s, limits.node_commands_per_s, limits.chat_sends_per_s].contains(&0)
    {
        return wrong("limits", "rates are at least 1 a second");
    }
    Ok(())
}

/// Scheme, host and perhaps port, as browsers send it.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte))
    })
}

/// Known sections with their keys and default values; keys without section under "".
fn known_keys() -> BTreeMap<String, BTreeMap<String, Value>> {
    let defaults = Table::try_from(Config::default()).unwrap_or_default();
    let mut known: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for (section, value) in defaults {
        match value {
            Value::Table(keys) => known.entry(section).or_default().extend(keys),
            value => {
                known.entry(String::new()).or_default().insert(section, value);
            }
        }
    }
    known
}

fn lay_over(
    table: &mut Table,
    known: &BTreeMap<String, BTreeMap<String, Value>>,
    name: &str,
    value: &str,
) -> Result<(), ConfigError> {
    let variable = format!("{ENV_PREFIX}{name}");
    let wrong = |problem: String| ConfigError::Wrong { place: variable.clone(), problem };
    let (section, key) = match name.split_once("__") {
        Some((section, key)) => (section.to_lowercase(), key.to_lowercase()),
        None => (String::new(), name.to_lowercase()),
    };
    let keys = known
        .get(&section)
        .ok_or_else(|| wrong(format!("there is no section `{section}`{}", nearest(&section, known.keys()))))?;
    let (key, text) = match key.strip_suffix("_file") {
        Some(base) if keys.contains_key(base) && !keys.contains_key(&key) => {
            let text = std::fs::read_to_string(value)
                .map_err(|error| wrong(format!("the file it names can't be read: {error}")))?;
            (base.to_owned(), text.trim_end().to_owned())
        }
        _ => (key, value.to_owned()),
    };
    let default = keys
        .get(&key)
        .ok_or_else(|| wrong(format!("there is no key `{key}` in `{section}`{}", nearest(&key, keys.keys()))))?;
    let value = match default {
        Value::Boolean(_) => text.parse().map(Value::Boolean).map_err(|_| wrong("is true or false".into()))?,
        Value::Float(_) => text.parse().map(Value::Float).map_err(|_| wrong("is a number".into()))?,
        Value::Integer(_) => text.parse().map(Value::Integer).map_err(|_| wrong("is a whole number".into()))?,
        Value::Array(_) => Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.into()))
                .collect(),
        ),
        _ => Value::String(text),
    };
    // Each variable is tried alone, so that a wrong value is blamed on it.
    let mut alone = Table::new();
    put(&mut alone, &section, &key, value.clone());
    Value::Table(alone).try_into::<Config>().map_err(|error: toml::de::Error| wrong(error.message().to_owned()))?;
    put(table, &section, &key, value);
    Ok(())
}

fn put(table: &mut Table, section: &str, key: &str, value: Value) {
    if section.is_empty() {
        table.insert(key.to_owned(), value);
    } else if let Value::Table(keys) = table.entry(section).or_insert_with(|| Value::Table(Table::new())) {
        keys.insert(key.to_owned(), value);
    }
}

fn wrong_file(place: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = error.message();
    let mut quoted = message.split('`').skip(1).step_by(2);
    let problem = match (message.starts_with("unknown field"), quoted.next()) {
        (true, Some(unknown)) => {
            let known: Vec<String> = quoted.map(str::to_owned).collect();
            format!("unknown key `{unknown}`{}", nearest(unknown, known.iter()))
        }
        // The rest of some messages quotes the value, which may be a secret.
        _ => message.lines().next().unwrap_or_default().to_owned(),
    };
    ConfigError::Wrong { place: format!("{place}:{line}"), problem }
}

fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a String>) -> String {
    known
        .filter(|known| !known.is_empty())
        .map(|known| (strsim::jaro_winkler(unknown, known), known))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| format!("; the nearest is `{known}`"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn load_text(text: &str) -> Result<Config, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        load(Some(file.path()), [])
    }

    fn env(name: &str, value: &str) -> Result<Config, ConfigError> {
        load(None, [(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn errors_name_line_key_and_the_nearest_known_key() {
        let error = load_text("development = true\n\n[gateway]\nlisten_on = \"x\"\n").unwrap_err().to_string();
        assert!(error.ends_with(":4: unknown key `listen_on`; the nearest is `listen`"), "{error}");
        let error = load_text("[kafka]\npartitions = \"many\"\n").unwrap_err().to_string();
        assert!(error.contains(":2: "), "{error}");
        let error = load_text("[gatway]\n").unwrap_err().to_string();
        assert!(error.contains(":1: unknown key `gatway`; the nearest is `gateway`"), "{error}");
        assert!(load_text("[kafka\n").unwrap_err().to_string().contains(":1: "));
    }

    #[test]
    fn variables_lie_over_the_file() {
        let config = load_text("[gateway]\nheartbeat_ms = 700\n").unwrap();
        assert_eq!(config.gateway.heartbeat_ms, 700);
        assert_eq!(env("WALTALKIE_GATEWAY__HEARTBEAT_MS", "900").unwrap().gateway.heartbeat_ms, 900);
        assert!(env("WALTALKIE_DEVELOPMENT", "true").unwrap().development);
        let origins =
            env("WALTALKIE_GATEWAY__ALLOWED_ORIGINS", "https://a, https://b").unwrap().gateway.allowed_origins;
        assert_eq!(origins, ["https://a", "https://b"]);
        for wrong in ["*", "chat.example.com", "https://", "https://a/"] {
            let error = env("WALTALKIE_GATEWAY__ALLOWED_ORIGINS", wrong).unwrap_err().to_string();
            assert!(error.contains("no origin") && error.contains(wrong), "{error}");
        }
        let error = env("WALTALKIE_GATEWAY__DRAIN_MS", "10001").unwrap_err().to_string();
        assert!(error.contains("gateway.drain_ms") && error.contains("at most 10000"), "{error}");
        let error = env("WALTALKIE_KAFKA__BROKER", "x").unwrap_err().to_string();
        assert_eq!(error, "WALTALKIE_KAFKA__BROKER: there is no key `broker` in `kafka`; the nearest is `brokers`");
        let error = env("WALTALKIE_KAFKA__PARTITIONS", "x").unwrap_err().to_string();
        assert_eq!(error, "WALTALKIE_KAFKA__PARTITIONS: is a whole number");
    }

    #[test]
    fn traces_have_an_address_and_a_ratio() {
        let config = load_text("[trace]\notlp_endpoint = \"http://collector:4318\"\n").unwrap();
        assert!((config.trace.sample_ratio - 0.01).abs() < f64::EPSILON);
        let half = env("WALTALKIE_TRACE__SAMPLE_RATIO", "0.5").unwrap();
        assert!((half.trace.sample_ratio - 0.5).abs() < f64::EPSILON && half.trace.otlp_endpoint.is_empty());
        for (name, wrong) in [("SAMPLE_RATIO", "2"), ("SAMPLE_RATIO", "many"), ("OTLP_ENDPOINT", "collector/v1/traces")]
        {
            assert!(env(&format!("WALTALKIE_TRACE__{name}"), wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_come_from_files_and_are_never_shown() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "redis://:hush@host").unwrap();
        let config = env("WALTALKIE_REDIS__URL_FILE", file.path().to_str().unwrap()).unwrap();
        assert_eq!(config.redis.url.expose(), "redis://:hush@host");
        let shown = toml::to_string(&config).unwrap() + &format!("{config:?}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}
