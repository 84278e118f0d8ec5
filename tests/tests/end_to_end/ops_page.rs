//! The pipeline page in a real browser, on three processes: rates while people talk, then eleven real faults, each with its
//! sentence.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use faults::{Proxy, Victim};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;
use runtime::kafka::producer_config;
use rustix::process::Signal;
use schemas::topics::Topic;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use waltalkie_tests::harness::{Installation, LONG, Person, Servers, repository, target_dir};

/// A pause between two messages.
const PACE: Duration = Duration::from_millis(50);

/// What isn't watched alone.
const REAR: [&str; 6] = ["persister", "projector", "publisher", "notifier", "operators", "janitor"];

/// What `web/e2e-ops/eyes.mjs` sees.
struct Eyes {
    victim: Victim,
    /// Number of the last report that counts.
    seen: u64,
}

impl Eyes {
    fn open(installation: &Installation, ops_url: &str) -> Result<Self> {
        let mut command = Command::new("node");
        command
            .arg("e2e-ops/eyes.mjs")
            .current_dir(repository().join("web"))
            .env("OPS_URL", ops_url)
            .env("SCREENSHOTS", target_dir()?.join("screenshots"));
        let victim = Victim::start(command, &installation.logs().join("eyes.log"))?;
        Ok(Self { victim, seen: 0 })
    }

    /// Waits until the page shows something, from now on.
    async fn see(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let seen = self.seen;
        let is_new = |report: &Value| report["number"].as_u64().is_some_and(|number| number > seen) && is_it(report);
        let report = self.victim.report(what, LONG, is_new).await?;
        self.seen = report["number"].as_u64().unwrap_or(seen);
        Ok(report)
    }

    /// The sentence that begins so, with its command and the section of the runbook; marks the segment.
    async fn fault(&mut self, begins: &str, command: &str, runbook: &str, segment: &str) -> Result<()> {
        let report = self
            .see(begins, |report| report["sentence"].as_str().is_some_and(|sentence| sentence.starts_with(begins)))
            .await?;
        ensure!(report["command"] == command && report["verdict"] == "ailing", "{report}");
        ensure!(report["runbook"] == format!("/docs/runbook#{runbook}"), "{report}");
        ensure!(report["states"][segment] == "ailing", "{report}");
        Ok(())
    }

    async fn all_is_well(&mut self) -> Result<Value> {
        self.see("that all is well", |report| {
            report["verdict"] == "well"
                && report["states"]
                    .as_object()
                    .is_some_and(|states| states.len() > 10 && states.values().all(|state| state == "well"))
        })
        .await
    }

    /// Looks closer: nothing that people can't read, no error, nothing refused by the page's policy.
    async fn look(&mut self, name: &str) -> Result<()> {
        self.victim.tell(&format!("look {name}"))?;
        let looked = self.victim.report(name, LONG, |report| report["looked"] == name).await?;
        ensure!(looked["found"] == json!([]), "{name}: {looked:#}");
        Ok(())
    }
}

/// Somebody who goes on talking, whatever becomes of it.
fn talk(person: Person, chat_id: String) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let _ = person.post(&format!("/v1/chats/{chat_id}/messages"), json!({ "content": "hello" })).await;
            tokio::time::sleep(PACE).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_what_flows_and_says_what_ails() -> Result<()> {
    let mut servers = Servers::shared()?;
    let way = Proxies::before(&mut servers).await?;
    let settings = [("limits.commands_per_s", "1000"), ("limits.commands_burst", "1000")];
    let installation = Installation::make_on(servers, "ops-page", &settings).await?;
    // With the janitor: once the worker has ended for good, the process goes on answering for it.
    let mut worker = installation.run(&["cdc", "janitor"]).await?;
    let mut rear = installation.run(&REAR).await?;
    let peers = format!("{},{}", worker.ops_url, rear.ops_url);
    let front = installation.run_with(&["gateway"], &[("ops.peers", &peers)]).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, front.gateway()?, "alice").await?;
    let bob = Person::arrive(&config, front.gateway()?, "bob").await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let _socket = bob.connect().await?;

    let mut eyes = Eyes::open(&installation, &front.ops_url)?;
    let report = eyes.all_is_well().await?;
    ensure!(report["processes"] == 3, "{report}");
    let talking = talk(alice, chat_id.clone());
    let parts = ["gateway", "persister", "cdc", "events", "publisher", "hub", "sockets", "projector", "operators"];
    eyes.see("rates of every part", |report| {
        parts.iter().all(|part| report["flows"][part].as_f64().is_some_and(|rate| rate > 0.0))
    })
    .await?;
    eyes.look("well").await?;

    watch_a_rebuild(&installation, &mut eyes).await?;

    ensure!(way.redis.refuse() > 0, "nobody was connected to Redis");
    eyes.fault("Redis takes no events", "waltalkie doctor", "redis-is-away", "redis").await?;
    eyes.look("redis").await?;
    way.redis.heal();
    eyes.all_is_well().await?;
    for (proxy, begins, runbook, segment) in [
        (&way.kafka, "Kafka doesn’t answer, so no message", "kafka-is-away", "events"),
        (&way.postgres, "PostgreSQL doesn’t answer, so accepted messages", "postgresql-is-away", "truth"),
    ] {
        ensure!(proxy.refuse() > 0, "nobody was connected: {begins}");
        eyes.fault(begins, "waltalkie doctor", runbook, segment).await?;
        proxy.heal();
        eyes.all_is_well().await?;
    }

    let listened = worker.ops_url.strip_prefix("http://").context("no address")?.to_owned();
    worker.kill()?;
    eyes.fault("The CDC worker has stopped: http://", "waltalkie run cdc", "no-cdc-worker-streams", "cdc").await?;
    // The next one starts while the registry is away, and has met no id before.
    way.registry.refuse();
    let listen = [("ops.listen", listened.as_str())];
    let away = async {
        let begins = "The schema registry doesn’t answer, and the CDC worker waits";
        let told = eyes.fault(begins, "waltalkie schemas check", "the-schema-registry-is-away", "registry").await;
        way.registry.heal();
        told
    };
    let (worker, told) = tokio::join!(installation.run_with(&["cdc", "janitor"], &listen), away);
    let _worker = worker?;
    told?;
    eyes.all_is_well().await?;

    let listened = rear.ops_url.strip_prefix("http://").context("no address")?.to_owned();
    let command = "waltalkie run persister publisher projector notifier operators";
    rear.signal(Signal::STOP)?;
    let frozen =
        eyes.fault("The persister has stopped: http://", command, "the-persister-has-stopped", "persister").await;
    rear.signal(Signal::CONT)?;
    frozen?;
    eyes.all_is_well().await?;
    rear.kill()?;
    eyes.fault("The persister has stopped: http://", command, "the-persister-has-stopped", "persister").await?;
    let _rear = installation.run_with(&REAR, &[("ops.listen", &listened)]).await?;
    eyes.all_is_well().await?;

    let read = installation.read().await?;
    let of_version = |change: &str| {
        format!("UPDATE projection_version SET version = version {change} WHERE projection = 'chat_head'")
    };
    read.batch_execute(&of_version("+ 90")).await?;
    let begins = "The projector’s chat_head stands still before rows that another version made";
    eyes.fault(begins, "waltalkie rebuild chat_head", "a-projection-has-stopped", "projector").await?;
    read.batch_execute(&of_version("- 90")).await?;
    eyes.all_is_well().await?;

    let producer: FutureProducer = producer_config(&config.kafka).create()?;
    let poison = async |topic: Topic| {
        let topic = config.names().topic(topic);
        let poison = FutureRecord::to(&topic).key(&chat_id).payload("not Avro at all");
        producer.send(poison, Timeout::After(LONG)).await.map(drop).map_err(|(error, _)| error)
    };
    poison(Topic::ChatCommands).await?;
    eyes.fault("The persister has put 1 command aside", "waltalkie dlq list", "dead-letters-are-open", "persister")
        .await?;
    eyes.look("dead-letters").await?;
    let mut settle = installation.command()?;
    settle.args(["dlq", "drop", "--open"]);
    ensure!(tokio::task::spawn_blocking(move || settle.status()).await??.success());
    eyes.all_is_well().await?;

    // These two are told for longer than a test lasts.
    poison(Topic::ChatEvents).await?;
    let command = "waltalkie dlq list --topic events";
    eyes.fault("Something in chat.events is no event", command, "something-in-the-history-is-no-event", "events")
        .await?;
    let publication = config.names().publication();
    let truth = installation.truth().await?;
    truth.batch_execute(&format!("ALTER PUBLICATION \"{publication}\" DROP TABLE user_change")).await?;
    eyes.fault("The CDC worker has stopped at http://", "waltalkie cdc status", "no-cdc-worker-streams", "cdc").await?;
    talking.abort();
    Ok(())
}

/// What stands between the installation and its servers.
struct Proxies {
    postgres: Proxy,
    kafka: Proxy,
    registry: Proxy,
    redis: Proxy,
}

impl Proxies {
    async fn before(servers: &mut Servers) -> Result<Self> {
        let (postgres, through) = Proxy::before_url(&servers.postgres).await?;
        servers.postgres = through;
        let kafka = Proxy::before_kafka(&servers.kafka).await?;
        servers.kafka = kafka.address().to_string();
        let (registry, through) = Proxy::before_url(&servers.registry).await?;
        servers.registry = through;
        let (redis, through) = Proxy::before_url(&servers.redis).await?;
        servers.redis = through;
        Ok(Self { postgres, kafka, registry, redis })
    }
}

/// A rebuild by another process is on the page while it lasts, and gone when it is swapped in. Its end is held up by what the
/// swap waits for.
async fn watch_a_rebuild(installation: &Installation, eyes: &mut Eyes) -> Result<()> {
    let read = installation.read().await?;
    read.batch_execute("BEGIN; SELECT FROM consumer_offset WHERE consumer = 'chat_head' FOR UPDATE").await?;
    let mut command = installation.command()?;
    command.args(["rebuild", "chat_head"]);
    let rebuilding = tokio::task::spawn_blocking(move || command.output());
    let is_shown = |model: &Value| model["rebuild"].as_str().is_some_and(|text| text.contains(" records"));
    let report = eyes.see("the rebuild", |report| is_shown(&report["models"]["chat_head"])).await?;
    let others = report["models"].as_object().context("no read models")?;
    ensure!(others.len() >= 4 && others["membership"]["rebuild"] == "", "{report}");
    let version = "SELECT version::text FROM projection_version WHERE projection = 'chat_head'";
    let version: String = read.query_one(version, &[]).await?.get(0);
    ensure!(others["chat_head"]["version"] == version, "{report}");
    read.batch_execute("COMMIT").await?;
    let output = rebuilding.await??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    eyes.see("the end of the rebuild", |report| report["models"]["chat_head"]["rebuild"] == "").await?;
    eyes.all_is_well().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_on_the_operators_listener_and_nowhere_else() -> Result<()> {
    let installation = Installation::make("ops-listener").await?;
    let process = installation.run(&["all"]).await?;
    for path in ["/ops", "/ops/", "/ops/data.json", "/ops/index.html", "/metrics"] {
        let answer = reqwest::get(format!("{}{path}", process.gateway()?)).await?;
        ensure!(answer.status().as_u16() == 404, "{path}: {}", answer.status());
    }
    let page = reqwest::get(format!("{}/ops", process.ops_url)).await?;
    let policy = page.headers().get("content-security-policy").context("no policy")?.to_str()?.to_owned();
    ensure!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let text = page.text().await?;
    for file in text.split(['"', '\'']).filter(|text| text.starts_with("/ops/")) {
        let answer = reqwest::get(format!("{}{file}", process.ops_url)).await?;
        ensure!(answer.status().is_success(), "{file}: {}", answer.status());
    }
    let runbook = reqwest::get(format!("{}/docs/runbook", process.ops_url)).await?.text().await?;
    ensure!(runbook.contains("id=\"redis-is-away\""), "no runbook");
    let data = reqwest::get(format!("{}/ops/data.json", process.ops_url)).await?;
    ensure!(!data.headers().contains_key("access-control-allow-origin"), "other pages may read it");
    let data: Value = data.json().await?;
    let [only] = data["processes"].as_array().context("no processes")?.as_slice() else {
        anyhow::bail!("{data}");
    };
    ensure!(only["address"] == process.ops_url.as_str(), "{only}");
    ensure!(data["models"].is_array(), "the read database isn't asked: {data}");
    ensure!(only["readyz"]["roles"].as_array().is_some_and(|roles| roles.len() == 8), "{only}");
    ensure!(only["metrics"].as_str().is_some_and(|metrics| metrics.contains("waltalkie_cdc_is_streaming 1")), "{only}");
    Ok(())
}
