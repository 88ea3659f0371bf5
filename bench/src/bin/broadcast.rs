//! `broadcast`: a server whose method `Bench.Subscribe` sends the same items to all its subscribers, to measure what a
//! delivery costs. `loadgen` subscribes: docs/performance.md has the commands.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use coreloop::stream::{Broadcast, SlowSubscriber};
use coreloop::{Context, Server, Sink, Status};

/// Sends items to all subscribers of `Bench.Subscribe`.
#[derive(Parser)]
#[command(name = "broadcast", version)]
struct Options {
    /// Where to listen; port 0 selects a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Bytes of an item, a string.
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    /// Items per second.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Number of reactors.
    #[arg(long, default_value_t = 1)]
    cores: usize,
}

struct Bench {
    items: Arc<Broadcast<String>>,
}

#[coreloop::service]
impl Bench {
    /// Sends each item from now on. A subscriber that is too slow misses the oldest of what it has not taken.
    #[rpc(inline)]
    fn subscribe(&self, _cx: &Context, items: Sink<String>) -> Result<(), Status> {
        self.items.subscribe(items);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let items = Arc::new(Broadcast::new(SlowSubscriber::DropOldest(16)));
    let service = Bench { items: items.clone() };
    let server = Server::builder().service(service).cores(options.cores).listen(&options.listen).start()?;
    for address in server.addresses() {
        println!("listening on {address}");
    }
    std::io::stdout().flush()?;
    let item = "A".repeat(options.bytes);
    loop {
        thread::sleep(Duration::from_secs(1) / options.rate);
        items.send(&item)?;
    }
}
