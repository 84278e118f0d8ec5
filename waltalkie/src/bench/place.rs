//! An installation for one run: databases, topics, schemas and a slot under a prefix that nobody else has.

use anyhow::{Context, Result};
use runtime::kafka::admin::Admin;
use runtime::names::Database;
use runtime::{Config, postgres};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::migrate;

/// The installation.
pub(crate) struct Place {
    pub(crate) config: Config,
}

impl Place {
    pub(crate) async fn make(config: &Config, partitions: u16) -> Result<Self> {
        let mut config = config.clone();
        config.names.prefix = format!("p{}-", &Uuid::new_v4().simple().to_string()[..8]);
        config.kafka.partitions = partitions;
        let names = config.names();
        for (url, kind, setting) in [
            (&mut config.postgres.truth_url, Database::Truth, "postgres.truth_url"),
            (&mut config.postgres.read_url, Database::Read, "postgres.read_url"),
            (&mut config.postgres.replication_url, Database::Truth, "postgres.replication_url"),
        ] {
            if !url.is_empty() {
                let named = postgres::with_database(url, &names.database(kind));
                *url = named.with_context(|| format!("{setting} names no database"))?;
            }
        }
        migrate::create_databases(&config).await?;
        migrate::all(&config).await?;
        Ok(Self { config })
    }

    pub(crate) async fn connect(&self) -> Result<Client> {
        Ok(postgres::connect(&postgres::parse(&self.config.postgres.truth_url, "postgres.truth_url")?).await?)
    }

    /// Removes all of it, or says that it stays.
    pub(crate) async fn unmake_or_tell(self) {
        if let Err(error) = self.unmake().await {
            eprintln!("leaving a database, topics or a slot behind: {error:#}");
        }
    }

    /// The slot goes first: while it is there, its database can't be removed.
    async fn unmake(self) -> Result<()> {
        let names = self.config.names();
        let client = self.connect().await?;
        client.execute("SELECT pg_drop_replication_slot($1)", &[&names.slot()]).await?;
        drop(client);
        let server = postgres::with_database(&self.config.postgres.truth_url, "postgres");
        let server = server.context("postgres.truth_url names no database")?;
        let client = postgres::connect(&postgres::parse(&server, "postgres.truth_url")?).await?;
        for kind in [Database::Truth, Database::Read] {
            client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", names.database(kind))).await?;
        }
        Admin::new(&self.config.kafka)?.delete_topics(&names).await?;
        Ok(())
    }
}
