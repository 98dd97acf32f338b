//! How a connector is started: a task for each of its sinks.
//!
//! Of a topic that is not there yet nobody knows how many partitions it has: the first one's sink waits for it, and those of
//! the others are started once it is there.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use clickmill_broker::TopicPartition;
use tokio::runtime::Handle;

use super::{Connectors, Member, Members, locked};
use crate::before::Before;
use crate::endpoint::{Endpoint, ServerUrl};
use crate::letters::Letters;
use crate::running::{Begun, StopAsked};
use crate::transform::MakeTransform;
use crate::{Connector, HttpOptions, Servers, SinkSource};

/// Between two looks whether a topic is there.
const TOPIC_INTERVAL: Duration = Duration::from_secs(1);

/// What connectors are started with.
#[derive(Clone)]
pub(super) struct Starter {
    pub source: SinkSource,
    pub servers: Servers,
    pub runtime: Handle,
    pub transforms: MakeTransform,
}

impl Connectors {
    /// `false`: nothing is started any more.
    pub(super) async fn begin(&self, connector: Connector) -> bool {
        // Asked without the lock: it may take a request.
        let partitions = match &connector {
            Connector::Http(options) => options.partitions(&self.starter.source).await,
            Connector::Postgres(_) | Connector::Redis(_) | Connector::Parquet(_) => None,
        };
        let mut members = self.members();
        if members.closed {
            return false;
        }
        let mut begun = Begun::new(&self.starter.runtime);
        self.starter.spawn(&connector, partitions, &mut begun);
        if let (Connector::Http(options), None, None) = (&connector, connector.off(), partitions) {
            let (starter, options, members) = (self.starter.clone(), options.clone(), Arc::downgrade(&self.members));
            begun.task(|stopped| starter.spawn_others(options, members, stopped));
        }
        let (running, handles) = begun.done();
        if let Some(before) = members.by_name.get(connector.name()) {
            handles.iter().for_each(|handle| before.handles.iter().for_each(|old| handle.count_on(old)));
        }
        let name = connector.name().to_owned();
        let member = Member { connector, wanted: true, handles, running: Some(running), is_emptied: false };
        members.by_name.insert(name, member);
        true
    }
}

impl Starter {
    /// Starts the sinks; `partitions` of an HTTP sink's topic, where they are known.
    fn spawn(&self, connector: &Connector, partitions: Option<u32>, begun: &mut Begun<'_>) {
        let source = &self.source;
        match connector {
            Connector::Postgres(options) => {
                let pool = options.pool(self.endpoint(options.url.as_ref()));
                for (service, handle) in options.raw(&pool, source) {
                    let service = service.behind(self.before(connector, handle.source()));
                    begun.spawn(|stopped| service.run(stopped), handle);
                }
                let (service, handle) = options.windows(&pool, source);
                begun.spawn(|stopped| service.run(stopped), handle);
                let (service, handle) = options.letters(&pool, source);
                begun.spawn(|stopped| service.run(stopped), handle);
            }
            Connector::Redis(options) => {
                let (service, handle) = options.windows(self.endpoint(options.url.as_ref()), source);
                begun.spawn(|stopped| service.run(stopped), handle);
            }
            Connector::Parquet(options) => {
                let (service, handle) = options.windows(self.endpoint(options.url.as_ref()), source);
                begun.spawn(|stopped| service.run(stopped), handle);
            }
            Connector::Http(options) => {
                for (service, handle) in options.sinks(self.servers.data_dir(), source, 0..partitions.unwrap_or(1)) {
                    let service = service.behind(self.before(connector, handle.source()));
                    begun.spawn(|stopped| service.run(stopped), handle);
                }
            }
        }
    }

    /// Starts the sinks of all partitions but the first, once the topic is there.
    async fn spawn_others(self, options: HttpOptions, members: Weak<Mutex<Members>>, stopped: StopAsked) {
        let found = async {
            loop {
                if let Some(partitions) = options.partitions(&self.source).await {
                    return partitions;
                }
                tokio::time::sleep(TOPIC_INTERVAL).await;
            }
        };
        let partitions = tokio::select! {
            () = stopped => return,
            partitions = found => partitions,
        };
        let Some(members) = members.upgrade() else { return };
        let mut members = locked(&members);
        // None where it is being stopped: who starts it again asks for the topic anew.
        let Some(Member { running: Some(running), handles, .. }) = members.by_name.get_mut(&options.name) else {
            return;
        };
        let connector = Connector::Http(options.clone());
        for (service, handle) in options.sinks(self.servers.data_dir(), &self.source, 1..partitions) {
            let service = service.behind(self.before(&connector, handle.source()));
            running.spawn(&self.runtime, |stopped| service.run(stopped));
            handles.push(handle);
        }
    }

    /// The modules between a topic and a sink of the connector, where there are some.
    fn before(&self, connector: &Connector, at: &TopicPartition) -> Option<Before> {
        let (make, specs) = (self.transforms.clone(), connector.transforms(&at.topic).to_vec());
        let letters = Letters::of_any_topic(&self.source, connector.name(), at, connector.hidden());
        (!specs.is_empty()).then(|| Before::new(Arc::new(move || make(&specs)), letters))
    }

    /// The named server, or the private one.
    pub(super) fn endpoint(&self, url: Option<&ServerUrl>) -> Endpoint {
        url.map_or_else(|| Endpoint::Private(self.servers.clone()), |url| Endpoint::Named(url.clone()))
    }
}
