//! Runs for the other programs of this crate: no terminal, no files, no signals; a few settings and the result.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::mix::{self, Call};
use super::options::depth_of;
use super::outcome::Outcome;
use super::run::{Live, Plan};
use super::schedule::Arrivals;
use super::speech::{AddressProtocol, Speech};
use super::target::Target;

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// Address of the server.
    pub address: SocketAddr,
    /// The protocol.
    pub speaks: AddressProtocol,
    /// Methods by weight, in the syntax of `--mix`.
    pub mix: &'a str,
    /// The codec of all methods; default: each method's usual one.
    pub codec: Option<&'a str>,
    /// Number of connections.
    pub connections: u32,
    /// Calls in flight on each connection; default as for `--depth`.
    pub depth: Option<u32>,
    /// Calls per second of an open loop; `None`: a closed loop.
    pub rate: Option<f64>,
    /// Length of the warm-up, in seconds.
    pub warmup_s: f64,
    /// Length of the measured window, in seconds.
    pub seconds: f64,
    /// The core to which the generator is pinned.
    pub core: Option<usize>,
    /// Poll instead of sleeping.
    pub spin: bool,
    /// A process whose CPU time is also read.
    pub watch: Option<u32>,
}

impl<'a> Ask<'a> {
    /// Returns the settings of a closed loop with one call in flight, for one second.
    pub fn of(address: SocketAddr, mix: &'a str) -> Ask<'a> {
        Ask {
            address,
            speaks: AddressProtocol::Native,
            mix,
            codec: None,
            connections: 1,
            depth: None,
            rate: None,
            warmup_s: 0.0,
            seconds: 1.0,
            core: None,
            spin: false,
            watch: None,
        }
    }

    /// Runs to the end.
    pub fn run(&self, progress: &mut dyn FnMut(&Live)) -> Result<Outcome, String> {
        let calls = mix::parse(self.speaks, self.mix, self.codec, 0)?;
        self.make(&calls, &Arc::default(), progress)
    }

    /// Makes these calls in place of the mix, until the end or until `stop` is set.
    pub fn make(
        &self,
        calls: &[Call],
        stop: &Arc<AtomicBool>,
        progress: &mut dyn FnMut(&Live),
    ) -> Result<Outcome, String> {
        let plan = Plan {
            speaks: self.speaks,
            target: Target::from(self.address),
            weights: calls.iter().map(|call| call.weight).collect(),
            connections: self.connections,
            depth: depth_of(self.depth, self.rate.is_some(), self.connections),
            rate: self.rate,
            arrivals: Arrivals::Fixed,
            warmup: Duration::from_secs_f64(self.warmup_s),
            duration: Duration::from_secs_f64(self.seconds),
            drain: Duration::from_secs(5),
            deadlines_ns: Arc::from([]),
            threads: 1,
            cores: self.core.into_iter().collect(),
            spin: self.spin,
            seed: 1,
            watch: self.watch,
            trace_one_in: 0,
            calls_first: false,
            deadline_steps: 0,
            list: None,
        };
        let speech = Speech::new(plan.speaks, calls, &plan.target, &[])?;
        let measured = speech.measure(&plan, stop, progress)?;
        Ok(Outcome::new(&plan, calls, false, 0, &measured))
    }
}
