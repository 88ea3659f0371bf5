//! The measured server: the demo services on the library, with configurable settings, and a method that returns how
//! often the process has allocated.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use coreloop::client::Direct;
use coreloop::codec::Codec;
use coreloop::config::Layers;
use coreloop::server::Stopper;
use coreloop::service::Kind;
use coreloop::signals;
use coreloop::{Context, Server, Status, demo};
use serde::{Deserialize, Serialize};

use super::{CALLS_MIN, allocations};

const READ: &str = "Counts.Read";

/// How to serve.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// A setting, as in docs/configuration.md; repeatable.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Count allocations; `Counts.Read` returns them.
    #[arg(long)]
    count: bool,
}

/// A server's counters at one moment.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Allocations of the process.
    pub allocations: u64,
    /// Answered calls.
    pub calls: u64,
    /// Time of the reading, in microseconds of the server's own clock.
    pub at_us: u64,
}

impl Counts {
    /// Reads the counters of a server.
    pub fn read(address: &str) -> Result<Counts, String> {
        let direct = Direct::connect(address).map_err(|error| error.to_string())?;
        let bytes = direct.call_bytes(READ, Codec::Json, b"null").map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    /// Returns allocations per call and per second since an earlier reading, without the `asking` allocations that a
    /// reading itself makes; `None` if there were too few calls.
    pub fn since(self, earlier: Counts, asking: u64) -> Option<(f64, f64)> {
        let allocations = (self.allocations - earlier.allocations).saturating_sub(asking) as f64;
        // One of the two readings is among the calls.
        let calls = (self.calls - earlier.calls).saturating_sub(1);
        let seconds = (self.at_us - earlier.at_us).max(1) as f64 / 1e6;
        (calls >= CALLS_MIN).then(|| (allocations / calls as f64, allocations / seconds))
    }
}

/// Serves until a signal arrives.
pub fn run(options: &Options) -> Result<(), String> {
    let layers = options.set.iter().try_fold(Layers::new(), |layers, pair| layers.set(pair));
    let layers = layers.and_then(|layers| layers.flag("listen", &options.listen));
    let config = layers.and_then(Layers::resolve).map_err(|error| error.to_string())?.config;
    if options.count {
        allocations::begin();
    }
    let began = Instant::now();
    let stopper: Arc<OnceLock<Stopper>> = Arc::default();
    let told = stopper.clone();
    let counts =
        move |_cx: &Context, (): ()| told.get().map(|stopper| counts(stopper, began)).ok_or_else(early);
    let builder = demo::services(Server::builder()).method_of_kind(READ, Kind::Inline, counts);
    let server = builder.config(config).start().map_err(|error| error.to_string())?;
    let hand = stopper.get_or_init(|| server.stopper()).clone();
    let _signals = signals::on_stop(move |_signal| hand.stop()).map_err(|error| error.to_string())?;
    for address in server.addresses() {
        writeln!(io::stdout(), "listening on {address}").map_err(|error| error.to_string())?;
    }
    server.wait().map(|_| ()).map_err(|error| error.to_string())
}

fn early() -> Status {
    Status::unavailable("the server is still starting")
}

/// Sums up the calls before reading the allocations: summing allocates, and both readings of an interval must include
/// the same amount of it.
fn counts(stopper: &Stopper, began: Instant) -> Counts {
    let calls = stopper.stats().methods.iter().map(|method| method.calls).sum();
    Counts { calls, at_us: began.elapsed().as_micros() as u64, allocations: allocations::so_far() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_by_call_and_by_second() {
        let earlier = Counts { allocations: 100, calls: 10, at_us: 1_000_000 };
        let later = Counts { allocations: 3_050, calls: 2_011, at_us: 1_500_000 };
        assert_eq!(later.since(earlier, 50), Some((1.45, 5_800.0)));
        assert_eq!(earlier.since(earlier, 50), None, "no calls");
    }
}
