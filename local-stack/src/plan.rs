//! Decides, before anything is started, where everything goes: folders, ports, left-overs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rand::Rng;

use crate::error::{Error, IoContext};
use crate::fetch::Parts;
use crate::kafka::new_cluster_id;
use crate::memory::{Memory, RegistryStorage};
use crate::options::{Options, Wanted};
use crate::os_user::{OsUser, let_pass};
use crate::ports::{self, Reserved};
use crate::process::Process;
use crate::progress::Progress;
use crate::record::Record;
use crate::server::{Part, log_path};
use crate::service::Service;
use crate::{holder, kafka, postgres, redis, registry};

/// The key and usual port of Kafka's controller, which only the broker itself talks to.
const CONTROLLER: (&str, u16) = ("kafka-controller", 9093);

/// Where `PostgreSQL`'s files go when its user cannot reach the data directory.
const POSTGRES_ELSEWHERE: &str = "/var/lib/waltalkie";

/// A server's port, and its process from before, if one was left over.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) port: u16,
    pub(crate) left_over: Option<Record>,
}

/// All that is decided.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) places: BTreeMap<Service, Place>,
    pub(crate) controller_port: u16,
    pub(crate) cluster_id: String,
    pub(crate) registry_storage: RegistryStorage,
    pub(crate) os_user: Option<OsUser>,
    pub(crate) postgres_home: PathBuf,
}

impl Plan {
    /// Needs the data directory's lock; writes `stack.json`.
    pub(crate) async fn make(options: &Options, parts: &Parts, progress: &dyn Progress) -> crate::Result<Self> {
        let data_dir = &options.data_dir;
        let mut memory = Memory::load(data_dir)?;
        let registry_storage = registry_storage(options, &memory)?;
        if options.is_local(Service::Registry) {
            memory.registry_storage = Some(registry_storage);
        }
        let cluster_id = memory.kafka_cluster_id.get_or_insert_with(new_cluster_id).clone();

        let mut os_user = None;
        let mut postgres_home = data_dir.join(Service::Postgres.key());
        if options.is_local(Service::Postgres) {
            os_user = OsUser::needed(&options.postgres_os_user)?;
            if let Some(user) = &os_user {
                open_cache(user, parts, &options.cache_dir)?;
                postgres_home = reachable_home(user, data_dir, &mut memory, progress)?;
            }
        }

        let mut places = BTreeMap::new();
        let mut reserved = Vec::new();
        for service in Service::ALL {
            let left_over = kept_left_over(options, service).await?;
            if options.is_local(service) {
                let port = choose(options, service, left_over.as_ref(), &mut memory)?;
                places.insert(service, Place { port: port.port, left_over });
                reserved.push(port);
            }
        }
        let mut controller_port = CONTROLLER.1;
        if let Some(place) = places.get(&Service::Kafka) {
            let port = controller(options, place.left_over.is_some(), &mut memory)?;
            controller_port = port.port;
            reserved.push(port);
        }
        memory.save(data_dir)?;
        drop(reserved);
        Ok(Self { places, controller_port, cluster_id, registry_storage, os_user, postgres_home })
    }

    /// The port of a service that is ours.
    pub(crate) fn port(&self, service: Service) -> Option<u16> {
        self.places.get(&service).map(|place| place.port)
    }
}

/// A server left over on a port that still suits; others are ended here.
async fn kept_left_over(options: &Options, service: Service) -> crate::Result<Option<Record>> {
    let Some(record) = Record::left_over(&options.data_dir, service)? else { return Ok(None) };
    let suits = match options.wanted(service) {
        Wanted::Anywhere => true,
        Wanted::Port(port) => port == record.port,
        Wanted::External => false,
    };
    if suits {
        return Ok(Some(record));
    }
    let (signal, patience) = match service {
        Service::Postgres => (postgres::Postgres::STOP, postgres::Postgres::STOP_DEADLINE),
        Service::Kafka => (kafka::Kafka::STOP, kafka::Kafka::STOP_DEADLINE),
        Service::Registry => (registry::Registry::STOP, registry::Registry::STOP_DEADLINE),
        Service::Redis => (redis::Redis::STOP, redis::Redis::STOP_DEADLINE),
    };
    Process::found(record.identity).end(signal, patience).await;
    Record::forget(&options.data_dir, service)?;
    Ok(None)
}

fn choose(
    options: &Options,
    service: Service,
    left_over: Option<&Record>,
    memory: &mut Memory,
) -> crate::Result<Reserved> {
    let reserved = match (left_over, options.wanted(service)) {
        // Its own listener is on it, or was: whether it is ours is looked at before it is taken over.
        (Some(record), _) => Reserved::running(record.port),
        (None, Wanted::Port(port)) => {
            ports::reserve(port).ok_or_else(|| Error::PortInUse { service, port, holder: holder::of_port(port) })?
        }
        (None, _) => {
            let remembered = memory.ports.get(service.key()).copied();
            let usual = options.usual_ports.then(|| service.usual_port());
            ports::choose(remembered, usual, ports::free(), ports::reserve).ok_or(Error::NoPort { service })?
        }
    };
    memory.ports.insert(service.key().to_owned(), reserved.port);
    Ok(reserved)
}

fn controller(options: &Options, broker_runs: bool, memory: &mut Memory) -> crate::Result<Reserved> {
    let (key, usual) = CONTROLLER;
    let remembered = memory.ports.get(key).copied();
    let reserved = match remembered {
        Some(port) if broker_runs => Reserved::running(port),
        _ => ports::choose(remembered, options.usual_ports.then_some(usual), ports::free(), ports::reserve)
            .ok_or(Error::NoPort { service: Service::Kafka })?,
    };
    memory.ports.insert(key.to_owned(), reserved.port);
    Ok(reserved)
}

fn registry_storage(options: &Options, memory: &Memory) -> crate::Result<RegistryStorage> {
    let postgres_is_ours = options.is_local(Service::Postgres);
    match memory.registry_storage {
        Some(RegistryStorage::Postgres) if !postgres_is_ours && options.is_local(Service::Registry) => {
            Err(Error::RegistryStorage { data_dir: options.data_dir.clone() })
        }
        Some(storage) => Ok(storage),
        None if postgres_is_ours => Ok(RegistryStorage::Postgres),
        None => Ok(RegistryStorage::File),
    }
}

pub(crate) fn open_cache(user: &OsUser, parts: &Parts, cache_dir: &Path) -> crate::Result<()> {
    match open_way(user, &parts.postgres(), cache_dir)? {
        None => Ok(()),
        Some(folder) => Err(Error::Unreachable {
            user: user.name.clone(),
            folder,
            mend: "set WALTALKIE_CACHE_DIR to a folder that everybody may enter",
        }),
    }
}

/// The data directory if `PostgreSQL`'s user can reach it, else a folder elsewhere, remembered.
fn reachable_home(
    user: &OsUser,
    data_dir: &Path,
    memory: &mut Memory,
    progress: &dyn Progress,
) -> crate::Result<PathBuf> {
    if let Some(home) = &memory.postgres_home {
        return Ok(home.clone());
    }
    let Some(folder) = open_way(user, data_dir, data_dir)? else {
        return Ok(data_dir.join(Service::Postgres.key()));
    };
    // A name of chance: a data directory that is thrown away and made again must not meet its old rows.
    let name = format!("postgres-{:016x}", rand::rng().random::<u64>());
    let home = Path::new(POSTGRES_ELSEWHERE).join(name);
    fs::create_dir_all(POSTGRES_ELSEWHERE).context("create", Path::new(POSTGRES_ELSEWHERE))?;
    if let Some(folder) = open_way(user, Path::new(POSTGRES_ELSEWHERE), Path::new(POSTGRES_ELSEWHERE))? {
        return Err(Error::Unreachable {
            user: user.name.clone(),
            folder,
            mend: "choose another data directory, which everybody may enter",
        });
    }
    progress.note(&format!(
        "PostgreSQL runs as {}, who cannot enter {}: its files are in {}",
        user.name,
        folder.display(),
        home.display()
    ));
    memory.postgres_home = Some(home.clone());
    Ok(home)
}

/// Lets `user` pass the folders of ours on the way to `path`; the folder that is not ours and bars it, if one does.
pub(crate) fn open_way(user: &OsUser, path: &Path, ours: &Path) -> crate::Result<Option<PathBuf>> {
    while let Some(folder) = user.barred_at(path) {
        if !folder.starts_with(ours) {
            return Ok(Some(folder));
        }
        let_pass(&folder)?;
    }
    Ok(None)
}

/// Folders that all services share.
pub(crate) fn make_folders(data_dir: &Path) -> crate::Result<()> {
    fs::create_dir_all(data_dir).context("create", data_dir)?;
    match log_path(data_dir, Service::Redis).parent() {
        Some(logs) => fs::create_dir_all(logs).context("create", logs),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_is_remembered_until_a_stranger_has_it() {
        let (options, mut memory) = (Options { usual_ports: false, ..Options::new("/x") }, Memory::default());
        let mut port = || choose(&options, Service::Redis, None, &mut memory).unwrap().port;
        let first = port();
        assert_eq!(port(), first);

        let stranger = TcpListener::bind(("127.0.0.1", first)).unwrap();
        let second = port();
        assert_ne!(second, first);
        drop(stranger);
        assert_eq!(port(), second);
    }

    #[test]
    fn a_configured_port_in_use_names_its_holder() {
        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = stranger.local_addr().unwrap().port();
        let options = Options { kafka: Wanted::Port(port), ..Options::new("/x") };
        let error = choose(&options, Service::Kafka, None, &mut Memory::default()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&port.to_string()) && text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
    }

    #[test]
    fn schemas_never_silently_move() {
        let mut options = Options::new("/x");
        let mut memory = Memory::default();
        assert_eq!(registry_storage(&options, &memory).unwrap(), RegistryStorage::Postgres);
        memory.registry_storage = Some(RegistryStorage::File);
        assert_eq!(registry_storage(&options, &memory).unwrap(), RegistryStorage::File);
        memory.registry_storage = Some(RegistryStorage::Postgres);
        options.postgres = Wanted::External;
        assert!(matches!(registry_storage(&options, &memory), Err(Error::RegistryStorage { .. })));
        options.registry = Wanted::External;
        assert!(registry_storage(&options, &memory).is_ok());
    }
}
