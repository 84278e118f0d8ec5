//! Brings the servers into the cache folder, once a version and platform.
//!
//! *Guarantees*: a folder under its final name is whole: it is filled under another name, gets its marker last and is
//! then renamed. What an interrupted fetch left is thrown away by the next, except Maven's own store of finished
//! downloads, so that it goes on where it stopped. One process fetches at a time; the others wait and find it done.

use std::env::consts;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::error::{Error, IoContext};
use crate::lone_postgres::PostgresVersion;
use crate::maven;
use crate::options::Options;
use crate::progress::{FetchStep, Progress};
use crate::unpack;

/// The stack's servers.
const POM: &str = include_str!("../pom.xml");

/// What they come to, with Maven's own plugins.
const MEGABYTES: u64 = 205;

/// One version of `PostgreSQL`, for servers beside the stack.
const LONE_POSTGRES_POM: &str = include_str!("../lone-postgres.xml");

/// What it comes to, with Maven's own plugins.
const LONE_POSTGRES_MEGABYTES: u64 = 25;

/// Written last into a folder that is whole.
const MARKER: &str = "complete";

/// Where each server is in the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    root: PathBuf,
}

impl Parts {
    fn of(cache_dir: &Path) -> crate::Result<Self> {
        Ok(Order::stack()?.parts(cache_dir))
    }

    fn is_complete(&self) -> bool {
        self.root.join(MARKER).is_file()
    }

    /// The folder of Kafka's jars.
    pub fn kafka_lib(&self) -> PathBuf {
        self.root.join("kafka").join("lib")
    }

    /// The folder that holds the registry's runner jar.
    pub fn registry(&self) -> PathBuf {
        self.root.join("registry")
    }

    /// The folder of `PostgreSQL`'s `bin`, `lib` and `share`.
    pub fn postgres(&self) -> PathBuf {
        self.root.join("postgres")
    }

    /// Redis' one binary.
    pub fn redis_server(&self) -> PathBuf {
        self.root.join("redis").join("redis-server")
    }
}

/// How the artifacts name this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Platform {
    postgres: &'static str,
    redis: &'static str,
}

impl Platform {
    fn here() -> crate::Result<Self> {
        let (os, arch) = (consts::OS, consts::ARCH);
        let (postgres, redis) = match (os, arch) {
            ("linux", "x86_64") => ("linux-amd64", "linux-amd64"),
            ("linux", "aarch64") => ("linux-arm64v8", "linux-arm64"),
            ("macos", "x86_64") => ("darwin-amd64", "darwin-amd64"),
            ("macos", "aarch64") => ("darwin-arm64v8", "darwin-arm64"),
            _ => return Err(Error::Platform { os, arch }),
        };
        Ok(Self { postgres, redis })
    }
}

/// What one run of Maven brings.
struct Order {
    pom: &'static str,
    megabytes: u64,
    platform: Platform,
    /// `None` is the stack with all its servers.
    postgres: Option<PostgresVersion>,
}

impl Order {
    fn stack() -> crate::Result<Self> {
        Ok(Self { pom: POM, megabytes: MEGABYTES, platform: Platform::here()?, postgres: None })
    }

    fn lone_postgres(version: PostgresVersion) -> crate::Result<Self> {
        let (pom, megabytes) = (LONE_POSTGRES_POM, LONE_POSTGRES_MEGABYTES);
        Ok(Self { pom, megabytes, platform: Platform::here()?, postgres: Some(version) })
    }

    /// In a folder of its own: other servers, or the same for another machine, never share one.
    fn parts(&self, cache_dir: &Path) -> Parts {
        let version = self.postgres.map_or("", PostgresVersion::artifact);
        let hash = Sha256::new().chain_update(self.pom).chain_update(version).chain_update(self.platform.postgres);
        let name = hash.finalize().iter().take(8).fold(String::new(), |mut name, byte| {
            // Writing to a String cannot fail.
            let _ = write!(name, "{byte:02x}");
            name
        });
        Parts { root: cache_dir.join(name) }
    }

    fn properties(&self, output: &str) -> Vec<(&'static str, String)> {
        let mut properties = vec![
            ("stack.output", output.to_owned()),
            ("postgres.platform", self.platform.postgres.to_owned()),
            ("redis.platform", self.platform.redis.to_owned()),
        ];
        if let Some(version) = self.postgres {
            properties.push(("postgres.version", version.artifact().to_owned()));
        }
        properties
    }
}

/// True if nothing has to be fetched.
pub(crate) fn is_cached(options: &Options) -> bool {
    Parts::of(&options.cache_dir).is_ok_and(|parts| parts.is_complete())
}

/// The stack's servers, fetched if they are not in the cache.
pub async fn fetch(cache_dir: &Path, progress: &dyn Progress) -> crate::Result<Parts> {
    fetch_order(&Order::stack()?, cache_dir, progress).await
}

/// One version of `PostgreSQL`, fetched if it is not in the cache.
pub(crate) async fn fetch_postgres(
    version: PostgresVersion,
    cache_dir: &Path,
    progress: &dyn Progress,
) -> crate::Result<Parts> {
    fetch_order(&Order::lone_postgres(version)?, cache_dir, progress).await
}

async fn fetch_order(order: &Order, cache_dir: &Path, progress: &dyn Progress) -> crate::Result<Parts> {
    let parts = order.parts(cache_dir);
    if parts.is_complete() {
        return Ok(parts);
    }
    let started = Instant::now();
    fs::create_dir_all(cache_dir).context("create", cache_dir)?;
    let _lock = lock(cache_dir, progress).await?;
    if parts.is_complete() {
        return Ok(parts);
    }
    progress.fetching(&FetchStep::Begin { megabytes: order.megabytes });
    if let Err(error) = fill(order, &parts, progress).await {
        progress.fetching(&FetchStep::Failed);
        return Err(error);
    }
    progress.fetching(&FetchStep::Done { took: started.elapsed() });
    Ok(parts)
}

async fn lock(cache_dir: &Path, progress: &dyn Progress) -> crate::Result<File> {
    let path = cache_dir.join("fetch.lock");
    let file = File::create(&path).context("open", &path)?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    progress.fetching(&FetchStep::Waiting);
    let (result, file) = tokio::task::spawn_blocking(move || (file.lock(), file)).await.map_err(|error| Error::Io {
        action: "lock",
        path: path.clone(),
        source: error.into(),
    })?;
    result.context("lock", &path)?;
    Ok(file)
}

async fn fill(order: &Order, parts: &Parts, progress: &dyn Progress) -> crate::Result<()> {
    remove_old(&parts.root)?;
    // Not the name another fetch used: if that was killed, its Maven may still be writing.
    let work = parts.root.with_extension(format!("partial-{}", std::process::id()));
    fs::create_dir_all(&work).context("create", &work)?;
    let pom = work.join("pom.xml");
    fs::write(&pom, order.pom).context("write", &pom)?;

    let properties = order.properties(&work.display().to_string());
    maven::run(&pom, &properties, progress).await?;
    progress.fetching(&FetchStep::Unpacking);
    let (root, folder, is_stack) = (parts.root.clone(), work.clone(), order.postgres.is_none());
    tokio::task::spawn_blocking(move || settle(&folder, &root, is_stack)).await.map_err(|error| Error::Io {
        action: "unpack into",
        path: work,
        source: error.into(),
    })?
}

/// Removes what earlier fetches of this version left without finishing.
fn remove_old(root: &Path) -> crate::Result<()> {
    let (Some(cache), Some(version)) = (root.parent(), root.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    for entry in fs::read_dir(cache).context("read", cache)? {
        let entry = entry.context("read", cache)?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(version)) {
            // If it cannot be removed (its Maven may still be writing), it is only in nobody's way for longer.
            if let Err(error) = fs::remove_dir_all(entry.path()) {
                tracing::debug!(path = %entry.path().display(), %error, "an unfinished fetch stays");
            }
        }
    }
    Ok(())
}

/// Unpacks, checks, opens to all, marks and gives the final name.
fn settle(work: &Path, root: &Path, is_stack: bool) -> crate::Result<()> {
    let parts = Parts { root: work.to_owned() };
    let archive = only_file(&parts.postgres(), |name| Path::new(name).extension().is_some_and(|kind| kind == "txz"))?;
    unpack::txz(&archive, &parts.postgres())?;
    fs::remove_file(&archive).context("remove", &archive)?;
    only_file(&parts.postgres().join("bin"), |name| name == "initdb")?;
    if is_stack {
        settle_others(&parts)?;
    }
    unpack::open_to_all(work)?;

    let marker = work.join(MARKER);
    File::create(&marker).and_then(|file| file.sync_all()).context("write", &marker)?;
    fs::rename(work, root).context("rename", work)
}

/// What the stack has beside `PostgreSQL`.
fn settle_others(parts: &Parts) -> crate::Result<()> {
    let redis = only_file(&parts.root.join("redis"), |name| name.starts_with("redis-server-"))?;
    fs::rename(&redis, parts.redis_server()).context("rename", &redis)?;
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(parts.redis_server(), executable).context("change the mode of", &parts.redis_server())?;

    only_file(&parts.registry(), |name| name.ends_with("-runner.jar"))?;
    only_file(&parts.kafka_lib(), |name| name.starts_with("kafka-tools-4"))?;
    Ok(())
}

/// The one file of a folder with such a name.
pub(crate) fn only_file(folder: &Path, wanted: impl Fn(&str) -> bool) -> crate::Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .context("read", folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        (path, _) => Err(Error::Parts(format!(
            "{} has {} of a file it should have one of",
            folder.display(),
            found.len() + usize::from(path.is_some())
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_its_marker_is_not_cached() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(dir.path());
        options.cache_dir = dir.path().to_owned();
        let parts = Parts::of(dir.path()).unwrap();
        fs::create_dir_all(&parts.root).unwrap();
        assert!(!is_cached(&options));
        fs::write(parts.root.join(MARKER), "").unwrap();
        assert!(is_cached(&options));
    }

    #[test]
    fn none_or_two_are_not_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(only_file(dir.path(), |_| true).is_err());
        fs::write(dir.path().join("a"), "").unwrap();
        assert_eq!(only_file(dir.path(), |_| true).unwrap(), dir.path().join("a"));
        fs::write(dir.path().join("b"), "").unwrap();
        assert!(only_file(dir.path(), |_| true).is_err());
    }
}
