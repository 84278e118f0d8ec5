//! What operators see: their page, logs and traces.

use serde::{Deserialize, Serialize};

/// `[ops]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ops {
    /// Address of `/ops`, `/metrics`, `/healthz` and `/readyz` for operators; empty for none. Keep it off public networks.
    pub listen: String,
    /// Addresses, such as `http://10.0.0.7:8090`, of the operators' listeners of the installation's processes: `/ops` shows
    /// them too. This process' own may be among them.
    pub peers: Vec<String>,
}

impl Default for Ops {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8090".into(), peers: Vec::new() }
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text` for people, `json` for programs.
    pub format: LogFormat,
    /// What to log, such as `info` or `warn,cdc_worker=debug`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".into() }
    }
}

/// `[trace]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trace {
    /// Where spans of sampled commands go, by OTLP over HTTP: `http://collector:4318`. Empty: nothing is traced.
    pub otlp_endpoint: String,
    /// Of how many commands one is followed: 0.01 is one in a hundred.
    pub sample_ratio: f64,
}

impl Default for Trace {
    fn default() -> Self {
        Self { otlp_endpoint: String::new(), sample_ratio: 0.01 }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
