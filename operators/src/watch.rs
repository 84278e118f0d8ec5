//! Whether Kafka answers, asked while the loop has nothing to do: an idle loop wouldn't notice, and the role would call
//! itself ready.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use runtime::Config;
use runtime::kafka::admin::Admin;
use schemas::topics::Topic;

use crate::error::{self, Error};

const EVERY: Duration = Duration::from_secs(3);
/// What is read and written.
const TOPICS: [Topic; 5] =
    [Topic::ChatEvents, Topic::ChatActivity, Topic::ChatAbuse, Topic::OperatorsState, Topic::ChatEventsDlq];

/// What was found last.
#[derive(Default)]
pub(crate) struct Watch {
    problem: Mutex<Option<String>>,
}

impl Watch {
    /// What is in the way.
    pub(crate) fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks again and again; ends only if no client can be made.
    pub(crate) async fn run(&self, config: &Config) -> Result<Infallible, Error> {
        let admin = Admin::new(&config.kafka)?;
        loop {
            let problem = missing(config, &admin).await.err();
            *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
            tokio::time::sleep(EVERY).await;
        }
    }
}

async fn missing(config: &Config, admin: &Admin) -> Result<(), String> {
    for topic in TOPICS {
        let name = config.names().topic(topic);
        let facts = admin.topic_facts(&name).await.map_err(|failure| error::chain(&failure))?;
        if facts.partitions == 0 {
            return Err(format!("there is no topic {name}; `waltalkie migrate` makes it"));
        }
    }
    Ok(())
}
