//! `coreloop serve --register` at real etcd: seen by a client, gone after a kill, back after a restart.

mod common;
#[path = "common/registered.rs"]
mod registered;
#[path = "../../tests/common/registries.rs"]
mod registries;
#[path = "../../tests/common/watched.rs"]
mod watched;

use registries::Etcd;

#[test]
fn a_server_that_is_killed_disappears_and_comes_back() {
    let Some(etcd) = Etcd::start() else { return };
    registered::killed_and_back(&etcd, "2s");
}

#[test]
fn a_server_that_stops_is_deregistered_first() {
    let Some(etcd) = Etcd::start() else { return };
    registered::stopped(&etcd);
}
