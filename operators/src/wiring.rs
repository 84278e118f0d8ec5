//! What the parts of the role share.

use std::sync::Arc;

use runtime::kafka::admin::Admin;
use runtime::{Config, Names};
use schemas::registry::Registry;
use schemas::topics::Topic;
use schemas::{ChatAbuse, ChatActivity, ChatEvent, Decoder, Encoder, OperatorState, Record};

use crate::error::Error;
use crate::failpoint::Failpoints;
use crate::rules::Rules;

/// What the parts of the role share once everybody whom it needs has answered.
pub(crate) struct Wiring {
    pub(crate) config: Arc<Config>,
    pub(crate) names: Names,
    pub(crate) rules: Rules,
    pub(crate) failpoints: Failpoints,
    /// `cluster/topic id` of `chat.events`.
    pub(crate) topic_log: String,
    pub(crate) events: Decoder<ChatEvent>,
    pub(crate) states: Decoder<OperatorState>,
    pub(crate) encoders: Encoders,
    pub(crate) topics: Topics,
}

/// Names of the topics that are written, with prefix.
pub(crate) struct Topics {
    pub(crate) activity: String,
    pub(crate) abuse: String,
    pub(crate) state: String,
    pub(crate) dead_letters: String,
}

/// Writers of records, by the ids that the registry gave.
pub(crate) struct Encoders {
    pub(crate) activity: Encoder<ChatActivity>,
    pub(crate) abuse: Encoder<ChatAbuse>,
    pub(crate) state: Encoder<OperatorState>,
}

impl Wiring {
    /// Asks the registry for ids and the cluster for its topics.
    pub(crate) async fn prepare(
        config: Arc<Config>,
        registry: &Arc<Registry>,
        failpoints: Failpoints,
    ) -> Result<Self, Error> {
        let names = config.names();
        let admin = Admin::new(&config.kafka)?;
        let source = names.topic(Topic::ChatEvents);
        let topic_log = admin.log_id(&source).await?;
        let wanted = admin.topic_facts(&source).await?.partitions;
        for topic in [Topic::ChatActivity, Topic::ChatAbuse, Topic::OperatorsState] {
            let topic = names.topic(topic);
            match admin.topic_facts(&topic).await?.partitions {
                0 => return Err(runtime::kafka::admin::AdminError::NoTopic { topic }.into()),
                found if found != wanted => return Err(Error::Partitions { topic, found, wanted }),
                _ => {}
            }
        }
        let state_id = id_of::<OperatorState>(registry).await?;
        Ok(Self {
            rules: Rules::new(&config.operators),
            failpoints,
            topic_log,
            events: Decoder::new(Arc::clone(registry), id_of::<ChatEvent>(registry).await?),
            states: Decoder::new(Arc::clone(registry), state_id),
            encoders: Encoders {
                activity: Encoder::new(id_of::<ChatActivity>(registry).await?),
                abuse: Encoder::new(id_of::<ChatAbuse>(registry).await?),
                state: Encoder::new(state_id),
            },
            topics: Topics {
                activity: names.topic(Topic::ChatActivity),
                abuse: names.topic(Topic::ChatAbuse),
                state: names.topic(Topic::OperatorsState),
                dead_letters: names.topic(Topic::ChatEventsDlq),
            },
            names,
            config,
        })
    }
}

async fn id_of<R: Record>(registry: &Registry) -> Result<u32, Error> {
    registry.id_of::<R>().await.map_err(|failure| {
        if failure.is_not_found() { Error::Unregistered { record: R::NAME } } else { failure.into() }
    })
}
