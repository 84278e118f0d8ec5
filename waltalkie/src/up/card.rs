//! What `up` prints for people.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use local_stack::Endpoints;
use local_stack::prerequisites::Missing;
use runtime::Config;
use schemas::ids;

use crate::demonstration::PEOPLE;

/// Where everything is.
pub(super) struct Places<'a> {
    pub(super) gateway_url: &'a str,
    pub(super) ops_url: Option<&'a str>,
    pub(super) s3_url: &'a str,
    pub(super) endpoints: &'a Endpoints,
    pub(super) data_dir: &'a Path,
    pub(super) is_first: bool,
    pub(super) took: Duration,
}

/// One step that is done, in the shape of the servers' lines.
pub(super) fn line(what: &str, took: Duration) {
    eprintln!("  ✓ {what:<32} {:>6.1} s", took.as_secs_f64());
}

/// Everything that is missing at once, with the way to get it.
pub(super) fn missing(missing: &[Missing]) -> String {
    let mut text = String::from("this machine lacks:\n");
    for item in missing {
        let _ = writeln!(text, "  {}", item.what);
        let _ = writeln!(text, "    Debian, Ubuntu: {}", item.debian);
        let _ = writeln!(text, "    Fedora:         {}", item.fedora);
        let _ = writeln!(text, "    macOS:          {}", item.macos);
    }
    text.push_str("install it, then start again");
    text
}

/// The last thing that `up` says: addresses, and three lines to paste.
pub(super) fn end_card(config: &Config, places: &Places<'_>) -> String {
    let mut text = String::new();
    let url = places.gateway_url;
    let _ = writeln!(
        text,
        "\nWaltalkie is up after {:.1} s. Open as two people, in two windows:\n",
        places.took.as_secs_f64()
    );
    for (user_id, name) in PEOPLE {
        let _ = writeln!(text, "  {name:<16} {url}/?as={user_id}");
    }
    text.push('\n');
    let mut place = |what: &str, where_to: Option<&str>| {
        let _ = writeln!(text, "  {what:<16} {}", where_to.unwrap_or("external, as configured"));
    };
    place("Kafka", places.endpoints.kafka_brokers.as_deref());
    place("Schema registry", places.endpoints.registry_url.as_deref());
    // The password is in the data directory, and in `up --print-env`.
    let postgres = places.endpoints.postgres_url_base.as_deref().and_then(|url| url.rsplit('@').next());
    place("Postgres", postgres.map(|at| format!("{at}, user waltalkie")).as_deref());
    place("Redis", places.endpoints.redis_url.as_deref());
    place("S3", Some(places.s3_url));
    if let Some(ops) = places.ops_url {
        place("Pipeline", Some(&format!("{ops}/ops")));
    }
    place("Data", Some(&places.data_dir.display().to_string()));
    if places.is_first {
        let _ = writeln!(
            text,
            "\nThe people and three chats were made for this first start; they are there next time too."
        );
    }
    let program = std::env::current_exe().map_or_else(|_| "waltalkie".into(), |path| path.display().to_string());
    let data_dir = places.data_dir.display();
    let chat_id = ids::one_to_one_chat(PEOPLE[0].0, PEOPLE[1].0);
    let _ = writeln!(text, "\nThree lines to paste in another terminal:\n");
    let _ = writeln!(
        text,
        "  curl -sS -H \"Authorization: Bearer $(WALTALKIE_DATA_DIR='{data_dir}' '{program}' token --user alice)\" \
         -d '{{\"content\":\"hello\"}}' {url}/v1/chats/{chat_id}/messages"
    );
    let _ = writeln!(text, "  WALTALKIE_DATA_DIR='{data_dir}' '{program}' tail --from beginning --chat {chat_id}");
    let topic = config.names().topic(schemas::topics::Topic::ChatEvents);
    let _ = writeln!(text, "  {}", python_line(config, &topic));
    let _ = writeln!(text, "\nCtrl-C stops everything that was started here.");
    text
}

/// A consumer of the history as people write it in Python; needs `pip install 'confluent-kafka[avro]'`.
fn python_line(config: &Config, topic: &str) -> String {
    let registry = config.registry.url.expose();
    let brokers = &config.kafka.brokers;
    format!(
        "python3 -c \"from confluent_kafka import DeserializingConsumer as C; from confluent_kafka.schema_registry import \
         SchemaRegistryClient as R; from confluent_kafka.schema_registry.avro import AvroDeserializer as A; \
         c = C({{'bootstrap.servers': '{brokers}', 'group.id': 'first-look', 'auto.offset.reset': 'earliest', \
         'isolation.level': 'read_committed', 'value.deserializer': A(R({{'url': '{registry}'}}))}}); c.subscribe(['{topic}']); \
         [print(m.value(), flush=True) for m in iter(lambda: c.poll(10), None)]\""
    )
}
