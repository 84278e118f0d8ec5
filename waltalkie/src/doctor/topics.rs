//! Topics: whether they are there, and are kept as they must be.

use std::collections::BTreeMap;

use runtime::Config;
use runtime::kafka::admin::Admin;
use schemas::topics::Topic;

use super::Looked;

pub(super) async fn look(config: &Config) -> Looked {
    let admin = Admin::new(&config.kafka)?;
    let cluster_id = admin.cluster_id().await?;
    let names = config.names();
    let mut wrong = Vec::new();
    let mut seen = vec![format!("cluster {cluster_id}")];
    for topic in Topic::ALL {
        let name = names.topic(topic);
        let facts = admin.topic_facts(&name).await?;
        if facts.partitions == 0 {
            wrong.push(format!("topic {name} isn't there: run `waltalkie migrate`"));
            continue;
        }
        seen.push(format!("{name}: {} partitions, {} replicas", facts.partitions, facts.replicas));
        wrong.extend(misconfigured(topic, &name, &admin.topic_config(&name).await?));
    }
    Ok((seen, wrong))
}

/// Settings of a topic by which records would be lost or refused. How long commands, marks, dead letters and what could be
/// made again are kept is for whoever runs it to say.
fn misconfigured(topic: Topic, name: &str, found: &BTreeMap<String, String>) -> Vec<String> {
    let must_be: &[&str] = match topic {
        Topic::ChatCommands
        | Topic::ChatMarks
        | Topic::ChatNotifications
        | Topic::ChatCommandsDlq
        | Topic::ChatNotificationsDlq
        | Topic::ChatEventsDlq => return Vec::new(),
        Topic::ChatActivity | Topic::ChatAbuse => &["message.timestamp.after.max.ms"],
        _ => &["cleanup.policy", "retention.ms", "retention.bytes", "message.timestamp.after.max.ms"],
    };
    let wanted = topic.config().iter().filter(|(key, _)| must_be.contains(key));
    let differs = |&&(key, wanted): &&(&str, &str)| found.get(key).is_some_and(|found| found != wanted);
    let problem = |&(key, wanted): &(&str, &str)| {
        format!(
            "topic {name} has {key} = {}, and its records need {wanted}: kafka-configs.sh --alter --topic {name} \
             --add-config {key}={wanted}",
            found[key]
        )
    };
    wanted.filter(differs).map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn what_would_lose_or_refuse_records_is_told_with_the_line_that_mends_it() {
        let of_events = |key: &str, value: &str| misconfigured(Topic::ChatEvents, "chat.events", &with(key, value));
        assert_eq!(of_events("retention.ms", "-1"), [""; 0]);
        let short = of_events("retention.ms", "604800000");
        assert!(short[0].ends_with("--alter --topic chat.events --add-config retention.ms=-1"), "{short:?}");
        assert_eq!(of_events("message.timestamp.after.max.ms", "3600000").len(), 1);
        assert_eq!(of_events("cleanup.policy", "compact").len(), 1);
        // May not be read, or is the operator's.
        assert_eq!(misconfigured(Topic::ChatEvents, "chat.events", &BTreeMap::new()), [""; 0]);
        let days = with("retention.ms", "86400000");
        assert_eq!(misconfigured(Topic::ChatCommands, "chat.commands", &days), [""; 0]);
        assert_eq!(misconfigured(Topic::ChatActivity, "chat.activity", &days), [""; 0]);
        assert_eq!(misconfigured(Topic::OperatorsState, "operators.state", &with("cleanup.policy", "delete")).len(), 1);
    }
}
