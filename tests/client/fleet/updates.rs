//! What the resolver finds: late, other instances, none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Events, Numbered, Told, call_each_of, call_times, which};
use crate::common::eventually;
use crate::common::raw_server::end;
use coreloop::client::{CallError, ClientInterceptor, EndedClientCall, FleetEvent, NewCall};
use coreloop::codec::Codec;
use coreloop::discovery::Instance;
use coreloop::{Code, Status};

#[test]
fn calls_wait_for_the_first_instances() {
    let (resolver, server) = (Told::default(), Numbered::start(3));
    let client = resolver.builder().build().unwrap();
    let calls: Vec<_> = (0..10).map(|_| client.start_bytes("Which.Server", Codec::Json, b"0")).collect();
    assert!(calls.iter().all(|call| !call.is_done()));
    assert_eq!(client.in_flight(), 10);
    resolver.set(&[&server]);
    for call in calls {
        assert_eq!(end(call).unwrap(), b"3");
    }
}

#[test]
fn a_deadline_ends_a_call_that_waits_for_the_first_instances() {
    let resolver = Told::default();
    let client = resolver.builder().build().unwrap();
    let late = client.with_timeout(Duration::from_millis(20)).start_bytes("Which.Server", Codec::Json, b"0");
    assert!(matches!(end(late), Err(CallError::DeadlineExceeded)));
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn cancelled_calls_do_not_wait_for_the_first_instances() {
    let (resolver, server) = (Told::default(), Numbered::start(3));
    let client = resolver.builder().build().unwrap();
    let calls: Vec<_> = (0..10).map(|_| client.start_bytes("Which.Server", Codec::Json, b"0")).collect();
    drop(calls);
    eventually("the calls have ended", || client.in_flight() == 0);
    resolver.set(&[&server]);
    assert_eq!(which(&client).unwrap(), 3);
    assert_eq!(server.calls(), 1);
}

#[test]
fn the_watch_ends_with_the_client_and_its_calls() {
    let resolver = Told::default();
    let client = resolver.builder().build().unwrap();
    let call = client.start_bytes("Which.Server", Codec::Json, b"0");
    assert_eq!(resolver.open_watches(), 1);
    drop(client);
    drop(call);
    eventually("the watch has ended", || resolver.open_watches() == 0);
    // An update after the end of the watch has no effect.
    resolver.set_instances(vec![Instance::new("127.0.0.1:1")]);
}

#[test]
fn a_resolver_that_finds_nothing_in_time_fails_the_calls_with_its_reason() {
    let resolver = Told::default();
    let client = resolver.builder().configure(|config| config.connect_timeout_ms = 20).build().unwrap();
    let updates = resolver.updates.lock().unwrap().clone().unwrap();
    updates.failed("the registry is away");
    let error = which(&client).unwrap_err();
    assert!(error.to_string().contains("the registry is away"), "{error}");
    assert_eq!((error.code(), error.may_have_run()), (Code::Unavailable, false));
    assert!(resolver.builder().configure(|config| config.connect_timeout_ms = 20).connect().is_err());
}

#[test]
fn calls_follow_the_instances() {
    let (resolver, events) = (Told::default(), Events::default());
    let servers = [Numbered::start(0), Numbered::start(1), Numbered::start(2)];
    let client = events.listen(resolver.builder()).build().unwrap();
    resolver.set(&[&servers[0], &servers[1]]);
    call_each_of(&client, &[0, 1]);
    resolver.set(&[&servers[1], &servers[2]]);
    call_each_of(&client, &[1, 2]);
    assert_eq!(events.count(|event| matches!(event, FleetEvent::Appeared(_))), 3);
    assert_eq!(events.count(|event| matches!(event, FleetEvent::Gone(_))), 1);
    eventually("the connection to the server that is gone closes", || {
        servers[0].server.stats().connections() == 0
    });
}

#[test]
fn an_empty_update_and_a_failure_change_nothing() {
    let (resolver, events) = (Told::default(), Events::default());
    let server = Numbered::start(4);
    let client = events.listen(resolver.builder()).build().unwrap();
    resolver.set(&[&server]);
    which(&client).unwrap();
    resolver.set(&[]);
    eventually("the update is seen", || events.count(|event| *event == FleetEvent::EmptyUpdateIgnored) == 1);
    which(&client).unwrap();
    let updates = resolver.updates.lock().unwrap().clone().unwrap();
    updates.failed("the registry restarts");
    let is_failure =
        |event: &FleetEvent| matches!(event, FleetEvent::ResolveFailed(why) if why.contains("restarts"));
    eventually("the failure is seen", || events.count(is_failure) == 1);
    which(&client).unwrap();
}

#[test]
fn an_instance_that_no_client_can_use_is_left_out() {
    let (resolver, events) = (Told::default(), Events::default());
    let server = Numbered::start(5);
    let client = events.listen(resolver.builder()).build().unwrap();
    let other = if cfg!(feature = "http") { "http:127.0.0.1:1" } else { "nowhere" };
    resolver.set_instances(vec![
        Instance::new(other),
        Instance::new("no address"),
        Instance::new(&server.address),
    ]);
    call_times(&client, 20);
    assert_eq!(events.count(|event| matches!(event, FleetEvent::ResolveFailed(_))), 2);
    assert_eq!(client.endpoints().len(), 1);
}

/// Counts what it sees.
#[derive(Default)]
struct Counting {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl ClientInterceptor for Counting {
    fn before_send(&self, _call: &mut NewCall<'_>) -> Result<(), Status> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn on_end(&self, _end: &EndedClientCall<'_>) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn interceptors_see_each_call_once_however_many_attempts_it_has() {
    let counting = Arc::new(Counting::default());
    let (resolver, server) = (Told::default(), Numbered::start(6));
    // Only calls connect: a connection ahead would find the dead server out before they do, and they would avoid it.
    let builder = resolver.builder().configure(|config| config.warm_endpoints_max = 0);
    let client = builder.interceptor(counting.clone()).build().unwrap();
    let dead = crate::common::raw_server::unused_address();
    resolver.set_instances(vec![Instance::new(dead), Instance::new(&server.address)]);
    let failed_attempts = || client.endpoints().iter().map(|endpoint| endpoint.ended[1]).sum::<u64>();
    let mut calls = 0;
    eventually("an attempt meets the dead server", || {
        which(&client).unwrap();
        calls += 1;
        failed_attempts() > 0
    });
    assert_eq!(counting.begun.load(Ordering::Relaxed), calls);
    assert_eq!(counting.ended.load(Ordering::Relaxed), calls);
}
