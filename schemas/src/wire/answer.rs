//! The persister's answer to one command, on the channel of the gateway node that waits for it.

use serde::{Deserialize, Serialize};

use super::Rejection;

/// What became of a command, once its transaction is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The command.
    pub command_id: String,
    /// `seq` of its event; also of the first one if the same send came again. Absent if it was refused, or if it
    /// changed nothing and so has no event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
}
