//! `coreloop serve --register` at real Consul: seen by a client, gone after a kill, back after a restart.

mod common;
#[path = "common/registered.rs"]
mod registered;
#[path = "../../tests/common/registries.rs"]
mod registries;
#[path = "../../tests/common/watched.rs"]
mod watched;

use registries::Consul;

#[test]
fn a_server_that_is_killed_disappears_and_comes_back() {
    let Some(consul) = Consul::start() else { return };
    registered::killed_and_back(&consul, "1s");
}

#[test]
fn a_server_that_stops_is_deregistered_first() {
    let Some(consul) = Consul::start() else { return };
    registered::stopped(&consul);
}

#[test]
fn a_server_starts_without_consul_and_registers_when_it_is_there() {
    let Some(mut consul) = Consul::start() else { return };
    consul.stop();
    registered::registers_later(&mut consul, Consul::restart);
}
