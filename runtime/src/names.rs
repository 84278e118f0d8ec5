//! Names of everything that installations share: topics, groups, slots, databases, Redis keys. One prefix goes before
//! all of them, so that several installations can live on the same servers.

use schemas::topics::Topic;

/// The names of one installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// What goes before the session id of a connection at whose device nobody is.
    pub const IDLE: &'static str = "idle.";

    /// Names under a prefix of lower-case letters, digits and `-`; may be empty.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The prefix itself.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A topic as Kafka knows it.
    pub fn topic(&self, topic: Topic) -> String {
        format!("{}{}", self.prefix, topic.base_name())
    }

    /// A consumer group, such as `persister` or `projection-inbox`.
    pub fn group(&self, consumer: &str) -> String {
        format!("{}waltalkie-{consumer}", self.prefix)
    }

    /// The transactional id of a producer that must be alone.
    pub fn transactional_id(&self, producer: &str) -> String {
        format!("{}waltalkie-{producer}", self.prefix)
    }

    /// The replication slot. Postgres allows lower-case letters, digits and `_`.
    pub fn slot(&self) -> String {
        format!("{}waltalkie", self.sql_prefix())
    }

    /// The publication that the slot's reader asks for.
    pub fn publication(&self) -> String {
        format!("{}waltalkie", self.sql_prefix())
    }

    /// Name of the database of truth or of read models, where this program makes it.
    pub fn database(&self, kind: Database) -> String {
        match kind {
            Database::Truth => format!("{}waltalkie", self.sql_prefix()),
            Database::Read => format!("{}waltalkie_read", self.sql_prefix()),
        }
    }

    /// Redis channel of a chat; sharded Pub/Sub.
    pub fn chat_channel(&self, chat_id: &str) -> String {
        format!("{}chat:{{{chat_id}}}", self.prefix)
    }

    /// Redis channel of a person: what concerns them in chats that their node doesn't follow yet.
    pub fn user_channel(&self, user_id: &str) -> String {
        format!("{}user:{{{user_id}}}", self.prefix)
    }

    /// Redis channel of a gateway node: answers to the commands that it sent.
    pub fn node_channel(&self, node_id: &str) -> String {
        format!("{}node:{{{node_id}}}", self.prefix)
    }

    /// Redis key that a gateway node keeps alive.
    pub fn node_key(&self, node_id: &str) -> String {
        format!("{}alive:{{{node_id}}}", self.prefix)
    }

    /// Redis channel on which all gateways hear that somebody's standing has changed.
    pub fn standing_channel(&self) -> String {
        format!("{}standing", self.prefix)
    }

    /// Redis key of the set of a person's connections, by session id, some with [`Names::IDLE`].
    pub fn sessions_key(&self, user_id: &str) -> String {
        format!("{}sessions:{{{user_id}}}", self.prefix)
    }

    /// Redis keys that are there unless sessions may be missing: enough of them that each master of a cluster has one.
    pub fn witness_key(&self, number: usize) -> String {
        format!("{}witness:{{{number}}}", self.prefix)
    }

    /// Redis key beside a witness's, on the same server, while that was written anew a moment ago.
    pub fn young_witness_key(&self, number: usize) -> String {
        format!("{}young:{{{number}}}", self.prefix)
    }

    /// Redis key of one connection of a person: the seed's `user_id:websocket_id`.
    pub fn session_key(&self, user_id: &str, session_id: &str) -> String {
        format!("{}session:{{{user_id}}}:{session_id}", self.prefix)
    }

    /// The chat in a channel of [`Names::chat_channel`].
    pub fn chat_of_channel<'a>(&self, channel: &'a str) -> Option<&'a str> {
        channel.strip_prefix(self.prefix.as_str())?.strip_prefix("chat:{")?.strip_suffix('}')
    }

    /// The person in a channel of [`Names::user_channel`].
    pub fn user_of_channel<'a>(&self, channel: &'a str) -> Option<&'a str> {
        channel.strip_prefix(self.prefix.as_str())?.strip_prefix("user:{")?.strip_suffix('}')
    }

    fn sql_prefix(&self) -> String {
        self.prefix.replace('-', "_")
    }
}

/// The two databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// The source of truth, which the slot decodes.
    Truth,
    /// Read models.
    Read,
}
