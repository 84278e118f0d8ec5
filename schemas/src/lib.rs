//! The contract: what the rooms of Waltalkie, and other people's programs, say to each other.
//!
//! Owns the Avro records and their Rust twins, the topics and keys they travel under, Confluent framing, the registry
//! client, the rules by which schemas may change, ids, the JSON that clients see, and the AsyncAPI document of all of it. Knows no service: nothing here opens a
//! connection of its own accord except [`registry`], and nothing here decides what happens to a message.

pub mod asyncapi;
pub mod catalogue;
pub mod codec;
pub mod command;
pub mod event;
pub mod golden;
pub mod history;
pub mod ids;
pub mod notification;
pub mod operators;
pub mod partitioner;
pub mod position;
pub mod receipts;
pub mod record;
pub mod registry;
pub mod rules;
pub mod shape;
pub mod timestamp;
pub mod topics;
pub mod trace;
pub mod user;
pub mod wire;

pub use codec::{Decoder, Encoder, FrameError};
pub use command::{ChatCommand, ChatSettings, CommandMember, command_type};
pub use event::{Attachment, ChatEvent, ChatState, Membership, MessageState, Origin, event_type};
pub use notification::{DigestChat, Notification, notification_type};
pub use operators::{ChatAbuse, ChatActivity, OperatorProgress, OperatorState, OperatorWindow, abuse_kind};
pub use position::{PartitionEnd, Position, TopicShape};
pub use receipts::{Cursor, Mark};
pub use record::Record;
pub use user::User;
