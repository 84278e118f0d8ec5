//! The four servers laid out by a plan, none of them running yet.

use std::path::Path;

use crate::endpoints::Endpoints;
use crate::fetch::Parts;
use crate::kafka::Kafka;
use crate::memory::RegistryStorage;
use crate::plan::Plan;
use crate::postgres::{self, Postgres};
use crate::process::Process;
use crate::redis::Redis;
use crate::registry::{self, Registry, Storage};
use crate::server::Server;
use crate::service::Service;

/// `None` is external.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    pub(crate) postgres: Option<Server<Postgres>>,
    pub(crate) kafka: Option<Server<Kafka>>,
    pub(crate) registry: Option<Server<Registry>>,
    pub(crate) redis: Option<Server<Redis>>,
}

impl Servers {
    pub(crate) fn lay_out(data_dir: &Path, parts: &Parts, plan: &Plan, password: &str) -> Self {
        let home = |service: Service| data_dir.join(service.key());
        let port = |service| plan.port(service);
        let in_postgres = plan.registry_storage == RegistryStorage::Postgres;

        let postgres = port(Service::Postgres).map(|port| {
            let part = Postgres {
                binaries: parts.postgres(),
                home: plan.postgres_home.clone(),
                port,
                password: password.to_owned(),
                os_user: plan.os_user.clone(),
                database: in_postgres.then_some(registry::DATABASE),
                settings: Vec::new(),
            };
            Server::new(part, data_dir, port)
        });
        let kafka = port(Service::Kafka).map(|port| {
            let part = Kafka {
                lib: parts.kafka_lib(),
                home: home(Service::Kafka),
                cluster_id: plan.cluster_id.clone(),
                port,
                controller_port: plan.controller_port,
                logins: None,
            };
            Server::new(part, data_dir, port)
        });
        let registry = port(Service::Registry).map(|port| {
            let storage = match postgres.as_ref().filter(|_| in_postgres).map(Server::port) {
                Some(port) => Storage::Postgres { port, user: postgres::USER, password: password.to_owned() },
                None => Storage::File,
            };
            let part = Registry { lib: parts.registry(), home: home(Service::Registry), port, storage };
            Server::new(part, data_dir, port)
        });
        let redis = port(Service::Redis).map(|port| {
            let part = Redis { binary: parts.redis_server(), home: home(Service::Redis), port };
            Server::new(part, data_dir, port)
        });
        Self { postgres, kafka, registry, redis }
    }

    /// The process of a server that is ours and has been started.
    pub(crate) fn process(&mut self, service: Service) -> Option<&mut Process> {
        match service {
            Service::Postgres => self.postgres.as_mut()?.process(),
            Service::Kafka => self.kafka.as_mut()?.process(),
            Service::Registry => self.registry.as_mut()?.process(),
            Service::Redis => self.redis.as_mut()?.process(),
        }
    }
}

/// Where the servers of a plan are.
pub(crate) fn endpoints(plan: &Plan, password: &str) -> Endpoints {
    let user = postgres::USER;
    let port = |service| plan.port(service);
    Endpoints {
        postgres_url_base: port(Service::Postgres).map(|port| format!("postgres://{user}:{password}@127.0.0.1:{port}")),
        postgres_socket_url_base: port(Service::Postgres).and_then(|port| {
            let folder = postgres::socket_folder(&plan.postgres_home)?.replace('/', "%2F");
            Some(format!("postgres://{user}:{password}@{folder}:{port}"))
        }),
        kafka_brokers: port(Service::Kafka).map(|port| format!("127.0.0.1:{port}")),
        registry_url: port(Service::Registry).map(|port| format!("http://127.0.0.1:{port}{}", registry::API)),
        redis_url: port(Service::Redis).map(|port| format!("redis://127.0.0.1:{port}")),
    }
}
