//! A server for a device with little memory: `small [ADDR [CONNECTIONS]]`.
//!
//! `curl -d 21 http://127.0.0.1:7000/Device/Double` answers `42`.

use coreloop::config::Config;
use coreloop::{Context, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let mut config = Config::small();
    config.listen = vec![address];
    if let Some(connections) = arguments.next() {
        config.limits.connections_max = connections.parse()?;
        // All may connect at the same time.
        config.limits.silent_connections_max = config.limits.connections_max;
    }
    let server = Server::builder()
        .config(config)
        .method("Device.Double", |_cx: &Context<'_>, number: u32| Ok(2 * u64::from(number)))
        .start()?;
    for address in server.addresses() {
        println!("listening on {address}");
    }
    server.wait()?;
    Ok(())
}
