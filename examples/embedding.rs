//! A server inside a program with its own work, threads and configuration: `embedding`.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use coreloop::client::Direct;
use coreloop::config::Config;
use coreloop::{Context, Server, Status};

/// The program's own state, which it also serves over the network.
#[derive(Default)]
struct Plant {
    grown: AtomicU64,
    is_felled: AtomicBool,
}

#[coreloop::service]
impl Plant {
    /// Returns how often the plant has grown.
    #[rpc(inline, idempotent)]
    fn height(&self, _cx: &Context) -> Result<u64, Status> {
        Ok(self.grown.load(Ordering::Relaxed))
    }
}

/// The program's own work, on its own thread.
fn grow(plant: &Plant) {
    while !plant.is_felled.load(Ordering::Relaxed) {
        plant.grown.fetch_add(1, Ordering::Relaxed);
        thread::yield_now();
    }
}

/// Waits until the plant is higher than `height`.
fn wait_beyond(plant: &Plant, height: u64) {
    while plant.grown.load(Ordering::Relaxed) <= height {
        thread::yield_now();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let plant = Arc::new(Plant::default());
    let gardener = thread::spawn({
        let plant = plant.clone();
        move || grow(&plant)
    });

    let mut config = Config::default();
    config.listen = vec!["127.0.0.1:0".to_owned()];
    config.cores = 1;
    config.workers = 1;
    config.limits.connections_max = 100;
    config.limits.frame_bytes_max = 1 << 20;
    config.limits.drain_ms = 1_000;
    // From here on the server has its own threads; this thread continues.
    let server = Server::builder().config(config).service_arc(plant.clone()).start()?;
    let address = server.addresses()[0].to_string();
    println!("listening on {address}");

    let mut client = PlantClient::new(Direct::connect(&address)?);
    wait_beyond(&plant, client.height()?);

    // A temporarily unavailable service reports this through Health.Check.
    let json = coreloop::codec::Codec::Json;
    for serves in [false, true] {
        server.health().set("Plant", serves);
        let answer = client.caller_mut().call_bytes("Health.Check", json, b"\"Plant\"")?;
        println!("Plant is {}", String::from_utf8_lossy(&answer));
    }

    let stats = server.stats();
    let height = stats.method("Plant.Height").ok_or("the method is registered")?;
    println!("{} connection, {} call of {}", stats.connections(), height.calls, height.name);

    // Any thread may request the stop; the thread that waits for the server performs it.
    let stopper = server.stopper();
    thread::spawn(move || stopper.stop());
    let last = server.wait()?;
    println!("drained: {} calls were cut short", last.drain_cancelled);

    // The program outlives its server.
    wait_beyond(&plant, plant.grown.load(Ordering::Relaxed));
    println!("the plant still grows");
    plant.is_felled.store(true, Ordering::Relaxed);
    gardener.join().expect("it does not panic");
    Ok(())
}
