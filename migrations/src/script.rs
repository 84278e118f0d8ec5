//! The same as text, for those whose databases are changed by somebody else.
//!
//! Each migration is one transaction and notes itself first in the migrator's table, `refinery_schema_history`, with the
//! checksum by which a later `migrate` knows it: run again, it fails there and changes nothing.

use std::fmt::Write as _;

use runtime::Names;

use crate::replication::publication_sql;
use crate::{read_sql, truth_sql};

/// As the migrator makes it.
const HISTORY: &str = "CREATE TABLE IF NOT EXISTS refinery_schema_history (
    version     int4 PRIMARY KEY,
    name        varchar(255),
    applied_on  varchar(255),
    checksum    varchar(255)
);
";

/// Tables and publication of the source of truth.
pub fn truth_script(names: &Names) -> String {
    let mut script = migrations(&truth_sql::migrations::runner());
    let _ = write!(script, "\n{};\n", publication_sql(names));
    script
}

/// Tables of the read models.
pub fn read_script() -> String {
    migrations(&read_sql::migrations::runner())
}

/// The slot, in the database of the truth, as a statement of its own: a slot isn't made in a transaction that has written.
/// As a failover slot where the server has them.
pub fn slot_script(names: &Names) -> String {
    let slot = names.slot();
    format!(
        "DO $$
BEGIN
    IF current_setting('server_version_num')::int >= 170000 THEN
        PERFORM pg_create_logical_replication_slot('{slot}', 'pgoutput', failover => true);
    ELSE
        PERFORM pg_create_logical_replication_slot('{slot}', 'pgoutput');
    END IF;
END $$;
"
    )
}

fn migrations(runner: &refinery::Runner) -> String {
    let mut script = HISTORY.to_owned();
    for migration in runner.get_migrations() {
        // Writing to a String cannot fail.
        let _ = write!(
            script,
            "
-- {migration}
BEGIN;
INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
VALUES ({}, '{}', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), '{}');
{}
COMMIT;
",
            migration.version(),
            migration.name(),
            migration.checksum(),
            migration.sql().unwrap_or_default().trim_end(),
        );
    }
    script
}
