//! Real servers in a temporary folder: what is kept over stops and kills, and what is refused.

mod support;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use local_stack::{Arrival, Endpoints, Error, LocalStack, Options, Service, Silent, Wanted};
use support::{Witness, find, find_schema, postgres, put, register};

/// Not on the usual ports: another stack may run on this machine.
fn all_in(dir: &Path) -> Options {
    Options { usual_ports: false, ..Options::new(dir.join("data")) }
}

fn only_redis(dir: &Path) -> Options {
    Options { postgres: Wanted::External, kafka: Wanted::External, registry: Wanted::External, ..all_in(dir) }
}

fn holder_of(dir: &Path) -> Result<Child> {
    let mut holder =
        Command::new(env!("CARGO_BIN_EXE_hold-stack")).arg(all_in(dir).data_dir).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(holder.stdout.take().context("no output")?).lines();
    let is_held = lines.map_while(Result::ok).any(|line| line == "held");
    anyhow::ensure!(is_held, "the holder ended: {}", holder.wait()?);
    Ok(holder)
}

#[tokio::test]
async fn nothing_is_lost_over_kills_and_stops() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let witness = Arc::new(Witness::default());
    let everywhere = |arrival| Service::ALL.map(|service| (service, arrival));

    // Somebody else holds it; a second holder is told who.
    let mut holder = holder_of(dir.path())?;
    match LocalStack::start(all_in(dir.path()), witness.clone()).await {
        Err(Error::AlreadyRunning { pid, .. }) => assert_eq!(pid, Some(holder.id())),
        other => panic!("{other:?}"),
    }

    // He is killed; his servers are taken over as they are.
    holder.kill()?;
    holder.wait()?;
    let stack = LocalStack::start(all_in(dir.path()), witness.clone()).await?;
    assert_eq!(witness.arrivals(), everywhere(Arrival::TakenOver));
    let endpoints = stack.endpoints().clone();
    put(&endpoints).await?;
    find(&endpoints).await?;

    // Killed with its servers, all of them: the data is on disk, the ports are remembered.
    drop(stack);
    let began = Instant::now();
    let mut stack = LocalStack::start(all_in(dir.path()), witness.clone()).await?;
    println!("start after a crash {:.2} s", began.elapsed().as_secs_f64());
    assert_eq!(witness.arrivals(), everywhere(Arrival::Started));
    assert_eq!(stack.endpoints(), &endpoints);
    find(&endpoints).await?;

    // Stopped in order and started again.
    stack.stop().await?;
    stack.stop().await?;
    drop(stack);
    let began = Instant::now();
    let mut stack = LocalStack::start(all_in(dir.path()), witness.clone()).await?;
    println!("second start {:.2} s", began.elapsed().as_secs_f64());
    assert_eq!(witness.arrivals(), everywhere(Arrival::Started));
    assert_eq!(stack.endpoints(), &endpoints);
    find(&endpoints).await?;

    each_server_dies_and_returns(&mut stack, &endpoints).await?;
    stack.stop().await?;
    Ok(())
}

async fn each_server_dies_and_returns(stack: &mut LocalStack, endpoints: &Endpoints) -> Result<()> {
    for service in Service::ALL {
        stack.check()?;
        stack.kill(service).await?;
        match stack.check() {
            Err(Error::Exited { service: ended, .. }) => assert_eq!(ended, service),
            other => panic!("{other:?}"),
        }
        let began = Instant::now();
        stack.start_again(service).await?;
        println!("{service} again after {:.2} s", began.elapsed().as_secs_f64());
        find(endpoints).await?;

        stack.pause(service).await?;
        stack.resume(service)?;
        stack.stop_one(service).await?;
        stack.start_again(service).await?;
        find(endpoints).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_paused_postgres_answers_nobody_until_it_goes_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options =
        Options { kafka: Wanted::External, registry: Wanted::External, redis: Wanted::External, ..all_in(dir.path()) };
    let mut stack = LocalStack::start(options, Arc::new(Silent)).await?;
    let url = stack.endpoints().postgres_url("postgres").context("no postgres")?;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client.simple_query("SELECT 1").await?;

    // Backends that exist already are frozen too, not only the process that accepts new ones.
    stack.pause(Service::Postgres).await?;
    let asked = tokio::spawn(async move { client.simple_query("SELECT 1").await });
    assert!(all_stand_still(&stack, Service::Postgres), "some process runs on");
    assert!(!asked.is_finished());
    stack.resume(Service::Postgres)?;
    asked.await??;
    stack.stop().await?;
    Ok(())
}

/// State T of the server and its children in `/proc` (elsewhere this is not looked at).
fn all_stand_still(stack: &LocalStack, service: Service) -> bool {
    let record = stack.data_dir().join("run").join(format!("{}.json", service.key()));
    let Ok(record) = std::fs::read_to_string(record) else { return false };
    let Some(pid) = serde_json::from_str::<serde_json::Value>(&record).ok().and_then(|json| json["pid"].as_u64())
    else {
        return false;
    };
    let Ok(entries) = std::fs::read_dir("/proc") else { return true };
    let states: Vec<String> = entries
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .filter_map(|stat| {
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let own = stat.split_whitespace().next()? == pid.to_string();
            (own || *fields.get(1)? == pid.to_string()).then(|| (*fields[0]).to_owned())
        })
        .collect();
    // Z ended by itself before its parent, which reaps it, was stopped.
    states.iter().filter(|state| *state == "T").count() > 1 && states.iter().all(|state| state == "T" || state == "Z")
}

#[tokio::test]
async fn what_is_external_is_neither_started_nor_known() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let witness = Arc::new(Witness::default());
    let mut stack = LocalStack::start(only_redis(dir.path()), witness.clone()).await?;
    assert_eq!(witness.arrivals(), [(Service::Redis, Arrival::Started)]);
    let endpoints = stack.endpoints();
    assert_eq!(
        (&endpoints.postgres_url_base, &endpoints.kafka_brokers, &endpoints.registry_url),
        (&None, &None, &None)
    );
    assert!(endpoints.env_lines("a", "b").starts_with("export WALTALKIE_REDIS__URL='redis://127.0.0.1:"));
    assert!(matches!(stack.kill(Service::Kafka).await, Err(Error::External(Service::Kafka))));
    assert!(matches!(stack.start_again(Service::Kafka).await, Err(Error::External(Service::Kafka))));
    stack.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_configured_port_in_use_is_an_error_that_names_the_holder() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let stranger = TcpListener::bind("127.0.0.1:0")?;
    let port = stranger.local_addr()?.port();
    let options = Options { redis: Wanted::Port(port), ..only_redis(dir.path()) };
    let error = LocalStack::start(options.clone(), Arc::new(Silent)).await.unwrap_err().to_string();
    assert!(error.contains(&port.to_string()), "{error}");
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");

    drop(stranger);
    let mut stack = LocalStack::start(options, Arc::new(Silent)).await?;
    assert_eq!(stack.endpoints().redis_url, Some(format!("redis://127.0.0.1:{port}")));
    stack.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_left_over_of_another_configuration_is_ended() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let witness = Arc::new(Witness::default());
    let stack = LocalStack::start(only_redis(dir.path()), witness.clone()).await?;
    let url = stack.endpoints().redis_url.clone();
    stack.abandon();

    let record = dir.path().join("data/run/redis.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&record)?)?;
    json["fingerprint"] = "another".into();
    std::fs::write(&record, json.to_string())?;
    let old = Path::new("/proc").join(json["pid"].to_string());

    let mut stack = LocalStack::start(only_redis(dir.path()), witness.clone()).await?;
    assert_eq!(witness.arrivals(), [(Service::Redis, Arrival::Started); 2]);
    assert_eq!(stack.endpoints().redis_url, url);
    // This process is its parent and never reaps an abandoned child: a zombie has no command line.
    assert!(std::fs::read(old.join("cmdline")).unwrap_or_default().is_empty());
    stack.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options =
        Options { kafka: Wanted::External, registry: Wanted::External, redis: Wanted::External, ..all_in(dir.path()) };
    let mut stack = LocalStack::start(options.clone(), Arc::new(Silent)).await?;
    postgres(stack.endpoints(), "SELECT 1").await?;
    stack.stop().await?;
    drop(stack);

    std::fs::write(dir.path().join("data/postgres/data/global/pg_control"), "spoilt")?;
    let error = LocalStack::start(options, Arc::new(Silent)).await.unwrap_err();
    assert!(matches!(error, Error::Exited { service: Service::Postgres, .. }), "{error}");
    assert!(error.to_string().contains("pg_control"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_registry_beside_an_external_postgres_keeps_its_own_schemas() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = Options { registry: Wanted::Anywhere, ..only_redis(dir.path()) };
    let mut stack = LocalStack::start(options.clone(), Arc::new(Silent)).await?;
    let id = register(stack.endpoints()).await?;
    stack.kill(Service::Registry).await?;
    stack.start_again(Service::Registry).await?;
    find_schema(stack.endpoints()).await?;
    assert_eq!(register(stack.endpoints()).await?, id);
    stack.stop().await?;
    Ok(())
}
