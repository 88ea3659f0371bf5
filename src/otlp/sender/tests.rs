use std::collections::VecDeque;
use std::io::Read;

use super::*;
use crate::agent::{AgentAction, AgentRig};
use crate::otlp::writer::BodyFormat;

/// A source of numbered requests, each with ten items.
#[derive(Default)]
struct Numbers {
    left: VecDeque<u64>,
}

impl BatchSource for Numbers {
    const NAME: &'static str = "spans";

    fn counters(all: &ExportCounters) -> &SignalCounters {
        &all.spans
    }

    fn next(&mut self, _now: Instant, _is_last: bool) -> Option<Batch> {
        self.left.pop_front().map(|number| Batch { body: format!("body {number}").into_bytes(), items: 10 })
    }

    fn pause(&self) -> Duration {
        if self.left.is_empty() { Duration::from_secs(1) } else { Duration::ZERO }
    }

    fn waiting(&self) -> u64 {
        self.left.len() as u64 * 10
    }

    fn give_up(&mut self) -> u64 {
        self.left.drain(..).count() as u64 * 10
    }
}

struct Rig {
    agent: SignalSender<Numbers>,
    rig: AgentRig,
    counters: Arc<ExportCounters>,
    problems: Arc<std::sync::Mutex<Vec<String>>>,
    link: Option<LinkId>,
    has_ended: bool,
}

impl Rig {
    fn new(numbers: std::ops::Range<u64>, gzip: bool) -> Rig {
        let counters = Arc::new(ExportCounters::default());
        let problems: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
        let reported = problems.clone();
        counters.set_report(Box::new(move |text| reported.lock().unwrap().push(text.to_owned())));
        let settings = SignalSettings {
            authority: "h:1".into(),
            tls: None,
            target: "/v1/traces".into(),
            format: BodyFormat::Protobuf,
            gzip,
            headers: vec![("api-key".into(), "k".into())],
            timeout: Duration::from_secs(10),
            interval: Duration::from_secs(1),
        };
        let agent = SignalSender::new(Numbers { left: numbers.collect() }, settings, counters.clone());
        Rig { agent, rig: AgentRig::new(), counters, problems, link: None, has_ended: false }
    }

    /// Returns the request that the actions send.
    fn sent(&mut self, actions: Vec<AgentAction>) -> Option<Vec<u8>> {
        let mut request = None;
        for action in actions {
            match action {
                AgentAction::Send(link, bytes) => {
                    self.link = Some(link);
                    assert!(request.replace(bytes).is_none(), "one request at a time");
                }
                AgentAction::End => self.has_ended = true,
                _ => {}
            }
        }
        request
    }

    fn begin(&mut self) -> Option<Vec<u8>> {
        let actions = self.rig.run(|cx| self.agent.begin(cx));
        self.sent(actions)
    }

    fn end(&mut self) -> Option<Vec<u8>> {
        let actions = self.rig.run(|cx| self.agent.on_end(cx));
        self.sent(actions)
    }

    /// Advances to the agent's next time.
    fn go_on(&mut self) -> (Duration, Option<Vec<u8>>) {
        let before = self.rig.now;
        let actions = self.rig.run_timer(&mut self.agent);
        (self.rig.now - before, self.sent(actions))
    }

    fn answer(&mut self, head: &str) {
        let bytes = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n");
        let link = self.link.unwrap();
        let actions = self.rig.run(|cx| self.agent.on_bytes(link, bytes.as_bytes(), cx));
        assert_eq!(self.sent(actions), None);
    }

    fn stats(&self) -> super::super::SignalStats {
        self.counters.stats().spans
    }
}

fn body_of(request: &[u8]) -> &[u8] {
    &request[request.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4..]
}

#[test]
fn requests_follow_each_other_one_at_a_time() {
    let mut rig = Rig::new(0..2, false);
    let request = rig.begin().unwrap();
    let head = String::from_utf8_lossy(&request);
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\nHost: h:1\r\n"), "{head}");
    assert!(
        head.contains("\r\nContent-Type: application/x-protobuf\r\n") && head.contains("\r\napi-key: k\r\n")
    );
    assert_eq!(body_of(&request), b"body 0");
    assert_eq!(rig.stats().waiting, 20);
    rig.answer("200 OK");
    let (pause, request) = rig.go_on();
    assert_eq!((pause, body_of(&request.unwrap())), (Duration::ZERO, &b"body 1"[..]));
    rig.answer("200 OK");
    assert_eq!(rig.go_on(), (Duration::from_secs(1), None));
    let stats = rig.stats();
    assert_eq!((stats.exported, stats.dropped, stats.requests_ok, stats.waiting), (20, 0, 2, 0));
    assert!(rig.problems.lock().unwrap().is_empty());
}

#[test]
fn a_body_is_gzip() {
    let mut rig = Rig::new(7..8, true);
    let request = rig.begin().unwrap();
    assert!(String::from_utf8_lossy(&request).contains("\r\nContent-Encoding: gzip\r\n"));
    let mut body = String::new();
    flate2::read::GzDecoder::new(body_of(&request)).read_to_string(&mut body).unwrap();
    assert_eq!(body, "body 7");
}

#[test]
fn a_failure_is_tried_again_for_five_minutes_and_reported_once() {
    let mut rig = Rig::new(0..1, false);
    let begun = rig.rig.now;
    assert!(rig.begin().is_some());
    let mut tries = 1;
    while rig.stats().dropped == 0 {
        rig.answer("503 Service Unavailable");
        assert!(rig.rig.now - begun < RETRY_MAX);
        if rig.stats().dropped == 0 {
            let (pause, request) = rig.go_on();
            assert!(pause >= PAUSE_MIN && pause <= PAUSE_MIN + Duration::from_millis(BACKOFF.max_ms));
            assert_eq!(body_of(&request.unwrap()), b"body 0");
            tries += 1;
        }
    }
    // With full jitter the pauses are 15 s on average once they have grown.
    assert!((10..100).contains(&tries), "{tries}");
    let stats = rig.stats();
    assert_eq!((stats.exported, stats.dropped, stats.requests_failed, stats.waiting), (0, 10, tries, 0));
    assert_eq!(rig.problems.lock().unwrap().len(), 1);
}

#[test]
fn the_pause_that_the_collector_demands_is_kept() {
    let mut rig = Rig::new(0..1, false);
    rig.begin();
    rig.answer("429 Too Many Requests\r\nRetry-After: 7");
    let (pause, request) = rig.go_on();
    assert_eq!((pause, request.is_some()), (Duration::from_secs(7), true));
    // It is also kept if it is longer than the request is worth.
    rig.answer("429 Too Many Requests\r\nRetry-After: 3600");
    assert_eq!(rig.stats().dropped, 10);
    rig.agent.source.left.push_back(1);
    assert_eq!(rig.go_on().0, Duration::from_secs(300));
}

#[test]
fn a_refused_request_is_dropped() {
    let mut rig = Rig::new(0..2, false);
    rig.begin();
    rig.answer("400 Bad Request");
    let (pause, request) = rig.go_on();
    assert_eq!((pause, body_of(&request.unwrap())), (Duration::ZERO, &b"body 1"[..]));
    rig.answer("400 Bad Request");
    assert_eq!((rig.stats().dropped, rig.stats().requests_failed), (20, 2));
    let problems = rig.problems.lock().unwrap();
    assert_eq!(*problems, ["spans are not exported: h:1: status 400: "]);
}

#[test]
fn no_answer_and_no_connection_are_tried_again() {
    let mut rig = Rig::new(0..1, false);
    rig.begin();
    assert_eq!(rig.go_on(), (Duration::from_secs(10), None));
    assert_eq!(rig.stats().requests_failed, 1);
    assert!(rig.go_on().1.is_some());
    let link = rig.link.unwrap();
    let actions = rig.rig.run(|cx| rig.agent.on_closed(link, "h:1: refused", cx));
    assert_eq!(rig.sent(actions), None);
    assert!(rig.go_on().1.is_some());
    rig.answer("200 OK");
    assert_eq!((rig.stats().exported, rig.stats().requests_failed), (10, 2));
}

#[test]
fn the_end_sends_what_is_left() {
    let mut rig = Rig::new(0..1, false);
    rig.begin();
    rig.agent.source.left.extend([1, 2]);
    assert_eq!(rig.end(), None);
    for number in ["body 1", "body 2"] {
        rig.answer("200 OK");
        let (pause, request) = rig.go_on();
        assert_eq!((pause, body_of(&request.unwrap())), (Duration::ZERO, number.as_bytes()));
    }
    assert!(!rig.has_ended);
    rig.answer("200 OK");
    assert_eq!(rig.go_on(), (Duration::ZERO, None));
    assert!(rig.has_ended);
    assert_eq!((rig.stats().exported, rig.stats().dropped), (30, 0));
}

#[test]
fn the_end_is_bounded_and_counts_what_it_gives_up() {
    let mut rig = Rig::new(0..5, false);
    rig.begin();
    let begun = rig.rig.now;
    rig.end();
    while !rig.has_ended {
        rig.go_on();
    }
    assert_eq!(rig.rig.now - begun, END_MAX);
    assert_eq!((rig.stats().exported, rig.stats().dropped, rig.stats().waiting), (0, 50, 0));
    // A pause before another try is cut short.
    let mut rig = Rig::new(0..1, false);
    rig.begin();
    rig.answer("429 Too Many Requests\r\nRetry-After: 100");
    assert!(rig.end().is_some());
    rig.answer("503 No\r\nRetry-After: 100");
    assert!(rig.has_ended);
    assert_eq!(rig.stats().dropped, 10);
}
