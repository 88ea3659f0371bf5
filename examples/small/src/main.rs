//! A server for a device with little memory: `small [ADDR]`.
//!
//! `curl -d 21 http://127.0.0.1:7000/Device/Double` answers `42`.

use coreloop::config::Config;
use coreloop::{Context, Server};

fn main() -> Result<(), coreloop::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let mut config = Config::small();
    config.listen = vec![address];
    let server = Server::builder()
        .config(config)
        .method("Device.Double", |_cx: &Context<'_>, number: u32| Ok(2 * u64::from(number)))
        .start()?;
    for address in server.addresses() {
        println!("listening on {address}");
    }
    server.wait().map(|_| ())
}
