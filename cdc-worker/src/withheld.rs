//! Messages that somebody gave up because they can't be published: `withheld` stands in their place.
//!
//! Read when streaming starts. A decision is made while nobody streams, so that none is missed.

use std::collections::HashMap;

use schemas::{ChatEvent, Origin, timestamp};
use tokio_postgres::Client;

use crate::error::Error;
use crate::mapping::{Change, Key, Mapping};
use crate::pgoutput::Tuple;

/// The decisions, by chat and seq.
#[derive(Debug, Default)]
pub(crate) struct Withheld(HashMap<String, HashMap<i64, Decision>>);

#[derive(Debug)]
struct Decision {
    actor_id: String,
    occurred_at_ms: i64,
}

impl Withheld {
    /// All decisions. They are few: each was made by hand.
    pub(crate) async fn read(client: &Client) -> Result<Self, Error> {
        let failed = Error::query("reading cdc_withheld; `waltalkie migrate` makes it");
        let sql = "SELECT chat_id, sequence_number, actor_id, occurred_at FROM cdc_withheld";
        let mut chats = HashMap::<String, HashMap<i64, Decision>>::new();
        for row in client.query(sql, &[]).await.map_err(&failed)? {
            let occurred_at_ms = timestamp::from_offset(row.try_get(3).map_err(&failed)?);
            let decision = Decision { actor_id: row.get(2), occurred_at_ms };
            chats.entry(row.get(0)).or_default().insert(row.get(1), decision);
        }
        Ok(Self(chats))
    }

    /// What stands in a row's place, if it was given up.
    pub(crate) fn instead_of(
        &self,
        mapping: &Mapping,
        relation_id: u32,
        tuple: Tuple<'_>,
        origin: Origin,
    ) -> Option<Change<'static>> {
        if self.0.is_empty() {
            return None;
        }
        let Ok(Key::Chat { is_message: true, chat_id, seq }) = mapping.key(relation_id, tuple) else { return None };
        let Decision { actor_id, occurred_at_ms } = self.0.get(chat_id)?.get(&seq)?;
        let event = ChatEvent::withheld(chat_id, seq, actor_id.clone(), *occurred_at_ms, origin);
        Some(Change::Event(Box::new(event)))
    }
}

/// A row that can't be published, and the way past it.
pub(crate) fn with_way_out(key: &Key<'_>) -> String {
    match key {
        Key::Chat { is_message: true, chat_id, seq } => format!(
            "message {chat_id}/{seq} (if it can't be mended, `waltalkie cdc withhold {chat_id} {seq}` gives it up and lets the \
             rest go on)"
        ),
        Key::Chat { chat_id, seq, .. } => {
            format!("change {chat_id}/{seq} (only a message can be given up, since others decide who is a member)")
        }
        Key::User { user_id, version } => format!("version {version} of user {user_id}"),
    }
}
