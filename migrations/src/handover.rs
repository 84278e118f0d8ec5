//! The pause of a planned move to another server: nothing is written to what makes events, and no command is decided,
//! until the new server is there.
//!
//! Triggers hold it, not the programs: whoever writes, of whatever version, is refused by the server itself, with an error
//! that counts as passing. They cost nothing while there is no pause. Row `handover` of table `installation` says since
//! when; it moves with the data, so that the new server shows whether the data are from after it.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::MigrateError;

/// Times that pausing is tried: a batch may hold one table and want another, and the server ends one of both.
const ATTEMPTS: u32 = 10;

/// Takes the tables' locks, which waits for every transaction that has written to them. When it commits, all of those are
/// committed or gone, and every later one meets the triggers. `consumer_offset` is in every transaction of a persister.
const PAUSE: &str = "
    SET LOCAL lock_timeout = '60s';
    LOCK TABLE message, chat_change, user_change, consumer_offset IN SHARE ROW EXCLUSIVE MODE;
    CREATE OR REPLACE FUNCTION refuse_while_handing_over() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION USING ERRCODE = '57W01',
            MESSAGE = 'writing is paused: the database is being handed over to another server (waltalkie cdc handover)';
    END $$;
    DROP TRIGGER IF EXISTS handover_pause ON message;
    CREATE TRIGGER handover_pause BEFORE INSERT ON message
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_while_handing_over();
    DROP TRIGGER IF EXISTS handover_pause ON chat_change;
    CREATE TRIGGER handover_pause BEFORE INSERT ON chat_change
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_while_handing_over();
    DROP TRIGGER IF EXISTS handover_pause ON consumer_offset;
    CREATE TRIGGER handover_pause BEFORE INSERT OR UPDATE OR DELETE ON consumer_offset
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_while_handing_over();
    -- By row: a person who is there already is asked for by a statement that inserts nothing.
    DROP TRIGGER IF EXISTS handover_pause ON user_change;
    CREATE TRIGGER handover_pause BEFORE INSERT ON user_change
        FOR EACH ROW EXECUTE FUNCTION refuse_while_handing_over();";

const UNLOCK: &str = "
    SET LOCAL lock_timeout = '60s';
    DROP TRIGGER IF EXISTS handover_pause ON message;
    DROP TRIGGER IF EXISTS handover_pause ON chat_change;
    DROP TRIGGER IF EXISTS handover_pause ON consumer_offset;
    DROP TRIGGER IF EXISTS handover_pause ON user_change;
    DROP FUNCTION IF EXISTS refuse_while_handing_over;";

/// The persisters' offsets as one JSON object.
const OFFSETS: &str =
    "(SELECT coalesce(jsonb_object_agg(concat_ws('/', consumer, topic, partition, log_id), next_offset), '{}')
                          FROM consumer_offset)";

/// A pause as a server's tables tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// When it began, by the clock of whoever began it.
    pub began_at: i64,
    /// Whether the persisters' offsets are those of then.
    pub has_offsets: bool,
}

/// Pauses writing, waiting for transactions that write; returns the pause, an earlier one if there is one already.
pub async fn pause(client: &mut Client, now_ms: i64) -> Result<Pause, MigrateError> {
    let statement = |source| MigrateError::Statement {
        what: "pausing writes (the role must own the tables; long transactions on them delay it)".into(),
        source,
    };
    for attempt in 1.. {
        match try_pause(client, now_ms).await {
            Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) && attempt < ATTEMPTS => {}
            Err(source) => return Err(statement(source)),
            Ok(()) => break,
        }
    }
    find_pause(client).await?.ok_or_else(|| MigrateError::Server("table installation lost the row `handover`".into()))
}

async fn try_pause(client: &mut Client, now_ms: i64) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(PAUSE).await?;
    let record = format!(
        "INSERT INTO installation (name, value)
         VALUES ('handover', jsonb_build_object('began_at', $1::bigint, 'offsets', {OFFSETS})::text) ON CONFLICT DO NOTHING"
    );
    transaction.execute(&record, &[&now_ms]).await?;
    transaction.commit().await
}

/// The pause that a server's tables tell of, `None` if there is none.
pub async fn find_pause(client: &Client) -> Result<Option<Pause>, MigrateError> {
    let sql = format!(
        "SELECT (value::jsonb ->> 'began_at')::bigint, value::jsonb -> 'offsets' = {OFFSETS}
           FROM installation WHERE name = 'handover'"
    );
    let row = client
        .query_opt(&sql, &[])
        .await
        .map_err(|source| MigrateError::Statement { what: "looking for a pause".into(), source })?;
    Ok(row.map(|row| Pause { began_at: row.get(0), has_offsets: row.get(1) }))
}

/// Lets everybody write again. Does nothing where there is no pause.
pub async fn resume(client: &Client) -> Result<(), MigrateError> {
    let sql = format!("BEGIN; {UNLOCK} DELETE FROM installation WHERE name = 'handover'; COMMIT");
    run(client, &sql).await
}

/// Takes the triggers away and leaves the record of the pause, so that tables may be copied to the new server again.
pub async fn let_copy(client: &Client) -> Result<(), MigrateError> {
    run(client, &format!("BEGIN; {UNLOCK} COMMIT")).await
}

async fn run(client: &Client, sql: &str) -> Result<(), MigrateError> {
    client.batch_execute(sql).await.map_err(|source| MigrateError::Statement {
        what: "letting writers go on (the role must own the tables)".into(),
        source,
    })
}
