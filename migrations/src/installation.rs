//! Facts of an installation that must never change under it: its prefix, its epoch, the key of body hashes.

use runtime::Names;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::MigrateError;

/// The recorded facts.
#[derive(Clone, PartialEq, Eq)]
pub struct Installation {
    /// Changes when history was lost or restored, so that clients drop their cursors.
    pub epoch: String,
    /// Key of the hash that recognises a repeated message.
    pub body_hash_key: [u8; 16],
}

impl std::fmt::Debug for Installation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Installation").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Installation {
    /// Reads the facts, recording them at the first start; refuses another prefix than the recorded one.
    pub async fn open(client: &Client, names: &Names) -> Result<Self, MigrateError> {
        let statement = |source| MigrateError::Statement { what: "reading table installation".into(), source };
        let fresh = [
            ("prefix", names.prefix().to_owned()),
            ("epoch", Uuid::now_v7().to_string()),
            ("body_hash_key", Uuid::new_v4().to_string()),
        ];
        for (name, value) in &fresh {
            client
                .execute(
                    "INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                    &[name, value],
                )
                .await
                .map_err(statement)?;
        }
        let rows = client.query("SELECT name, value FROM installation", &[]).await.map_err(statement)?;
        let value = |wanted: &str| {
            rows.iter()
                .find(|row| row.get::<_, &str>(0) == wanted)
                .map(|row| row.get::<_, String>(1))
                .unwrap_or_default()
        };
        let recorded = value("prefix");
        if recorded != names.prefix() {
            return Err(MigrateError::Server(format!(
                "names.prefix is `{}`, but this database was set up with `{recorded}`: topics, slot and keys carry it. Set \
                 it back, or use another database",
                names.prefix()
            )));
        }
        let key = Uuid::try_parse(&value("body_hash_key")).map_err(|_| {
            MigrateError::Server("table installation: body_hash_key is damaged; restore it from a backup".into())
        })?;
        Ok(Self { epoch: value("epoch"), body_hash_key: key.into_bytes() })
    }
}
