//! A thousand endpoints: one server process that is reached at a thousand loopback addresses.

use std::fmt::Write as _;
use std::time::Duration;

use coreloop::client::Client;

use crate::load::{Load, Shape, wait_until};
use crate::processes::{Process, Servers};

const ENDPOINTS: usize = 1_000;

/// Returns the addresses, of the whole network 127.0.0.0/8.
fn addresses(server: &Process) -> Vec<String> {
    let port = server.address().rsplit_once(':').expect("it has a port").1;
    (0..ENDPOINTS).map(|index| format!("127.1.{}.{}:{port}", index / 250, index % 250 + 1)).collect()
}

#[test]
fn a_thousand_endpoints_need_no_thousand_connections() {
    let servers = Servers::start_on("0.0.0.0:0", 1);
    let server = &servers.all[0];
    let idle = server.descriptors();
    let mut url = "static:".to_owned();
    for (index, address) in addresses(server).into_iter().enumerate() {
        let _ = write!(url, "{}{address}", if index == 0 { "" } else { "," });
    }
    let client = Client::builder(&url).build().unwrap();
    let load = Load::start(&client, Shape { place: 4, price: 4, us: 0, every: Duration::ZERO });
    load.wait_for_ok(2_000);
    let used = server.descriptors() - idle;
    assert_eq!(client.endpoints().len(), ENDPOINTS);
    let ended = load.end();
    assert_eq!(ended.failed.len(), 0, "{:?}", ended.failed.first());
    eprintln!("{used} connections for {} calls to {ENDPOINTS} endpoints", ended.calls);
    assert!(used < ENDPOINTS / 2, "{used} connections");
    drop(client);
    wait_until("the connections are closed", || server.descriptors() <= idle);
}
