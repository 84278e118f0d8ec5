//! Kafka: one broker that is its own controller (`KRaft`).
//!
//! The quorum is given in the configuration (`controller.quorum.voters`), not kept in the storage folder, so that the
//! controller's port may differ from one start to the next.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rand::Rng;

use crate::command::run_tool;
use crate::error::IoContext;
use crate::prerequisites::java;
use crate::readiness::{self, NotYet};
use crate::server::{Part, Recovery};
use crate::service::Service;

#[derive(Debug)]
pub(crate) struct Kafka {
    /// The folder of jars.
    pub(crate) lib: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) cluster_id: String,
    pub(crate) port: u16,
    pub(crate) controller_port: u16,
    /// A second way in, for those who log in and may only what they were given.
    pub(crate) logins: Option<Logins>,
}

/// A listener with SASL (SCRAM-SHA-512), behind which nobody may anything without an ACL.
///
/// Whoever comes in by the usual listener is the administrator: it is this machine's alone.
#[derive(Debug)]
pub(crate) struct Logins {
    pub(crate) port: u16,
    /// Names and passwords.
    pub(crate) users: Vec<(String, String)>,
    /// Key and certificate of the listener in one PEM file; without it, it speaks no TLS.
    pub(crate) certificate: Option<PathBuf>,
}

/// To standard output, which is the log file.
const LOGGING: &str = "\
status = warn
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
";

impl Kafka {
    fn properties_path(&self) -> PathBuf {
        self.home.join("server.properties")
    }

    fn storage(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Whether the broker was killed: it has stored something, and no sign of an orderly stop.
    fn was_killed(&self) -> bool {
        let storage = self.storage();
        storage.join("__cluster_metadata-0").exists() && !storage.join(".kafka_cleanshutdown").exists()
    }

    /// One of Kafka's own tools, before its arguments.
    pub(crate) fn tool(&self, class: &str) -> Command {
        let mut command = self.java(&["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
        command.arg(class);
        command
    }

    /// A JVM with all jars, before its main class.
    fn java(&self, options: &[&str]) -> Command {
        // Java's own way to say: every jar of this folder.
        let jars = self.lib.join("*");
        let mut logging = OsString::from("-Dlog4j2.configurationFile=");
        logging.push(self.home.join("log4j2.properties"));
        let mut command = Command::new(java());
        command.args(options).arg(logging).arg("-cp").arg(jars).current_dir(&self.home);
        command
    }
}

impl Part for Kafka {
    const SERVICE: Service = Service::Kafka;
    const START_DEADLINE: Duration = Duration::from_mins(2);
    const STOP_DEADLINE: Duration = Duration::from_secs(30);

    async fn prepare(&self) -> crate::Result<()> {
        fs::create_dir_all(self.storage()).context("create", &self.storage())?;
        let properties = self.properties_path();
        fs::write(&properties, self.configuration()).context("write", &properties)?;
        let logging = self.home.join("log4j2.properties");
        fs::write(&logging, LOGGING).context("write", &logging)?;
        if self.storage().join("meta.properties").exists() {
            return Ok(());
        }
        let mut format = self.tool("kafka.tools.StorageTool");
        format.args(["format", "--ignore-formatted", "-t", &self.cluster_id, "-c"]).arg(&properties);
        for (name, password) in self.logins.iter().flat_map(|logins| &logins.users) {
            format.args(["--add-scram", &format!("SCRAM-SHA-512=[name={name},password={password}]")]);
        }
        run_tool("Kafka's format", format).await
    }

    /// Fences a killed broker before it starts again.
    ///
    /// Its metadata still says that it is alive and leads every partition. Started like this, its transaction coordinator
    /// begins to finish the transactions that were just being committed; then its old session ends, for a moment no
    /// partition has a leader, and the coordinator takes the topics for deleted and leaves out the markers
    /// (`TransactionMarkerChannelManager` of Kafka 4.3: "likely deleted already and hence can be skipped"). Readers of
    /// committed records would stand before such a transaction for ever. A controller alone ends the session first; the
    /// broker then needn't wait for that either.
    fn recovery(&self) -> crate::Result<Option<Recovery>> {
        if !self.was_killed() {
            return Ok(None);
        }
        let properties = self.home.join("fencing.properties");
        let configuration = format!(
            "\
process.roles=controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{port}
controller.listener.names=CONTROLLER
listeners=CONTROLLER://127.0.0.1:{port}
log.dirs={storage}
broker.session.timeout.ms=200
",
            port = self.controller_port,
            storage = escaped(&self.storage().to_string_lossy()),
        );
        fs::write(&properties, configuration).context("write", &properties)?;
        let mut command = self.java(&["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"]);
        command.arg("kafka.Kafka").arg(properties);
        Ok(Some(Recovery { command, is_done: is_fenced }))
    }

    fn command(&self) -> crate::Result<Command> {
        // The optimising compiler takes a third of a core for the first minutes, and then saves nothing that shows.
        let mut command = self.java(&[
            "-Xms256m",
            "-Xmx1g",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-XX:-UsePerfData",
            "-Djava.awt.headless=true",
        ]);
        command.arg("kafka.Kafka").arg(self.properties_path());
        Ok(command)
    }

    fn configuration(&self) -> String {
        let Self { port, controller_port, .. } = self;
        let storage = escaped(&self.storage().to_string_lossy());
        let (listener, protocol, logins) = self.logins.as_ref().map(Logins::configuration).unwrap_or_default();
        format!(
            "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{listener}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{listener}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocol}
inter.broker.listener.name=PLAINTEXT
log.dirs={storage}
auto.create.topics.enable=false
default.replication.factor=1
# One broker has no second copy to give; fewer partitions make a quicker start.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# An unfenced open transaction holds every read_committed reader back until the broker aborts it.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
num.recovery.threads.per.data.dir=2
# A broker that takes a busy machine's pause for its end leaves partitions without a leader, and nobody to take over.
broker.session.timeout.ms=30000
{logins}"
        )
    }

    async fn probe(&self) -> Result<(), NotYet> {
        readiness::kafka(self.port).await
    }
}

impl Logins {
    /// What goes behind the list of listeners and of protocols, and lines of its own.
    fn configuration(&self) -> (String, &'static str, String) {
        let listener = format!(",LOGIN://127.0.0.1:{}", self.port);
        let users: Vec<String> =
            self.users.iter().map(|(name, password)| format!("user_{name}=\"{password}\"")).collect();
        let lines = format!(
            "\
listener.name.login.sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.login.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.login.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required {};
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
",
            users.join(" ")
        );
        let Some(certificate) = &self.certificate else { return (listener, ",LOGIN:SASL_PLAINTEXT", lines) };
        let certificate = escaped(&certificate.to_string_lossy());
        let tls = format!(
            "listener.name.login.ssl.keystore.type=PEM\nlistener.name.login.ssl.keystore.location={certificate}\n"
        );
        (listener, ",LOGIN:SASL_SSL", lines + &tls)
    }
}

/// Whether an active controller's log says that the broker is fenced, by this controller or already before.
fn is_fenced(log: &str) -> bool {
    let mut is_fenced = false;
    for line in log.lines().filter(|line| line.contains("Replayed")) {
        if line.contains("RegisterBrokerRecord(") {
            is_fenced = line.contains(" fenced=true");
        } else if line.contains("BrokerRegistrationChangeRecord(") {
            // 1 fences, -1 ends it, 0 leaves it.
            is_fenced = (is_fenced || line.contains(" fenced=1,")) && !line.contains(" fenced=-1,");
        }
    }
    is_fenced && log.contains("Becoming the active controller")
}

/// A new cluster's id as Kafka writes them: 16 random bytes in URL-safe base64 without padding.
pub(crate) fn new_cluster_id() -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = rand::rng();
    // 21 digits hold 126 bits; the last holds two, followed by four zeros. Letters first: Kafka avoids a leading '-'.
    let mut id = String::from(char::from(DIGITS[random.random_range(0..52)]));
    id.extend((0..20).map(|_| char::from(DIGITS[random.random_range(0..64)])));
    id.push(char::from(DIGITS[16 * random.random_range(0..4)]));
    id
}

/// A value as Java's properties files take it: Latin-1, with backslash escapes.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for unit in value.encode_utf16() {
        match u8::try_from(unit) {
            Ok(b'\\') => text.push_str("\\\\"),
            Ok(byte) if byte.is_ascii_graphic() => text.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_follows_ports_and_folder() {
        let kafka = Kafka {
            lib: PathBuf::from("/lib"),
            home: PathBuf::from("/dätä dir"),
            cluster_id: new_cluster_id(),
            port: 9092,
            controller_port: 20_001,
            logins: None,
        };
        let text = kafka.configuration();
        for line in [
            "advertised.listeners=PLAINTEXT://127.0.0.1:9092",
            "listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:20001",
            "controller.quorum.voters=1@127.0.0.1:20001",
            "log.dirs=/d\\u00e4t\\u00e4\\u0020dir/data",
            "auto.create.topics.enable=false",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} not in\n{text}");
        }
    }

    #[test]
    fn a_controllers_log_tells_whether_the_broker_is_fenced() {
        let registered = "INFO Replayed initial RegisterBrokerRecord for broker 1: RegisterBrokerRecord(brokerId=1, fenced=true, x)\n";
        let changed = |fenced: i32| {
            format!(
                "INFO Replayed BrokerRegistrationChangeRecord for 1: BrokerRegistrationChangeRecord(brokerId=1, fenced={fenced}, x)\n"
            )
        };
        let active = "INFO Becoming the active controller at epoch 2\n";
        assert!(!is_fenced(registered), "not active yet");
        assert!(is_fenced(&[registered, active].concat()), "killed before it was unfenced");
        let alive = [registered, &changed(-1), &changed(0), active].concat();
        assert!(!is_fenced(&alive));
        assert!(is_fenced(&[&alive, changed(1).as_str()].concat()));
    }

    #[test]
    fn a_cluster_id_is_22_digits() {
        let id = new_cluster_id();
        assert_eq!(id.len(), 22);
        assert!("AQgw".contains(&id[21..]), "{id}");
        assert_ne!(id, new_cluster_id());
    }
}
