//! What callers, resolver and reactor share for a client that has several servers: the settings, what the resolver has
//! found, and what operators see of it. The reactor's side is `app/fleet/`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::Duration;

use super::app::ClientCommand;
use super::call_slot::guarded;
use super::endpoint::Endpoint;
use super::shared::Client;
use crate::codec::Codec;
use crate::discovery::{Instance, Update, Updates, Watch};
use crate::log_events::log_event;
use crate::policy::fleet::{Balancer, EndpointView, Fleet, FleetConfig, FleetEvent, FleetStats};
use crate::status::Status;
use crate::wire::Scheme;

/// For how long [`Client::endpoints`] waits for the thread of the client.
const VIEW_WAIT: Duration = Duration::from_secs(2);

/// The key of the metadata that marks the attempts of a call after the first. Its value is the number of the attempt.
pub(super) const ATTEMPT: &str = "attempt";

/// A function that receives the events of a fleet.
pub(super) type OnFleetEvent = Arc<dyn Fn(&FleetEvent) + Send + Sync>;

/// A function that answers calls in place of the servers.
pub(super) type OnUnavailable = dyn Fn(&Unavailable<'_>) -> Option<Vec<u8>> + Send + Sync;

/// A call that no server has answered, for [`ClientBuilder::on_unavailable`](super::ClientBuilder::on_unavailable).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Unavailable<'a> {
    /// `Service.Method`.
    pub method: &'a str,
    /// The codec of the argument, and of the answer.
    pub codec: Codec,
    /// The encoded argument.
    pub argument: &'a [u8],
    /// What the call fails with otherwise.
    pub status: &'a Status,
}

/// What a client is built with, if it has a fleet.
pub(super) struct FleetShared {
    pub(super) config: FleetConfig,
    pub(super) on_unavailable: Option<Arc<OnUnavailable>>,
    pub(super) on_event: Option<OnFleetEvent>,
    /// A way of balancing of the program's own, until the reactor takes it.
    balancer: Mutex<Option<Box<dyn Balancer>>>,
    found: Mutex<Found>,
}

/// What the resolver has found and the reactor has not handled yet. A later update replaces an earlier one.
#[derive(Default)]
pub(super) struct Found {
    pub(super) instances: Option<Vec<Instance>>,
    pub(super) failed: Option<String>,
}

impl FleetShared {
    pub(super) fn new(
        config: FleetConfig,
        balancer: Option<Box<dyn Balancer>>,
        on_unavailable: Option<Arc<OnUnavailable>>,
        on_event: Option<OnFleetEvent>,
    ) -> FleetShared {
        let (balancer, found) = (Mutex::new(balancer), Mutex::default());
        FleetShared { config, on_unavailable, on_event, balancer, found }
    }

    /// Creates the policies; once, since they take the program's own balancing.
    pub(super) fn policies(&self, scheme: Scheme, seed: u64) -> Fleet {
        let mut config = self.config.clone();
        if !scheme.can_ping() && !scheme.can_call_health() {
            // There is nothing to check with.
            config.health.interval_ms = 0;
        }
        let policies = Fleet::new(config, seed);
        match self.balancer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(balancer) => policies.with_balancer(balancer),
            None => policies,
        }
    }

    /// Keeps an update for the reactor. Returns whether it must be notified: it has handled the ones before.
    fn put(&self, update: Update) -> bool {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = found.instances.is_none() && found.failed.is_none();
        match update {
            Update::Instances(instances) => *found = Found { instances: Some(instances), failed: None },
            Update::Failed(why) => found.failed = Some(why),
        }
        is_first
    }

    /// Takes the updates that were not handled yet.
    pub(super) fn take(&self) -> Found {
        std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Passes events to the log and to the program's function.
    pub(super) fn report(&self, events: &[FleetEvent]) {
        events.iter().for_each(log);
        if let Some(on_event) = &self.on_event {
            events.iter().for_each(|event| guarded(|| on_event(event)));
        }
    }
}

fn log(event: &FleetEvent) {
    match event {
        FleetEvent::Appeared(id) => log_event!(EndpointAdded { endpoint: id.clone() }),
        FleetEvent::Gone(id) => log_event!(EndpointRemoved { endpoint: id.clone() }),
        FleetEvent::BreakerOpened(id) => log_event!(BreakerOpened { endpoint: id.clone() }),
        FleetEvent::BreakerClosed(id) => log_event!(BreakerClosed { endpoint: id.clone() }),
        FleetEvent::Unhealthy(id) => log_event!(EndpointUnhealthy { endpoint: id.clone() }),
        FleetEvent::Healthy(id) => log_event!(EndpointHealthy { endpoint: id.clone() }),
        FleetEvent::EmptyUpdateIgnored => log_event!(EmptyUpdateIgnored {}),
        FleetEvent::TooManyInstances(ignored) => log_event!(TooManyInstances { ignored: *ignored }),
        FleetEvent::ResolveFailed(error) => log_event!(ResolveFailed { error: error.clone() }),
        FleetEvent::BudgetEmpty => log_event!(RetryBudgetEmpty {}),
        FleetEvent::SpilledOver => log_event!(ZoneLeft {}),
        FleetEvent::BackInZone => log_event!(ZoneKept {}),
    }
}

/// A fleet and the watch of its resolver, which ends with it.
pub(super) struct FleetWatch {
    fleet: Arc<FleetShared>,
    watch: Mutex<Option<Watch>>,
}

impl FleetWatch {
    pub(super) fn new(fleet: FleetShared) -> FleetWatch {
        FleetWatch { fleet: Arc::new(fleet), watch: Mutex::new(None) }
    }

    pub(super) fn fleet(&self) -> &Arc<FleetShared> {
        &self.fleet
    }

    pub(super) fn set_watch(&self, watch: Watch) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
    }
}

/// Returns what passes the resolver's updates to the reactor, as long as the endpoint lives.
pub(super) fn updates_of(endpoint: &Arc<Endpoint>) -> Updates {
    let endpoint: Weak<Endpoint> = Arc::downgrade(endpoint);
    Updates::new(move |update| {
        let Some(endpoint) = endpoint.upgrade() else { return };
        if endpoint.fleet().is_some_and(|fleet| fleet.put(update)) {
            endpoint.mail(ClientCommand::Found(endpoint.clone()));
        }
    })
}

/// What is known of the servers of a client.
#[derive(Default)]
pub(super) struct FleetView {
    pub(super) endpoints: Vec<EndpointView>,
    pub(super) stats: FleetStats,
}

/// Receives the answer to [`Client::endpoints`].
pub(super) type ViewSender = mpsc::SyncSender<FleetView>;

impl Client {
    /// Returns what is known of each server of the client: its state as the resolver, the health checks, the circuit
    /// breaker and the balancing see it. A client of one address has one entry once it has made a call.
    ///
    /// It asks the thread that drives the client and waits for the answer, at most 2 s. The list is empty if there is
    /// none by then, and on that thread itself, which cannot wait for its own work.
    ///
    /// ```
    /// # use coreloop::{Context, Server};
    /// use coreloop::client::Client;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let one = Server::builder().listen("127.0.0.1:0").start()?;
    /// # let two = Server::builder().listen("127.0.0.1:0").start()?;
    /// # let (one, two) = (&one.addresses()[0], &two.addresses()[0]);
    /// let client = Client::connect(format!("static:{one},{two}"))?;
    /// let endpoints = client.endpoints();
    /// assert_eq!(endpoints.len(), 2);
    /// assert!(endpoints.iter().any(|endpoint| endpoint.is_connected));
    /// assert!(endpoints.iter().all(|endpoint| endpoint.breaker == "closed"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn endpoints(&self) -> Vec<EndpointView> {
        self.fleet_view().endpoints
    }

    /// Returns the counts of a client's calls, attempts, retries and hedges over all its servers; zero for a client of one
    /// address. It waits as [`Client::endpoints`] does.
    pub fn fleet_stats(&self) -> FleetStats {
        self.fleet_view().stats
    }

    pub(super) fn fleet_view(&self) -> FleetView {
        let endpoint = self.endpoint();
        if endpoint.is_driven_here() {
            return FleetView::default();
        }
        let (sender, views) = mpsc::sync_channel(1);
        endpoint.mail(ClientCommand::View { endpoint: endpoint.clone(), sender });
        views.recv_timeout(VIEW_WAIT).unwrap_or_default()
    }
}

impl fmt::Debug for FleetShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetShared").field("config", &self.config).finish_non_exhaustive()
    }
}
