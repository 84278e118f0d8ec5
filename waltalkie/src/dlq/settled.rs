//! What was done about dead letters, kept in the source of truth.

use std::collections::HashMap;

use anyhow::{Context, Result};
use runtime::kafka::admin::Admin;
use runtime::{Config, postgres};
use schemas::topics::Topic;
use tokio_postgres::{Client, Transaction};

/// What was done about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Retried,
    Dropped,
}

impl Outcome {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::Dropped => "dropped",
        }
    }
}

/// The table.
pub(super) struct Settled {
    client: Client,
    topic: String,
    log_id: String,
}

impl Settled {
    pub(super) async fn open(config: &Config, dead: Topic) -> Result<Self> {
        let topic = config.names().topic(dead);
        let log_id = Admin::new(&config.kafka)?.log_id(&topic).await?;
        let client = postgres::connect(&postgres::parse(&config.postgres.truth_url, "postgres.truth_url")?).await?;
        Ok(Self { client, topic, log_id })
    }

    /// Outcomes by offset; what isn't there is open.
    pub(super) async fn all(&self) -> Result<HashMap<i64, Outcome>> {
        let sql = "SELECT record_offset, outcome FROM dead_letter_settled WHERE log_id = $1 AND partition = 0";
        let rows = self.client.query(sql, &[&self.log_id]).await.context("`waltalkie migrate` makes the table")?;
        let outcome = |name: &str| if name == "retried" { Outcome::Retried } else { Outcome::Dropped };
        Ok(rows.iter().map(|row| (row.get(0), outcome(row.get(1)))).collect())
    }

    /// Settles one; nothing is kept until [`Claim::keep`].
    pub(super) async fn claim(&mut self, offset: i64, outcome: Outcome) -> Result<Claim<'_>> {
        let transaction = self.client.transaction().await?;
        let sql = "INSERT INTO dead_letter_settled (topic, log_id, partition, record_offset, outcome, settled_at)
                   VALUES ($1, $2, 0, $3, $4, clock_timestamp()) ON CONFLICT DO NOTHING";
        let made = transaction.execute(sql, &[&self.topic, &self.log_id, &offset, &outcome.name()]).await?;
        Ok(Claim { transaction, is_new: made == 1 })
    }
}

/// A row that isn't committed yet. Dropped, it is rolled back.
pub(super) struct Claim<'a> {
    transaction: Transaction<'a>,
    is_new: bool,
}

impl Claim<'_> {
    /// Whether nobody had settled it.
    pub(super) const fn is_new(&self) -> bool {
        self.is_new
    }

    pub(super) async fn keep(self) -> Result<()> {
        Ok(self.transaction.commit().await?)
    }
}
