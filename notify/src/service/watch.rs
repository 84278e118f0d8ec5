//! Whether Kafka, the truth's database and Redis answer, asked while there is nothing to do: an idle loop would notice none of
//! it, and the role would call itself ready. The read database is asked by every part itself.

use std::sync::Arc;
use std::time::Duration;

use runtime::Shutdown;
use runtime::kafka::admin::Admin;
use schemas::topics::Topic;

use super::Notifier;
use super::error::{Error, chain};

const EVERY: Duration = Duration::from_secs(3);
/// What is read and written.
const TOPICS: [Topic; 4] =
    [Topic::ChatEvents, Topic::ChatCursors, Topic::ChatNotifications, Topic::ChatNotificationsDlq];

/// Asks until it is time to stop.
pub(crate) async fn run(notifier: &Arc<Notifier>, shutdown: &Shutdown) -> Result<(), Error> {
    let admin = Admin::new(&notifier.config.kafka)?;
    loop {
        tell(notifier, "Kafka", topics(notifier, &admin).await);
        tell(notifier, "Postgres", database(notifier).await);
        tell(notifier, "Redis", notifier.presences.check().await.map_err(|error| format!("Redis is away: {error}")));
        if !shutdown.pause(EVERY).await {
            return Ok(());
        }
    }
}

fn tell(notifier: &Notifier, part: &'static str, answer: Result<(), String>) {
    match answer {
        Ok(()) => notifier.board.ready(part),
        Err(problem) => notifier.board.not_ready(part, problem),
    }
}

async fn topics(notifier: &Notifier, admin: &Admin) -> Result<(), String> {
    for topic in TOPICS {
        let name = notifier.config.names().topic(topic);
        let facts = admin.topic_facts(&name).await.map_err(|failure| chain(&failure))?;
        if facts.partitions == 0 {
            return Err(format!("there is no topic {name}; `waltalkie migrate` makes it"));
        }
    }
    Ok(())
}

async fn database(notifier: &Notifier) -> Result<(), String> {
    let answer = async {
        let client = notifier.truth.get().await?;
        client.batch_execute("SELECT 1").await.map_err(Error::database("asking for a sign of life"))
    };
    answer.await.map_err(|failure: Error| chain(&failure))
}
