//! The schema in which tables are made again: like the live ones in everything but their rows.

use deadpool_postgres::Pool;
use runtime::postgres::{self, quoted};
use tokio_postgres::Client;

use super::Replay;
use crate::error::Error;
use crate::wiring::Wiring;

/// How the comment on a schema of ours begins.
const MADE_BY_US: &str = "waltalkie: rebuild of ";
/// The settings of a table, whose it is and who may use it: nothing of that is copied by LIKE.
const SETTINGS: &str = "
    SELECT format('ALTER TABLE %I.%I SET (%s)', $1::text, c.relname, array_to_string(c.reloptions, ', '))
      FROM pg_class c WHERE c.oid = to_regclass($2) AND c.reloptions IS NOT NULL
     UNION ALL
    SELECT format('ALTER TABLE %I.%I OWNER TO %I', $1::text, c.relname, pg_get_userbyid(c.relowner))
      FROM pg_class c WHERE c.oid = to_regclass($2) AND pg_get_userbyid(c.relowner) <> current_user
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
      FROM pg_trigger t WHERE NOT t.tgisinternal AND t.tgrelid = ANY($1::text[]::regclass[]::oid[])";
/// The shape of the database: an unfinished rebuild of another one is of no use.
const SHAPE: &str = "SELECT coalesce(max(version), 0)::text FROM refinery_schema_history";

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
    /// Holds the lock: nobody else works on the same schema.
    lock: Client,
}

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
        wiring: &Wiring,
        projection: &P,
        schema: &str,
        until_ms: Option<i64>,
        begin: Begin,
    ) -> Result<Self, Error> {
        let url = &wiring.config.postgres.read_url;
        let client = postgres::connect(&postgres::parse(url, "postgres.read_url")?).await?;
        let failed = || Error::database("making tables to rebuild into");
        let row = client.query_one("SELECT pg_try_advisory_lock(7768, hashtext($1))", &[&schema]).await;
        if !row.map_err(failed())?.get::<_, bool>(0) {
            return Err(Error::RebuiltElsewhere { projection: P::NAME });
        }
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let pool = postgres::pool_of_schema(url, "postgres.read_url", workers + 1, schema)?;
        let takes_their_place = begin == Begin::OrGoOn && until_ms.is_none();
        let mut fresh = Self { schema: schema.to_owned(), pool, workers, until_ms, takes_their_place, lock: client };
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
        let tables: Vec<String> = P::TABLES.iter().copied().map(quoted).collect();
        let obstacles = self.lock.query(OBSTACLES, &[&tables]).await.map_err(failed())?;
        if let Some(first) = obstacles.first().filter(|_| self.takes_their_place) {
            return Err(Error::Obstacle { projection: P::NAME, obstacle: first.get(0) });
        }
        let shape: String = self.lock.query_one(SHAPE, &[]).await.map_err(failed())?.get(0);
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
        make::<P>(&mut self.lock, &self.schema, &wanted).await
    }

    /// Removes the schema with all that is left in it.
    pub(super) async fn drop(self) -> Result<(), Error> {
        self.pool.close();
        drop_schema(&self.lock, &self.schema).await
    }
}

pub(super) async fn drop_schema(client: &Client, schema: &str) -> Result<(), Error> {
    let drop = format!("DROP SCHEMA IF EXISTS {} CASCADE", quoted(schema));
    client.batch_execute(&drop).await.map_err(Error::database("removing the tables of a rebuild"))
}

/// All or nothing: a schema with the comment is complete.
async fn make<P: Replay>(client: &mut Client, schema: &str, comment: &str) -> Result<(), Error> {
    let making = async {
        let transaction = client.transaction().await?;
        let name = quoted(schema);
        let comment = comment.replace('\'', "''");
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
