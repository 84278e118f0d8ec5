//! Topics: whether they are there, and are kept as they must be.

use runtime::Config;
use runtime::kafka::admin::{Admin, topic_plans};
use runtime::kafka::topic_settings::differences;

use super::Looked;

pub(super) async fn look(config: &Config) -> Looked {
    let admin = Admin::new(&config.kafka)?;
    let cluster_id = admin.cluster_id().await?;
    let brokers = &config.kafka.brokers;
    let mut wrong = Vec::new();
    let mut seen = vec![format!("cluster {cluster_id}")];
    for plan in topic_plans(&config.kafka, &config.names()) {
        let facts = admin.topic_facts(&plan.name).await?;
        if facts.partitions == 0 {
            wrong.push(format!("topic {} isn't there: run `waltalkie migrate`", plan.name));
            continue;
        }
        seen.push(format!("{}: {} partitions, {} replicas", plan.name, facts.partitions, facts.replicas));
        for difference in differences(&plan, &admin.topic_config(&plan.name).await?) {
            let command = difference.command(brokers);
            if difference.is_promise {
                wrong.push(format!(
                    "{difference}, by which records are lost or refused: `waltalkie migrate`, or {command}"
                ));
            } else {
                seen.push(format!("{difference}, which is yours to say; as it was planned: {command}"));
            }
        }
    }
    Ok((seen, wrong))
}
