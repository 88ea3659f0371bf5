//! The metrics of a client: its calls, and the state of its servers.

use std::borrow::Cow;
use std::time::Duration;

use super::shared::Client;
use crate::metrics::{MetricFamily, MetricKind, MetricSource, MetricValue};
use crate::policy::fleet::EndpointView;

/// The most servers of a client that are listed; of further ones nothing is said.
const ENDPOINTS_MAX: usize = 1_000;

/// The names of [`Outcome`](super::Outcome)s, in the order of `EndpointView::ended`.
const OUTCOMES: [&str; 4] = ["success", "failure", "refused", "cancelled"];
/// The states of a breaker, as [`EndpointView::breaker`] has them.
const BREAKER_STATES: [&str; 3] = ["closed", "open", "half-open"];

/// The metrics of one client, for [`ServerBuilder::metrics`](crate::server::ServerBuilder::metrics) or a
/// [`MetricSet`](crate::metrics::MetricSet). It keeps the client open.
///
/// The name becomes the label `client`. Of the servers that a resolver finds, 1,000 are listed by the ids of their instances
/// (label `endpoint`), so a client has at most 13,100 series. Reading waits for the client's thread, at most 2 s
/// ([`Client::endpoints`]).
///
/// ```
/// use coreloop::Server;
/// use coreloop::client::{Client, ClientMetrics};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let stock_server = Server::builder().listen("127.0.0.1:0").start()?;
/// # let stock = stock_server.addresses()[0].to_string();
/// let client = Client::connect(&stock)?;
/// let server = Server::builder().metrics(ClientMetrics::new("stock", &client)).listen("127.0.0.1:0").start()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ClientMetrics {
    name: Cow<'static, str>,
    client: Client,
}

impl ClientMetrics {
    /// Creates the source of a client's metrics. Names of different clients differ: series that repeat are left out.
    pub fn new(name: impl Into<Cow<'static, str>>, client: &Client) -> ClientMetrics {
        ClientMetrics { name: name.into(), client: client.clone() }
    }

    fn counter(&self, name: &'static str, help: &'static str, count: u64) -> MetricFamily {
        MetricFamily::new(name, "", MetricKind::Counter, help)
            .sample([("client", self.name.to_string())], MetricValue::Count(count))
    }

    /// Returns a family with one sample for each endpoint.
    fn of_endpoints(
        &self,
        endpoints: &[EndpointView],
        family: MetricFamily,
        value: impl Fn(&EndpointView) -> MetricValue,
    ) -> MetricFamily {
        endpoints
            .iter()
            .fold(family, |family, endpoint| family.sample(self.labels(endpoint), value(endpoint)))
    }

    fn labels(&self, endpoint: &EndpointView) -> [(&'static str, String); 2] {
        [("client", self.name.to_string()), ("endpoint", endpoint.instance.id.clone())]
    }

    fn endpoint_families(&self, endpoints: &[EndpointView]) -> Vec<MetricFamily> {
        let gauge = |name, help| MetricFamily::new(name, "", MetricKind::Gauge, help);
        let seconds = |name, help| MetricFamily::new(name, "seconds", MetricKind::Gauge, help);
        let flag = |is_set: bool| MetricValue::Count(u64::from(is_set));
        let time = |us: u64| MetricValue::Number(Duration::from_micros(us).as_secs_f64());
        let mut breaker = gauge(
            "coreloop_client_endpoint_breaker",
            "The state of the circuit breaker of an endpoint: 1 for the present state, 0 for the others.",
        );
        let mut attempts = MetricFamily::new(
            "coreloop_client_endpoint_attempts",
            "",
            MetricKind::Counter,
            "Attempts at an endpoint that have ended, by outcome.",
        );
        for endpoint in endpoints {
            let [client, name] = self.labels(endpoint);
            for state in BREAKER_STATES {
                let labels = [client.clone(), name.clone(), ("state", state.to_owned())];
                breaker = breaker.sample(labels, flag(endpoint.breaker == state));
            }
            for (outcome, count) in OUTCOMES.into_iter().zip(endpoint.ended) {
                let labels = [client.clone(), name.clone(), ("outcome", outcome.to_owned())];
                attempts = attempts.sample(labels, MetricValue::Count(count));
            }
        }
        let connected =
            gauge("coreloop_client_endpoint_connected", "Whether a connection to an endpoint exists.");
        let healthy = gauge("coreloop_client_endpoint_healthy", "Whether the last health checks succeeded.");
        let ejected = gauge(
            "coreloop_client_endpoint_ejected",
            "Whether an endpoint gets no calls but probes, because of its breaker or its health.",
        );
        let in_flight = gauge("coreloop_client_endpoint_in_flight", "Attempts in flight at an endpoint.");
        let latency = seconds(
            "coreloop_client_endpoint_latency_seconds",
            "The estimated latency of an attempt (peak EWMA).",
        );
        let load = seconds(
            "coreloop_client_endpoint_load_seconds",
            "How long a new call would wait at the server, as it reported last.",
        );
        vec![
            breaker,
            attempts,
            self.of_endpoints(endpoints, connected, |endpoint| flag(endpoint.is_connected)),
            self.of_endpoints(endpoints, healthy, |endpoint| flag(endpoint.is_healthy)),
            self.of_endpoints(endpoints, ejected, |endpoint| flag(endpoint.is_ejected)),
            self.of_endpoints(endpoints, in_flight, |endpoint| {
                MetricValue::Count(u64::from(endpoint.in_flight))
            }),
            self.of_endpoints(endpoints, latency, |endpoint| time(endpoint.latency_us)),
            self.of_endpoints(endpoints, load, |endpoint| time(u64::from(endpoint.load_us))),
        ]
    }
}

impl MetricSource for ClientMetrics {
    fn families(&self) -> Vec<MetricFamily> {
        let mut view = self.client.fleet_view();
        let (stats, fleet) = (self.client.stats(), view.stats);
        view.endpoints.truncate(ENDPOINTS_MAX);
        let endpoints = MetricFamily::new(
            "coreloop_client_endpoints",
            "",
            MetricKind::Gauge,
            "Servers that a client has now.",
        )
        .sample([("client", self.name.to_string())], MetricValue::Count(u64::from(fleet.endpoints)));
        let in_flight = MetricFamily::new(
            "coreloop_client_in_flight",
            "",
            MetricKind::Gauge,
            "Calls started and not ended.",
        )
        .sample([("client", self.name.to_string())], MetricValue::Count(self.client.in_flight() as u64));
        let mut families = vec![
            // Of the thread that drives the client.
            self.counter("coreloop_client_sent", "Calls and attempts that were written.", stats.sent),
            self.counter(
                "coreloop_client_answered",
                "Calls and attempts that were answered, with any status.",
                stats.answered,
            ),
            self.counter("coreloop_client_cancelled", "Calls that their callers gave up.", stats.cancelled),
            self.counter("coreloop_client_late", "Calls whose deadline passed on this side.", stats.late),
            self.counter(
                "coreloop_client_late_replies",
                "Replies to calls that were over.",
                stats.late_replies,
            ),
            self.counter(
                "coreloop_client_unknown_replies",
                "Replies to calls that never existed.",
                stats.unknown_replies,
            ),
            self.counter("coreloop_client_connects", "Connections that were made.", stats.connects),
            self.counter(
                "coreloop_client_connect_failures",
                "Attempts to connect that failed.",
                stats.connect_failures,
            ),
            self.counter(
                "coreloop_client_connections_lost",
                "Connections that ended with calls in flight.",
                stats.lost,
            ),
            self.counter("coreloop_client_drain_notices", "Notices of servers that drain.", stats.drains),
            in_flight,
            // Of a client with several servers; 0 for others.
            self.counter(
                "coreloop_client_calls",
                "Calls that began, of a client with several servers.",
                fleet.calls,
            ),
            self.counter(
                "coreloop_client_attempts",
                "Attempts for which a server was picked.",
                fleet.attempts,
            ),
            self.counter(
                "coreloop_client_retries",
                "Calls that were attempted again after a failure.",
                fleet.retries,
            ),
            self.counter(
                "coreloop_client_hedges",
                "Second attempts because the first one was slow.",
                fleet.hedges,
            ),
            self.counter("coreloop_client_hedge_wins", "Hedges that were answered first.", fleet.hedge_wins),
            self.counter(
                "coreloop_client_budget_refusals",
                "Retries and hedges that were not made, since the budget was empty.",
                fleet.budget_refusals,
            ),
            self.counter(
                "coreloop_client_probes",
                "Attempts that probed a server with a half-open breaker.",
                fleet.probes,
            ),
            self.counter(
                "coreloop_client_outside_zone",
                "Attempts outside the client's zone.",
                fleet.outside_zone,
            ),
            self.counter(
                "coreloop_client_no_endpoint",
                "Attempts for which there was no server.",
                fleet.no_endpoint,
            ),
            endpoints,
        ];
        families.extend(self.endpoint_families(&view.endpoints));
        families
    }
}
