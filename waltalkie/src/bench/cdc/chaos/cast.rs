//! Two workers behind proxies, and what is done to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cdc_worker::victim;
use faults::{Proxy, Victim};
use rand::Rng;
use rand::rngs::StdRng;
use runtime::{Config, Secret};

use super::Shared;
use super::fault::{Kind, Plan, Side, When};

/// How long a worker may take to come to a point; if none does, the fault has missed.
const REACHES: Duration = Duration::from_secs(20);
/// How long a worker may take to answer an order.
const ANSWERS: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A fault that hit.
#[derive(Debug, Clone)]
pub(super) struct Hit {
    pub(super) kind: &'static str,
    pub(super) what: String,
}

pub(super) struct Cast {
    actors: [Actor; 2],
    logs: PathBuf,
    /// Workers that ended by themselves, and why.
    ended: Vec<String>,
}

struct Actor {
    victim: Victim,
    postgres: Proxy,
    kafka: Proxy,
    config: Config,
    started: u32,
    name: &'static str,
}

impl Cast {
    pub(super) async fn start(config: &Shared, logs: &Path) -> Result<Self> {
        std::fs::create_dir_all(logs).with_context(|| format!("making {}", logs.display()))?;
        let actors = [Actor::new(config, logs, "one").await?, Actor::new(config, logs, "two").await?];
        Ok(Self { actors, logs: logs.to_owned(), ended: Vec::new() })
    }

    /// Carries a plan out; `None` if it didn't hit.
    pub(super) async fn suffer(&mut self, plan: Plan, random: &mut StdRng) -> Result<Option<Hit>> {
        let found = match plan.when {
            When::After(pause) => {
                tokio::time::sleep(pause).await;
                Some(random.random_range(0..2))
            }
            When::At(..) => self.reach(plan).await?,
        };
        let Some(place) = found else { return Ok(None) };
        let actor = &mut self.actors[place];
        let has_hit = actor.suffer(plan).await.with_context(|| format!("worker {}: {plan}", actor.name))?;
        self.replace_the_dead().await?;
        Ok(has_hit.then(|| Hit { kind: plan.kind.name(), what: plan.to_string() }))
    }

    /// Orders both, since either may stream or begin to; the one that comes to the point first has it.
    async fn reach(&mut self, plan: Plan) -> Result<Option<usize>> {
        let Some(order) = plan.order() else { return Ok(None) };
        let heard = [self.actors[0].victim.reports().len(), self.actors[1].victim.reports().len()];
        for actor in &mut self.actors {
            // One that has ended by itself is found later.
            let _ = actor.victim.tell(&format!("at {order}"));
        }
        let deadline = Instant::now() + REACHES;
        let found = loop {
            let reached = |place: usize| self.actors[place].has_reported("reached", heard[place]);
            if let Some(place) = (0..2).find(|&place| reached(place)) {
                break Some(place);
            }
            if Instant::now() > deadline {
                break None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        for (place, actor) in self.actors.iter_mut().enumerate() {
            if Some(place) != found {
                actor.disarm(heard[place]).await?;
            }
        }
        Ok(found)
    }

    /// Puts another process in the place of each that has ended; one that wasn't killed is told of.
    async fn replace_the_dead(&mut self) -> Result<()> {
        for actor in &mut self.actors {
            if actor.victim.is_there()? {
                continue;
            }
            let status = actor.victim.ended().await?;
            if std::os::unix::process::ExitStatusExt::signal(&status) != Some(9) {
                self.ended.push(format!("worker {} ended: {status}: {}", actor.name, actor.last_words()));
            }
            actor.restart(&self.logs)?;
        }
        Ok(())
    }

    /// Everything passes again, everybody runs; says who had ended by itself since the last time.
    pub(super) async fn heal(&mut self) -> Result<Vec<String>> {
        for actor in &self.actors {
            actor.postgres.heal();
            actor.kafka.heal();
        }
        self.replace_the_dead().await?;
        Ok(std::mem::take(&mut self.ended))
    }

    /// Ends both, well.
    pub(super) async fn end(&mut self) -> Result<()> {
        for actor in &mut self.actors {
            actor.victim.tell("end")?;
        }
        for actor in &mut self.actors {
            let status = actor.victim.ended().await?;
            ensure!(status.success(), "worker {} ended badly: {status}: {}", actor.name, actor.last_words());
        }
        Ok(())
    }
}

impl Actor {
    async fn new(config: &Config, logs: &Path, name: &'static str) -> Result<Self> {
        let mut config = config.clone();
        let (postgres, url) =
            Proxy::before_url(config.postgres.truth_url.expose()).await.context("postgres.truth_url")?;
        config.postgres.truth_url = Secret::new(url);
        // No way around the proxy.
        config.postgres.replication_url = Secret::default();
        let kafka = Proxy::before_kafka(&config.kafka.brokers).await.context("kafka.brokers")?;
        config.kafka.brokers = kafka.address().to_string();
        let victim = start_worker(&config, &logs.join(format!("{name}-1.log")))?;
        Ok(Self { victim, postgres, kafka, config, started: 1, name })
    }

    fn restart(&mut self, logs: &Path) -> Result<()> {
        self.started += 1;
        self.victim = start_worker(&self.config, &logs.join(format!("{}-{}.log", self.name, self.started)))?;
        Ok(())
    }

    /// At the point, if there is one: it waits there, or has killed itself.
    async fn suffer(&mut self, plan: Plan) -> Result<bool> {
        let is_at_point = matches!(plan.when, When::At(..));
        let before = self.proxies(plan.kind.side()).map(Proxy::held_back).sum::<u64>();
        let has_hit = match plan.kind {
            Kind::Kill if is_at_point => {
                self.victim.was_killed().await?;
                true
            }
            Kind::Kill => {
                let is_there = self.victim.is_there()?;
                if is_there {
                    self.victim.kill().await?;
                }
                is_there
            }
            Kind::Stop => {
                self.victim.freeze().await?;
                true
            }
            Kind::Cut(side) => self.proxies(Some(side)).map(Proxy::cut).sum::<usize>() > 0,
            Kind::Refuse(side) => self.proxies(Some(side)).map(Proxy::refuse).sum::<usize>() > 0,
            Kind::Silence(side) => {
                self.proxies(Some(side)).for_each(Proxy::freeze);
                true
            }
        };
        if is_at_point && plan.kind != Kind::Kill {
            self.victim.tell("go")?;
        }
        if !matches!(plan.kind, Kind::Cut(_)) {
            tokio::time::sleep(plan.lasts).await;
        }
        match plan.kind {
            Kind::Stop => self.victim.thaw()?,
            Kind::Refuse(side) => self.proxies(Some(side)).for_each(Proxy::heal),
            Kind::Silence(side) => {
                let held = self.proxies(Some(side)).map(Proxy::held_back).sum::<u64>() - before;
                self.proxies(Some(side)).for_each(Proxy::heal);
                return Ok(held > 0);
            }
            Kind::Kill | Kind::Cut(_) => {}
        }
        Ok(has_hit)
    }

    fn proxies(&self, side: Option<Side>) -> impl Iterator<Item = &Proxy> {
        let (postgres, kafka) = match side {
            Some(Side::Postgres) => (true, false),
            Some(Side::Kafka) => (false, true),
            Some(Side::Both) => (true, true),
            None => (false, false),
        };
        postgres.then_some(&self.postgres).into_iter().chain(kafka.then_some(&self.kafka))
    }

    fn has_reported(&self, report: &str, since: usize) -> bool {
        self.victim.reports().iter().skip(since).any(|said| said["report"] == report)
    }

    /// Takes its orders back. If it has come to the point meanwhile, it goes on, or is dead.
    async fn disarm(&mut self, since: usize) -> Result<()> {
        let _ = self.victim.tell("disarm");
        let deadline = Instant::now() + ANSWERS;
        while self.victim.is_there()? && !self.has_reported("disarmed", since) {
            ensure!(Instant::now() < deadline, "worker {} hears no orders\n{}", self.name, self.victim.log_end());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if self.has_reported("reached", since) {
            let _ = self.victim.tell("go");
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let reports = self.victim.reports();
        let said = reports.iter().rev().find(|report| report["report"] == "ended");
        said.map_or_else(|| self.victim.log_end(), |report| report["error"].to_string())
    }
}

/// A worker under orders, this program again.
pub(in crate::bench::cdc) fn start_worker(config: &Config, log: &Path) -> Result<Victim> {
    let mut command = Command::new(std::env::current_exe().context("this program's own path")?);
    let variables: BTreeMap<String, String> = victim::variables(config).into_iter().collect();
    command.args(["bench", "cdc-victim"]).envs(variables);
    Victim::start(command, log)
}
