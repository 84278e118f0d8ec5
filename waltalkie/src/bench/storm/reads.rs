//! What PostgreSQL was asked for, by its own counters. A server process tells of what it did after a second at the earliest, and
//! after ten without work at the latest: exact counts are had by waiting.

use std::ops::Sub;

use anyhow::Result;
use runtime::Config;
use runtime::names::Database;
use serde::Serialize;
use tokio_postgres::Client;

/// Counters of the truth and of the read models together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Reads {
    pub(super) transactions: i64,
    /// Rows that scans went over.
    pub(super) rows_returned: i64,
    /// Rows that were found by an index.
    pub(super) rows_fetched: i64,
    /// Pages looked at, in memory or not.
    pub(super) pages: i64,
}

impl Reads {
    pub(super) async fn now(client: &Client, config: &Config) -> Result<Self> {
        let names = config.names();
        let databases = [Database::Truth, Database::Read].map(|kind| names.database(kind));
        let sql =
            "SELECT sum(xact_commit + xact_rollback)::bigint, sum(tup_returned)::bigint, sum(tup_fetched)::bigint,
                          sum(blks_hit + blks_read)::bigint
                     FROM pg_stat_database WHERE datname = ANY($1)";
        let row = client.query_one(sql, &[&databases.as_slice()]).await?;
        Ok(Self { transactions: row.get(0), rows_returned: row.get(1), rows_fetched: row.get(2), pages: row.get(3) })
    }
}

impl Sub for Reads {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            transactions: self.transactions - earlier.transactions,
            rows_returned: self.rows_returned - earlier.rows_returned,
            rows_fetched: self.rows_fetched - earlier.rows_fetched,
            pages: self.pages - earlier.pages,
        }
    }
}
