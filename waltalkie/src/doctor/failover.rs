//! Whether a promoted standby would go on publishing without loss.

use migrations::{FailoverFacts, Verdict};
use runtime::{Config, postgres};
use tokio_postgres::config::TargetSessionAttrs;

use super::{Looked, connect};

pub(super) async fn look(config: &Config) -> Looked {
    let (url, setting) = if config.postgres.replication_url.is_empty() {
        (&config.postgres.truth_url, "postgres.truth_url")
    } else {
        (&config.postgres.replication_url, "postgres.replication_url")
    };
    let client = connect(url, setting).await?;
    let Verdict { seen, mut wrong } = FailoverFacts::ask(&client, &config.names()).await?.verdict();
    for (url, setting) in [
        (&config.postgres.truth_url, "postgres.truth_url"),
        (&config.postgres.read_url, "postgres.read_url"),
        (&config.postgres.replication_url, "postgres.replication_url"),
    ] {
        if url.is_empty() {
            continue;
        }
        let server = postgres::parse(url, setting)?;
        if may_reach_a_standby(&server) {
            wrong.push(format!(
                "{setting} names several hosts: add target_session_attrs=read-write, so that connections find the primary"
            ));
        }
    }
    Ok((seen, wrong))
}

/// Whether connections go to whichever host answers first.
fn may_reach_a_standby(url: &tokio_postgres::Config) -> bool {
    url.get_hosts().len() > 1 && url.get_target_session_attrs() != TargetSessionAttrs::ReadWrite
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_need_to_say_that_the_primary_is_meant() {
        let asks = |url: &str| may_reach_a_standby(&url.parse().expect("a URL"));
        assert!(!asks("postgres://u@one/chat"));
        assert!(asks("postgres://u@one,two/chat"));
        assert!(!asks("postgres://u@one,two/chat?target_session_attrs=read-write"));
    }
}
