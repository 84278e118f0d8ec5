//! The schema in which tables are made again: like the live ones in everything but their rows.

use deadpool_postgres::Pool;
use runtime::postgres::{self, quoted};
use tokio_postgres::Client;

use crate::error::Error;
use crate::projection::Projection;
use crate::wiring::Wiring;

/// The settings of a table and who may use it: neither is copied by LIKE.
const SETTINGS: &str = "
    SELECT format('ALTER TABLE %I.%I SET (%s)', $1::text, c.relname, array_to_string(c.reloptions, ', '))
      FROM pg_class c WHERE c.oid = to_regclass($2) AND c.reloptions IS NOT NULL
     UNION ALL
    SELECT format('GRANT %s ON %I.%I TO %s%s', a.privilege_type, $1::text, c.relname,
                  coalesce(quote_ident(r.rolname), 'PUBLIC'), CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
      FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
     WHERE c.oid = to_regclass($2) AND a.grantee <> c.relowner";
/// Copied indexes get names of their own; later migrations know the live ones.
const INDEX_NAMES: &str = "
    WITH indexes AS (
        SELECT i.indrelid, c.relname, i.indexrelid, row_number() OVER (
                   PARTITION BY i.indrelid, d.definition ORDER BY c.relname) AS number, d.definition
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
         CROSS JOIN LATERAL (
               SELECT concat_ws(' ', m.amname, i.indisunique, i.indisprimary, i.indoption, i.indclass, i.indnkeyatts,
                                pg_get_expr(i.indpred, i.indrelid),
                                (SELECT string_agg(pg_get_indexdef(i.indexrelid, k, true), ',' ORDER BY k)
                                   FROM generate_series(1, i.indnatts) AS k)) AS definition) AS d
    )
    SELECT format('ALTER INDEX %I.%I RENAME TO %I', $1::text, f.relname, l.relname)
      FROM indexes l JOIN indexes f USING (definition, number)
     WHERE l.indrelid = to_regclass($2) AND f.indrelid = to_regclass($3) AND l.relname <> f.relname";

/// Tables beside the live ones.
pub(super) struct Fresh {
    pub(super) schema: String,
    /// Connections that see these tables alone.
    pub(super) pool: Pool,
    pub(super) until_ms: Option<i64>,
    /// Holds the lock: nobody else works on the same schema.
    lock: Client,
}

impl Fresh {
    /// New ones, whatever was there.
    pub(super) async fn anew<P: Projection>(wiring: &Wiring, schema: &str) -> Result<Self, Error> {
        Self::make::<P>(wiring, schema, None, true).await
    }

    /// The tables of an unfinished rebuild by the same version, to go on with; or new ones.
    pub(super) async fn open<P: Projection>(
        wiring: &Wiring,
        schema: &str,
        until_ms: Option<i64>,
    ) -> Result<Self, Error> {
        Self::make::<P>(wiring, schema, until_ms, false).await
    }

    async fn make<P: Projection>(
        wiring: &Wiring,
        schema: &str,
        until_ms: Option<i64>,
        is_anew: bool,
    ) -> Result<Self, Error> {
        let url = &wiring.config.postgres.read_url;
        let mut client = postgres::connect(&postgres::parse(url, "postgres.read_url")?).await?;
        let failed = || Error::database("making tables to rebuild into");
        let row = client.query_one("SELECT pg_try_advisory_lock(7768, hashtext($1))", &[&schema]).await;
        if !row.map_err(failed())?.get::<_, bool>(0) {
            return Err(Error::RebuiltElsewhere { projection: P::NAME });
        }
        let wanted = format!("waltalkie: rebuild of {} version {}", P::NAME, P::VERSION);
        let found = client
            .query_opt("SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1", &[&schema])
            .await
            .map_err(failed())?;
        match found.map(|row| row.get::<_, Option<String>>(0)) {
            Some(Some(comment)) if comment == wanted && !is_anew => {}
            // Of another version, or of another time: of no use.
            Some(Some(comment)) if comment.starts_with("waltalkie: rebuild of ") => {
                drop_schema(&client, schema).await?;
                make::<P>(&mut client, schema, &wanted).await?;
            }
            Some(_) => return Err(Error::ForeignSchema { schema: schema.to_owned() }),
            None => make::<P>(&mut client, schema, &wanted).await?,
        }
        let connections = wiring.config.postgres.pool_size.max(4);
        let pool = postgres::pool_of_schema(url, "postgres.read_url", connections, schema)?;
        Ok(Self { schema: schema.to_owned(), pool, until_ms, lock: client })
    }

    /// Removes the schema with all that is left in it.
    pub(super) async fn drop(self) -> Result<(), Error> {
        // Its connections have prepared statements on the tables.
        self.pool.close();
        drop_schema(&self.lock, &self.schema).await
    }
}

pub(super) async fn drop_schema(client: &Client, schema: &str) -> Result<(), Error> {
    let drop = format!("DROP SCHEMA IF EXISTS {} CASCADE", quoted(schema));
    client.batch_execute(&drop).await.map_err(Error::database("removing the tables of a rebuild"))
}

/// All or nothing: a schema with the comment is complete.
async fn make<P: Projection>(client: &mut Client, schema: &str, comment: &str) -> Result<(), Error> {
    let making = async {
        let transaction = client.transaction().await?;
        let name = quoted(schema);
        transaction.batch_execute(&format!("CREATE SCHEMA {name}; COMMENT ON SCHEMA {name} IS '{comment}'")).await?;
        for table in P::TABLES.iter().copied().chain(["consumer_offset", "projection_version"]) {
            let (fresh, live) = (format!("{name}.{}", quoted(table)), quoted(table));
            transaction.batch_execute(&format!("CREATE TABLE {fresh} (LIKE {live} INCLUDING ALL)")).await?;
            let mut statements = transaction.query(SETTINGS, &[&schema, &live]).await?;
            statements.extend(transaction.query(INDEX_NAMES, &[&schema, &live, &fresh]).await?);
            for statement in statements {
                transaction.batch_execute(statement.get(0)).await?;
            }
        }
        let version = format!("INSERT INTO {name}.projection_version (projection, version) VALUES ($1, $2)");
        transaction.execute(&version, &[&P::NAME, &(P::VERSION as i32)]).await?;
        transaction.commit().await
    };
    making.await.map_err(Error::database("making tables to rebuild into (needs CREATE on the database)"))
}
