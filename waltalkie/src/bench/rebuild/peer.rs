//! `--peer`: stream processors that make the same aggregate of the same topic, as processes of their own.
//!
//! Nothing is known of such a program but how it is told its orders (environment), and that it ends by itself when it has read to the
//! topic's end. Its start counts, as ours does.

use anyhow::{Context, Result};
use runtime::Config;
use schemas::topics::Topic;

use super::process::{Taken, to_its_end};
use super::report::{OWN, Run};
use crate::bench::peer::Peer;

/// One run, under a name that no other has.
pub(super) async fn run(
    peer: &Peer,
    name: &str,
    events: u64,
    config: &Config,
    servers: &[(String, u32)],
) -> Result<Run> {
    let names = config.names();
    let registry = config.registry.url.expose();
    let group = names.group(name);
    let program = peer.start(|folder| {
        vec![
            ("BOOTSTRAP_SERVERS", config.kafka.brokers.clone()),
            ("SCHEMA_REGISTRY_URL", registry.to_owned()),
            ("APICURIO_REGISTRY_URL", registry.replace("/apis/ccompat/v7", "/apis/registry/v2")),
            ("EVENTS_TOPIC", names.topic(Topic::ChatEvents)),
            ("OUTPUT_TOPIC", format!("{group}-output")),
            ("GROUP", group.clone()),
            ("STATE_DIR", format!("{folder}/state")),
        ]
    })?;
    let Taken { seconds, cpu_s, peak_rss_bytes, .. } =
        to_its_end(program, OWN, servers).await.with_context(|| format!("peer {:?}", peer.name))?;
    let millions = events as f64 / 1e6;
    Ok(Run {
        records: events,
        records_per_s: events as f64 / seconds,
        cpu_s_per_million: cpu_s.into_iter().map(|(role, cpu_s)| (role, cpu_s / millions)).collect(),
        peak_rss_bytes,
    })
}
