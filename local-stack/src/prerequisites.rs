//! What must be on the machine before a stack can be fetched and run, listed all at once.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::fetch;
use crate::options::Options;
use crate::service::Service;

/// The oldest Java that runs the servers.
const JAVA: u32 = 17;

/// One missing program and the line that installs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What, and why it does not count if something like it is there.
    pub what: String,
    /// Debian, Ubuntu.
    pub debian: &'static str,
    /// Fedora.
    pub fedora: &'static str,
    /// macOS with Homebrew.
    pub macos: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\n    Debian, Ubuntu:  {}\n    Fedora:          {}\n    macOS:           {}",
            self.what, self.debian, self.fedora, self.macos
        )
    }
}

/// Everything that this stack needs and the machine lacks; empty if it can be started.
pub fn missing(options: &Options) -> Vec<Missing> {
    let mut missing = Vec::new();
    let fetch = Service::ALL.iter().any(|&service| options.is_local(service)) && !fetch::is_cached(options);
    if (options.is_local(Service::Kafka) || options.is_local(Service::Registry) || fetch)
        && let Err(found) = check_java()
    {
        missing.push(Missing {
            what: format!("Java {JAVA} or newer, to run Kafka and the schema registry ({found})"),
            debian: "sudo apt-get install default-jre-headless",
            fedora: "sudo dnf install java-latest-openjdk-headless",
            macos: "brew install openjdk && sudo ln -sfn \"$(brew --prefix)/opt/openjdk/libexec/openjdk.jdk\" /Library/Java/JavaVirtualMachines/openjdk.jdk",
        });
    }
    if fetch && !runs("mvn") {
        missing.push(Missing {
            what: "Maven, to fetch the servers once (no mvn found)".to_owned(),
            debian: "sudo apt-get install maven",
            fedora: "sudo dnf install maven",
            macos: "brew install maven",
        });
    }
    missing
}

/// The java that the servers are run with: `JAVA_HOME`'s, else the path's.
pub(crate) fn java() -> OsString {
    env::var_os("JAVA_HOME")
        .map(|home| PathBuf::from(home).join("bin").join("java"))
        .filter(|java| java.is_file())
        .map_or_else(|| OsString::from("java"), PathBuf::into_os_string)
}

/// What is wrong with the java that was found, in a few words.
fn check_java() -> Result<(), String> {
    let output =
        Command::new(java()).arg("-version").stdin(Stdio::null()).output().map_err(|_| "no java found".to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match java_version(&said) {
        Some(version) if version >= JAVA => Ok(()),
        Some(version) => Err(format!("found Java {version}")),
        None => Err("no java found that tells its version".to_owned()),
    }
}

/// The major version from what `java -version` says; `1.8.0_292` is 8.
fn java_version(said: &str) -> Option<u32> {
    let quoted = said.split('"').nth(1)?;
    let mut numbers = quoted.split(['.', '_', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    match numbers.next()? {
        1 => numbers.next(),
        major => Some(major),
    }
}

fn runs(program: &str) -> bool {
    let status = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_old_and_new_are_read() {
        assert_eq!(java_version("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK"), Some(17));
        assert_eq!(java_version("java version \"1.8.0_292\""), Some(8));
        assert_eq!(java_version("openjdk version \"25\" 2025-09-16"), Some(25));
        assert_eq!(java_version("openjdk version \"26-ea\" 2026-03-17"), Some(26));
        assert_eq!(java_version("The operation couldn't be completed."), None);
    }

    #[test]
    fn nothing_is_needed_where_everything_is_external() {
        let mut options = Options::new("/nonexistent");
        options.postgres = crate::Wanted::External;
        options.kafka = crate::Wanted::External;
        options.registry = crate::Wanted::External;
        options.redis = crate::Wanted::External;
        assert_eq!(missing(&options), []);
    }
}
