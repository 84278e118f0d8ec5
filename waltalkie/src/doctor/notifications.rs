//! Push and mail: whether providers let us in, and whether what is to be told gets there.

use anyhow::Result;
use runtime::Config;
use runtime::kafka::admin::Admin;
use schemas::topics::Topic;

use super::{Looked, connect};

/// Records that the notifier may have before it.
const BACKLOG: i64 = 1_000;
/// Tasks that are due for longer than this have nobody who takes them. Those under way are due later.
const OVERDUE: &str = "
    SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(due_at)), 0)::bigint FROM (
        SELECT due_at FROM notify_task WHERE due_at < clock_timestamp() - interval '1 minute' AND NOT is_bulk LIMIT 100000) late";
const OFFSETS: &str = "SELECT partition, next_offset FROM consumer_offset WHERE consumer = 'notifier' AND topic = $1";

pub(super) async fn look(config: &Config) -> Looked {
    if !config.notify.is_on() {
        return Ok((vec!["off: no provider is configured in [notify]".into()], Vec::new()));
    }
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
    for (what, outcome) in notify::service::trial::check(config).await? {
        match outcome {
            Ok(said) => seen.push(format!("{what}: {said}")),
            Err(problem) => wrong.push(format!("{what}: {problem}")),
        }
    }
    let client = connect(&config.postgres.read_url, "postgres.read_url").await?;
    if client.query_one("SELECT to_regclass('notify_task') IS NULL", &[]).await?.get(0) {
        wrong.push("the notifier's tables aren't there: run `waltalkie migrate`".into());
        return Ok((seen, wrong));
    }
    let row = client.query_one(OVERDUE, &[]).await?;
    let (late, for_s): (i64, i64) = (row.get(0), row.get(1));
    if late > 0 {
        wrong.push(format!(
            "notifications that should have been sent by now: {late}, the oldest {for_s} s ago: start `waltalkie run notifier`, or one more \
             of them"
        ));
    }
    match behind(config, &client).await? {
        None => {
            wrong
                .push("no notifier has ever run, so nobody is told of anything: start `waltalkie run notifier`".into());
        }
        Some(behind) if behind > BACKLOG => wrong.push(format!(
            "{behind} events wait for the notifier: start `waltalkie run notifier`, or one more of them, and look again"
        )),
        Some(behind) => seen.push(format!("{behind} events wait for the notifier")),
    }
    Ok((seen, wrong))
}

/// Events that the notifier hasn't worked through; `None` if it has never begun.
async fn behind(config: &Config, client: &tokio_postgres::Client) -> Result<Option<i64>> {
    let topic = config.names().topic(Topic::ChatEvents);
    let rows = client.query(OFFSETS, &[&topic]).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let ends = Admin::new(&config.kafka)?.ends(&topic).await?;
    let behind = rows.iter().map(|row| {
        let (partition, next): (i32, i64) = (row.get(0), row.get(1));
        // The last place of a partition is the end of a transaction, which no reader is given.
        ends.get(&partition).map_or(0, |&(first, end)| (end - 1 - next.max(first)).max(0))
    });
    Ok(Some(behind.sum()))
}
