//! HAProxy with the configuration that the repository ships, in front of some gateways.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::program::repository;
use super::wait::{LONG, until};

/// A running HAProxy. Dropped, it is killed.
pub struct Balancer {
    child: Child,
    socket: PathBuf,
    /// A short path: that of a socket has some hundred bytes at most.
    _folder: TempDir,
    /// Where clients come in.
    pub url: String,
}

impl Balancer {
    /// Starts it in front of gateways at these addresses, which needn't be there yet.
    pub async fn start(folder: &Path, gateways: &[&str]) -> Result<Self> {
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let sockets = tempfile::tempdir()?;
        let socket = sockets.path().join("admin.sock");
        let file = folder.join("haproxy.cfg");
        fs::write(&file, configuration(&listen, &socket, gateways)?)?;
        let log = fs::File::create(folder.join("haproxy.log"))?;
        let program =
            ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"].into_iter().find(|path| Path::new(path).exists());
        let child = Command::new(program.unwrap_or("haproxy"))
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting haproxy: install it (apt-get install haproxy); scripts/test says so too")?;
        let balancer = Self { child, socket, _folder: sockets, url: format!("http://{listen}") };
        for number in 1..=gateways.len() {
            balancer.state(number, "UP").await?;
        }
        Ok(balancer)
    }

    /// Waits until it takes a gateway, counted from 1, for `UP` or `DOWN`.
    pub async fn state(&self, gateway: usize, wanted: &str) -> Result<()> {
        until(&format!("gateway {gateway} to be {wanted}"), LONG, async || {
            let mut socket = UnixStream::connect(&self.socket)?;
            socket.write_all(b"show stat\n")?;
            let mut table = String::new();
            socket.read_to_string(&mut table)?;
            let row = table.lines().find(|row| row.starts_with(&format!("gateways,g{gateway},")));
            let row = row.with_context(|| format!("no row of gateway {gateway}:\n{table}"))?;
            // Status is the 18th column: "UP", or "UP 1/2" while it changes.
            Ok(row.split(',').nth(17).filter(|status| *status == wanted).map(drop))
        })
        .await
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `docker/haproxy.cfg` with this machine's addresses: without TLS, and without its limit by address, which all have here.
fn configuration(listen: &str, socket: &Path, gateways: &[&str]) -> Result<String> {
    let shipped = fs::read_to_string(repository().join("docker/haproxy.cfg"))?;
    let mut changed = 0;
    let mut lines = Vec::new();
    for line in shipped.lines() {
        let words = line.trim_start();
        let replaced = match words {
            _ if words.starts_with("stats socket ") => {
                format!("    stats socket {} mode 600 level admin", socket.display())
            }
            // What a whole machine may have open, tests may not.
            "maxconn 200000" => "    maxconn 2000".to_owned(),
            "bind :80" => format!("    bind {listen}"),
            _ if words.starts_with("bind :443 ")
                || words.starts_with("http-request redirect scheme https ")
                || words.starts_with("http-response set-header Strict-Transport-Security ")
                || words.starts_with("http-request deny deny_status 429 ")
                || words.starts_with("server g") =>
            {
                String::new()
            }
            _ => {
                lines.push(line.to_owned());
                continue;
            }
        };
        changed += 1;
        lines.push(replaced);
    }
    ensure!(changed == 10, "{changed} lines of docker/haproxy.cfg were found to be changed, not 10: mend this");
    let servers = gateways
        .iter()
        .zip(1..)
        .map(|(gateway, number)| format!("    server g{number} {}", gateway.trim_start_matches("http://")));
    lines.extend(servers);
    Ok(lines.join("\n") + "\n")
}
