//! A store of files for one test: the one that `waltalkie up` has, on a folder that is looked into, behind a proxy that cuts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use faults::Proxy;
use runtime::Shutdown;
use serde_json::{Value, json};
use tempfile::TempDir;
use waltalkie::object_store::{ACCESS_KEY, BUCKET, start};

use super::Person;

/// Long enough for anybody.
const SECRET: &str = "a secret that only the tests' store knows";

/// A running store.
pub struct ObjectStore {
    folder: TempDir,
    shutdown: Shutdown,
    /// Between the store and whoever uses it.
    pub proxy: Proxy,
    url: String,
}

impl ObjectStore {
    /// An empty one.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let shutdown = Shutdown::new();
        let direct = start(folder.path(), 0, SECRET, &shutdown).await?;
        let (proxy, url) = Proxy::before_url(&direct).await?;
        Ok(Self { folder, shutdown, proxy, url })
    }

    /// Where it is, behind the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Settings of an installation that uses it.
    pub fn settings(&self) -> [(&str, &str); 4] {
        [
            ("media.bucket", BUCKET),
            ("media.endpoint", &self.url),
            ("media.access_key_id", ACCESS_KEY),
            ("media.secret_access_key", SECRET),
        ]
    }

    /// Every object, and every part of an upload that is not put together.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        walk(self.folder.path(), &mut files)?;
        // The store's own notes on each object stand beside it.
        files.retain(|file| file.extension().is_none_or(|ending| ending != "json"));
        files.sort();
        Ok(files)
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        // Gone meanwhile, or there.
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// A client that gives up on a store that hangs.
pub fn store_client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?)
}

impl Person {
    /// Begins an upload.
    pub async fn begin_upload(&self, chat: &str, name: &str, kind: &str, size_bytes: usize) -> Result<Value> {
        let wanted = json!({ "chat_id": chat, "file_name": name, "content_type": kind, "size_bytes": size_bytes });
        self.post("/v1/media", wanted).await?.expect(201)
    }

    /// Brings all bytes to the store by the URLs of an upload; gives the statuses of its answers.
    pub async fn bring(&self, upload: &Value, bytes: &[u8]) -> Result<Vec<u16>> {
        let http = store_client()?;
        let part_bytes = upload["part_bytes"].as_u64().unwrap_or_default() as usize;
        let mut statuses = Vec::new();
        if let Some(url) = upload["url"].as_str() {
            let mut request = http.put(url);
            for (name, value) in upload["headers"].as_object().context("no headers")? {
                // The client counts for itself.
                if name != "content-length" {
                    request = request.header(name, value.as_str().unwrap_or_default());
                }
            }
            statuses.push(request.body(bytes.to_vec()).send().await?.status().as_u16());
        }
        for part in upload["parts"].as_array().into_iter().flatten() {
            let number = part["part_number"].as_u64().context("no part_number")? as usize;
            let piece = &bytes[(number - 1) * part_bytes..bytes.len().min(number * part_bytes)];
            let url = part["url"].as_str().context("no url")?;
            statuses.push(http.put(url).body(piece.to_vec()).send().await?.status().as_u16());
        }
        Ok(statuses)
    }

    /// A completed upload; gives its `media_id`.
    pub async fn upload(&self, chat: &str, name: &str, kind: &str, bytes: &[u8]) -> Result<String> {
        let begun = self.begin_upload(chat, name, kind, bytes.len()).await?;
        let statuses = self.bring(&begun["upload"], bytes).await?;
        ensure!(statuses.iter().all(|status| *status == 200), "the store answered {statuses:?}");
        let media_id = begun["media_id"].as_str().context("no media_id")?.to_owned();
        self.post(&format!("/v1/media/{media_id}/complete"), Value::Null).await?.expect(200)?;
        Ok(media_id)
    }
}
