//! What the sequencer knows of the chats of a batch: read under their locks, and kept up as it decides.

use std::collections::HashMap;

use schemas::{Attachment, ChatState, ids};
use uuid::Uuid;

use super::roles::Role;

/// Everything that the commands of one batch can depend on.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) chats: HashMap<String, Chat>,
    pub(crate) keys: HashMap<Uuid, Key>,
    /// Files that sends of the batch name and that were uploaded for those sends' chats, by id. Their rows are locked.
    pub(crate) media: HashMap<String, Media>,
    pub(crate) now_ms: i64,
}

/// A file as its row has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Media {
    pub(crate) chat_id: String,
    pub(crate) user_id: String,
    /// What a message shows of it; none until it is completed, and none once it is to be removed.
    pub(crate) attachment: Option<Attachment>,
    /// Whether the janitor has it, or it is refused: it will not be completed.
    pub(crate) is_lost: bool,
    /// Messages that name it.
    pub(crate) uses: i64,
}

/// One chat, whose counter's row is locked.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    /// `None` until it is created.
    pub(crate) settings: Option<Settings>,
    pub(crate) last_seq: i64,
    pub(crate) last_at_ms: i64,
    /// The newest stay of each person that the batch is about, and of every owner.
    pub(crate) stays: HashMap<String, Stay>,
    /// What the ended stays of people who ask about a message let them see: from one `seq` to another.
    pub(crate) seen_before: HashMap<String, Vec<(i64, i64)>>,
    /// Open stays of the whole chat.
    pub(crate) open_stays: i64,
    pub(crate) messages: HashMap<Uuid, Message>,
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) state: ChatState,
    pub(crate) changed: Change,
}

/// Who changed a thing last, so that a late command doesn't undo it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    pub(crate) seq: i64,
    pub(crate) session: String,
}

impl Change {
    /// Whether another session changed the thing after the head that a command was based on.
    pub(crate) fn outdates(&self, based_on_seq: Option<i64>, session: &str) -> bool {
        based_on_seq.is_some_and(|based| self.seq > based) && self.session != session
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Stay {
    pub(crate) role: Role,
    pub(crate) joined_seq: i64,
    pub(crate) left_seq: Option<i64>,
    pub(crate) visible_from_seq: i64,
    pub(crate) changed: Change,
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) chat_id: String,
    pub(crate) sender_id: String,
    pub(crate) seq: i64,
    pub(crate) body_hash: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    pub(crate) seq: i64,
    pub(crate) sender_id: String,
    pub(crate) parent_message_id: Option<Uuid>,
    pub(crate) parent_seq: Option<i64>,
    pub(crate) app_data: Option<String>,
    /// JSON array of attachments.
    pub(crate) attachments: Option<String>,
    pub(crate) created_at_ms: i64,
    pub(crate) is_deleted: bool,
    pub(crate) edited: Change,
    pub(crate) edited_at_ms: Option<i64>,
}

impl Chat {
    /// The open stay of a person.
    pub(crate) fn member(&self, user_id: &str) -> Option<&Stay> {
        self.settings.as_ref()?;
        self.stays.get(user_id).filter(|stay| stay.left_seq.is_none())
    }

    /// Whether a member may see what happened at a `seq`, in this stay or an earlier one. The system sender sees all.
    pub(crate) fn may_see(&self, user_id: &str, seq: i64) -> bool {
        if user_id == ids::SYSTEM {
            return true;
        }
        let earlier = self.seen_before.get(user_id).into_iter().flatten();
        self.member(user_id).is_some_and(|stay| seq >= stay.visible_from_seq)
            || earlier.into_iter().any(|(from_seq, to_seq)| (*from_seq..=*to_seq).contains(&seq))
    }

    pub(crate) fn open_owners(&self) -> usize {
        self.stays.values().filter(|stay| stay.left_seq.is_none() && stay.role == Role::Owner).count()
    }

    /// The next `seq` and its time: dense, and never running backwards.
    pub(crate) fn next(&mut self, now_ms: i64) -> (i64, i64) {
        self.last_seq += 1;
        self.last_at_ms = self.last_at_ms.max(now_ms);
        (self.last_seq, self.last_at_ms)
    }
}
