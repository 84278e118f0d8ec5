//! The whole stack, started and stopped in order, and its servers one by one for whoever tests faults.
//!
//! *Progress*: left-overs and ports are settled for all services before the first is started, so that no two get the
//! same. *Failure*: the first server that cannot be started fails the start; those already up are stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::endpoints::Endpoints;
use crate::error::{Error, IoContext};
use crate::fetch::{self, Parts};
use crate::lock::DataDirLock;
use crate::options::Options;
use crate::plan::{Place, Plan, make_folders};
use crate::postgres;
use crate::prerequisites;
use crate::process::Process;
use crate::progress::Progress;
use crate::record::Record;
use crate::server::{Part, Server, log_path};
use crate::servers::{Servers, endpoints};
use crate::service::Service;

/// How long a dropped stack waits for its killed servers to be gone.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

/// The running servers of one data directory.
///
/// End it with [`LocalStack::stop`]. Dropped without that, the servers are killed: their data survives, but the next
/// start has to recover it.
pub struct LocalStack {
    servers: Servers,
    endpoints: Endpoints,
    data_dir: PathBuf,
    progress: Arc<dyn Progress>,
    /// Let go of last.
    _lock: DataDirLock,
}

impl std::fmt::Debug for LocalStack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Endpoints hold a password.
        f.debug_struct("LocalStack").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl LocalStack {
    /// Fetches what is missing, takes over or ends what an earlier holder left, starts the rest, and returns when all
    /// answer. Cancelling it kills what it has started.
    pub async fn start(mut options: Options, progress: Arc<dyn Progress>) -> Result<Self> {
        // Servers run in folders of their own: relative paths would mean something else there.
        for path in [&mut options.data_dir, &mut options.cache_dir] {
            *path = std::path::absolute(&*path).context("find", path)?;
        }
        let missing = prerequisites::missing(&options);
        if !missing.is_empty() {
            let list: Vec<String> = missing.iter().map(ToString::to_string).collect();
            return Err(Error::Missing(format!("missing on this machine:\n  {}", list.join("\n  "))));
        }
        make_folders(&options.data_dir)?;
        let lock = DataDirLock::take(&options.data_dir)?;
        let parts = if Service::ALL.iter().any(|&service| options.is_local(service)) {
            fetch::fetch(&options.cache_dir, &*progress).await?
        } else {
            Parts::default()
        };
        let mut plan = Plan::make(&options, &parts, &*progress).await?;

        let services: Vec<Service> = plan.places.keys().copied().collect();
        let password = postgres::password(&options.data_dir)?;
        let mut stack = Self {
            servers: Servers::lay_out(&options.data_dir, &parts, &plan, &password),
            endpoints: endpoints(&plan, &password),
            data_dir: options.data_dir,
            progress,
            _lock: lock,
        };
        stack.progress.starting(&services);
        if let Err(error) = stack.bring_up(&mut plan).await {
            if let Err(error) = stack.stop().await {
                tracing::warn!(error = %error, "a server could not be stopped");
            }
            return Err(error);
        }
        Ok(stack)
    }

    async fn bring_up(&mut self, plan: &mut Plan) -> Result<()> {
        let mut place = |service| plan.places.remove(&service);
        let (postgres, kafka) = (place(Service::Postgres), place(Service::Kafka));
        let (registry, redis) = (place(Service::Registry), place(Service::Redis));
        let progress = &*self.progress;
        let schemas = async {
            ready(self.servers.postgres.as_mut(), postgres, progress).await?;
            ready(self.servers.registry.as_mut(), registry, progress).await
        };
        tokio::try_join!(
            Box::pin(schemas),
            Box::pin(ready(self.servers.kafka.as_mut(), kafka, progress)),
            Box::pin(ready(self.servers.redis.as_mut(), redis, progress)),
        )?;
        Ok(())
    }

    /// Addresses of what runs here.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The folder all of it lives in.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where a server's log is.
    pub fn log_path(&self, service: Service) -> PathBuf {
        log_path(&self.data_dir, service)
    }

    /// The process of a server that runs here, for measuring.
    pub fn pid(&mut self, service: Service) -> Option<u32> {
        self.servers.process(service).map(|process| process.identity().pid)
    }

    /// An error, with the end of its log, if a server has ended unasked. To be called now and then.
    pub fn check(&mut self) -> Result<()> {
        self.servers.postgres.as_mut().map_or(Ok(()), Server::check)?;
        self.servers.kafka.as_mut().map_or(Ok(()), Server::check)?;
        self.servers.registry.as_mut().map_or(Ok(()), Server::check)?;
        self.servers.redis.as_mut().map_or(Ok(()), Server::check)
    }

    /// Stops all servers in an orderly way, in reverse order; those that take too long are killed. A second call does
    /// nothing.
    pub async fn stop(&mut self) -> Result<()> {
        let progress = &*self.progress;
        let registry = gone(self.servers.registry.as_mut(), progress).await;
        let (kafka, postgres, redis) = tokio::join!(
            gone(self.servers.kafka.as_mut(), progress),
            gone(self.servers.postgres.as_mut(), progress),
            gone(self.servers.redis.as_mut(), progress),
        );
        registry.and(kafka).and(postgres).and(redis)
    }

    /// SIGKILL to one server and all its processes; returns when they are gone.
    pub async fn kill(&mut self, service: Service) -> Result<()> {
        self.process(service)?.kill().await;
        Ok(())
    }

    /// Freezes one server (SIGSTOP): it answers nothing, and its sockets stay open. Returns when all its processes
    /// stand still.
    pub async fn pause(&mut self, service: Service) -> Result<()> {
        self.process(service)?.pause().await;
        Ok(())
    }

    /// Lets a paused server go on.
    pub fn resume(&mut self, service: Service) -> Result<()> {
        self.process(service)?.resume();
        Ok(())
    }

    /// Stops one server in an orderly way; [`LocalStack::start_again`] brings it back.
    pub async fn stop_one(&mut self, service: Service) -> Result<()> {
        let ended = match service {
            Service::Postgres => stop_one(self.servers.postgres.as_mut()).await?,
            Service::Kafka => stop_one(self.servers.kafka.as_mut()).await?,
            Service::Registry => stop_one(self.servers.registry.as_mut()).await?,
            Service::Redis => stop_one(self.servers.redis.as_mut()).await?,
        };
        ended.ok_or(Error::External(service))
    }

    /// Starts a killed or stopped server on its port and data, and returns when it answers. Does nothing if it runs.
    pub async fn start_again(&mut self, service: Service) -> Result<()> {
        let started = match service {
            Service::Postgres => {
                let started = start_again(self.servers.postgres.as_mut()).await?;
                // It finds out by a failing question that its connection is gone: better ours than a caller's.
                if let Some(registry) = self.servers.registry.as_mut()
                    && registry.is_up()
                {
                    registry.until_ready().await?;
                }
                started
            }
            Service::Kafka => start_again(self.servers.kafka.as_mut()).await?,
            Service::Registry => start_again(self.servers.registry.as_mut()).await?,
            Service::Redis => start_again(self.servers.redis.as_mut()).await?,
        };
        started.ok_or(Error::External(service))
    }

    /// Lets go of everything without stopping it, as a kill of this process would: the servers run on and the data
    /// directory is free for the next start.
    pub fn abandon(mut self) {
        // Handles only: a process does not end by being forgotten.
        self.servers = Servers::default();
    }

    fn process(&mut self, service: Service) -> Result<&mut Process> {
        self.servers.process(service).ok_or(Error::External(service))
    }
}

impl Drop for LocalStack {
    #[expect(clippy::disallowed_methods, reason = "nothing can be awaited here, and the wait is short and bounded")]
    fn drop(&mut self) {
        for service in Service::ALL {
            if let Some(process) = self.servers.process(service) {
                process.kill_now();
            }
        }
        let deadline = Instant::now() + DROP_PATIENCE;
        for service in Service::ALL {
            let Some(process) = self.servers.process(service) else { continue };
            while process.ended().is_none() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            if process.ended().is_some()
                && let Err(error) = Record::forget(&self.data_dir, service)
            {
                tracing::debug!(error = %error, "a record stays; the next start finds that its process is gone");
            }
        }
    }
}

async fn ready<P: Part>(server: Option<&mut Server<P>>, place: Option<Place>, progress: &dyn Progress) -> Result<()> {
    let (Some(server), Some(place)) = (server, place) else { return Ok(()) };
    let began = Instant::now();
    let arrival = server.bring_up(place.left_over).await?;
    progress.ready(P::SERVICE, arrival, server.port(), began.elapsed());
    Ok(())
}

async fn gone<P: Part>(server: Option<&mut Server<P>>, progress: &dyn Progress) -> Result<()> {
    let Some(server) = server else { return Ok(()) };
    let began = Instant::now();
    if server.stop().await? {
        progress.stopped(P::SERVICE, began.elapsed());
    }
    Ok(())
}

async fn stop_one<P: Part>(server: Option<&mut Server<P>>) -> Result<Option<()>> {
    let Some(server) = server else { return Ok(None) };
    server.stop().await.map(|_| Some(()))
}

async fn start_again<P: Part>(server: Option<&mut Server<P>>) -> Result<Option<()>> {
    let Some(server) = server else { return Ok(None) };
    if !server.is_up() {
        server.start().await?;
    }
    Ok(Some(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn a_start_may_run_on_any_thread() {
        fn is_send<T: Send>(_: &T) {}
        is_send(&LocalStack::start(Options::new("/x"), Arc::new(Silent)));
    }
}
