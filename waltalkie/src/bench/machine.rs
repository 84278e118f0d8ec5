//! Under which conditions a bench ran: machine, disk, versions.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtime::Config;
use serde::Serialize;

/// Writes of which the median is told.
const SYNCS: usize = 50;
const PAGE: usize = 4_096;
/// The longest that asking a server for its version may take.
const ASK_WITHIN: Duration = Duration::from_secs(3);

/// The machine.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) cpu: String,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
        };
        let memory = field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            memory_bytes: memory.unwrap_or(0) * 1_024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        }
    }
}

/// One line for people: machine, disk where it was measured, versions.
pub(crate) fn line(machine: &Machine, disk: Option<&Disk>, versions: &BTreeMap<String, String>) -> String {
    let disk = disk.map(|disk| format!("; fdatasync {:.2} ms", disk.fdatasync_ms)).unwrap_or_default();
    let versions: Vec<String> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    format!("{} cores {}, Linux {}{disk}; {}", machine.cores, machine.cpu, machine.kernel, versions.join(", "))
}

/// How long the data disk takes to make a page durable.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Disk {
    pub(crate) folder: PathBuf,
    /// Median of 50 fdatasyncs of 4 KiB each, as a write-ahead log does them: over a file that is there already.
    pub(crate) fdatasync_ms: f64,
}

impl Disk {
    /// The disk of a folder; by default the one that holds Postgres' data, where it is known.
    pub(crate) fn measure(folder: Option<&Path>, roles: &[(String, u32)]) -> Option<Self> {
        let folder = folder.map(Path::to_owned).or_else(|| data_folder(roles))?;
        match fdatasync(&folder) {
            Ok(median) => Some(Self { folder, fdatasync_ms: median.as_secs_f64() * 1_000.0 }),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), error = %error, "the disk can't be measured");
                None
            }
        }
    }
}

/// Postgres works in its data folder; what is beside it is on the same disk.
fn data_folder(roles: &[(String, u32)]) -> Option<PathBuf> {
    let (_, pid) = roles.iter().find(|(role, _)| role == "postgres")?;
    Some(fs::read_link(format!("/proc/{pid}/cwd")).ok()?.parent()?.to_owned())
}

fn fdatasync(folder: &Path) -> io::Result<Duration> {
    let path = folder.join(format!(".waltalkie-bench-{}", std::process::id()));
    let measured = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.write_all(&vec![0; PAGE * SYNCS])?;
        file.sync_all()?;
        file.seek(SeekFrom::Start(0))?;
        let mut took = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let began = Instant::now();
            file.write_all(&[1; PAGE])?;
            file.sync_data()?;
            took.push(began.elapsed());
        }
        took.sort_unstable();
        Ok(took[SYNCS / 2])
    })();
    let _ = fs::remove_file(&path);
    measured
}

/// Versions of this program and of the servers that tell theirs.
pub(crate) async fn versions(config: &Config) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::from([("waltalkie".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    versions.insert("build".to_owned(), build.to_owned());
    let asked = tokio::time::timeout(ASK_WITHIN, async {
        let pool = runtime::postgres::pool(&config.postgres.truth_url, "postgres.truth_url", 1).ok()?;
        let client = pool.get().await.ok()?;
        client.query_one("SHOW server_version", &[]).await.ok()?.try_get::<_, String>(0).ok()
    });
    if let Ok(Some(version)) = asked.await {
        versions.insert("postgres".to_owned(), version);
    }
    versions
}
