//! What clients meet: the gateway, who may come in, and limits.

use serde::{Deserialize, Serialize};

use super::Secret;

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
    /// Most events of one chat in the answer to one resume; the client goes on from there.
    pub resume_events: u32,
    /// Compresses WebSocket messages for clients that offer `permessage-deflate`: less traffic for more CPU time.
    pub compression: bool,
    /// How long a stopping node waits for its connections to leave; at most 10000.
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
            resume_events: 1_000,
            compression: false,
            drain_ms: 3_000,
        }
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
