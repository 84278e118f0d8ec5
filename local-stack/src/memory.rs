//! What a data directory remembers from one start to the next (`stack.json`).

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::{Error, IoContext};
use crate::ports;
use crate::service::Service;

/// Where the registry keeps its schemas; decided at the first start, since ids in Kafka's records point there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RegistryStorage {
    /// A database in the stack's own `PostgreSQL`.
    Postgres,
    /// A file of its own, where `PostgreSQL` is somebody else's.
    File,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Memory {
    /// By the key of the service, and `kafka-controller`.
    pub(crate) ports: BTreeMap<String, u16>,
    pub(crate) kafka_cluster_id: Option<String>,
    pub(crate) registry_storage: Option<RegistryStorage>,
    /// Set if `PostgreSQL`'s files had to be put outside the data directory.
    pub(crate) postgres_home: Option<PathBuf>,
}

impl Memory {
    pub(crate) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("stack.json")
    }

    pub(crate) fn load(data_dir: &Path) -> crate::Result<Self> {
        Ok(read_json(&Self::path(data_dir))?.unwrap_or_default())
    }

    /// The port of a lone server's last start if it is free, else any.
    pub(crate) fn choose_port(&mut self, key: &str, service: Service) -> crate::Result<u16> {
        let remembered = self.ports.get(key).copied();
        // None of them listens yet, and no reservation is kept.
        let free = ports::free().filter(|port| self.ports.values().all(|taken| taken != port));
        let reserved = ports::choose(remembered, None, free, ports::reserve).ok_or(Error::NoPort { service })?;
        self.ports.insert(key.to_owned(), reserved.port);
        Ok(reserved.port)
    }

    pub(crate) fn save(&self, data_dir: &Path) -> crate::Result<()> {
        write_json(&Self::path(data_dir), self)
    }
}

/// A JSON file, or `None` if there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> crate::Result<Option<T>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Io { action: "read", path: path.to_owned(), source }),
    };
    serde_json::from_slice(&text).map(Some).map_err(|source| Error::Damaged { path: path.to_owned(), source })
}

/// Writes a JSON file so that a crash leaves the old one or the new one, never half of one.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> crate::Result<()> {
    let text = serde_json::to_vec_pretty(value).map_err(|source| Error::Damaged { path: path.to_owned(), source })?;
    let new = path.with_extension("json.new");
    let file = fs::File::create(&new).context("create", &new)?;
    std::io::Write::write_all(&mut &file, &text).context("write", &new)?;
    file.sync_all().context("sync", &new)?;
    fs::rename(&new, path).context("replace", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Memory::load(dir.path()).unwrap(), Memory::default());
        let memory = Memory {
            ports: BTreeMap::from([("redis".to_owned(), 6379)]),
            registry_storage: Some(RegistryStorage::Postgres),
            ..Memory::default()
        };
        memory.save(dir.path()).unwrap();
        assert_eq!(Memory::load(dir.path()).unwrap(), memory);

        fs::write(Memory::path(dir.path()), "{").unwrap();
        let error = Memory::load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("stack.json is damaged"), "{error}");
    }
}
