//! What PostgreSQL has, in the shape of what the programs print, and beside it what golden records say.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use schemas::timestamp;
use serde_json::{Value, json};
use waltalkie_tests::harness::Installation;

use super::golden::Golden;
use super::history::Said;

/// An event, as a row says it.
#[derive(Debug)]
pub struct Entry {
    chat_id: String,
    seq: i64,
    event_type: String,
    actor_id: String,
    occurred_at_ms: i64,
    /// `occurred_at` as the sink's transform writes it.
    occurred_at: String,
    content: Option<String>,
}

/// All that the programs may print.
pub struct Tables {
    /// Every event.
    pub events: Vec<Entry>,
    /// Messages per chat and minute.
    pub counts: Vec<Value>,
    /// Each message with its sender's name as it was then.
    pub named: Vec<Value>,
}

const EVENTS: &str = "
    SELECT chat_id, sequence_number, event_type, actor_id, floor(extract(epoch FROM at) * 1000)::bigint,
           to_char(date_trunc('milliseconds', at AT TIME ZONE 'UTC'), 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), content
    FROM (SELECT chat_id, sequence_number, 'message.persisted' AS event_type, sender_id AS actor_id, created_at AS at,
                 content
          FROM message
          UNION ALL
          SELECT chat_id, sequence_number, event_type, actor_id, occurred_at, content FROM chat_change) AS event
    ORDER BY chat_id, sequence_number";

const COUNTS: &str = "
    SELECT chat_id, to_char(date_trunc('minute', created_at AT TIME ZONE 'UTC'), 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'),
           count(*)
    FROM message
    GROUP BY 1, 2";

const NAMED: &str = "
    SELECT chat_id, sequence_number, sender_id, content,
           (SELECT name FROM user_change
            WHERE user_id = sender_id
              AND date_trunc('milliseconds', changed_at) <= date_trunc('milliseconds', created_at)
            ORDER BY version DESC LIMIT 1)
    FROM message";

impl Tables {
    /// Reads them. Of deleted messages they have no text any more, which the log has: that is taken from `said`.
    pub async fn read(installation: &Installation, said: &Said, goldens: &[Golden]) -> Result<Self> {
        let truth = installation.truth().await?;
        let original = |chat_id: &str, seq: i64| said.get(&(chat_id.to_owned(), seq)).cloned();
        let mut events = Vec::new();
        for row in truth.query(EVENTS, &[]).await? {
            let mut event = Entry {
                chat_id: row.get(0),
                seq: row.get(1),
                event_type: row.get(2),
                actor_id: row.get(3),
                occurred_at_ms: row.get(4),
                occurred_at: row.get(5),
                content: row.get(6),
            };
            if event.content.is_none() && ["message.persisted", "message.edited"].contains(&event.event_type.as_str()) {
                let place = || format!("{}/{} has no text", event.chat_id, event.seq);
                event.content = Some(original(&event.chat_id, event.seq).with_context(place)?);
            }
            events.push(event);
        }
        let rows = truth.query(COUNTS, &[]).await?;
        let counts = rows.iter().map(|row| {
            let (chat_id, minute, messages): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
            json!({ "chat_id": chat_id, "minute": minute, "messages": messages })
        });
        let mut counts: Vec<Value> = counts.collect();
        let rows = truth.query(NAMED, &[]).await?;
        let named = rows.iter().map(|row| {
            let (chat_id, seq, sender_id): (String, i64, String) = (row.get(0), row.get(1), row.get(2));
            let content = row.get::<_, Option<String>>(3).or_else(|| original(&chat_id, seq));
            let name: Option<String> = row.get(4);
            json!({ "chat_id": chat_id, "seq": seq, "sender_id": sender_id, "sender_name": name, "content": content })
        });
        let mut named: Vec<Value> = named.collect();
        let mut of_goldens = BTreeMap::<(String, String), i64>::new();
        for golden in goldens {
            let event = Entry::of(golden)?;
            if event.event_type == "message.persisted" {
                let minute = format!("{}:00Z", &event.occurred_at[..16]);
                *of_goldens.entry((event.chat_id.clone(), minute)).or_default() += 1;
                // Nobody was anybody yet.
                named.push(json!({
                    "chat_id": event.chat_id, "seq": event.seq, "sender_id": golden.says["message"]["sender_id"],
                    "sender_name": null, "content": event.content,
                }));
            }
            events.push(event);
        }
        let of_goldens = of_goldens.into_iter();
        counts.extend(of_goldens.map(
            |((chat_id, minute), messages)| json!({ "chat_id": chat_id, "minute": minute, "messages": messages }),
        ));
        Ok(Self { events, counts, named })
    }

    /// Every event, as the plain consumers print it.
    pub fn events(&self) -> Vec<Value> {
        let line = |event: &Entry| {
            json!({
                "event_id": event.event_id(), "event_type": event.event_type, "chat_id": event.chat_id,
                "seq": event.seq, "actor_id": event.actor_id, "occurred_at": event.occurred_at_ms,
                "content": event.content,
            })
        };
        self.events.iter().map(line).collect()
    }
}

impl Entry {
    fn of(golden: &Golden) -> Result<Self> {
        let says = &golden.says;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let required = |name: &str| text(&says[name]).with_context(|| format!("{name} of {says}"));
        let occurred_at_ms = golden.occurred_at();
        Ok(Self {
            chat_id: required("chat_id")?,
            seq: says["seq"].as_i64().context("no seq")?,
            event_type: required("event_type")?,
            actor_id: required("actor_id")?,
            occurred_at_ms,
            occurred_at: timestamp::rfc3339(occurred_at_ms),
            content: text(&says["message"]["content"]),
        })
    }

    fn event_id(&self) -> String {
        format!("{}/{}", self.chat_id, self.seq)
    }

    /// Whether a line of the file sink is this event: a struct as Java shows it, without fields that are null.
    pub fn is_struct(&self, line: &str) -> bool {
        let Self { chat_id, seq, event_type, actor_id, occurred_at, .. } = self;
        let start = format!(
            "Struct{{event_id={},event_type={event_type},chat_id={chat_id},seq={seq},actor_id={actor_id},\
             occurred_at={occurred_at},",
            self.event_id()
        );
        line.starts_with(&start)
            && match &self.content {
                Some(content) => line.contains(&format!(",content={content},")),
                None => !line.contains(",content="),
            }
    }
}
