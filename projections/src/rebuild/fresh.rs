//! The schema in which tables are made again: like the live ones in everything but their rows.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use runtime::postgres::{self, quoted};
use tokio::time::Instant;
use tokio_postgres::{Client, GenericClient, Transaction};

use super::{Rebuilder, Replay};
use crate::error::Error;
use crate::wiring::Wiring;

/// How the comment on a schema of ours begins.
pub(super) const MADE_BY_US: &str = "waltalkie: rebuild of ";
/// What makes a table's settings, owner and rights those of another one: nothing of that is copied by LIKE. Run twice, when the
/// tables are made and when they take the live ones' place.
const SETTINGS: &str = "
    WITH live AS (SELECT * FROM pg_class WHERE oid = to_regclass($1)),
         fresh AS (SELECT * FROM pg_class WHERE oid = to_regclass($2)),
         live_rights AS (
        SELECT a.grantee, a.privilege_type, a.is_grantable FROM live CROSS JOIN LATERAL aclexplode(live.relacl) a
         WHERE a.grantee <> live.relowner),
         fresh_rights AS (
        SELECT a.grantee, a.privilege_type, a.is_grantable FROM fresh CROSS JOIN LATERAL aclexplode(fresh.relacl) a
         WHERE a.grantee <> fresh.relowner),
         grantees AS (SELECT oid, quote_ident(rolname) AS name FROM pg_roles UNION ALL SELECT 0::oid, 'PUBLIC')
    SELECT statement FROM (
        SELECT 1 AS step,
               format('ALTER TABLE %s RESET (%s)', $2::text, string_agg(split_part(option, '=', 1), ', ')) AS statement
          FROM fresh CROSS JOIN LATERAL unnest(fresh.reloptions) AS option
         WHERE NOT EXISTS (SELECT FROM live WHERE option = ANY(live.reloptions)) HAVING count(*) > 0
         UNION ALL
        SELECT 2, format('ALTER TABLE %s SET (%s)', $2::text, array_to_string(live.reloptions, ', '))
          FROM live WHERE live.reloptions IS NOT NULL
         UNION ALL
        SELECT 3, format('ALTER TABLE %s OWNER TO %I', $2::text, pg_get_userbyid(live.relowner))
          FROM live CROSS JOIN fresh WHERE live.relowner <> fresh.relowner
         UNION ALL
        SELECT 4, format('REVOKE %s ON %s FROM %s', r.privilege_type, $2::text, g.name)
          FROM (SELECT * FROM fresh_rights EXCEPT SELECT * FROM live_rights) r JOIN grantees g ON g.oid = r.grantee
         UNION ALL
        SELECT 5, format('GRANT %s ON %s TO %s%s', r.privilege_type, $2::text, g.name,
                         CASE WHEN r.is_grantable THEN ' WITH GRANT OPTION' END)
          FROM (SELECT * FROM live_rights EXCEPT SELECT * FROM fresh_rights) r JOIN grantees g ON g.oid = r.grantee
    ) AS statements ORDER BY step";
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

/// What the swap would be refused for, or take away with the former tables.
const OBSTACLES: &str = "
    SELECT format('table %s isn''t owned by this login, or by a role that it is in', c.relname)
      FROM pg_class c WHERE c.oid = ANY($1::text[]::regclass[]::oid[]) AND NOT pg_has_role(c.relowner, 'USAGE')
     UNION ALL
    SELECT format('this login may not make tables in schema %s', current_schema())
     WHERE NOT has_schema_privilege(current_schema(), 'CREATE')
     UNION ALL
    SELECT DISTINCT format('view %s reads table %s', v.relname, d.refobjid::regclass)
      FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
     WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = ANY($1::text[]::regclass[]::oid[])
     UNION ALL
    SELECT format('%s refers to table %s', k.conname, k.confrelid::regclass)
      FROM pg_constraint k WHERE k.contype = 'f' AND k.confrelid = ANY($1::text[]::regclass[]::oid[])
     UNION ALL
    SELECT format('publication %s names table %s', p.pubname, r.prrelid::regclass)
      FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
     WHERE r.prrelid = ANY($1::text[]::regclass[]::oid[])
     UNION ALL
    SELECT format('trigger %s is on table %s', t.tgname, t.tgrelid::regclass)
      FROM pg_trigger t WHERE NOT t.tgisinternal AND t.tgrelid = ANY($1::text[]::regclass[]::oid[])
     UNION ALL
    SELECT format('policy %s is on table %s', p.polname, p.polrelid::regclass)
      FROM pg_policy p WHERE p.polrelid = ANY($1::text[]::regclass[]::oid[])
     UNION ALL
    SELECT format('row-level security is switched on for table %s', c.oid::regclass)
      FROM pg_class c WHERE c.relrowsecurity AND c.oid = ANY($1::text[]::regclass[]::oid[])";
/// The shape of the database, and that of tables which somebody else's SQL makes: an unfinished rebuild of another one is of no
/// use.
const SHAPE: &str =
    "SELECT coalesce(max(version), 0)::text || coalesce(' ' || md5($1::text), '') FROM refinery_schema_history";

const END_WORK: &str = "
    SELECT pg_terminate_backend(l.pid)
      FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE n.nspname = ANY($1) AND a.usename = current_user AND l.pid <> pg_backend_pid()
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// Tables beside the live ones.
pub(super) struct Fresh {
    pub(super) schema: String,
    /// Connections that see these tables alone.
    pub(super) pool: Pool,
    /// Partitions that may be worked on at a time; each needs a connection.
    pub(super) workers: usize,
    pub(super) until_ms: Option<i64>,
    /// Whether these tables will be swapped with the live ones.
    takes_their_place: bool,
    /// SQL that makes them; without it they are made like the live ones.
    tables: Option<Arc<str>>,
    /// Holds the lock: nobody else works on the same schema.
    lock: Client,
}

/// One that was ended a moment ago holds the lock until PostgreSQL has seen the end of its connection.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// What becomes of tables that an unfinished rebuild has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// It is gone on with.
    OrGoOn,
    /// They go.
    Anew,
}

impl Fresh {
    /// Tables to work on.
    pub(super) async fn open<P: Replay>(
        rebuilder: &Rebuilder,
        projection: &P,
        schema: &str,
        until_ms: Option<i64>,
        begin: Begin,
    ) -> Result<Self, Error> {
        let url = &rebuilder.wiring.config.postgres.read_url;
        let client = postgres::connect(&postgres::parse(url, "postgres.read_url")?).await?;
        if !lock(&client, schema).await? {
            return Err(Error::RebuiltElsewhere { projection: P::NAME });
        }
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let pool = postgres::pool_of_schema(url, "postgres.read_url", workers + 1, schema)?;
        let takes_their_place = begin == Begin::OrGoOn && until_ms.is_none();
        let (schema, tables) = (schema.to_owned(), rebuilder.tables.clone());
        let mut fresh = Self { schema, pool, workers, until_ms, takes_their_place, tables, lock: client };
        fresh.prepare(projection, begin).await?;
        Ok(fresh)
    }

    /// The same anew, whatever is there.
    pub(super) async fn again<P: Replay>(mut self, wiring: &Wiring, projection: &P) -> Result<Self, Error> {
        self.prepare(projection, Begin::Anew).await?;
        // Connections of before have prepared statements on tables that are gone.
        self.pool.close();
        let url = &wiring.config.postgres.read_url;
        self.pool = postgres::pool_of_schema(url, "postgres.read_url", self.workers + 1, &self.schema)?;
        Ok(self)
    }

    async fn prepare<P: Replay>(&mut self, projection: &P, begin: Begin) -> Result<(), Error> {
        let failed = || Error::database("making tables to rebuild into");
        if self.takes_their_place {
            no_obstacle::<P>(&self.lock).await?;
        }
        let shape: String = self.lock.query_one(SHAPE, &[&self.tables.as_deref()]).await.map_err(failed())?.get(0);
        let (name, version, settings) = (P::NAME, P::VERSION, projection.settings());
        let wanted = format!("{MADE_BY_US}{name} version {version}, tables {shape}, {settings}");
        let found = self
            .lock
            .query_opt(
                "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = $1",
                &[&self.schema],
            )
            .await
            .map_err(failed())?;
        match found.map(|row| row.get::<_, Option<String>>(0)) {
            Some(Some(comment)) if comment == wanted && begin == Begin::OrGoOn => return Ok(()),
            Some(Some(comment)) if comment.starts_with(MADE_BY_US) => drop_schema(&self.lock, &self.schema).await?,
            Some(_) => return Err(Error::ForeignSchema { schema: self.schema.clone() }),
            None => {}
        }
        make::<P>(&mut self.lock, &self.schema, &wanted, self.tables.as_deref()).await
    }

    /// Ends who is still at work on these tables: what was given up may be in the middle of a long statement.
    pub(super) async fn clear(&self, copy: &str) -> Result<(), Error> {
        let schemas = [self.schema.as_str(), copy];
        let ended = self.lock.execute(END_WORK, &[&schemas.as_slice()]).await;
        ended.map(drop).map_err(Error::database("ending what was given up"))
    }

    /// Removes the schema with all that is left in it. Whoever opens it next needn't wait for the connection's end.
    pub(super) async fn drop(self) -> Result<(), Error> {
        self.pool.close();
        drop_schema(&self.lock, &self.schema).await?;
        let unlocked = self.lock.execute("SELECT pg_advisory_unlock(7768, hashtext($1))", &[&self.schema]).await;
        unlocked.map(drop).map_err(Error::database("removing the tables of a rebuild"))
    }
}

/// `false` if somebody else has the schema for longer than it takes to see that one has gone.
async fn lock(client: &Client, schema: &str) -> Result<bool, Error> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        let row = client.query_one("SELECT pg_try_advisory_lock(7768, hashtext($1))", &[&schema]).await;
        let is_locked = row.map_err(Error::database("locking the tables of a rebuild"))?.get(0);
        if is_locked || Instant::now() >= until {
            return Ok(is_locked);
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// Refuses if something hangs on the live tables that would be lost.
pub(super) async fn no_obstacle<P: Replay>(client: &impl GenericClient) -> Result<(), Error> {
    let tables: Vec<String> = P::TABLES.iter().copied().map(quoted).collect();
    let found = client.query(OBSTACLES, &[&tables]).await.map_err(Error::database("looking at the live tables"))?;
    match found.first() {
        Some(first) => Err(Error::Obstacle { projection: P::NAME, obstacle: first.get(0) }),
        None => Ok(()),
    }
}

/// Gives a table the settings, the owner and the rights of the live one.
pub(super) async fn settle_like(
    transaction: &Transaction<'_>,
    live: &str,
    fresh: &str,
) -> Result<(), tokio_postgres::Error> {
    for statement in transaction.query(SETTINGS, &[&live, &fresh]).await? {
        transaction.batch_execute(statement.get(0)).await?;
    }
    Ok(())
}

pub(super) async fn drop_schema(client: &Client, schema: &str) -> Result<(), Error> {
    let drop = format!("DROP SCHEMA IF EXISTS {} CASCADE", quoted(schema));
    client.batch_execute(&drop).await.map_err(Error::database("removing the tables of a rebuild"))
}

/// All or nothing: a schema with the comment is complete.
async fn make<P: Replay>(client: &mut Client, schema: &str, comment: &str, tables: Option<&str>) -> Result<(), Error> {
    let making = async {
        let transaction = client.transaction().await?;
        let name = quoted(schema);
        transaction.batch_execute(&format!("CREATE SCHEMA {name}; {}", described(schema, comment))).await?;
        if let Some(tables) = tables {
            // What it names without a schema is made in the first one, also where the live one has such a table.
            let path: String = transaction.query_one("SELECT current_setting('search_path')", &[]).await?.get(0);
            let live: String = transaction.query_one("SELECT quote_ident(current_schema())", &[]).await?.get(0);
            transaction.batch_execute(&format!("SET LOCAL search_path = {name}, {live}; {tables}")).await?;
            transaction.execute("SELECT set_config('search_path', $1, true)", &[&path]).await?;
        }
        let own = P::TABLES.iter().map(|table| (*table, tables.is_some()));
        for (table, is_made) in own.chain([("consumer_offset", false), ("projection_version", false)]) {
            let (fresh, live) = (format!("{name}.{}", quoted(table)), quoted(table));
            if !is_made {
                transaction.batch_execute(&format!("CREATE TABLE {fresh} (LIKE {live} INCLUDING ALL)")).await?;
                for statement in transaction.query(INDEX_NAMES, &[&schema, &live, &fresh]).await? {
                    transaction.batch_execute(statement.get(0)).await?;
                }
            }
            settle_like(&transaction, &live, &fresh).await?;
        }
        let version = format!("INSERT INTO {name}.projection_version (projection, version) VALUES ($1, $2)");
        transaction.execute(&version, &[&P::NAME, &(P::VERSION as i32)]).await?;
        transaction.commit().await
    };
    making.await.map_err(Error::database("making tables to rebuild into (needs CREATE on the database)"))
}

/// Says on a schema whose it is.
pub(super) fn described(schema: &str, comment: &str) -> String {
    format!("COMMENT ON SCHEMA {} IS '{}'", quoted(schema), comment.replace('\'', "''"))
}
