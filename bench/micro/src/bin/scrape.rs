//! Prints what a scrape costs: the CPU time to read and write the metrics of a server with 200 methods, each of which was
//! called. `cargo run --release -p coreloop-micro --bin scrape`

use std::time::Duration;

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::metrics::MetricsFormat;
use coreloop::poller::os::thread_cpu_time;
use coreloop::{Context, Server};

const METHODS: usize = 200;
const SCRAPES: usize = 101;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = Server::builder().listen("127.0.0.1:0").cores(2);
    for at in 0..METHODS {
        builder = builder.method(&format!("Service{at}.Method"), |_cx: &Context<'_>, n: u64| Ok(n));
    }
    let server = builder.start()?;
    // Several connections, so that both reactors have counted.
    for _ in 0..8 {
        let client = Client::connect(server.addresses()[0].to_string())?;
        for at in 0..METHODS {
            client.call_bytes(&format!("Service{at}.Method"), Codec::Json, b"7")?;
        }
    }
    let inspector = server.inspector();
    for format in [MetricsFormat::Prometheus, MetricsFormat::OpenMetrics] {
        let mut bytes = 0;
        let mut times: Vec<(Duration, Duration)> = (0..SCRAPES)
            .map(|_| {
                let began = thread_cpu_time();
                let families = inspector.metric_families();
                let read = thread_cpu_time();
                bytes = format.write(&families).len();
                (thread_cpu_time() - began, read - began)
            })
            .collect();
        times.sort_unstable();
        let (all, read) = times[SCRAPES / 2];
        let most = times[SCRAPES - 1].0;
        println!(
            "{format:?}: {METHODS} methods, {bytes} bytes: {all:?} of CPU (reading {read:?}), at most {most:?}"
        );
    }
    Ok(())
}
