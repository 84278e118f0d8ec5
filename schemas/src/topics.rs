//! The topics: names, keys, partition counts, and every setting that they are made with. `migrate` applies these, `doctor` looks
//! whether they hold.

/// A topic of the contract. The name that Kafka knows has `names.prefix` before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Commands on their way to the persister, keyed by chat.
    ChatCommands,
    /// Commands that nobody can decide, with the reason in headers.
    ChatCommandsDlq,
    /// The history, keyed by chat, kept for ever.
    ChatEvents,
    /// Profiles, keyed by user, compacted.
    ChatUsers,
    /// Receipts as clients send them, keyed by chat.
    ChatMarks,
    /// Receipts merged by maximum, keyed by chat and user, compacted.
    ChatCursors,
    /// Whom to tell of what outside the application, keyed by user.
    ChatNotifications,
    /// Notifications that nobody could send or read, with the reason in headers.
    ChatNotificationsDlq,
    /// The CDC worker's position, one partition a slot, compacted.
    CdcPositions,
    /// What was sent per chat and minute, keyed by chat.
    ChatActivity,
    /// Floods and repeated texts, keyed by chat.
    ChatAbuse,
    /// What the stream operators know, compacted; partition by partition as `chat.events`.
    OperatorsState,
    /// Events that the stream operators can't read, with the reason in headers.
    ChatEventsDlq,
}

/// How a topic's partition count is chosen when it is made. It can never be changed afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitions {
    /// As many as `kafka.partitions` says.
    Configured,
    /// A fixed number.
    Fixed(u16),
}

impl Topic {
    /// Every topic, in the order in which they are made.
    pub const ALL: [Self; 13] = [
        Self::ChatCommands,
        Self::ChatCommandsDlq,
        Self::ChatEvents,
        Self::ChatUsers,
        Self::ChatMarks,
        Self::ChatCursors,
        Self::ChatNotifications,
        Self::ChatNotificationsDlq,
        Self::CdcPositions,
        Self::ChatActivity,
        Self::ChatAbuse,
        Self::OperatorsState,
        Self::ChatEventsDlq,
    ];

    /// Name without prefix.
    pub const fn base_name(self) -> &'static str {
        match self {
            Self::ChatCommands => "chat.commands",
            Self::ChatCommandsDlq => "chat.commands.dlq",
            Self::ChatEvents => "chat.events",
            Self::ChatUsers => "chat.users",
            Self::ChatMarks => "chat.marks",
            Self::ChatCursors => "chat.cursors",
            Self::ChatNotifications => "chat.notifications",
            Self::ChatNotificationsDlq => "chat.notifications.dlq",
            Self::CdcPositions => "cdc.positions",
            Self::ChatActivity => "chat.activity",
            Self::ChatAbuse => "chat.abuse",
            Self::OperatorsState => "operators.state",
            Self::ChatEventsDlq => "chat.events.dlq",
        }
    }

    /// What a record's key is.
    pub const fn key(self) -> &'static str {
        match self {
            Self::ChatCommands | Self::ChatEvents | Self::ChatMarks | Self::ChatActivity | Self::ChatAbuse => "chat_id",
            Self::ChatUsers => "user_id",
            Self::ChatCursors => "chat_id/user_id",
            Self::ChatNotifications => "user_id; of large chats chat_id",
            Self::ChatCommandsDlq | Self::ChatNotificationsDlq | Self::ChatEventsDlq => "as it came",
            Self::CdcPositions => "the slot's name",
            Self::OperatorsState => "`progress`, or a window's",
        }
    }

    /// Whether it is for this program alone, and may change without notice.
    pub const fn is_internal(self) -> bool {
        matches!(
            self,
            Self::ChatCommands
                | Self::ChatCommandsDlq
                | Self::ChatNotificationsDlq
                | Self::CdcPositions
                | Self::OperatorsState
                | Self::ChatEventsDlq
        )
    }

    /// Partition count at creation.
    pub const fn partitions(self) -> Partitions {
        match self {
            Self::ChatCommandsDlq | Self::ChatNotificationsDlq | Self::CdcPositions | Self::ChatEventsDlq => {
                Partitions::Fixed(1)
            }
            _ => Partitions::Configured,
        }
    }

    /// What every topic is made with: batches stay as they were compressed, and records keep their own time.
    pub const ALL_HAVE: [(&'static str, &'static str); 3] = [
        ("compression.type", "producer"),
        ("message.timestamp.type", "CreateTime"),
        ("unclean.leader.election.enable", "false"),
    ];

    /// Topic configuration beside that, as Kafka names it.
    pub const fn config(self) -> &'static [(&'static str, &'static str)] {
        const DAYS_7: &str = "604800000";
        const DAYS_28: &str = "2419200000";
        // Records have the time of what they tell, by another machine's clock. What is in the tables must get into the
        // history even if that was wrong.
        const ANY_TIME: (&str, &str) = ("message.timestamp.after.max.ms", "9223372036854775807");
        match self {
            Self::ChatCommands | Self::ChatMarks | Self::ChatNotifications => &[("retention.ms", DAYS_7)],
            Self::ChatCommandsDlq | Self::ChatNotificationsDlq | Self::ChatEventsDlq => &[("retention.ms", DAYS_28)],
            Self::ChatEvents => &[
                ("retention.ms", "-1"),
                ("retention.bytes", "-1"),
                ("cleanup.policy", "delete"),
                ("segment.bytes", "1073741824"),
                ANY_TIME,
            ],
            // Made of the history, and could be made again; records have the time of what they tell, too.
            Self::ChatActivity | Self::ChatAbuse => &[("retention.ms", "-1"), ("cleanup.policy", "delete"), ANY_TIME],
            // The segment that is being written isn't compacted.
            Self::ChatUsers => &[("cleanup.policy", "compact"), ("segment.bytes", "134217728"), ANY_TIME],
            Self::ChatCursors => &[("cleanup.policy", "compact"), ("segment.bytes", "134217728")],
            // Whoever takes over reads these to their end: small segments keep that short.
            Self::OperatorsState => {
                &[("cleanup.policy", "compact"), ("segment.bytes", "16777216"), ("min.cleanable.dirty.ratio", "0.1")]
            }
            Self::CdcPositions => {
                &[("cleanup.policy", "compact"), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.01")]
            }
        }
    }

    /// Whether records would be lost, refused or have another time if a setting were otherwise. The rest is for whoever runs it
    /// to say: how long commands, marks, dead letters and what could be made again are kept, and in what files.
    pub fn is_promise(self, setting: &str) -> bool {
        let tells_of_the_past = self.config().iter().any(|(key, _)| *key == "message.timestamp.after.max.ms");
        match setting {
            "unclean.leader.election.enable" | "remote.storage.enable" => true,
            "message.timestamp.after.max.ms" | "message.timestamp.type" => tells_of_the_past,
            "cleanup.policy" | "retention.ms" | "retention.bytes" => matches!(
                self,
                Self::ChatEvents | Self::ChatUsers | Self::ChatCursors | Self::OperatorsState | Self::CdcPositions
            ),
            _ => false,
        }
    }
}
