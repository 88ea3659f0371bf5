use super::*;

/// Several calls on one reactor, each on a connection of its own.
fn calls(count: u32, port: &Arc<TestPort>) -> Vec<TestCall> {
    (0..count).map(|connection| TestCall::of(port, connection)).collect()
}

/// What was posted, sorted by connection.
fn told(port: &TestPort) -> Vec<String> {
    let mut told = port.told();
    told.sort();
    told
}

#[test]
fn an_item_is_encoded_once_and_posted_once_to_each_reactor() {
    let ports = [Arc::new(TestPort::default()), Arc::new(TestPort::default())];
    let broadcast = Broadcast::new(SlowSubscriber::KeepLatest);
    for port in &ports {
        for call in calls(100, port) {
            broadcast.subscribe(call.open_sink(1000).0);
        }
    }
    assert_eq!(broadcast.subscribers(), 200);
    for port in &ports {
        assert_eq!(port.tasks_posted.swap(0, Ordering::Relaxed), 1, "one for all subscriptions");
        assert!(told(port).is_empty());
    }
    broadcast.send(&text("item")).unwrap();
    let mut bodies = Vec::new();
    for port in &ports {
        assert_eq!(port.tasks_posted.swap(0, Ordering::Relaxed), 1);
        port.run_tasks_once();
        for command in std::mem::take(&mut *port.commands.lock().unwrap()) {
            let StreamAction::Send(message) = command.action else { panic!("{:?}", command.action) };
            bodies.push(message.body);
        }
    }
    assert_eq!(bodies.len(), 200);
    assert!(bodies.iter().all(|body| body.as_ptr() == bodies[0].as_ptr() && **body == *b"item"));
    broadcast.finish(Ok(()));
    assert_eq!((told(&ports[0]).len(), told(&ports[1]).len()), (100, 100));
}

#[test]
fn each_codec_is_encoded_once() {
    let port = Arc::new(TestPort::default());
    let broadcast = Broadcast::new(SlowSubscriber::KeepLatest);
    let mut sinks = Vec::new();
    for (call, codec) in calls(4, &port).into_iter().zip([Codec::Raw, Codec::Json, Codec::Raw, Codec::Json]) {
        let (sink, link) = TestCall { codec, ..call }.open_sink(1000);
        broadcast.subscribe(sink);
        sinks.push(link);
    }
    broadcast.send(&text("hi")).unwrap();
    assert_eq!(told(&port), ["0 send hi", "1 send \"hi\"", "2 send hi", "3 send \"hi\""]);
}

/// One subscriber with credit for one item, to which five are sent; then it gets credit for each.
fn slow(policy: SlowSubscriber) -> (Vec<String>, Vec<String>) {
    let port = Arc::new(TestPort::default());
    let broadcast = Broadcast::new(policy);
    let (sink, link) = TestCall::of(&port, 0).open_sink(1);
    broadcast.subscribe(sink);
    for item in ["1", "2", "3", "4", "5"] {
        broadcast.send(&text(item)).unwrap();
    }
    let first = told(&port);
    let mut later = Vec::new();
    for _ in 0..5 {
        link.add_credit(33);
        later.extend(told(&port));
    }
    broadcast.finish(Ok(()));
    later.extend(told(&port));
    (first, later)
}

#[test]
fn a_slow_subscriber_gets_what_its_policy_keeps() {
    let texts = |texts: &[&str]| texts.iter().map(|told| text(told)).collect::<Vec<_>>();
    assert_eq!(slow(SlowSubscriber::KeepLatest), (texts(&["0 send 1"]), texts(&["0 send 5", "0 ok"])));
    assert_eq!(
        slow(SlowSubscriber::DropOldest(3)),
        (texts(&["0 send 1"]), texts(&["0 send 3", "0 send 4", "0 send 5", "0 ok"]))
    );
    let ended = "0 resource_exhausted: the subscriber takes items more slowly than they are sent";
    assert_eq!(slow(SlowSubscriber::EndStream), (texts(&[ended, "0 send 1"]), texts(&[])));
}

#[test]
fn a_finish_follows_the_items_that_a_slow_subscriber_still_gets() {
    let port = Arc::new(TestPort::default());
    let broadcast = Broadcast::new(SlowSubscriber::DropOldest(8));
    let (sink, link) = TestCall::of(&port, 0).open_sink(1);
    broadcast.subscribe(sink);
    for item in ["1", "2", "3"] {
        broadcast.send(&text(item)).unwrap();
    }
    broadcast.finish(Err(Status::aborted("over")));
    assert_eq!(told(&port), ["0 send 1"]);
    link.add_credit(1000);
    assert_eq!(port.told(), ["0 send 2", "0 send 3", "0 aborted: over"]);
}

#[test]
fn a_broadcast_that_is_dropped_ends_its_streams_internal() {
    let port = Arc::new(TestPort::default());
    let broadcast = Broadcast::new(SlowSubscriber::KeepLatest);
    broadcast.subscribe(TestCall::of(&port, 0).open_sink(1).0);
    drop(broadcast);
    assert_eq!(told(&port), ["0 internal: the broadcast was dropped without finish"]);
}

#[test]
fn subscribers_whose_streams_end_are_removed_at_once() {
    let port = Arc::new(TestPort::default());
    let broadcast = Broadcast::new(SlowSubscriber::KeepLatest);
    let mut links = Vec::new();
    for call in calls(10, &port) {
        let (sink, link) = call.open_sink(33);
        broadcast.subscribe(sink);
        links.push(link);
    }
    assert!(told(&port).is_empty());
    for link in links.drain(..9) {
        link.end(&Status::cancelled("gone"));
    }
    told(&port);
    assert_eq!(broadcast.subscribers(), 1);
    // Before the subscription is processed, and while an item waits for it.
    let (sink, early) = TestCall::of(&port, 20).open_sink(33);
    broadcast.subscribe(sink);
    early.end(&Status::cancelled("gone"));
    broadcast.send(&text("1")).unwrap();
    broadcast.send(&text("2")).unwrap();
    assert!(told(&port).contains(&text("9 send 1")));
    assert_eq!(broadcast.subscribers(), 1);
    links[0].end(&Status::cancelled("gone"));
    told(&port);
    assert_eq!(broadcast.subscribers(), 0);
    // A handler that returns an error ends its stream.
    let (sink, _link, end) = TestCall::of(&port, 21).sink(33);
    broadcast.subscribe(sink);
    end.returned(Err(Status::not_found("no")));
    assert_eq!(told(&port), ["21 not_found: no"]);
    assert_eq!(broadcast.subscribers(), 0);
    port.tasks_posted.store(0, Ordering::Relaxed);
    broadcast.send(&text("3")).unwrap();
    assert_eq!(port.tasks_posted.load(Ordering::Relaxed), 0);
}

#[test]
fn thousands_of_subscribers_are_offered_an_item_in_several_runs() {
    let port = Arc::new(TestPort::default());
    let broadcast = Broadcast::new(SlowSubscriber::KeepLatest);
    for call in calls(3000, &port) {
        broadcast.subscribe(call.open_sink(1000).0);
    }
    assert!(told(&port).is_empty());
    broadcast.send(&text("1")).unwrap();
    broadcast.send(&text("2")).unwrap();
    assert_eq!(port.run_tasks_once(), 1);
    assert_eq!(port.commands.lock().unwrap().len(), 1024);
    assert_eq!(told(&port).len(), 6000);
}

#[test]
fn a_reactor_that_falls_behind_drops_the_oldest_items() {
    let port = Arc::new(TestPort::default());
    let broadcast = Broadcast::new(SlowSubscriber::KeepLatest);
    broadcast.subscribe(TestCall::of(&port, 0).open_sink(1 << 30).0);
    assert!(told(&port).is_empty());
    for number in 0..2000 {
        broadcast.send(&number.to_string()).unwrap();
    }
    let items = told(&port);
    assert!(items.len() == 1024 && items.contains(&text("0 send 1999")), "{}", items.len());

    let broadcast = Broadcast::new(SlowSubscriber::EndStream);
    broadcast.subscribe(TestCall::of(&port, 1).open_sink(1 << 30).0);
    for number in 0..2000 {
        broadcast.send(&number.to_string()).unwrap();
    }
    assert!(told(&port).iter().any(|told| told.starts_with("1 resource_exhausted")));
}

#[test]
fn an_item_that_is_too_large_for_a_subscriber_ends_its_stream_only() {
    let port = Arc::new(TestPort::default());
    let broadcast = Broadcast::new(SlowSubscriber::KeepLatest);
    for (call, message_bytes_max) in calls(2, &port).into_iter().zip([2, 100]) {
        broadcast.subscribe(TestCall { message_bytes_max, ..call }.open_sink(1000).0);
    }
    broadcast.send(&text("123")).unwrap();
    assert_eq!(
        told(&port),
        [
            "0 resource_exhausted: message too large: expected at most 2 bytes (frame_bytes_max), found 3",
            "1 send 123"
        ]
    );
}
