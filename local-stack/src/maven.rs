//! Runs Maven, and reads how far it has come from what it says while it transfers.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::error::Error;
use crate::progress::{FetchStep, Progress};

/// Runs the generate-resources phase of a POM with some properties.
pub(crate) async fn run(pom: &Path, properties: &[(&str, String)], progress: &dyn Progress) -> crate::Result<()> {
    // Not --batch-mode: that leaves out how far a transfer has come.
    let mut maven = Command::new("mvn")
        .arg("-Dstyle.color=never")
        .arg("--file")
        .arg(pom)
        .args(properties.iter().map(|(name, value)| format!("-D{name}={value}")))
        .arg("generate-resources")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| Error::Spawn { program: "mvn".to_owned(), source })?;

    let mut transfers = Transfers::default();
    let mut errors = Vec::new();
    let mut said_on_stderr = String::new();
    let stderr = maven.stderr.take();
    let read_stderr = async {
        if let Some(mut stderr) = stderr {
            // What cannot be read is only missing from a message.
            let _ = stderr.read_to_string(&mut said_on_stderr).await;
        }
    };
    let stdout = maven.stdout.take();
    let read_stdout = async {
        if let Some(stdout) = stdout {
            each_line(stdout, |line| {
                if transfers.take(line) {
                    let (artifact, bytes) = (transfers.artifact().to_owned(), transfers.bytes());
                    progress.fetching(&FetchStep::Transfer { artifact, bytes });
                } else if line.contains("[ERROR]") && errors.len() < 12 {
                    errors.push(line.trim().to_owned());
                }
            })
            .await;
        }
    };
    let ((), (), status) = tokio::join!(read_stdout, read_stderr, maven.wait());
    let status = status.map_err(|source| Error::Spawn { program: "mvn".to_owned(), source })?;
    if status.success() {
        return Ok(());
    }
    if errors.is_empty() {
        errors.push(said_on_stderr);
    }
    Err(Error::Maven { status: status.to_string(), output: errors.join("\n") })
}

/// Calls `take` with each line; a carriage return ends one too.
async fn each_line(stream: impl AsyncRead + Unpin, mut take: impl FnMut(&str)) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        if byte == b'\n' || byte == b'\r' {
            take(&String::from_utf8_lossy(&line));
            line.clear();
        } else {
            line.push(byte);
        }
    }
    take(&String::from_utf8_lossy(&line));
}

/// Bytes so far, added up from Maven's lines. Its figures are rounded, and so is this.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    finished: u64,
    under_way: u64,
    artifact: String,
}

impl Transfers {
    /// Takes one line (ended by a newline, or by a carriage return where Maven overwrites it). True if it told
    /// something new.
    pub(crate) fn take(&mut self, line: &str) -> bool {
        if let Some(url) = after(line, "Downloading from ") {
            url.rsplit('/').next().unwrap_or_default().trim().clone_into(&mut self.artifact);
            return true;
        }
        if let Some(rest) = after(line, "Downloaded from ") {
            // "central: https://…/x.jar (54 MB at 10 MB/s)"
            self.finished += rest.rsplit_once('(').and_then(|(_, figures)| amount(figures)).unwrap_or(0);
            self.under_way = 0;
            return true;
        }
        if let Some(rest) = after(line, "Progress (") {
            // "2): 4.1/18 kB | x.jar (1.2/3.0 MB)"
            let files = rest.split_once(':').map_or("", |(_, files)| files);
            self.under_way = files.split('|').filter_map(amount).sum();
            return true;
        }
        false
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.finished + self.under_way
    }

    pub(crate) fn artifact(&self) -> &str {
        &self.artifact
    }
}

fn after<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    line.find(mark).map(|at| &line[at + mark.len()..])
}

/// The first amount in a text: `4.1/18 kB` is 4100, `54 MB` is 54 million.
fn amount(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split([' ', '(', ')']).filter(|word| !word.is_empty()).collect();
    words.windows(2).find_map(|pair| {
        let unit = match pair[1] {
            "B" => 1.0,
            "kB" | "KB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            _ => return None,
        };
        let number: f64 = pair[0].split('/').next()?.parse().ok()?;
        Some((number * unit) as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_end_at_either_return() {
        let mut lines = Vec::new();
        each_line(&b"a\rb\nc"[..], |line| lines.push(line.to_owned())).await;
        assert_eq!(lines, ["a", "b", "c"]);
    }

    #[test]
    fn lines_add_up() {
        let mut transfers = Transfers::default();
        assert!(transfers.take("[INFO] Downloading from central: https://host/maven2/org/x/1/x-1.jar"));
        assert_eq!(transfers.artifact(), "x-1.jar");
        assert!(transfers.take("Progress (1): 4.1/18 kB"));
        assert_eq!(transfers.bytes(), 4_100);
        assert!(transfers.take("Progress (2): 18 kB | y.jar (1.2/3.0 MB)"));
        assert_eq!(transfers.bytes(), 1_218_000);
        assert!(transfers.take("Downloaded from central: https://host/maven2/org/x/1/x-1.jar (18 kB at 80 kB/s)"));
        assert_eq!(transfers.bytes(), 18_000);
        assert!(transfers.take("Downloaded from central: https://host/y.jar (109 MB at 210 MB/s)"));
        assert_eq!(transfers.bytes(), 109_018_000);
        assert!(!transfers.take("[INFO] BUILD SUCCESS"));
        assert!(!transfers.take(""));
    }
}
