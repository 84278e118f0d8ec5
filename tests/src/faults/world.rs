//! Servers, roles and a crowd, and the faults that befall them.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use local_stack::{LocalStack, Options, Service, Silent};
use notify::fakes::FcmFake;
use rustix::process::Signal;
use schemas::topics::Topic;
use tokio::net::TcpStream;
use waltalkie::history::Op;

use super::{Crowd, Fault, ROLES, at_rest};
use crate::checker::{self, Rule, count, observers_of};
use crate::harness::{Installation, LONG, RoleProcess, Servers, chats, data_dir, evidence_of, read_topic, until};

/// Frames that people send while something is dead or frozen, so that it is missed.
const MISSED: usize = 100;
/// Events that are persisted while Redis is away, so that Pub/Sub loses them.
const UNPUBLISHED: i64 = 100;
/// Kills of the CDC worker in a row.
const CDC_KILLS: usize = 4;

/// Everything of one run. Fields are dropped in this order: clients, roles, installation, servers.
pub struct World {
    crowd: Crowd,
    roles: BTreeMap<&'static str, RoleProcess>,
    installation: Installation,
    stack: LocalStack,
    listen: String,
}

impl World {
    /// Starts everything; people talk from here on.
    pub async fn start(test: &str, people: usize) -> Result<Self> {
        let data = data_dir(test)?;
        let cache = data.join("registry-cache").display().to_string();
        let options = Options { usual_ports: false, ..Options::new(data) };
        let stack = LocalStack::start(options, Arc::new(Silent)).await?;
        // A way out for the notifier; nobody has a device that it could call.
        runtime::tls::install_provider();
        let fcm = FcmFake::start().await.config();
        let settings = [
            ("notify.public_url", "http://chat.example"),
            ("notify.fcm_service_account", fcm.service_account.expose()),
            ("notify.fcm_endpoint", fcm.endpoint.as_str()),
            ("limits.commands_per_s", "1000"),
            ("limits.commands_burst", "1000"),
            ("projector.inbox_delay_ms", "500"),
            ("janitor.interval_ms", "500"),
            ("operators.gather_ms", "200"),
            ("registry.cache_dir", cache.as_str()),
            ("log.filter", "info"),
        ];
        let installation = Installation::make_on(Servers::of(stack.endpoints())?, test, &settings).await?;
        // Clients come back to the address that they know.
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut roles = BTreeMap::new();
        for role in ROLES {
            roles.insert(role, run(&installation, role, &listen).await?);
        }
        let path = installation.logs().join("history.jsonl");
        let crowd = Crowd::gather(&installation, &format!("http://{listen}"), people, &path).await?;
        let world = Self { crowd, roles, installation, stack, listen };
        world.reach_everybody().await?;
        Ok(world)
    }

    /// Breaks something, proves that it is broken, mends it, and waits until messages reach everybody again.
    pub async fn suffer(&mut self, fault: Fault) -> Result<()> {
        let began = Instant::now();
        self.crowd.note(&format!("{fault:?}")).await;
        let hit = match fault {
            Fault::KillRole(role) => self.kill_role(role).await,
            Fault::FreezeRole(role) => self.freeze_role(role).await,
            Fault::KillServer(service) => self.break_server(service, true).await,
            Fault::RestartServer(service) => self.break_server(service, false).await,
            Fault::FlushRedis => self.flush_redis().await,
        };
        let hit = hit.with_context(|| format!("{fault:?}"))?;
        let mended = began.elapsed();
        self.reach_everybody().await.with_context(|| format!("after {fault:?}"))?;
        println!(
            "{:<28} {hit}; mended after {:.1} s, everybody reached after {:.1} s",
            format!("{fault:?}"),
            mended.as_secs_f64(),
            began.elapsed().as_secs_f64()
        );
        Ok(())
    }

    async fn kill_role(&mut self, role: &'static str) -> Result<String> {
        match role {
            "gateway" => {
                let before = self.closes().await?;
                self.roles.get_mut(role).context("no such role")?.kill()?;
                let crowd = &self.crowd;
                let lost = until("connections to break", LONG, async || {
                    let lost = count(&crowd.lines().await?, |op| matches!(op, Op::Close { .. })) - before;
                    Ok((lost > 0).then_some(lost))
                })
                .await?;
                self.start_role(role).await?;
                Ok(format!("killed, {lost} connections lost"))
            }
            "cdc" => {
                // Killed again while it catches up, when its transactions are long.
                let mut missed = 0;
                for _ in 0..CDC_KILLS {
                    missed += self.kill_and_miss(role).await?;
                }
                Ok(format!("killed {CDC_KILLS} times, missed for {missed} frames"))
            }
            _ => Ok(format!("killed, missed for {} frames", self.kill_and_miss(role).await?)),
        }
    }

    /// Kills a role and starts it anew once people have said enough without it.
    async fn kill_and_miss(&mut self, role: &'static str) -> Result<usize> {
        self.roles.get_mut(role).context("no such role")?.kill()?;
        let missed = self.missed(async || false).await?;
        self.start_role(role).await?;
        Ok(missed)
    }

    async fn start_role(&mut self, role: &'static str) -> Result<()> {
        self.roles.insert(role, run(&self.installation, role, &self.listen).await?);
        Ok(())
    }

    /// Waits until people have sent enough, or until there is reason to think that they can't.
    async fn missed(&self, cannot: impl AsyncFn() -> bool) -> Result<usize> {
        let sent =
            async || Ok::<_, anyhow::Error>(count(&self.crowd.lines().await?, |op| matches!(op, Op::Sent { .. })));
        let before = sent().await?;
        until("people to go on meanwhile", LONG, async || {
            let missed = sent().await? - before;
            Ok((missed >= MISSED || cannot().await).then_some(missed))
        })
        .await
    }

    async fn freeze_role(&mut self, role: &'static str) -> Result<String> {
        let process = self.roles.get(role).context("no such role")?;
        process.signal(Signal::STOP)?;
        // People whose gateway is frozen can't go on: for them it is enough that nothing answers.
        let missed = self.missed(async || role == "gateway" && !process.answers().await).await;
        process.signal(Signal::CONT)?;
        let missed = missed?;
        ensure!(self.roles.get_mut(role).context("no such role")?.is_running()?, "{role} ended while it was frozen");
        Ok(format!("frozen for {missed} frames"))
    }

    async fn break_server(&mut self, service: Service, by_force: bool) -> Result<String> {
        let address = self.address(service)?;
        TcpStream::connect(&address).await.with_context(|| format!("{service} was not up at {address}"))?;
        if by_force {
            self.stack.kill(service).await?;
        } else {
            self.stack.stop_one(service).await?;
        }
        ensure!(TcpStream::connect(&address).await.is_err(), "{service} still listens on {address}");
        let noticed = match service {
            // Nobody needs it to go on: what is persisted meanwhile is what Pub/Sub loses.
            Service::Redis => {
                let before = last_seqs(&self.installation).await?;
                let lost = until("events that Redis doesn't carry", LONG, async || {
                    let lost = last_seqs(&self.installation).await? - before;
                    Ok((lost >= UNPUBLISHED).then_some(lost))
                });
                format!("not there for {} events", lost.await?)
            }
            // Nor this one: what is known is enough for who runs, and for who starts.
            Service::Registry => {
                for role in ["persister", "operators"] {
                    self.roles.get_mut(role).context("no such role")?.kill()?;
                    self.start_role(role).await?;
                }
                format!("not there for {} frames and two starts", self.missed(async || false).await?)
            }
            _ => {
                let noticed = until("some role to notice", LONG, async || {
                    for (role, process) in &self.roles {
                        if !process.is_ready().await {
                            return Ok(Some(*role));
                        }
                    }
                    Ok(None)
                });
                format!("noticed by {}", noticed.await?)
            }
        };
        self.stack.start_again(service).await?;
        Ok(format!("gone from {address}, {noticed}"))
    }

    async fn flush_redis(&self) -> Result<String> {
        let gateway = self.roles.get("gateway").context("no gateway")?;
        let losses = async || gateway.metric("waltalkie_fanout_pubsub_losses_total").await;
        let before = losses().await?;
        let client = redis::Client::open(self.installation.servers().redis.as_str())?;
        let mut redis = client.get_multiplexed_async_connection().await?;
        redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
        let cut: usize = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).query_async(&mut redis).await?;
        ensure!(cut > 0, "nobody was subscribed");
        until("the gateway to notice", LONG, async || Ok((losses().await? > before).then_some(()))).await?;
        Ok(format!("emptied, {cut} subscribers cut off"))
    }

    fn address(&self, service: Service) -> Result<String> {
        let servers = self.installation.servers();
        let url = match service {
            Service::Postgres => servers.postgres.rsplit('@').next(),
            Service::Kafka => Some(servers.kafka.as_str()),
            Service::Registry => servers.registry.trim_start_matches("http://").split('/').next(),
            Service::Redis => Some(servers.redis.trim_start_matches("redis://")),
        };
        Ok(url.context("no address")?.to_owned())
    }

    async fn closes(&self) -> Result<usize> {
        Ok(count(&self.crowd.lines().await?, |op| matches!(op, Op::Close { .. })))
    }

    /// Waits until what is said from now on has gone the whole way.
    async fn reach_everybody(&self) -> Result<()> {
        let heads = until("Postgres", LONG, async || Ok(Some(chats(&self.installation.truth().await?).await?))).await?;
        let heads = until("new messages in the tables", LONG, async || {
            let now = chats(&self.installation.truth().await?).await?;
            let is_moved = now.iter().zip(&heads).all(|((_, now), (_, before))| now > before);
            Ok((!now.is_empty() && is_moved).then_some(now))
        })
        .await?;
        self.crowd.reach(&heads).await
    }

    /// Brings everything to rest, then asks the checker.
    pub async fn judge(mut self) -> Result<()> {
        self.crowd.fall_silent().await?;
        let heads = chats(&self.installation.truth().await?).await?;
        self.crowd.reach(&heads).await?;
        // Read models and inbox are last: they stay behind on purpose.
        let began = Instant::now();
        let mut look = tokio::time::interval(Duration::from_millis(500));
        loop {
            look.tick().await;
            let observers = observers_of(&self.crowd.lines().await?);
            let evidence = evidence_of(&self.installation, observers).await?;
            let at_rest = |rule: Rule| ![Rule::Projection, Rule::Inbox, Rule::Log].contains(&rule);
            let findings = checker::check(&evidence);
            if findings.is_empty() || findings.iter().any(|finding| at_rest(finding.rule)) || began.elapsed() > LONG {
                self.summary(&evidence).await?;
                checker::insist(&evidence)?;
                break;
            }
        }
        at_rest::verify(&self.installation).await?;
        let operators = self.roles.get("operators").context("no operators")?;
        println!("{} minutes of chats told by the operators", at_rest::numbers(&self.installation, operators).await?);
        let Self { mut crowd, roles, installation, mut stack, .. } = self;
        crowd.leave().await;
        for (role, process) in roles {
            let status = process.stop().await?;
            ensure!(status.success(), "{role} ended badly: {status}");
        }
        drop(installation);
        stack.stop().await?;
        Ok(())
    }

    async fn summary(&self, evidence: &checker::Evidence) -> Result<()> {
        let lines = self.crowd.lines().await?;
        let acked = evidence.observers.iter().flat_map(|observer| &observer.records);
        let acked = acked.filter(|record| matches!(record, checker::Record::Acked { .. })).count();
        if acked == 0 {
            bail!("nobody was told of anything");
        }
        println!(
            "{acked} sends acknowledged, {} events in the tables, {} in the log beside {} aborted, {} shown, {} connections \
             lost, {} gaps mended",
            evidence.truth.len(),
            evidence.log.len(),
            aborted_records(&self.installation).await?,
            count(&lines, |op| matches!(op, Op::Receive { .. })),
            count(&lines, |op| matches!(op, Op::Close { .. })),
            count(&lines, |op| matches!(op, Op::Anomaly { .. })),
        );
        Ok(())
    }
}

async fn run(installation: &Installation, role: &'static str, listen: &str) -> Result<RoleProcess> {
    let settings: &[(&str, &str)] = if role == "gateway" { &[("gateway.listen", listen)] } else { &[] };
    installation.run_with(&[role], settings).await
}

/// Records of `chat.events` that belong to no committed transaction.
async fn aborted_records(installation: &Installation) -> Result<i64> {
    let config = installation.config()?;
    let all = read_topic(&config, Topic::ChatEvents, false).await?.len();
    let committed = read_topic(&config, Topic::ChatEvents, true).await?.len();
    Ok(all as i64 - committed as i64)
}

/// Events of all chats.
async fn last_seqs(installation: &Installation) -> Result<i64> {
    Ok(chats(&installation.truth().await?).await?.iter().map(|(_, seq)| seq).sum())
}
