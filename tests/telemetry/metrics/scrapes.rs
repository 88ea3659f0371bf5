//! Many scrapes of a server under load.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use coreloop::Context;
use coreloop::Server;
use coreloop::reactor::Address;
use coreloop::service::Kind;

use super::{OPEN_METRICS, TEXT, check_with_promtool, parse_strictly, sum};
use crate::common::PATIENCE;
use crate::common::load::Load;

/// Connections that scrape, as of several Prometheus servers, each at this interval: 100 scrapes a second together.
const SCRAPERS: u32 = 4;
const INTERVAL: Duration = Duration::from_millis(40);
/// Of each connection: three seconds.
const SCRAPES: u32 = 75;

/// A connection that stays.
struct Scraper(TcpStream);

impl Scraper {
    fn connect(admin: &Address) -> Scraper {
        let stream = TcpStream::connect(admin.to_string()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Scraper(stream)
    }

    fn scrape(&mut self, accept: &str) -> String {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n");
        self.0.write_all(request.as_bytes()).unwrap();
        let (mut bytes, mut piece) = (Vec::new(), [0; 64 << 10]);
        loop {
            let count = self.0.read(&mut piece).unwrap();
            assert!(count > 0, "the connection ended");
            bytes.extend_from_slice(&piece[..count]);
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&bytes[..end]).unwrap();
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            let length: usize = length.parse().unwrap();
            if bytes.len() >= end + 4 + length {
                assert_eq!(bytes.len(), end + 4 + length);
                return String::from_utf8(bytes.split_off(end + 4)).unwrap();
            }
        }
    }
}

#[test]
fn a_hundred_scrapes_a_second_are_answered_under_load_and_no_call_fails() {
    let _turn = crate::common::shared();
    let double = |_cx: &Context<'_>, number: i64| Ok(2 * number);
    let server = Server::builder()
        .listen("127.0.0.1:0")
        .configure(|config| config.admin.listen = "127.0.0.1:0".to_owned())
        .cores(2)
        .workers(1)
        .method_of_kind("Leaf.Double", Kind::Inline, double)
        .start()
        .unwrap();
    let admin = server.admin_address().unwrap().clone();
    let load = Load::start(&server.addresses()[0], "Leaf.Double");
    let began = Instant::now();
    let scrapers: Vec<_> = (0..SCRAPERS)
        .map(|at| {
            let mut scraper = Scraper::connect(&admin);
            let accept = if at % 2 == 0 { OPEN_METRICS } else { TEXT };
            std::thread::spawn(move || {
                let mut before = (0, 0, 0);
                for number in 0..SCRAPES {
                    let due = INTERVAL * number + INTERVAL * at / SCRAPERS;
                    std::thread::sleep(due.saturating_sub(began.elapsed()));
                    let text = scraper.scrape(accept);
                    let calls =
                        sum(&text, "coreloop_server_calls_total", "method=\"Leaf.Double\",code=\"ok\"");
                    let timed = sum(&text, "coreloop_server_handler_seconds_count", "method=\"Leaf.Double\"");
                    let all = sum(&text, "coreloop_server_handler_seconds_bucket", "le=\"+Inf\"");
                    assert_eq!(timed, all);
                    assert_eq!(text.ends_with("\n# EOF\n"), accept == OPEN_METRICS);
                    let turns = sum(&text, "coreloop_reactor_turns_total", "");
                    // Counters do not fall.
                    assert!((calls, timed, turns) >= before && timed >= before.1 && turns >= before.2);
                    before = (calls, timed, turns);
                }
                before.0
            })
        })
        .collect();
    let seen: Vec<u64> = scrapers.into_iter().map(|scraper| scraper.join().unwrap()).collect();
    let calls = load.end();
    assert!(seen.iter().all(|seen| (1..=calls).contains(seen)), "{seen:?} of {calls}");
    let text = Scraper::connect(&admin).scrape(TEXT);
    assert_eq!(sum(&text, "coreloop_server_calls_total", "method=\"Leaf.Double\",code=\"ok\""), calls);
    assert_eq!(sum(&text, "coreloop_server_handler_seconds_count", "method=\"Leaf.Double\""), calls);
    check_with_promtool(&text);
    parse_strictly(&Scraper::connect(&admin).scrape(OPEN_METRICS));
    let stats = server.shutdown();
    let method = stats.method("Leaf.Double").unwrap();
    assert_eq!((method.calls, method.answered(coreloop::Code::Ok)), (calls, calls));
}

#[test]
fn a_scrape_takes_no_time_of_a_reactor() {
    let _turn = crate::common::shared();
    let server = super::builder().start().unwrap();
    let mut scraper = Scraper::connect(server.admin_address().unwrap());
    let turns = |text: &str| sum(text, "coreloop_reactor_turns_total", "");
    let before = turns(&scraper.scrape(TEXT));
    let after = (0..100).map(|_| turns(&scraper.scrape(TEXT))).max().unwrap();
    // Turns of timers, and no others.
    assert!(after - before < 50, "{before} turns, then {after}");
    server.shutdown();
}
