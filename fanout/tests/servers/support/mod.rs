//! A node on real servers, with an installation of its own: rows are written as the persister writes them, envelopes are
//! published as the publisher publishes them.

pub mod client;
pub mod inbound;
pub mod proxy;

use std::sync::Arc;
use std::time::Duration;

use fanout::Node;
use redis::aio::MultiplexedConnection;
use runtime::{Config, Health, Names, Secret, Shutdown};
use schemas::registry::Registry;
use schemas::wire::relay::{Kind, Relayed};
use schemas::{ChatEvent, Encoder, Membership, MessageState, event_type, history};
use tokio_postgres::Client as Sql;
use uuid::Uuid;

use client::Client;
use inbound::Recorder;
use proxy::Proxy;

pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} isn't set: run scripts/test, which starts the servers"))
}

pub fn random_prefix() -> String {
    format!("t{}-", &Uuid::new_v4().simple().to_string()[..10])
}

/// A counter of this process, which other tests raise too. What was counted before this was first asked is nowhere.
pub fn counted(name: &str) -> usize {
    let text = runtime::telemetry::metrics().render();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |number| number.parse().expect("a number"))
}

/// Waits for a condition.
pub async fn until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("in time");
}

/// What a test may want otherwise.
pub struct Setup {
    pub config: Config,
    pub redis_through_proxy: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let mut config = Config { development: true, ..Config::default() };
        config.names.prefix = random_prefix();
        // Long enough for a client that isn't read while a busy machine publishes.
        config.gateway.heartbeat_ms = 1_000;
        config.gateway.drain_ms = 1_000;
        config.postgres.pool_size = 6;
        Self { config, redis_through_proxy: false }
    }
}

pub struct World {
    pub config: Arc<Config>,
    pub names: Names,
    pub sql: Sql,
    pub redis: MultiplexedConnection,
    pub encoder: Encoder<ChatEvent>,
    pub node: Node,
    pub inbound: Arc<Recorder>,
    pub shutdown: Shutdown,
    pub health: Health,
    pub proxy: Option<Proxy>,
    pub address: String,
    offset: i64,
    // Last: databases go when nothing uses them any more.
    _databases: Databases,
}

impl World {
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let Setup { mut config, redis_through_proxy } = setup;
        let names = config.names();
        let databases = Databases::make(&names).await;
        config.postgres.truth_url = databases.truth.clone();
        config.postgres.read_url = databases.read.clone();
        config.registry.url = Secret::new(env("WALTALKIE_TEST_REGISTRY"));
        let redis_url = env("WALTALKIE_TEST_REDIS");
        let proxy = if redis_through_proxy { Some(Proxy::start(&redis_url).await) } else { None };
        config.redis.url = Secret::new(proxy.as_ref().map_or(redis_url.clone(), Proxy::url));

        let registry = Registry::new(config.registry.url.expose(), names.prefix()).expect("registry URL");
        registry.register_all().await.expect("schemas registered");
        let encoder = Encoder::new(registry.id_of::<ChatEvent>().await.expect("schema id"));
        let sql = runtime::postgres::connect(&runtime::postgres::parse(&databases.truth, "test").expect("URL"))
            .await
            .expect("Postgres");
        migrations::Installation::open(&sql, &names).await.expect("installation");
        // The default gives up after half a second, which a busy machine can take.
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
        let redis = redis::Client::open(redis_url)
            .expect("redis URL")
            .get_multiplexed_async_connection_with_config(&patient)
            .await
            .expect("Redis");

        let config = Arc::new(config);
        let (shutdown, health, inbound) = (Shutdown::new(), Health::default(), Arc::new(Recorder::default()));
        let (node, address) = serve(&config, &inbound, &health, &shutdown).await;
        Self {
            config,
            names,
            sql,
            redis,
            encoder,
            node,
            inbound,
            shutdown,
            health,
            proxy,
            address,
            offset: 0,
            _databases: databases,
        }
    }

    /// One more node of the same installation: its address.
    pub async fn another_node(&self, redis_url: Secret, shutdown: &Shutdown) -> String {
        let mut config = (*self.config).clone();
        config.redis.url = redis_url;
        serve(&Arc::new(config), &self.inbound, &self.health, shutdown).await.1
    }

    /// Another connection to the source of truth.
    pub async fn another_connection(&self) -> Sql {
        let url = &self.config.postgres.truth_url;
        runtime::postgres::connect(&runtime::postgres::parse(url, "test").expect("URL")).await.expect("Postgres")
    }

    pub async fn connect(&self, user_id: &str) -> Client {
        Client::connect(&self.address, &inbound::token(user_id, 3_600_000)).await
    }

    /// Connects and waits for all of `chats`.
    pub async fn online(&self, user_id: &str) -> Client {
        let mut client = self.connect(user_id).await;
        client.ready().await;
        client
    }

    /// A chat with its first members; `seq` 1.
    pub async fn chat(&mut self, members: &[&str]) -> String {
        let chat_id = format!("chat-{}", Uuid::new_v4().simple());
        self.sql
            .execute(
                "INSERT INTO chat VALUES ($1, NULL, true, now(), NULL, NULL, 'tombstone', true, 1, '')",
                &[&chat_id],
            )
            .await
            .expect("chat");
        self.sql.execute("INSERT INTO chat_counter VALUES ($1, 0, now())", &[&chat_id]).await.expect("counter");
        let stays: Vec<_> = members.iter().map(|user_id| stay(user_id, 1, None, 1)).collect();
        for stay in &stays {
            self.write_stay(&chat_id, stay).await;
        }
        let settings = serde_json::json!({"is_group": true, "created_at": 0, "deleted_shown_as": "tombstone",
            "history_for_new_members": true});
        self.change(&chat_id, event_type::CHAT_CREATED, members[0], None, &stays, Some(settings.to_string())).await;
        chat_id
    }

    /// Puts people into very many chats, in which nothing was said for long.
    pub async fn many_chats(&self, user_id: &str, count: i64) {
        self.begin().await;
        for sql in [
            "INSERT INTO chat SELECT 'many-' || n, NULL, true, now(), NULL, NULL, 'tombstone', true, 1, ''
               FROM generate_series(1, $2::bigint) n WHERE $1 <> ''",
            "INSERT INTO chat_counter SELECT 'many-' || n, 1, now() FROM generate_series(1, $2::bigint) n WHERE $1 <> ''",
            "INSERT INTO chat_member (chat_id, user_id, joined_at, role, joined_seq, left_seq, visible_from_seq,
                    changed_seq, changed_session)
             SELECT 'many-' || n, $1, now(), 'member', 1, NULL, 1, 0, '' FROM generate_series(1, $2::bigint) n",
        ] {
            self.sql.execute(sql, &[&user_id, &count]).await.expect("chats");
        }
        self.commit().await;
    }

    /// Nodes that are subscribed to a chat.
    pub async fn nodes_of(&self, chat_id: &str) -> i64 {
        let (mut redis, channel) = (self.redis.clone(), self.names.chat_channel(chat_id));
        let (_, nodes): (String, i64) =
            redis::cmd("PUBSUB").arg(&["SHARDNUMSUB", &channel]).query_async(&mut redis).await.expect("asked");
        nodes
    }

    /// Nothing can be read of messages until what this gives is committed.
    pub async fn lock_messages(sql: &mut Sql) -> tokio_postgres::Transaction<'_> {
        let lock = sql.transaction().await.expect("a transaction");
        lock.batch_execute("LOCK TABLE message IN ACCESS EXCLUSIVE MODE").await.expect("the lock");
        lock
    }

    /// Events of the tables, in order.
    pub async fn events(&self, chat_id: &str, from: i64, to: i64) -> Vec<ChatEvent> {
        history::read_range(&self.sql, chat_id, from, to, to - from + 1).await.expect("read")
    }

    async fn next_seq(&self, chat_id: &str) -> i64 {
        self.sql
            .query_one(
                "UPDATE chat_counter SET last_seq = last_seq + 1, last_at = now() WHERE chat_id = $1 RETURNING last_seq",
                &[&chat_id],
            )
            .await
            .expect("counter")
            .get(0)
    }

    async fn write_stay(&self, chat_id: &str, stay: &Membership) {
        self.sql
            .execute(
                "INSERT INTO chat_member (chat_id, user_id, joined_at, role, joined_seq, left_seq, visible_from_seq,
                        changed_seq, changed_session)
                 VALUES ($1, $2, now(), $3, $4, $5, $6, 0, '')
                 ON CONFLICT (chat_id, user_id, joined_seq) DO UPDATE SET left_seq = excluded.left_seq",
                &[&chat_id, &stay.user_id, &stay.member_role, &stay.joined_seq, &stay.left_seq, &stay.visible_from_seq],
            )
            .await
            .expect("stay");
    }

    /// Rows and counter in one transaction, as others see them.
    async fn begin(&self) {
        self.sql.batch_execute("BEGIN").await.expect("begin");
    }

    async fn commit(&self) {
        self.sql.batch_execute("COMMIT").await.expect("commit");
    }

    /// A message in the tables, not published.
    pub async fn write(&mut self, chat_id: &str, sender_id: &str, content: &str) -> i64 {
        self.begin().await;
        let seq = self.next_seq(chat_id).await;
        self.sql
            .execute(
                "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
                 VALUES ($1, $2, $3, $4, $5, now())",
                &[&Uuid::now_v7(), &chat_id, &sender_id, &content, &seq],
            )
            .await
            .expect("message");
        self.commit().await;
        seq
    }

    /// Many messages in the tables.
    pub async fn write_many(&mut self, chat_id: &str, sender_id: &str, count: i64) {
        self.write_many_of(chat_id, sender_id, count, 0).await;
    }

    /// Many messages in the tables, each with so many bytes more than its number.
    pub async fn write_many_of(&mut self, chat_id: &str, sender_id: &str, count: i64, bytes: i32) {
        self.begin().await;
        self.sql
            .execute(
                "INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
                 SELECT gen_random_uuid(), $1, $2, 'm' || n || repeat('y', $4), c.last_seq + n, now()
                   FROM chat_counter c, generate_series(1::bigint, $3) n WHERE c.chat_id = $1",
                &[&chat_id, &sender_id, &count, &bytes],
            )
            .await
            .expect("messages");
        self.sql
            .execute("UPDATE chat_counter SET last_seq = last_seq + $2 WHERE chat_id = $1", &[&chat_id, &count])
            .await
            .expect("counter");
        self.commit().await;
    }

    async fn change(
        &mut self,
        chat_id: &str,
        event: &str,
        actor_id: &str,
        message: Option<MessageState>,
        stays: &[Membership],
        chat: Option<String>,
    ) -> i64 {
        let seq = self.next_seq(chat_id).await;
        let content = message.as_ref().and_then(|message| message.content.clone());
        let message_seq = message.as_ref().map(|message| message.message_seq);
        let message = message.map(|message| MessageState { content: None, ..message });
        let message = message.map(|message| serde_json::to_string(&message).expect("JSON"));
        let memberships = (!stays.is_empty()).then(|| serde_json::to_string(stays).expect("JSON"));
        self.sql
            .execute(
                "INSERT INTO chat_change VALUES ($1, $2, $3, $4, now(), $5, $6, $7::text::jsonb, $8::text::jsonb, $9::text::jsonb)",
                &[&chat_id, &seq, &event, &actor_id, &message_seq, &content, &message, &memberships, &chat],
            )
            .await
            .expect("change");
        seq
    }

    /// An edit in the tables, not published.
    pub async fn write_edit(&mut self, chat_id: &str, message_seq: i64, content: &str) -> i64 {
        let original = self.event(chat_id, message_seq).await;
        let message = original.message.expect("a message");
        let actor_id = message.sender_id.clone();
        let message = MessageState { content: Some(content.into()), edited_at: Some(1), ..message };
        self.begin().await;
        let seq = self.change(chat_id, event_type::MESSAGE_EDITED, &actor_id, Some(message), &[], None).await;
        self.commit().await;
        seq
    }

    /// Somebody joins, in the tables.
    pub async fn write_join(&mut self, chat_id: &str, user_id: &str, shows_history: bool) -> i64 {
        self.begin().await;
        let seq: i64 = self
            .sql
            .query_one("SELECT last_seq + 1 FROM chat_counter WHERE chat_id = $1", &[&chat_id])
            .await
            .expect("counter")
            .get(0);
        let stay = stay(user_id, seq, None, if shows_history { 1 } else { seq });
        self.write_stay(chat_id, &stay).await;
        self.change(chat_id, event_type::MEMBER_JOINED, "admin", None, &[stay], None).await;
        self.commit().await;
        seq
    }

    /// Somebody leaves, in the tables.
    pub async fn write_leave(&mut self, chat_id: &str, user_id: &str) -> i64 {
        self.begin().await;
        let row = self
            .sql
            .query_one(
                "SELECT joined_seq, visible_from_seq, last_seq + 1 FROM chat_member NATURAL JOIN chat_counter
                  WHERE chat_id = $1 AND user_id = $2 AND left_seq IS NULL",
                &[&chat_id, &user_id],
            )
            .await
            .expect("open stay");
        let stay = stay(user_id, row.get(0), Some(row.get(2)), row.get(1));
        self.write_stay(chat_id, &stay).await;
        let seq = self.change(chat_id, event_type::MEMBER_LEFT, user_id, None, &[stay], None).await;
        self.commit().await;
        seq
    }

    pub async fn event(&self, chat_id: &str, seq: i64) -> ChatEvent {
        history::read_range(&self.sql, chat_id, seq, seq, 1).await.expect("read").pop().expect("an event")
    }

    /// Publishes what the tables have at a `seq`.
    pub async fn publish(&mut self, chat_id: &str, seq: i64) {
        let event = self.event(chat_id, seq).await;
        self.publish_event(&event).await;
    }

    pub async fn publish_event(&mut self, event: &ChatEvent) {
        let envelope = self.envelope(event);
        let channel = self.names.chat_channel(&event.chat_id);
        self.spublish(channel, &envelope).await;
    }

    /// Publishes an event to a person's channel.
    pub async fn publish_to_user(&mut self, user_id: &str, chat_id: &str, seq: i64) {
        let event = self.event(chat_id, seq).await;
        let envelope = self.envelope(&event);
        let channel = self.names.user_channel(user_id);
        self.spublish(channel, &envelope).await;
    }

    pub async fn spublish(&mut self, channel: String, envelope: &[u8]) {
        let _: i64 =
            redis::cmd("SPUBLISH").arg(channel).arg(envelope).query_async(&mut self.redis).await.expect("published");
    }

    /// Publishes receipts as a publisher does.
    pub async fn publish_receipts(&mut self, payload: &serde_json::Value) {
        let json = payload.to_string();
        let (kind, value) = (Kind::Receipts, json.as_bytes());
        let relayed = Relayed { kind, partition: 0, offset: 0, relayed_at_ms: 0, trace: None, value };
        let chat_id = payload["chat_id"].as_str().expect("chat_id");
        self.spublish(self.names.chat_channel(chat_id), &relayed.to_bytes()).await;
    }

    fn envelope(&mut self, event: &ChatEvent) -> Vec<u8> {
        self.offset += 1;
        let value = self.encoder.encode(event).expect("encoded");
        Relayed { kind: Kind::Event, partition: 2, offset: self.offset, relayed_at_ms: 1, trace: None, value: &value }
            .to_bytes()
    }

    /// A message in the tables and published.
    pub async fn say(&mut self, chat_id: &str, sender_id: &str, content: &str) -> i64 {
        let seq = self.write(chat_id, sender_id, content).await;
        self.publish(chat_id, seq).await;
        seq
    }
}

async fn serve(config: &Arc<Config>, inbound: &Arc<Recorder>, health: &Health, shutdown: &Shutdown) -> (Node, String) {
    let node = Node::start(Arc::clone(config), Arc::clone(inbound) as _, health.role("fanout"), shutdown.clone())
        .await
        .expect("node");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address").to_string();
    let router = fanout::router(node.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (node, address)
}

pub fn stay(user_id: &str, joined_seq: i64, left_seq: Option<i64>, visible_from_seq: i64) -> Membership {
    Membership { user_id: user_id.into(), member_role: "member".into(), joined_seq, left_seq, visible_from_seq }
}

/// The two databases of one test, dropped at its end, also if it panics.
///
/// Dropping waits for the server, which waits for connections that are being opened: tests run on several threads, so
/// that those can go on.
pub struct Databases {
    server: Secret,
    names: Vec<String>,
    pub truth: Secret,
    pub read: Secret,
}

impl Databases {
    pub async fn make(names: &Names) -> Self {
        let server = Secret::new(env("WALTALKIE_TEST_POSTGRES_URL"));
        let truth_name = names.database(runtime::names::Database::Truth);
        let read_name = names.database(runtime::names::Database::Read);
        for name in [&truth_name, &read_name] {
            migrations::ensure_database(&server, name).await.expect("database");
        }
        let at = |name: &str| {
            let (base, _) = server.expose().rsplit_once('/').expect("a URL with a database");
            Secret::new(format!("{base}/{name}"))
        };
        let (truth, read) = (at(&truth_name), at(&read_name));
        migrations::migrate_truth(&truth).await.expect("truth migrated");
        migrations::migrate_read(&read).await.expect("read models migrated");
        Self { server, names: vec![truth_name, read_name], truth, read }
    }
}

impl Drop for Databases {
    fn drop(&mut self) {
        let (server, names) = (self.server.clone(), std::mem::take(&mut self.names));
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async {
                let config = ::runtime::postgres::parse(&server, "test").expect("URL");
                let client = ::runtime::postgres::connect(&config).await.expect("Postgres");
                for name in names {
                    let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await;
                }
            });
        });
        let _ = dropping.join();
    }
}
