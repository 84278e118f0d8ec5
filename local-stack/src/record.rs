//! What is written down about a running server (`run/<service>.json`), for a next start after this process was killed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext};
use crate::memory::{read_json, write_json};
use crate::process::Identity;
use crate::service::Service;

/// One running server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(flatten)]
    pub(crate) identity: Identity,
    pub(crate) port: u16,
    /// Hash of command line and configuration: another one means that the server has to be started anew.
    pub(crate) fingerprint: String,
}

impl Record {
    fn path(data_dir: &Path, service: Service) -> PathBuf {
        data_dir.join("run").join(format!("{}.json", service.key()))
    }

    /// The server left over from an earlier holder, if it still runs.
    pub(crate) fn left_over(data_dir: &Path, service: Service) -> crate::Result<Option<Self>> {
        let record: Option<Self> = read_json(&Self::path(data_dir, service))?;
        Ok(record.filter(|record| record.identity.alive()))
    }

    pub(crate) fn write(&self, data_dir: &Path, service: Service) -> crate::Result<()> {
        let path = Self::path(data_dir, service);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).context("create", folder)?;
        }
        write_json(&path, self)
    }

    pub(crate) fn forget(data_dir: &Path, service: Service) -> crate::Result<()> {
        let path = Self::path(data_dir, service);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(Error::Io { action: "remove", path, source }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_living_process_with_its_own_start_time_is_a_left_over() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Record::left_over(dir.path(), Service::Redis).unwrap(), None);

        let identity = Identity::of(std::process::id()).unwrap();
        let mut record = Record { identity, port: 1, fingerprint: "f".to_owned() };
        record.write(dir.path(), Service::Redis).unwrap();
        assert_eq!(Record::left_over(dir.path(), Service::Redis).unwrap(), Some(record.clone()));

        record.identity.started = "before the flood".to_owned();
        record.write(dir.path(), Service::Redis).unwrap();
        assert_eq!(Record::left_over(dir.path(), Service::Redis).unwrap(), None);

        Record::forget(dir.path(), Service::Redis).unwrap();
        Record::forget(dir.path(), Service::Redis).unwrap();
    }
}
