//! The worker as a process of its own, killed with SIGKILL, stopped with SIGSTOP and cut off from both servers at each point
//! of its work. Each test shows that its fault hit: the victim reports the point, the kernel the signal, the proxies what
//! they cut. After each the committed history is the tables.

use crate::support::victims::{self, Proxied};
use crate::support::{self, Stack, eventually};
use anyhow::{Context, Result, ensure};
use faults::Victim;

/// What is done to a victim at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    Stop,
    Cut,
}

/// An installation whose chat `c` has so many rows.
struct Scene {
    stack: Stack,
    rows: i64,
}

impl Scene {
    async fn new() -> Result<Self> {
        Ok(Self { stack: Stack::new().await?, rows: 0 })
    }

    /// Writes `count` more rows in one transaction.
    async fn write(&mut self, count: i64) -> Result<()> {
        self.stack.send_many("c", self.rows + 1, self.rows + count).await?;
        self.rows += count;
        Ok(())
    }

    async fn equals(&self) -> Result<()> {
        self.stack.equals(self.rows as usize).await
    }

    async fn committed(&self) -> Result<usize> {
        Ok(cdc_worker::audit::records_of_all(&self.stack.config).await?.0)
    }

    /// A victim that streams behind proxies and acts at a passing of a point from now on.
    async fn victim(&self, fault: Fault, point: &str, passing: u32) -> Result<(Proxied, Victim)> {
        let proxied = Proxied::of(&self.stack.config).await?;
        let mut victim = victims::start(&proxied.config, &[])?;
        self.stack.is_streamed().await?;
        let deed = if fault == Fault::Kill { "kill" } else { "wait" };
        victims::order(&mut victim, &format!("{point}:{passing}:{deed}")).await?;
        Ok((proxied, victim))
    }

    /// Does it once the victim is at the point; says which records were committed then. Afterwards somebody streams again:
    /// for a killed or stopped one another process, a cut one itself.
    async fn suffer(&self, fault: Fault, point: &str, proxied: &Proxied, victim: &mut Victim) -> Result<Suffered> {
        victims::reached(victim, point).await?;
        let committed = self.committed().await?;
        let successor = match fault {
            Fault::Kill => {
                victim.was_killed().await?;
                Some(victims::start(&self.stack.config, &[])?)
            }
            Fault::Stop => {
                victim.freeze().await?;
                // Heard when it is thawed: it then goes on from just this point.
                victim.tell("go")?;
                Some(victims::start(&self.stack.config, &[])?)
            }
            Fault::Cut => {
                let (postgres, kafka) = (proxied.postgres.cut(), proxied.kafka.cut());
                ensure!(postgres >= 2 && kafka >= 1, "cut {postgres} connections to Postgres and {kafka} to Kafka");
                victim.tell("go")?;
                None
            }
        };
        Ok(Suffered { successor, committed })
    }

    /// The stopped one goes on and adds nothing, everybody ends well, and history and tables are the same all the while.
    async fn judge(&mut self, fault: Fault, victim: Victim, suffered: Suffered) -> Result<()> {
        self.equals().await.context("after the fault")?;
        if fault == Fault::Stop {
            victim.thaw()?;
            victim.report("going on", support::PATIENCE, |report| report["report"] == "went_on").await?;
        }
        self.write(20).await?;
        self.equals().await.context("after more rows")?;
        if fault != Fault::Kill {
            victims::end(victim).await?;
        }
        if let Some(successor) = suffered.successor {
            victims::end(successor).await?;
        }
        self.equals().await.context("at the end")
    }
}

struct Suffered {
    successor: Option<Victim>,
    committed: usize,
}

/// Each fault in turn at a passing of a point while transactions of so many rows are written.
async fn at(point: &str, passing: u32, a_transaction: i64, transactions: i64) -> Result<()> {
    let mut scene = Scene::new().await?;
    for fault in [Fault::Kill, Fault::Stop, Fault::Cut] {
        let aborted_before = scene.stack.aborted().await?;
        let (proxied, mut victim) = scene.victim(fault, point, passing).await?;
        let before = scene.rows as usize;
        for _ in 0..transactions {
            scene.write(a_transaction).await?;
        }
        let suffered = scene.suffer(fault, point, &proxied, &mut victim).await?;
        let committed = suffered.committed - before;
        scene.judge(fault, victim, suffered).await.with_context(|| format!("{fault:?} at {point}"))?;
        let aborted = scene.stack.aborted().await? - aborted_before;
        eprintln!(
            "{fault:?} at passing {passing} of {point}: {committed} of {} rows were committed then, {aborted} aborted",
            a_transaction * transactions
        );
        // A cut one may commit what it has produced: its connections come back.
        if point == "produced" && fault != Fault::Cut {
            ensure!(aborted > 0, "nothing was aborted");
        }
        if point == "committed" {
            ensure!(committed > 0, "nothing was committed");
            // Rows of one transaction share its LSN: the position is within it.
            ensure!(a_transaction < 5_000 || committed < a_transaction as usize, "all of it was committed");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_transaction_began() -> Result<()> {
    at("begun", 3, 10, 5).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_a_transaction() -> Result<()> {
    at("row", 9_000, 12_000, 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_produce_and_commit() -> Result<()> {
    at("produced", 1, 10, 5).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_commit_and_feedback() -> Result<()> {
    at("committed", 1, 10, 5).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_commits_of_rows_that_share_one_lsn() -> Result<()> {
    at("committed", 1, 50_000, 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_feedback() -> Result<()> {
    at("reported", 1, 10, 5).await
}

/// The last thing that the victim read is a message of no transaction, written while a transaction was open whose rows stand
/// before it in the WAL. A place taken from that message would lose them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_logical_message_of_no_transaction() -> Result<()> {
    let mut scene = Scene::new().await?;
    for fault in [Fault::Kill, Fault::Stop, Fault::Cut] {
        let (proxied, mut victim) = scene.victim(fault, "message", 1).await?;
        scene.write(10).await?;
        let mut writer = scene.stack.connect().await?;
        let open = writer.transaction().await?;
        for seq in scene.rows + 1..=scene.rows + 10 {
            support::insert(&open, "c", seq, "before the message").await?;
        }
        let emit = "SELECT pg_logical_emit_message(false, 'somebody else', 'x') - '0/0'";
        open.query_one(&format!("SELECT ({emit})::text"), &[]).await?;
        let suffered = scene.suffer(fault, "message", &proxied, &mut victim).await?;
        open.commit().await?;
        scene.rows += 10;
        scene.judge(fault, victim, suffered).await.with_context(|| format!("{fault:?}"))?;
    }
    Ok(())
}

/// Frozen connections are half open: nobody is told, and the worker goes on when they thaw.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_half_open_for_a_while() -> Result<()> {
    let mut scene = Scene::new().await?;
    let proxied = Proxied::of(&scene.stack.config).await?;
    let victim = victims::start(&proxied.config, &[])?;
    scene.stack.is_streamed().await?;
    for proxy in [&proxied.postgres, &proxied.kafka] {
        let held = proxy.held_back();
        proxy.freeze();
        scene.write(10).await?;
        eventually("something is held back", async || Ok(proxy.held_back() > held)).await?;
        proxy.heal();
        scene.equals().await?;
    }

    // For longer than a lease: it notices by itself while it still hears nothing, and another one has its place.
    let successor = victims::start(&scene.stack.config, &[])?;
    victims::health(&successor, 0, true, "").await?;
    proxied.postgres.freeze();
    scene.write(10).await?;
    scene.equals().await?;
    eventually("it knows that it has lost the lease", async || Ok(victim.log_end().contains("standing by"))).await?;
    proxied.postgres.heal();
    scene.write(10).await?;
    scene.equals().await?;
    for worker in [victim, successor] {
        victims::end(worker).await?;
    }
    scene.equals().await
}
