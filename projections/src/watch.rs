//! Whether Kafka and the database of read models answer, asked while the loops have nothing to do: an idle loop would
//! notice neither, and the role would call itself ready.

use std::time::Duration;

use runtime::Shutdown;
use runtime::kafka::admin::Admin;
use schemas::topics::Topic;

use crate::error::{self, Error};
use crate::status::Status;
use crate::wiring::Wiring;

const EVERY: Duration = Duration::from_secs(3);
/// The topics that projections read.
const TOPICS: [Topic; 3] = [Topic::ChatEvents, Topic::ChatMarks, Topic::ChatCursors];

/// Asks both until it is time to stop.
pub(crate) async fn run(wiring: &Wiring, kafka: &Status, postgres: &Status, shutdown: &Shutdown) -> Result<(), Error> {
    let admin = Admin::new(&wiring.config.kafka)?;
    loop {
        tell(kafka, topics(wiring, &admin).await);
        tell(postgres, database(wiring).await);
        if !shutdown.pause(EVERY).await {
            kafka.ended();
            postgres.ended();
            return Ok(());
        }
    }
}

fn tell(status: &Status, answer: Result<(), String>) {
    match answer {
        Ok(()) => status.ready(),
        Err(problem) => status.not_ready(problem),
    }
}

async fn topics(wiring: &Wiring, admin: &Admin) -> Result<(), String> {
    for topic in TOPICS {
        let name = wiring.config.names().topic(topic);
        let facts = admin.topic_facts(&name).await.map_err(|failure| error::chain(&failure))?;
        if facts.partitions == 0 {
            return Err(format!("there is no topic {name}; `waltalkie migrate` makes it"));
        }
    }
    Ok(())
}

async fn database(wiring: &Wiring) -> Result<(), String> {
    let answer = async {
        let client = wiring.pool.get().await?;
        client.batch_execute("SELECT 1").await.map_err(Error::database("asking for a sign of life"))
    };
    answer.await.map_err(|failure: Error| error::chain(&failure))
}
