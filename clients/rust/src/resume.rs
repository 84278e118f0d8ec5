//! When a chat asks for what it misses: at once when `seq` jumped, after a second when only a head is unmet (its event
//! is most likely on the way), and again, more and more slowly, while nothing helps.

use std::collections::HashMap;
use std::sync::Arc;

const UNMET_HEAD_MS: u64 = 1_000;
/// Between two questions that bring nothing, at first, in milliseconds.
pub(crate) const ASK_AGAIN_MS: u64 = 1_000;
const ASK_AGAIN_MOST_MS: u64 = 15_000;

#[derive(Debug)]
struct Missing {
    cursor: i64,
    due_ms: u64,
    asked: u32,
}

/// Chats that miss something; empty nearly always.
#[derive(Debug, Default)]
pub(crate) struct ResumePlan {
    missing: HashMap<Arc<str>, Missing>,
}

impl ResumePlan {
    /// How a chat stands after something happened to it.
    pub(crate) fn note(&mut self, chat_id: &Arc<str>, cursor: i64, is_behind: bool, has_gap: bool, now_ms: u64) {
        if !is_behind {
            if !self.missing.is_empty() {
                self.missing.remove(chat_id);
            }
            return;
        }
        let patience = if has_gap { 0 } else { UNMET_HEAD_MS };
        let missing =
            self.missing.entry(Arc::clone(chat_id)).or_insert(Missing { cursor, due_ms: now_ms + patience, asked: 0 });
        if cursor > missing.cursor {
            // It moves: a long replay is given time, and what didn't help before is forgotten.
            missing.cursor = cursor;
            missing.asked = missing.asked.min(1);
            missing.due_ms = now_ms + if missing.asked == 0 { patience } else { ASK_AGAIN_MS };
        } else if has_gap && missing.asked == 0 {
            missing.due_ms = missing.due_ms.min(now_ms);
        }
    }

    /// Known to be behind since before this connection, or told that there is more: nothing is on the way.
    pub(crate) fn ask_at(&mut self, chat_id: &Arc<str>, cursor: i64, due_ms: u64) {
        self.missing.insert(Arc::clone(chat_id), Missing { cursor, due_ms, asked: 0 });
    }

    /// The chats to resume now. They count as asked.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Vec<Arc<str>> {
        let mut due = Vec::new();
        for (chat_id, missing) in &mut self.missing {
            if missing.due_ms <= now_ms {
                missing.due_ms = now_ms + ASK_AGAIN_MOST_MS.min(ASK_AGAIN_MS << missing.asked.min(10));
                missing.asked += 1;
                due.push(Arc::clone(chat_id));
            }
        }
        due
    }

    /// When something is due next.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.missing.values().map(|missing| missing.due_ms).min()
    }

    pub(crate) fn forget(&mut self, chat_id: &str) {
        self.missing.remove(chat_id);
    }

    pub(crate) fn clear(&mut self) {
        self.missing.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_ask_at_once_heads_after_a_second_and_both_again() {
        let mut plan = ResumePlan::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        plan.note(&a, 5, true, false, 0);
        assert!(plan.take_due(999).is_empty());
        assert_eq!(plan.take_due(1_000), [Arc::clone(&a)]);
        plan.note(&b, 7, true, true, 1_100);
        assert_eq!(plan.take_due(1_100), [Arc::clone(&b)]);
        assert_eq!(plan.take_due(2_000), [Arc::clone(&a)]);
        assert_eq!(plan.next_due_ms(), Some(2_100));
        plan.note(&b, 8, false, false, 2_050);
        plan.note(&a, 6, true, false, 2_050);
        assert_eq!(plan.next_due_ms(), Some(3_050));
        plan.note(&a, 9, false, false, 2_060);
        assert_eq!(plan.next_due_ms(), None);
    }
}
