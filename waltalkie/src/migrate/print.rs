//! `waltalkie migrate --print`: what `migrate` would make, as text for those who may.

use std::fmt::Write as _;

use anyhow::Result;
use clap::ValueEnum;
use runtime::Config;
use runtime::kafka::admin::topic_plans;
use schemas::registry::{COMPATIBILITY, Registry};
use serde_json::json;

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Everything, with a heading each
    All,
    /// SQL for the database of the truth: tables, publication
    Truth,
    /// SQL for the database of the read models
    Read,
    /// SQL for the database of the truth: the slot; after the tables
    Slot,
    /// Shell: the topics
    Topics,
    /// Shell: the schemas
    Schemas,
}

/// A part as text.
pub(crate) fn script(config: &Config, part: Part) -> Result<String> {
    let names = config.names();
    Ok(match part {
        Part::All => all(config)?,
        Part::Truth => migrations::truth_script(&names),
        Part::Read => migrations::read_script(),
        Part::Slot => migrations::slot_script(&names),
        Part::Topics => topics(config),
        Part::Schemas => subjects(&Registry::new(config.registry.url.expose(), names.prefix())?),
    })
}

fn all(config: &Config) -> Result<String> {
    let parts = [
        (Part::Truth, "--", "the database of postgres.truth_url, as the owner of its tables"),
        (Part::Read, "--", "the database of postgres.read_url, as the owner of its tables"),
        (Part::Slot, "--", "the database of postgres.truth_url again, as a role with REPLICATION"),
        (Part::Topics, "#", "Kafka, as somebody who may make topics"),
        (Part::Schemas, "#", "the schema registry"),
    ];
    let mut text = String::from(
        "-- What `waltalkie migrate` makes, in the order in which it has to be applied. `--print PART` prints one part alone.\n",
    );
    for (part, comment, place) in parts {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{comment} ==== {place} ====\n\n{}", script(config, part)?);
    }
    text.push_str(
        "\n# ==== then `waltalkie migrate`, as the least of logins: it writes the slot's first position ====\n",
    );
    Ok(text)
}

fn topics(config: &Config) -> String {
    let brokers = quoted(&config.kafka.brokers);
    let mut text = String::new();
    for plan in topic_plans(&config.kafka, &config.names()) {
        let _ = write!(
            text,
            "kafka-topics.sh --bootstrap-server {brokers} --create --if-not-exists --topic {} --partitions {} \
             --replication-factor {}",
            plan.name, plan.partitions, plan.replicas
        );
        for (key, value) in plan.config {
            let _ = write!(text, " --config {key}={value}");
        }
        text.push('\n');
    }
    text
}

fn subjects(registry: &Registry) -> String {
    let mut text = format!(
        "# Where the registry wants a login: REGISTRY=https://user:password@…\nREGISTRY={}\n",
        quoted(registry.address())
    );
    let mut call = |method: &str, path: &str, body: serde_json::Value| {
        let _ = writeln!(
            text,
            "curl -sSf -X {method} -H 'Content-Type: application/vnd.schemaregistry.v1+json' --data {} \"$REGISTRY\"{path}",
            quoted(&body.to_string())
        );
    };
    for (subject, schema) in registry.wanted() {
        call("PUT", &format!("/config/{subject}"), json!({ "compatibility": COMPATIBILITY }));
        call("POST", &format!("/subjects/{subject}/versions"), json!({ "schema": schema }));
    }
    text
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_stays_inside_its_quotes() {
        assert_eq!(quoted("a'b"), r"'a'\''b'");
    }

    #[test]
    fn no_password_is_printed() {
        let mut config = Config::default();
        config.registry.url = runtime::Secret::new("http://user:hush@registry:8081");
        config.postgres.truth_url = runtime::Secret::new("postgres://user:hush@db/x");
        let text = script(&config, Part::All).unwrap();
        assert!(text.contains("http://registry:8081") && !text.contains("hush"), "{text}");
    }
}
