//! Where the executable under test is, and where things go.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::geteuid;

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The folder that this test was built into: `target/debug`, or what cargo was told.
fn profile_dir() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("this program has no folder")?;
    // Tests are in `deps`, programs one above.
    Ok(if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder }.to_owned())
}

/// Cargo's target directory.
pub fn target_dir() -> Result<PathBuf> {
    Ok(profile_dir()?.parent().context("no target directory")?.to_owned())
}

/// Where a test keeps the logs of its processes.
pub fn logs_dir(test: &str) -> Result<PathBuf> {
    let folder = target_dir()?.join("test-logs").join(test);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// A fresh folder for servers: under `target`; for root elsewhere if Postgres' own user can't get there, as in a checkout
/// under /root.
pub fn data_dir(name: &str) -> Result<PathBuf> {
    let target = target_dir()?;
    let is_open = |folder: &Path| folder.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
    let folder = if !geteuid().is_root() || target.ancestors().all(is_open) {
        target.join("test-data").join(name)
    } else {
        std::env::temp_dir().join("waltalkie-test-data").join(name)
    };
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    Ok(folder)
}

/// The executable `waltalkie`, next to the tests.
///
/// Cargo gives tests the paths of their own package's programs only, so this one is found where cargo puts it, and
/// refused if it is older than the library that these tests were linked with: it would be another version.
pub fn program() -> Result<PathBuf> {
    let folder = profile_dir()?;
    let program = folder.join("waltalkie");
    let advice = "build it with the tests: cargo build --workspace --all-targets (scripts/test does)";
    let Ok(built) = fs::metadata(&program).and_then(|metadata| metadata.modified()) else {
        bail!("{} isn't there: {advice}", program.display());
    };
    let newest = newest_library(&folder.join("deps"))?;
    ensure!(newest.is_none_or(|newest| built >= newest), "{} is older than its sources: {advice}", program.display());
    Ok(program)
}

fn newest_library(folder: &Path) -> Result<Option<SystemTime>> {
    let mut newest = None;
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("libwaltalkie-") && name.ends_with(".rlib") {
            newest = newest.max(Some(entry.metadata()?.modified()?));
        }
    }
    Ok(newest)
}

/// A Python that has `confluent-kafka[avro]` and `pyjwt[crypto]`.
pub fn python() -> Result<PathBuf> {
    made("venv/bin/python")
}

/// Node packages that make a TypeScript client of an OpenAPI document.
pub fn node_packages() -> Result<PathBuf> {
    made("interop-typescript/node_modules")
}

/// Node packages of the JavaScript consumer of the history.
pub fn javascript_packages() -> Result<PathBuf> {
    made("interop-javascript/node_modules")
}

/// `java` with the classes and libraries of a folder of `tests/interop`, in the folder that it was built in.
pub fn java_program(name: &str) -> Result<Command> {
    let folder = made(&format!("interop-java/{name}"))?;
    let java = std::env::var_os("JAVA_HOME")
        .map(|home| PathBuf::from(home).join("bin/java"))
        .filter(|java| java.is_file())
        .unwrap_or_else(|| "java".into());
    let mut command = Command::new(java);
    // Small and quickly started: there are other programs on this machine.
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-cp", "target/classes:target/lib/*"]);
    command.current_dir(folder);
    Ok(command)
}

fn made(path: &str) -> Result<PathBuf> {
    let path = target_dir()?.join(path);
    ensure!(path.exists(), "{} isn't there: run scripts/test, which makes it", path.display());
    Ok(path)
}
