//! Which versions the read models are of, and how far their rebuilds are, as the read database has it: whoever rebuilds, any
//! process can show it.

use std::time::Duration;

use anyhow::Result;
use deadpool_postgres::Pool;
use projections::Shipped;
use runtime::{Config, postgres};
use serde_json::{Value, json};
use tokio_postgres::Row;

/// How long the database may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// A rebuild whose tables were dropped by hand is no rebuild any more.
const MODELS: &str = "
    SELECT projection, v.version, (extract(epoch FROM v.rebuilt_at) * 1000)::bigint,
           r.version, r.phase, r.records_read, r.records_expected,
           (extract(epoch FROM clock_timestamp() - r.told_at) * 1000)::bigint,
           (extract(epoch FROM r.told_at - r.started_at) * 1000)::bigint
      FROM projection_version v
      FULL JOIN (SELECT * FROM rebuild_progress WHERE to_regnamespace('rebuild_' || projection) IS NOT NULL) r
     USING (projection) ORDER BY projection";

/// Looks into the read database.
pub(super) struct Models(Option<Pool>);

impl Models {
    /// A process whose configuration names no read database knows of none.
    pub(super) fn new(config: &Config) -> Result<Self> {
        let url = &config.postgres.read_url;
        let pool = (!url.is_empty()).then(|| postgres::pool(url, "postgres.read_url", 1)).transpose()?;
        Ok(Self(pool))
    }

    /// One object a projection; null where the database isn't known, or doesn't say.
    pub(super) async fn look(&self) -> Value {
        let Some(pool) = &self.0 else { return Value::Null };
        let asked = async {
            let client = pool.get().await.ok()?;
            let statement = client.prepare_cached(MODELS).await.ok()?;
            client.query(&statement, &[]).await.ok()
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Some(rows)) => rows.iter().map(model_of).collect(),
            _ => Value::Null,
        }
    }
}

fn model_of(row: &Row) -> Value {
    let projection: &str = row.get(0);
    let rebuild = row.get::<_, Option<i32>>(3).map(|version| {
        json!({
            "version": version,
            "phase": row.get::<_, &str>(4),
            "read": row.get::<_, i64>(5),
            "expected": row.get::<_, i64>(6),
            "silent_ms": row.get::<_, i64>(7),
            "running_ms": row.get::<_, i64>(8),
        })
    });
    json!({
        "projection": projection,
        "version": row.get::<_, Option<i32>>(1),
        "program_version": Shipped::named(projection).ok().map(Shipped::version),
        "rebuilt_at_ms": row.get::<_, Option<i64>>(2),
        "rebuild": rebuild,
    })
}
