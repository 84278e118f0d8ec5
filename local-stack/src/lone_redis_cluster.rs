//! A Redis Cluster beside the stack: three masters with a replica each, with a password and TLS if wanted. For tests of what
//! happens when masters die and slots move.

use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::Result;
use crate::error::{Error, IoContext};
use crate::fetch::fetch;
use crate::memory::Memory;
use crate::options::default_cache_dir;
use crate::plan::make_folders;
use crate::progress::Silent;
use crate::readiness::NotYet;
use crate::server::{Part, Server};
use crate::service::Service;

const MASTERS: usize = 3;
const NODES: usize = 2 * MASTERS;
/// Hash slots of a cluster.
const SLOTS: usize = 16_384;
/// After so long without an answer a node counts as failed.
const NODE_TIMEOUT_MS: &str = "2000";
/// How long the nodes may take to agree on something.
const PATIENCE: Duration = Duration::from_mins(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a dropped server may take to be gone.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

/// What clients need to come in: a password, and TLS with the key and certificate of a PEM file.
#[derive(Clone)]
pub struct RedisLock {
    /// Of the user `default`.
    pub password: String,
    /// Key and certificate for 127.0.0.1.
    pub certificate: PathBuf,
    /// The certificate that it is trusted by.
    pub ca: PathBuf,
}

/// Running nodes, of which some may have been killed. Dropped, all are.
pub struct LoneRedisCluster {
    nodes: Vec<Server<Node>>,
}

impl std::fmt::Debug for LoneRedisCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Nodes hold a password.
        f.debug_struct("LoneRedisCluster").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

struct Node {
    binary: PathBuf,
    home: PathBuf,
    port: u16,
    bus_port: u16,
    tls_port: u16,
    lock: Option<RedisLock>,
}

impl Part for Node {
    const SERVICE: Service = Service::Redis;
    const START_DEADLINE: Duration = Duration::from_secs(30);
    const STOP_DEADLINE: Duration = Duration::from_secs(10);

    async fn prepare(&self) -> Result<()> {
        fs::create_dir_all(&self.home).context("create", &self.home)
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.binary);
        command
            .args(["--port", &self.port.to_string(), "--cluster-port", &self.bus_port.to_string()])
            .args(["--bind", "127.0.0.1", "--daemonize", "no", "--save", "", "--appendonly", "no"])
            .args(["--cluster-enabled", "yes", "--cluster-node-timeout", NODE_TIMEOUT_MS])
            // A failover mustn't wait for a replica that was just made.
            .args(["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"])
            .arg("--dir")
            .arg(&self.home);
        if let Some(RedisLock { password, certificate, ca }) = &self.lock {
            command
                .args(["--requirepass", password, "--masterauth", password, "--tls-port", &self.tls_port.to_string()])
                .args(["--tls-cluster", "yes", "--tls-replication", "yes", "--tls-auth-clients", "no"])
                .arg("--tls-cert-file")
                .arg(certificate)
                .arg("--tls-key-file")
                .arg(certificate)
                .arg("--tls-ca-cert-file")
                .arg(ca);
        }
        command.current_dir(&self.home);
        Ok(command)
    }

    async fn probe(&self) -> std::result::Result<(), NotYet> {
        let answer = self.ask("PING").await.map_err(|error| error.to_string())?;
        if answer == "PONG" { Ok(()) } else { Err(format!("answered {answer:?}")) }
    }
}

impl Node {
    /// A command as a line, and its answer: a text, a number, or the bytes of a string.
    async fn ask(&self, line: &str) -> std::io::Result<String> {
        let mut stream = BufReader::new(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?);
        if let Some(lock) = &self.lock {
            stream.write_all(format!("AUTH {}\r\n", lock.password).as_bytes()).await?;
            stream.read_line(&mut String::new()).await?;
        }
        stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        let mut head = String::new();
        stream.read_line(&mut head).await?;
        let head = head.trim_end();
        let Some(length) = head.strip_prefix('$').and_then(|length| length.parse().ok()) else {
            return Ok(head.trim_start_matches(['+', ':']).to_owned());
        };
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl LoneRedisCluster {
    /// Starts the nodes in a folder and returns when the cluster is whole.
    pub async fn start(data_dir: impl AsRef<Path>, lock: Option<RedisLock>) -> Result<Self> {
        let data_dir = std::path::absolute(data_dir.as_ref()).context("find", data_dir.as_ref())?;
        let binary = fetch(&default_cache_dir(), &Silent).await?.redis_server();
        let mut nodes = Vec::new();
        // One memory for all, so that no two get the same port.
        let mut memory = Memory::default();
        for number in 0..NODES {
            let dir = data_dir.join(number.to_string());
            make_folders(&dir)?;
            let mut port = |key: &str| memory.choose_port(&format!("{key}-{number}"), Service::Redis);
            let (port, bus_port, tls_port) = (port("redis")?, port("bus")?, port("tls")?);
            let (binary, home, lock) = (binary.clone(), dir.join("redis"), lock.clone());
            let node = Node { binary, home, port, bus_port, tls_port, lock };
            let mut server = Server::new(node, &dir, port);
            server.start().await?;
            nodes.push(server);
        }
        let cluster = Self { nodes };
        cluster.form().await?;
        Ok(cluster)
    }

    async fn form(&self) -> Result<()> {
        for number in 0..MASTERS {
            let (first, last) = (number * SLOTS / MASTERS, (number + 1) * SLOTS / MASTERS - 1);
            self.order(number, &format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await?;
        }
        for number in 0..NODES {
            self.order(number, &format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1)).await?;
        }
        for node in &self.nodes[1..] {
            let node = node.part();
            let (port, bus_port) = (node.client_port(), node.bus_port);
            self.order(0, &format!("CLUSTER MEET 127.0.0.1 {port} {bus_port}")).await?;
        }
        self.agree(|info| info.contains(&format!("cluster_known_nodes:{NODES}"))).await?;
        for number in 0..MASTERS {
            let master = self.ask(number, "CLUSTER MYID").await?;
            // Refused until it has heard of its master.
            let began = Instant::now();
            while let Err(error) = self.order(MASTERS + number, &format!("CLUSTER REPLICATE {master}")).await {
                Self::still(began, error.to_string())?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        self.whole().await
    }

    /// Waits until all slots are served and each replica has what its master has.
    pub async fn whole(&self) -> Result<()> {
        self.agree(|info| info.contains("cluster_state:ok") && info.contains(&format!("cluster_size:{MASTERS}")))
            .await?;
        let began = Instant::now();
        for number in 0..self.nodes.len() {
            loop {
                let role = self.ask(number, "INFO replication").await?;
                if role.contains("role:master") || role.contains("master_link_status:up") {
                    break;
                }
                Self::still(began, role)?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    async fn agree(&self, is_so: impl Fn(&str) -> bool) -> Result<()> {
        let began = Instant::now();
        for number in 0..self.nodes.len() {
            loop {
                let info = self.ask(number, "CLUSTER INFO").await?;
                if is_so(&info) {
                    break;
                }
                Self::still(began, info)?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    fn still(began: Instant, output: String) -> Result<()> {
        if began.elapsed() < PATIENCE {
            return Ok(());
        }
        let status = format!("no agreement within {} s", PATIENCE.as_secs());
        Err(Error::Tool { tool: "Redis Cluster", status, output })
    }

    /// Addresses for `redis.url`.
    pub fn url(&self) -> String {
        let urls = self.nodes.iter().map(|server| {
            let node = server.part();
            match &node.lock {
                Some(lock) => format!("rediss://:{}@127.0.0.1:{}", lock.password, node.tls_port),
                None => format!("redis://127.0.0.1:{}", node.port),
            }
        });
        urls.collect::<Vec<_>>().join(",")
    }

    /// A command as a line to one of the nodes, and its answer.
    pub async fn ask(&self, node: usize, line: &str) -> Result<String> {
        let part = self.nodes[node].part();
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, part.ask(line)).await;
        asked.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())).context("ask a node in", &part.home)
    }

    /// The same for a command that is answered by OK.
    pub async fn order(&self, node: usize, line: &str) -> Result<()> {
        let answer = self.ask(node, line).await?;
        if answer == "OK" {
            return Ok(());
        }
        Err(Error::Tool { tool: "Redis Cluster", status: line.to_owned(), output: answer })
    }

    /// The nodes that are masters now, of those that live.
    pub async fn masters(&mut self) -> Vec<usize> {
        let mut masters = Vec::new();
        for number in 0..self.nodes.len() {
            if self.nodes[number].is_up()
                && self.ask(number, "INFO replication").await.is_ok_and(|role| role.contains("role:master"))
            {
                masters.push(number);
            }
        }
        masters
    }

    /// SIGKILL to a node.
    pub async fn kill(&mut self, node: usize) {
        if let Some(process) = self.nodes[node].process() {
            process.kill().await;
        }
    }

    /// SIGSTOP to a node: it answers nothing, and its sockets stay open.
    pub async fn freeze(&mut self, node: usize) {
        if let Some(process) = self.nodes[node].process() {
            process.pause().await;
        }
    }

    /// Starts a killed node on its port: it comes back as what the others take it for.
    pub async fn start_again(&mut self, node: usize) -> Result<()> {
        if self.nodes[node].is_up() { Ok(()) } else { self.nodes[node].start().await }
    }
}

impl Node {
    /// Where clients come in: nodes tell them of this port.
    fn client_port(&self) -> u16 {
        if self.lock.is_some() { self.tls_port } else { self.port }
    }
}

impl Drop for LoneRedisCluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill_and_forget(DROP_PATIENCE);
        }
    }
}
