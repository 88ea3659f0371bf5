//! A client in a zone whose servers fail: its calls go to the other zone, and return.

use std::time::Duration;

use coreloop::client::{Backoff, Client};

use crate::load::{Load, Shape, wait_until};
use crate::processes::Servers;

#[test]
fn calls_leave_their_zone_while_its_servers_are_gone_and_return() {
    let mut servers = Servers::start(4);
    let zone = |index: usize| if index < 2 { "a" } else { "b" };
    let instances: Vec<String> = servers
        .all
        .iter()
        .enumerate()
        .map(|(index, server)| format!("{};zone={}", server.address(), zone(index)))
        .collect();
    let client = Client::builder(format!("static:{}?zone=a", instances.join(",")))
        .configure(|config| config.backoff = Backoff { base_ms: 5, max_ms: 100 })
        .fleet(|config| config.breaker.open_ms = 200)
        .build()
        .unwrap();
    let load = Load::start(&client, Shape { place: 0, price: 8, us: 500, every: Duration::ZERO });
    load.wait_for_ok(500);
    let far = |servers: &Servers| servers.all[2].runs().len() + servers.all[3].runs().len();
    assert_eq!(far(&servers), 0, "the zone's own servers can take all calls");
    servers.all[0].kill();
    servers.all[1].kill();
    wait_until("the other zone takes the calls", || far(&servers) > 500);
    servers.all[0].start_again();
    servers.all[1].start_again();
    let at_home = |servers: &Servers| servers.all[0].counts().attempts + servers.all[1].counts().attempts;
    wait_until("the calls return", || {
        let (home, away) = (at_home(&servers), far(&servers));
        std::thread::sleep(Duration::from_millis(100));
        at_home(&servers) > home && far(&servers) == away
    });
    let ended = load.end();
    assert_eq!(ended.failed.len(), 0, "{:?}", ended.failed.first());
}
