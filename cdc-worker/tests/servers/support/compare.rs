//! The history against the tables.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use schemas::{ChatEvent, Origin, history};

use super::{Stack, read_events};

/// Checks that the log has every row of the tables once, in the order of `seq`, and as the event that the row is.
/// Counts them. Not for chats with deleted messages: the log says what was written before.
pub async fn history_is_the_tables(stack: &Stack) -> Result<usize> {
    let mut chats: BTreeMap<String, Vec<ChatEvent>> = BTreeMap::new();
    for logged in read_events(&stack.config).await? {
        ensure!(logged.key == logged.event.chat_id, "{} under key {}", logged.event.event_id, logged.key);
        chats.entry(logged.key).or_default().push(ChatEvent { origin: Origin::default(), ..logged.event });
    }
    let rows = stack
        .sql
        .query(
            "SELECT chat_id, max(sequence_number), count(*) FROM
                    (SELECT chat_id, sequence_number FROM message UNION ALL
                     SELECT chat_id, sequence_number FROM chat_change) AS row GROUP BY 1",
            &[],
        )
        .await?;
    let mut count = 0;
    for row in rows {
        let (chat, last, in_tables): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        ensure!(last == in_tables, "{chat}: {in_tables} rows up to {last} aren't dense");
        let logged = chats.remove(&chat).with_context(|| format!("{chat} isn't in the log"))?;
        let expected = history::read_range(&stack.sql, &chat, 1, last, last).await?;
        ensure!(logged.len() == expected.len(), "{chat}: {} events of {} rows", logged.len(), expected.len());
        for (logged, expected) in logged.iter().zip(&expected) {
            ensure!(logged == expected, "{chat}: the log has {logged:?} for {expected:?}");
        }
        count += expected.len();
    }
    ensure!(chats.is_empty(), "in the log alone: {:?}", chats.keys());
    Ok(count)
}
