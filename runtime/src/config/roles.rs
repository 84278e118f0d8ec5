//! The roles behind the gateway.

use serde::{Deserialize, Serialize};

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
