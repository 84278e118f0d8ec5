//! Transactions on the notifier's tables that end also where this process stops in the middle of one: what it holds would keep
//! whoever takes over waiting for as long as its connection lives.

use deadpool_postgres::{Client, Transaction};

use super::error::Error;

/// As the projector has it: for a lock, and before Postgres ends the transaction of a process that has stopped.
const LIMITS: &str = "SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '15s'";

/// Begins one.
pub(crate) async fn begin(client: &mut Client) -> Result<Transaction<'_>, Error> {
    let transaction = client.transaction().await.map_err(Error::database("beginning"))?;
    transaction.batch_execute(LIMITS).await.map_err(Error::database("beginning"))?;
    Ok(transaction)
}
