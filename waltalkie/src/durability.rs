//! What durability needs of the servers, insisted on unless `development = true`.

use anyhow::{Result, bail};
use runtime::kafka::admin::Admin;
use runtime::{Config, postgres};
use schemas::topics::Topic;

/// Fewest copies of a topic in production.
const REPLICAS: usize = 3;

/// Refuses to start without what durability needs, and says how to get it.
pub(crate) async fn insist(config: &Config) -> Result<()> {
    if config.development {
        return Ok(());
    }
    let problems = problems(config).await?;
    if problems.is_empty() {
        return Ok(());
    }
    bail!(
        "the servers don't keep what they are given (development = true allows it on a machine of your own):\n  {}",
        problems.join("\n  ")
    );
}

/// What is missing, each with the way to mend it.
pub(crate) async fn problems(config: &Config) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let names = config.names();
    let admin = Admin::new(&config.kafka)?;
    for topic in Topic::ALL {
        let name = names.topic(topic);
        let facts = admin.topic_facts(&name).await?;
        if facts.partitions == 0 {
            problems.push(format!("topic {name} isn't there: run `waltalkie migrate`"));
        } else if facts.replicas < REPLICAS {
            problems.push(format!(
                "topic {name} has {} replicas: reassign it to {REPLICAS}, with min.insync.replicas=2",
                facts.replicas
            ));
        } else if admin.topic_config(&name).await?.get("min.insync.replicas").is_some_and(|least| least == "1") {
            problems.push(format!(
                "topic {name} has min.insync.replicas below 2: an acknowledged record could be on one disk only; set it \
                 with kafka-configs.sh, and kafka.min_insync_replicas for new topics"
            ));
        }
    }
    if !config.postgres.accept_single_copy {
        let client = postgres::connect(&postgres::parse(&config.postgres.truth_url, "postgres.truth_url")?).await?;
        let standbys: String =
            client.query_one("SELECT current_setting('synchronous_standby_names')", &[]).await?.get(0);
        if standbys.is_empty() {
            problems.push(
                "Postgres has no synchronous standby: set synchronous_standby_names, or postgres.accept_single_copy = true if \
                 its disk is copied some other way"
                    .into(),
            );
        }
    }
    Ok(problems)
}
