//! What comes over Pub/Sub: events of chats, joins of people, receipts, typing, presence.

use std::sync::Arc;

use runtime::clock;
use runtime::redis::Heard;
use schemas::ChatEvent;
use schemas::wire::json::{Way, lsn_text};
use schemas::wire::relay::{Kind, Relayed};

use super::chat::Item;
use super::task::Task;
use crate::websocket::FirstWrite;

impl Task {
    pub(super) async fn take_heard(&mut self, heard: Heard) {
        match heard {
            Heard::Message { channel, payload } => {
                let Some(relayed) = Relayed::from_bytes(&payload) else {
                    tracing::warn!("a message on a channel of ours isn't an envelope and is passed over");
                    return;
                };
                match relayed.kind {
                    Kind::Event => self.take_event(&channel, &relayed).await,
                    Kind::Receipts => self.take_receipts(relayed.value),
                    Kind::Typing => self.take_typing(&channel, relayed.value),
                    Kind::Presence => self.take_announcement(&channel, relayed.value),
                }
            }
            Heard::Subscribed(channel) => self.confirmed(&channel),
            Heard::Lost => self.lost(),
        }
    }

    async fn take_event(&mut self, channel: &str, relayed: &Relayed<'_>) {
        let chat_id = match self.names.chat_of_channel(channel) {
            Some(chat_id) => match self.chats.get(chat_id) {
                Some(chat) => Some(Arc::clone(&chat.id)),
                // Not followed any more.
                None => return,
            },
            None => None,
        };
        let event = match self.decoder.decode(relayed.value).await {
            Ok(event) => event,
            Err(error) => {
                // Its seq will be missing and is read from the tables.
                tracing::warn!(%error, partition = relayed.partition, offset = relayed.offset, "an event can't be decoded");
                return;
            }
        };
        match chat_id {
            Some(chat_id) if *chat_id == *event.chat_id => self.take_chat_event(&chat_id, event, relayed),
            Some(_) => tracing::warn!("an event came over another chat's channel and is passed over"),
            None => self.take_user_event(channel, &event),
        }
    }

    fn take_chat_event(&mut self, chat_id: &Arc<str>, event: ChatEvent, relayed: &Relayed<'_>) {
        self.events.increment(1);
        self.age.record((clock::now_ms() - event.occurred_at).max(0) as f64 / 1_000.0);
        let way = self.development.then(|| way_of(&event, relayed));
        if let Some(chat) = self.chats.get_mut(chat_id) {
            let span = self.tracer.follow("node", relayed.trace).map(|mut span| {
                span.note("waltalkie.event_id", event.event_id.as_str());
                FirstWrite::of(span)
            });
            chat.live(Item { event, way, span });
        }
        self.settle(chat_id);
    }

    fn take_user_event(&mut self, channel: &str, event: &ChatEvent) {
        let Some(user_id) = self.names.user_of_channel(channel).map(str::to_owned) else { return };
        let is_in =
            event.memberships.iter().any(|membership| membership.user_id == user_id && membership.left_seq.is_none());
        if is_in {
            self.want_join(&user_id, &event.chat_id, event.seq);
        }
    }
}

fn way_of(event: &ChatEvent, relayed: &Relayed<'_>) -> Way {
    Way {
        commit_lsn: lsn_text(event.origin.commit_lsn),
        ordinal: event.origin.ordinal,
        partition: relayed.partition,
        offset: relayed.offset,
        occurred_at: event.occurred_at,
        relayed_at: relayed.relayed_at_ms,
    }
}
