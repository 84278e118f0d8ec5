//! The configuration: one `waltalkie.toml`, every key also as `WALTALKIE_<SECTION>__<KEY>`, secrets also from files.

mod load;
mod media;
mod notify;
mod proxies;
mod secret;

use serde::{Deserialize, Serialize};

pub use load::{ConfigError, load};
pub use media::Media;
pub use notify::{Notify, NotifyContent, SmtpTls};
pub use proxies::TrustedProxies;
pub use secret::Secret;

use crate::names::Names;
use crate::postgres::with_ca;

/// The effective configuration. The operators' page says the same of each key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Relaxes what durability needs and opens development's conveniences: tokens for demonstration people, the way of
    /// each message in its frames.
    pub development: bool,
    /// Names that installations on the same servers must not share.
    pub names: NamesConfig,
    /// HTTP and WebSocket towards clients.
    pub gateway: Gateway,
    /// HTTP towards operators.
    pub ops: Ops,
    /// Who may come in.
    pub auth: Auth,
    /// What people may do with one another.
    pub people: People,
    /// The two databases.
    pub postgres: Postgres,
    /// Kafka.
    pub kafka: Kafka,
    /// The schema registry.
    pub registry: RegistryConfig,
    /// Redis.
    pub redis: Redis,
    /// Limits towards clients.
    pub limits: LimitsConfig,
    /// Files in messages.
    pub media: Media,
    /// Commands into Postgres.
    pub persister: Persister,
    /// Postgres' log into the history.
    pub cdc: Cdc,
    /// Read models.
    pub projector: Projector,
    /// Stream operators.
    pub operators: Operators,
    /// Push and mail.
    pub notify: Notify,
    /// Cleaning up.
    pub janitor: Janitor,
    /// Logs.
    pub log: Log,
    /// Traces.
    pub trace: Trace,
    /// The servers that `waltalkie up` starts.
    pub stack: Stack,
}

impl Config {
    /// The installation's names.
    pub fn names(&self) -> Names {
        Names::new(self.names.prefix.clone())
    }
}

/// `[names]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamesConfig {
    /// Goes before every topic, subject, group, transactional id, slot, publication and Redis key: lower-case letters,
    /// digits and `-`. Recorded at the first start; a later change is refused.
    pub prefix: String,
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Address to listen on.
    pub listen: String,
    /// Name of this node; must differ from every other node's. Empty: made anew at each start.
    pub node_id: String,
    /// Origins, such as `https://chat.example.com`, whose pages may open a WebSocket. The gateway's own always may.
    pub allowed_origins: Vec<String>,
    /// Addresses and networks, such as `10.0.0.0/8`, of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    /// How often clients send a heartbeat. A connection that is silent for three of them is closed.
    pub heartbeat_ms: u64,
    /// Bytes that may wait for one slow connection before it is closed with 4008.
    pub outgoing_bytes: usize,
    /// Most people online in a chat who are told of each other's presence and typing; 0: nobody is.
    pub presence_people: usize,
    /// Most people of a chat whose receipts are told of by name at a time; more are counted.
    pub receipt_people: usize,
    /// Compresses WebSocket messages for clients that offer `permessage-deflate`: less traffic for more CPU time.
    pub compression: bool,
    /// How long a stopping node waits for its connections to leave.
    pub drain_ms: u64,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            node_id: String::new(),
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            heartbeat_ms: 5_000,
            outgoing_bytes: 1 << 20,
            presence_people: 100,
            receipt_people: 100,
            compression: false,
            drain_ms: 3_000,
        }
    }
}

/// `[ops]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ops {
    /// Address of `/ops`, `/metrics`, `/healthz` and `/readyz` for operators; empty for none. Keep it off public networks.
    pub listen: String,
    /// Addresses, such as `http://10.0.0.7:8090`, of the operators' listeners of the installation's processes: `/ops` shows
    /// them too. This process' own may be among them.
    pub peers: Vec<String>,
}

impl Default for Ops {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8090".into(), peers: Vec::new() }
    }
}

/// `[auth]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Secret of HS256 tokens; development only. At least 32 bytes.
    pub hs256_secret: Secret,
    /// Where the keys that sign tokens are published, as a JSON Web Key Set; `https://`.
    pub jwks_url: String,
    /// How often `auth.jwks_url` is asked at the least, in seconds; a shorter `max-age` of its answer counts.
    pub jwks_refresh_s: u64,
    /// PEM of a public key that signs tokens (EdDSA, RS256 or ES256, as `auth.algorithm` says).
    pub public_key_pem: Secret,
    /// Algorithm of `auth.public_key_pem`: `EdDSA`, `RS256` or `ES256`.
    pub algorithm: String,
    /// Required `iss`; empty to accept any.
    pub issuer: String,
    /// Required `aud`; empty to accept any.
    pub audience: String,
    /// Difference between clocks that is forgiven, in seconds.
    pub leeway_s: u64,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            hs256_secret: Secret::default(),
            jwks_url: String::new(),
            jwks_refresh_s: 300,
            public_key_pem: Secret::default(),
            algorithm: "EdDSA".into(),
            issuer: String::new(),
            audience: String::new(),
            leeway_s: 10,
        }
    }
}

/// `[people]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct People {
    /// Who may start chats, and with whom.
    pub start_chats: StartChats,
    /// Whether people find one another by mail address.
    pub find_by_email: bool,
}

impl Default for People {
    fn default() -> Self {
        Self { start_chats: StartChats::Anyone, find_by_email: true }
    }
}

/// Who may start chats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartChats {
    /// Anyone, with anyone.
    #[default]
    Anyone,
    /// Anyone, with people they share a chat with.
    Shared,
    /// Services only.
    Services,
}

/// `[postgres]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Postgres {
    /// Database of the source of truth: `postgres://user:password@host:5432/waltalkie`.
    pub truth_url: Secret,
    /// Database of the read models, on the same server or another.
    pub read_url: Secret,
    /// The server that holds the slot; empty for `postgres.truth_url`. Name it if that is a pooler.
    pub replication_url: Secret,
    /// File of certificates (PEM) that servers are checked against, instead of the web's public roots. Reading the
    /// configuration puts it into the URLs, as `sslrootcert`, unless they have their own.
    pub ca_file: String,
    /// Most connections of one pool.
    pub pool_size: usize,
    /// Accept a server without a synchronous standby, knowing that its disk is then the only copy until the slot is read.
    pub accept_single_copy: bool,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            truth_url: Secret::default(),
            read_url: Secret::default(),
            replication_url: Secret::default(),
            ca_file: String::new(),
            pool_size: 16,
            accept_single_copy: false,
        }
    }
}

impl Postgres {
    fn carry_ca(&mut self) {
        if !self.ca_file.is_empty() {
            for url in [&mut self.truth_url, &mut self.read_url, &mut self.replication_url] {
                *url = with_ca(url, &self.ca_file);
            }
        }
    }
}

/// `[kafka]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, several with commas.
    pub brokers: String,
    /// Partitions of each `chat.*` topic when it is made. For ever: see the sizing table.
    pub partitions: u16,
    /// Copies of each topic when it is made.
    pub replication_factor: u16,
    /// Copies that must have a record before it counts.
    pub min_insync_replicas: u16,
    /// Whether brokers keep the history's closed segments in their remote storage; they must have one.
    pub tiered_storage: bool,
    /// How long closed segments stay on the brokers' own disks as well, where storage is tiered.
    pub local_retention_ms: u64,
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
    pub security_protocol: String,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: String,
    /// Name towards the brokers.
    pub sasl_username: String,
    /// Password towards the brokers.
    pub sasl_password: Secret,
    /// File of certificates to trust; empty for the system's.
    pub ca_file: String,
    /// How long a record may try to reach the brokers before the sender is told to try again.
    pub delivery_timeout_ms: u64,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            partitions: 12,
            replication_factor: 3,
            min_insync_replicas: 2,
            tiered_storage: false,
            local_retention_ms: 604_800_000,
            security_protocol: "plaintext".into(),
            sasl_mechanism: "SCRAM-SHA-512".into(),
            sasl_username: String::new(),
            sasl_password: Secret::default(),
            ca_file: String::new(),
            delivery_timeout_ms: 10_000,
        }
    }
}

/// `[registry]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// Address of a Confluent-compatible registry; `http://user:password@host:8081` where it wants a login.
    pub url: Secret,
}

/// `[redis]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://:password@host:6379`, or `rediss://` for TLS. Of a cluster, some of its nodes, with commas between.
    pub url: Secret,
    /// Certificates to trust with `rediss://` instead of the web's public roots, in PEM.
    pub ca_file: String,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Longest body of a message, in bytes of UTF-8.
    pub content_bytes: usize,
    /// Commands a second that one person may send through one node, on average.
    pub commands_per_s: u32,
    /// Commands that one person may send at once.
    pub commands_burst: u32,
    /// Commands a second that one node takes from everybody, on average.
    pub node_commands_per_s: u32,
    /// Commands that one node takes at once.
    pub node_commands_burst: u32,
    /// Sends a second that one chat takes from everybody, on average; held by the persister.
    pub chat_sends_per_s: u32,
    /// Sends that one chat takes at once.
    pub chat_sends_burst: u32,
    /// Records waiting for Kafka past which a node takes no new sends.
    pub queued_commands: usize,
    /// Commands without an answer past which a node takes no new sends.
    pub undecided_commands: usize,
    /// A node takes no new sends while its oldest command has been waiting so long.
    pub lag_ms: u64,
    /// Requests and handshakes a second from one address, on average.
    pub requests_per_s: u32,
    /// Requests and handshakes from one address at once.
    pub requests_burst: u32,
    /// Connections that one person may hold on one node.
    pub connections_per_user: usize,
    /// Requests a second of one service, on average. They count towards no other limit.
    pub service_requests_per_s: u32,
    /// Requests of one service at once.
    pub service_requests_burst: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            content_bytes: 16_384,
            commands_per_s: 20,
            commands_burst: 60,
            node_commands_per_s: 10_000,
            node_commands_burst: 20_000,
            chat_sends_per_s: 200,
            chat_sends_burst: 2_000,
            queued_commands: 20_000,
            undecided_commands: 20_000,
            lag_ms: 15_000,
            requests_per_s: 100,
            requests_burst: 300,
            connections_per_user: 20,
            service_requests_per_s: 500,
            service_requests_burst: 1_000,
        }
    }
}

/// `[persister]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Persister {
    /// Most commands in one transaction.
    pub batch_commands: usize,
}

impl Default for Persister {
    fn default() -> Self {
        Self { batch_commands: 2_000 }
    }
}

/// `[cdc]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cdc {
    /// How the history is compressed.
    pub compression: Compression,
}

/// Compression of a topic's batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// None.
    None,
    /// Snappy.
    Snappy,
    /// LZ4: least of the processor's time.
    Lz4,
    /// Zstandard at its fastest level: least room on disks and wires.
    #[default]
    Zstd,
}

impl Compression {
    /// Its name in Kafka's settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// `[projector]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Projector {
    /// Most records in one transaction of a projection.
    pub batch_records: usize,
    /// How far the inbox stays behind the history, so that people who are online have received a message before a row
    /// for it would be written.
    pub inbox_delay_ms: u64,
    /// Most members of a chat for whom rows of the inbox are made; in larger chats the cursors alone say what waits.
    pub inbox_members: usize,
    /// Projections kept beside those that the gateway needs: `timeline`, `chat_activity`, `user_export`.
    pub also: Vec<String>,
    /// Whether the role rebuilds tables of an older version by itself. If not, their loop stops and says what to do.
    pub rebuilds_itself: bool,
}

impl Default for Projector {
    fn default() -> Self {
        Self {
            batch_records: 1_000,
            inbox_delay_ms: 10_000,
            inbox_members: 1_000,
            also: Vec::new(),
            rebuilds_itself: false,
        }
    }
}

/// `[operators]`: a change of these is for windows that are opened from then on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Operators {
    /// Whether `waltalkie up` and `run all` run them; `run operators` always does.
    pub enabled: bool,
    /// Most events in one transaction.
    pub batch_records: usize,
    /// How long events may wait to be read in larger batches.
    pub gather_ms: u64,
    /// How far the watermark stays behind the newest event of a partition: so much later than its neighbours an event may
    /// come without being late.
    pub watermark_delay_ms: u64,
    /// How long closed windows take late events in, by the watermark.
    pub lateness_ms: u64,
    /// Messages of one person in one chat and window that are no flood yet; 0: nobody looks.
    pub flood_messages: u64,
    /// Length of a window in which floods are looked for.
    pub flood_window_ms: u64,
    /// How often a text in one chat and window is a repeated one; 0: nobody looks.
    pub repeat_messages: u64,
    /// Length of a window in which repeated texts are looked for.
    pub repeat_window_ms: u64,
}

impl Default for Operators {
    fn default() -> Self {
        Self {
            enabled: true,
            batch_records: 5_000,
            gather_ms: 1_000,
            watermark_delay_ms: 1_000,
            lateness_ms: 60_000,
            flood_messages: 30,
            flood_window_ms: 10_000,
            repeat_messages: 5,
            repeat_window_ms: 60_000,
        }
    }
}

/// `[janitor]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Janitor {
    /// How often it looks.
    pub interval_ms: u64,
    /// Most rows that one statement deletes.
    pub batch_rows: u32,
    /// How long results of commands are kept.
    pub result_retention_ms: u64,
}

impl Default for Janitor {
    fn default() -> Self {
        Self { interval_ms: 5_000, batch_rows: 1_000, result_retention_ms: 86_400_000 }
    }
}

/// `[stack]`: read by `waltalkie up` alone. A port of 0 is the usual one, or a free one if that is taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stack {
    /// Port of the local Postgres.
    pub postgres_port: u16,
    /// Port of the local Kafka.
    pub kafka_port: u16,
    /// Port of the local schema registry.
    pub registry_port: u16,
    /// Port of the local Redis.
    pub redis_port: u16,
    /// Port of the S3 server in the program's own process.
    pub s3_port: u16,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text` for people, `json` for programs.
    pub format: LogFormat,
    /// What to log, such as `info` or `warn,cdc_worker=debug`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".into() }
    }
}

/// `[trace]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trace {
    /// Where spans of sampled commands go, by OTLP over HTTP: `http://collector:4318`. Empty: nothing is traced.
    pub otlp_endpoint: String,
    /// Of how many commands one is followed: 0.01 is one in a hundred.
    pub sample_ratio: f64,
}

impl Default for Trace {
    fn default() -> Self {
        Self { otlp_endpoint: String::new(), sample_ratio: 0.01 }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
