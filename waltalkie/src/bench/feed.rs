//! Events put in front of nodes as the publisher does: its envelopes, its pipelines, one after the other, on each chat's
//! channel. Nothing comes from Kafka: what is measured begins where the publisher has an event in its hands.

use std::ops::Range;

use anyhow::{Context, Result};
use redis::Pipeline;
use runtime::redis::Commands;
use runtime::retry::Backoff;
use runtime::{Config, Names, clock};
use schemas::ChatEvent;
use schemas::registry::Registry;
use schemas::wire::relay::{Kind, Relayed};

use super::audience::Audience;
use super::figures::Percentiles;
use super::ledger::{Latencies, latencies, record};
use super::schedule::{Schedule, now_us};

/// Channels of one pipeline, as the publisher has it.
const AT_ONCE: usize = 500;
/// Times that a pipeline is tried.
const TRIES: u32 = 8;

/// The publisher's place.
pub(crate) struct Feed {
    audience: Audience,
    names: Names,
    redis: Commands,
    schema_id: u32,
    handed: Latencies,
}

impl Feed {
    pub(crate) async fn new(config: &Config, audience: &Audience) -> Result<Self> {
        let names = config.names();
        let registry = Registry::new(config.registry.url.expose(), names.prefix())?;
        Ok(Self {
            audience: audience.clone(),
            redis: runtime::redis::commands(&config.redis)?,
            schema_id: registry.id_of::<ChatEvent>().await.context("the events' schema")?,
            names,
            handed: latencies(),
        })
    }

    /// Publishes a schedule's messages when they are due. To be spawned: nothing else should be done by the task that keeps time.
    pub(crate) async fn run(mut self, schedule: Schedule) -> Result<Self> {
        self.handed = latencies();
        let mut next = 0;
        while next < schedule.count {
            let due = schedule.due(next).await;
            next = due.end;
            self.publish(due.clone().map(|number| schedule.place(number)).collect()).await?;
            let at_us = now_us();
            for number in due.filter(|number| *number >= schedule.warmup) {
                record(&mut self.handed, at_us.saturating_sub(schedule.due_us(number)));
            }
        }
        Ok(self)
    }

    /// Publishes the message at a `seq` of each of these chats as fast as Redis takes them.
    pub(crate) async fn publish_to(&mut self, chats: Range<usize>, seq: i64) -> Result<()> {
        for first in chats.clone().step_by(AT_ONCE) {
            self.publish((first..chats.end.min(first + AT_ONCE)).map(|chat| (chat, seq)).collect()).await?;
        }
        Ok(())
    }

    /// From due times to Redis' answers: the bench's own delay, a part of what readers see.
    pub(crate) fn handed(&self) -> Percentiles {
        Percentiles::of_latencies(&self.handed)
    }

    async fn publish(&mut self, places: Vec<(usize, i64)>) -> Result<()> {
        let mut pipeline = Pipeline::with_capacity(places.len());
        for (chat, seq) in places {
            let value = self.audience.value(self.schema_id, chat, seq);
            let relayed = Relayed {
                kind: Kind::Event,
                partition: 0,
                offset: seq,
                relayed_at_ms: clock::now_ms(),
                trace: None,
                value: &value,
            };
            let channel = self.names.chat_channel(&self.audience.chat_id(chat));
            pipeline.cmd("SPUBLISH").arg(channel).arg(relayed.to_bytes()).ignore();
        }
        // Again until it is taken, as the publisher does, but not for ever.
        let mut backoff = Backoff::default();
        for _ in 1..TRIES {
            if pipeline.exec_async(&mut self.redis).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(backoff.next_pause()).await;
        }
        pipeline.exec_async(&mut self.redis).await.context("Redis doesn't take events")
    }
}
