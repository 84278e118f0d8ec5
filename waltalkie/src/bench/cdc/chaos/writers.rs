//! Transactions of random sizes, all the time: some of one row and some of thousands, of one chat or of several, some rolled
//! back, now and then a message of no transaction between their rows.

use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use runtime::{Shutdown, postgres};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::Shared;

const INSERT: &str = "
    INSERT INTO message (message_id, chat_id, sender_id, content, sequence_number, created_at)
    SELECT gen_random_uuid(), $1, 'alice', 'message ' || seq, seq, now() FROM generate_series($2::bigint, $3) seq";
const CHANGE: &str = "
    INSERT INTO chat_change (chat_id, sequence_number, event_type, actor_id, occurred_at, chat)
    VALUES ($1, $2, 'chat.updated', 'alice', now(),
            jsonb_build_object('chat_name', 'name ' || $2::bigint, 'is_group', true, 'created_at', 0,
                               'deleted_shown_as', 'tombstone', 'history_for_new_members', true))";

/// Connections that write, each to chats of its own.
pub(super) struct Writers(Vec<Writer>);

/// Writers at work.
pub(super) struct Writing<'a> {
    writers: &'a mut Writers,
    stop: Shutdown,
    tasks: JoinSet<Result<(Writer, u64)>>,
}

struct Writer {
    client: Client,
    /// Chats and the last `seq` of each.
    chats: Vec<(String, i64)>,
}

impl Writers {
    pub(super) async fn new(config: &Shared, writers: u16, chats: u16) -> Result<Self> {
        let url = postgres::parse(&config.postgres.truth_url, "postgres.truth_url")?;
        let mut made = Vec::new();
        for number in 0..writers {
            let client = postgres::connect(&url).await.context("a connection that writes")?;
            let of_it = (0..chats.max(writers)).filter(|chat| chat % writers == number);
            made.push(Writer { client, chats: of_it.map(|chat| (format!("chat-{chat}"), 0)).collect() });
        }
        Ok(Self(made))
    }

    pub(super) fn begin(&mut self, random: &mut StdRng) -> Writing<'_> {
        let (stop, mut tasks) = (Shutdown::new(), JoinSet::new());
        for writer in self.0.drain(..) {
            tasks.spawn(writer.write(StdRng::seed_from_u64(random.random()), stop.clone()));
        }
        Writing { writers: self, stop, tasks }
    }
}

impl Writing<'_> {
    /// Stops after the transactions at hand; says how many were committed.
    pub(super) async fn end(mut self) -> Result<u64> {
        self.stop.begin();
        let mut committed = 0;
        while let Some(ended) = self.tasks.join_next().await {
            let (writer, transactions) = ended??;
            self.writers.0.push(writer);
            committed += transactions;
        }
        // Whichever ended first: the next run's seed meets the same writers.
        self.writers.0.sort_by(|one, other| one.chats[0].0.cmp(&other.chats[0].0));
        Ok(committed)
    }
}

impl Writer {
    async fn write(mut self, mut random: StdRng, stop: Shutdown) -> Result<(Self, u64)> {
        let mut committed = 0;
        loop {
            if self.transaction(&mut random).await.context("writing a transaction")? {
                committed += 1;
            }
            let pause = Duration::from_millis(random.random_range(0..60));
            if !stop.pause(pause).await {
                return Ok((self, committed));
            }
        }
    }

    /// Says whether it was committed.
    async fn transaction(&mut self, random: &mut StdRng) -> Result<bool> {
        let is_rolled_back = random.random_bool(0.1);
        self.chats.shuffle(random);
        let chats = random.random_range(1..=self.chats.len().min(3));
        let transaction = self.client.transaction().await?;
        let mut ends = Vec::new();
        for (chat, last) in &self.chats[..chats] {
            let rows: i64 = match random.random_range(0..1_000) {
                0..600 => 1,
                600..998 => random.random_range(2..40),
                _ => random.random_range(500..3_000),
            };
            let mut end = last + rows;
            transaction.execute(INSERT, &[chat, &(last + 1), &end]).await?;
            if random.random_bool(0.2) {
                end += 1;
                transaction.execute(CHANGE, &[chat, &end]).await?;
            }
            if random.random_bool(0.1) {
                transaction.execute("SELECT pg_logical_emit_message(false, 'bench', 'x')", &[]).await?;
            }
            ends.push(end);
        }
        if is_rolled_back {
            transaction.rollback().await?;
            return Ok(false);
        }
        transaction.commit().await?;
        for ((_, last), end) in self.chats.iter_mut().zip(ends) {
            *last = end;
        }
        Ok(true)
    }
}
