//! Close codes of the WebSocket. No connection is closed with a code that isn't here.

/// Why a connection is closed, and what its client does then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs, reason = "`when` says it")]
pub enum CloseCode {
    GoingAway = 1001,
    Protocol = 1002,
    Binary = 1003,
    NotUtf8 = 1007,
    TooBig = 1009,
    Slow = 4008,
    Silent = 4009,
    Token = 4101,
    Removed = 4102,
    TooManyErrors = 4103,
}

impl CloseCode {
    /// Every code, for documents and tests.
    pub const ALL: [Self; 10] = [
        Self::GoingAway,
        Self::Protocol,
        Self::Binary,
        Self::NotUtf8,
        Self::TooBig,
        Self::Slow,
        Self::Silent,
        Self::Token,
        Self::Removed,
        Self::TooManyErrors,
    ];

    /// The code as it travels.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// When a connection is closed with it.
    pub const fn when(self) -> &'static str {
        match self {
            Self::GoingAway => "the node stops, after `reconnect`; or a proxy goes away",
            Self::Protocol => "frames that aren't WebSocket",
            Self::Binary => "a binary frame",
            Self::NotUtf8 => "text that isn't UTF-8",
            Self::TooBig => "a frame over `limits.frame_bytes`",
            Self::Slow => "the client reads too slowly",
            Self::Silent => "nothing was heard for three heartbeats",
            Self::Token => "the token has expired, or was revoked",
            Self::Removed => "the person was removed",
            Self::TooManyErrors => "too many refused frames in a short time",
        }
    }

    /// What the client does then.
    pub const fn then(self) -> &'static str {
        match self {
            Self::GoingAway => "reconnect when `reconnect` said; without one, with backoff",
            Self::Protocol | Self::Binary | Self::NotUtf8 | Self::TooBig => "don't send that again",
            Self::Slow => "reconnect and resume",
            Self::Silent => "reconnect",
            Self::Token => "get a token, then reconnect",
            Self::Removed => "stay away",
            Self::TooManyErrors => "stay away; mend the client",
        }
    }
}
