//! An installation with all ways out: providers that speak the real protocols in this process, and a real mail server.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use notify::fakes::{ApnsFake, Browser, FcmFake, Notification, PushServiceFake, Sent};
use notify::provider::web_push::VapidKey;
use runtime::Config;
use runtime::kafka::admin::Admin;
use schemas::topics::Topic;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio_postgres::Client;
use waltalkie_tests::harness::{Installation, LONG, Person, RoleProcess, Servers, python, repository, until, within};

/// Tokens of Apple's devices are 64 hexadecimal digits.
pub(super) fn apple_token(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

/// Of a cluster; one server alone has the first of them.
const WITNESSES: usize = 256;
/// Everything but the notifier.
pub(super) const OTHERS: [&str; 5] = ["gateway", "persister", "cdc", "projector", "publisher"];

pub(super) struct World {
    pub(super) installation: Installation,
    pub(super) config: Config,
    pub(super) apns: ApnsFake,
    pub(super) fcm: FcmFake,
    pub(super) push: PushServiceFake,
    pub(super) mail: MailServer,
    pub(super) web_push_key: String,
    _folder: tempfile::TempDir,
}

impl World {
    /// One with quick times, and settings over them.
    pub(super) async fn make(test: &str, settings: &[(&str, &str)]) -> Result<Self> {
        Self::make_on(Servers::shared()?, test, settings).await
    }

    /// The same on given servers.
    pub(super) async fn make_on(servers: Servers, test: &str, settings: &[(&str, &str)]) -> Result<Self> {
        runtime::tls::install_provider();
        let (apns, fcm, push) = tokio::join!(ApnsFake::start(), FcmFake::start(), PushServiceFake::start());
        let mail = MailServer::start().await?;
        let folder = tempfile::tempdir()?;
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, [apns.ca_pem(), fcm.ca_pem(), push.ca_pem()].concat())?;
        let vapid = VapidKey::generate().context("no key")?;
        let web_push_key = VapidKey::new(&vapid)?.public_key().to_owned();
        let (of_apns, of_fcm) = (apns.config(), fcm.config());
        let port = mail.port.to_string();
        let mut all = vec![
            ("notify.public_url", "http://chat.example"),
            ("notify.look_again_ms", "1500"),
            ("notify.first_pause_ms", "200"),
            ("notify.most_pause_ms", "400"),
            ("notify.timeout_ms", "700"),
            ("notify.ca_file", ca_file.to_str().context("a path")?),
            ("notify.apns_key", of_apns.key.expose()),
            ("notify.apns_key_id", &of_apns.key_id),
            ("notify.apns_team_id", &of_apns.team_id),
            ("notify.apns_topic", &of_apns.topic),
            ("notify.apns_endpoint", &of_apns.endpoint),
            ("notify.fcm_service_account", of_fcm.service_account.expose()),
            ("notify.fcm_endpoint", &of_fcm.endpoint),
            ("notify.web_push_key", vapid.expose()),
            ("notify.web_push_contact", "mailto:admin@chat.example"),
            ("notify.web_push_anywhere", "true"),
            ("notify.smtp_host", "localhost"),
            ("notify.smtp_port", &port),
            ("notify.smtp_tls", "off"),
            ("notify.mail_from", "chat@chat.example"),
            ("notify.unsubscribe_secret", "a secret that only tests sign their links with"),
            ("notify.mail_after_ms", "1500"),
            ("notify.mail_gap_ms", "100"),
        ];
        all.extend(settings);
        let installation = Installation::make_on(servers, test, &all).await?;
        let config = installation.config()?;
        let world = Self { installation, config, apns, fcm, push, mail, web_push_key, _folder: folder };
        world.set_witness(60_000).await?;
        Ok(world)
    }

    /// Redis, as if it had been there for so long.
    async fn set_witness(&self, age_ms: i64) -> Result<()> {
        let mut redis = runtime::redis::commands(&self.config.redis)?;
        let mut pipeline = redis::Pipeline::new();
        for number in 0..WITNESSES {
            let key = self.installation.names().witness_key(number);
            pipeline.cmd("SET").arg(key).arg(runtime::clock::now_ms() - age_ms).ignore();
        }
        Ok(pipeline.exec_async(&mut redis).await?)
    }

    /// What FLUSHALL does to this installation; other tests keep what is theirs.
    pub(super) async fn flush(&self) -> Result<usize> {
        let mut redis = runtime::redis::commands(&self.config.redis)?;
        let pattern = format!("{}*", self.installation.names().prefix());
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await?;
        for key in &keys {
            redis::cmd("DEL").arg(key).exec_async(&mut redis).await?;
        }
        Ok(keys.len())
    }

    /// Waits until somebody has sessions in Redis, and all of them are like this.
    pub(super) async fn sessions_are(&self, user_id: &str, fits: impl Fn(&str) -> bool) -> Result<()> {
        let redis = runtime::redis::commands(&self.config.redis)?;
        let key = self.installation.names().sessions_key(user_id);
        until(&format!("sessions of {user_id}"), LONG, async || {
            let mut redis = redis.clone();
            let there: Vec<String> = redis::cmd("SMEMBERS").arg(&key).query_async(&mut redis).await?;
            Ok((!there.is_empty() && there.iter().all(|session| fits(session))).then_some(()))
        })
        .await
    }

    /// What a gateway leaves that is killed: a session in the set of somebody's that has no key any more.
    pub(super) async fn leave_dead_session(&self, user_id: &str) -> Result<()> {
        let mut redis = runtime::redis::commands(&self.config.redis)?;
        let key = self.installation.names().sessions_key(user_id);
        Ok(redis::cmd("SADD").arg(&key).arg("of-a-killed-gateway").exec_async(&mut redis).await?)
    }

    pub(super) async fn run(&self) -> Result<RoleProcess> {
        self.installation.run(&["all"]).await
    }

    pub(super) async fn arrive(&self, process: &RoleProcess, user_id: &str) -> Result<Person> {
        Person::arrive(&self.config, process.gateway()?, user_id).await
    }

    /// A phone of Apple's, an Android and a browser.
    pub(super) async fn give_devices(&self, person: &Person, number: u8) -> Result<Browser> {
        let ios = json!({ "device_id": "phone", "platform": "ios", "address": apple_token(number) });
        person.post("/v1/users/me/devices", ios).await?.expect(201)?;
        let android = json!({ "device_id": "tablet", "platform": "android", "address": format!("android-{number}") });
        person.post("/v1/users/me/devices", android).await?.expect(201)?;
        self.give_browser(person).await
    }

    pub(super) async fn give_browser(&self, person: &Person) -> Result<Browser> {
        let browser = self.push.subscribe(Some(&self.web_push_key));
        let keys = json!({ "p256dh": browser.p256dh, "auth": browser.auth });
        let web = json!({ "device_id": "browser", "platform": "web", "address": browser.endpoint, "keys": keys });
        person.post("/v1/users/me/devices", web).await?.expect(201)?;
        Ok(browser)
    }

    /// Waits until nothing waits any more of what is in the history: in the order in which one leads to the other.
    pub(super) async fn settled(&self) -> Result<()> {
        let read = self.installation.read().await?;
        let rows = async |table: &str| -> Result<i64> {
            Ok(read.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?.get(0))
        };
        until("the notifier to come to rest", LONG, async || {
            // A transaction's last record is its marker, which no reader is given.
            let is_at_rest = self.lag(&read, "notifier", Topic::ChatEvents, 1).await? == 0
                && rows("notify_look").await? == 0
                && self.lag(&read, "notifier-senders", Topic::ChatNotifications, 0).await? == 0
                && rows("notify_task").await? == 0;
            Ok(is_at_rest.then_some(()))
        })
        .await
    }

    /// Records that the notifier hasn't worked through, by the offsets in its tables.
    async fn lag(&self, read: &Client, consumer: &str, topic: Topic, markers: i64) -> Result<i64> {
        let topic = self.installation.names().topic(topic);
        let mut lag = 0;
        for (partition, (first, end)) in Admin::new(&self.config.kafka)?.ends(&topic).await? {
            let sql = "SELECT next_offset FROM consumer_offset WHERE consumer = $1 AND topic = $2 AND partition = $3";
            let row = read.query_opt(sql, &[&consumer, &topic, &partition]).await?;
            let next: i64 = row.map_or(first, |row| row.get(0));
            lag += (end - next - markers).max(0);
        }
        Ok(lag)
    }

    pub(super) fn apple(&self, number: u8) -> Vec<Notification> {
        self.apns.accepted().into_iter().filter(|sent| sent.device == apple_token(number)).collect()
    }

    pub(super) fn android(&self, number: u8) -> Vec<Sent> {
        self.fcm.accepted().into_iter().filter(|sent| sent.device == format!("android-{number}")).collect()
    }

    /// What a browser's service worker got, decrypted.
    pub(super) fn browser(&self, browser: &Browser) -> Vec<Value> {
        let pushed = self.push.delivered().into_iter().filter(|pushed| pushed.endpoint == browser.endpoint);
        pushed.filter_map(|pushed| serde_json::from_slice(&pushed.plaintext).ok()).collect()
    }

    /// Somebody with one of Apple's devices.
    pub(super) async fn arrive_with_phone(&self, process: &RoleProcess, user_id: &str, number: u8) -> Result<Person> {
        let person = self.arrive(process, user_id).await?;
        let ios = json!({ "device_id": "phone", "platform": "ios", "address": apple_token(number) });
        person.post("/v1/users/me/devices", ios).await?.expect(201)?;
        Ok(person)
    }

    /// Waits until one of Apple's devices has got so many.
    pub(super) async fn apple_has(&self, number: u8, count: usize) -> Result<Vec<Notification>> {
        until(&format!("{count} pushes to Apple's device {number}"), LONG, async || {
            let got = self.apple(number);
            Ok((got.len() >= count).then_some(got))
        })
        .await
    }
}

/// The mail server of the providers' tests.
pub(super) struct MailServer {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
    _folder: tempfile::TempDir,
}

impl MailServer {
    async fn start() -> Result<Self> {
        let tls = notify::fakes::Tls::new();
        let folder = tempfile::tempdir()?;
        let files: [PathBuf; 2] = [folder.path().join("certificate.pem"), folder.path().join("key.pem")];
        std::fs::write(&files[0], tls.pem())?;
        std::fs::write(&files[1], tls.key_pem())?;
        let mut child = Command::new(python()?)
            .arg(repository().join("notify/tests/providers/smtp_server.py"))
            .arg("plain")
            .args(&files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the mail server")?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let port = within("the mail server's port", LONG, lines.next_line()).await??.context("it ended")?.parse()?;
        Ok(Self { _child: child, lines, port, _folder: folder })
    }

    /// The next mail that it takes.
    pub(super) async fn next(&mut self) -> Result<Value> {
        let line = within("a mail", LONG, self.lines.next_line()).await??.context("the mail server ended")?;
        let mail: Value = serde_json::from_str(&line)?;
        ensure!(mail["defects"] == json!([]), "{mail}");
        Ok(mail)
    }
}
