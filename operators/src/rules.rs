//! What is looked for, and in windows of which length.

use runtime::config::Operators;
use schemas::abuse_kind;

/// A minute: the window of `chat.activity`.
const ACTIVITY_WINDOW_MS: i64 = 60_000;

/// What a window is about. The order is that of the rows of windows which end together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// All that was sent in a chat.
    Activity,
    /// What one person sent in a chat.
    Flood,
    /// One text in a chat.
    RepeatedText,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Activity, Self::Flood, Self::RepeatedText];

    /// Its name in the changelog, in rows and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activity => "activity",
            Self::Flood => abuse_kind::FLOOD,
            Self::RepeatedText => abuse_kind::REPEATED_TEXT,
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Lengths and limits. Times are in milliseconds of event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How far the watermark stays behind the newest event.
    pub watermark_delay_ms: i64,
    /// How long closed windows take late events in.
    pub lateness_ms: i64,
    /// Messages that make a flood; 0: nobody looks.
    pub flood_limit: i64,
    /// Length of a window for floods.
    pub flood_window_ms: i64,
    /// Messages that make a repeated text; 0: nobody looks.
    pub repeat_limit: i64,
    /// Length of a window for repeated texts.
    pub repeat_window_ms: i64,
}

impl Rules {
    /// As configured.
    pub fn new(config: &Operators) -> Self {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Self {
            watermark_delay_ms: number(config.watermark_delay_ms),
            lateness_ms: number(config.lateness_ms),
            // So many are no flood yet.
            flood_limit: if config.flood_messages == 0 { 0 } else { number(config.flood_messages).saturating_add(1) },
            flood_window_ms: number(config.flood_window_ms).max(1),
            repeat_limit: number(config.repeat_messages),
            repeat_window_ms: number(config.repeat_window_ms).max(1),
        }
    }

    /// Length of a window.
    pub(crate) const fn window_ms(&self, kind: Kind) -> i64 {
        match kind {
            Kind::Activity => ACTIVITY_WINDOW_MS,
            Kind::Flood => self.flood_window_ms,
            Kind::RepeatedText => self.repeat_window_ms,
        }
    }

    /// Messages at which a row is written before the window is closed; `None` if there is no such number.
    pub(crate) const fn limit(&self, kind: Kind) -> Option<i64> {
        match kind {
            Kind::Activity => None,
            Kind::Flood => Some(self.flood_limit),
            Kind::RepeatedText => Some(self.repeat_limit),
        }
    }

    /// Whether anybody looks for it.
    pub(crate) fn looks_for(&self, kind: Kind) -> bool {
        self.limit(kind) != Some(0)
    }
}
