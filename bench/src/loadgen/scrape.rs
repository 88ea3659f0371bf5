//! `--metrics`: reads the metrics of the server while the load runs: reactor lag, run queue, sheds.
//!
//! A thread of its own scrapes `/metrics` of the server's admin listener at the end of each interval; if it falls behind, it
//! skips intervals. What the server's own numbers say can then be seen beside the latency that its callers had.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;

use super::target::Place;
use super::units;

/// Timeout of connecting, and of each read of an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Maximum bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// The families that are read (docs/observability.md).
const LAG_BUCKETS: &str = "coreloop_reactor_lag_seconds_bucket";
const QUEUE: &str = "coreloop_workers_queued";
const SHEDS: &str = "coreloop_server_calls_shed_total";

/// What one scrape found, summed over reactors and methods.
#[derive(Clone, Debug, Default, PartialEq)]
struct Scrape {
    /// The cumulative counts of the reactors' lag: upper bound in ns and count, by rising bound; the last has no bound.
    lag: Vec<(u64, u64)>,
    /// Calls that wait in run queues.
    queue: u64,
    /// Calls that were shed, by reason.
    sheds: BTreeMap<String, u64>,
}

impl Scrape {
    /// Reads an exposition in the text format of Prometheus, version 0.0.4. Lines that are not a sample are skipped.
    fn read(text: &str) -> Scrape {
        let mut scrape = Scrape::default();
        let mut lag: BTreeMap<u64, u64> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let Ok(value) = value.parse::<f64>() else { continue };
            let count = value.max(0.0) as u64;
            match name {
                LAG_BUCKETS => {
                    let bound_s = label(labels, "le").and_then(|bound| bound.parse::<f64>().ok());
                    // Infinity becomes the largest number.
                    let bound_ns = bound_s.map_or(u64::MAX, |bound_s| (bound_s * 1e9).round() as u64);
                    *lag.entry(bound_ns).or_default() += count;
                }
                QUEUE => scrape.queue += count,
                SHEDS => {
                    let reason = label(labels, "reason").unwrap_or_default();
                    *scrape.sheds.entry(reason.to_owned()).or_default() += count;
                }
                _ => {}
            }
        }
        scrape.lag = lag.into_iter().collect();
        scrape
    }

    /// Returns the upper bound of the bucket with this quantile of the lag since an earlier scrape, in ns. `None` if no turn
    /// was sampled, or if it lies above all bounds.
    fn lag_since(&self, before: &Scrape, quantile: f64) -> Option<u64> {
        let known: BTreeMap<u64, u64> = before.lag.iter().copied().collect();
        let since = |(bound, count): &(u64, u64)| {
            (*bound, count.saturating_sub(known.get(bound).copied().unwrap_or(0)))
        };
        let (_, all) = self.lag.last().map(since).filter(|(_, count)| *count > 0)?;
        let rank = ((all as f64 * quantile).ceil() as u64).max(1);
        let found = self.lag.iter().map(since).find(|(_, count)| *count >= rank);
        found.map(|(bound, _)| bound).filter(|bound| *bound < u64::MAX)
    }

    fn sheds_since(&self, before: &Scrape) -> BTreeMap<String, u64> {
        let since = self.sheds.iter().map(|(reason, count)| {
            (reason.clone(), count.saturating_sub(before.sheds.get(reason).copied().unwrap_or(0)))
        });
        since.filter(|(_, count)| *count > 0).collect()
    }
}

/// Returns the value of a label; the labels that are read have no characters to escape.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let at = labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""))?;
    at.split('"').next()
}

/// Requests the metrics. An error is one line of text.
fn scrape(target: &Place) -> Result<Scrape, String> {
    let Place::Tcp(address) = target else { return Err("host:port is needed, not a Unix socket".into()) };
    let answer = (|| {
        let mut stream = TcpStream::connect_timeout(address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {address}\r\nAccept: text/plain; version=0.0.4\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    })();
    let answer = answer.map_err(|error| error.to_string())?;
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(&answer) {
        Ok(httparse::Status::Complete(length)) => length,
        _ => return Err("the answer is not HTTP".into()),
    };
    if head.code != Some(200) {
        return Err(format!("the answer has status {}: is this the admin listener?", head.code.unwrap_or(0)));
    }
    let has = |name: &str| head.headers.iter().any(|field| field.name.eq_ignore_ascii_case(name));
    if has("transfer-encoding") {
        return Err("the answer is chunked".into());
    }
    let text = std::str::from_utf8(&answer[length..]).map_err(|_| "the answer is not text")?;
    let scrape = Scrape::read(text);
    if scrape.lag.is_empty() {
        return Err(format!("the answer has no {LAG_BUCKETS}: is this the admin listener of coreloop?"));
    }
    Ok(scrape)
}

/// The thread that scrapes.
pub struct Scraper {
    tell: Sender<f64>,
    thread: JoinHandle<Scraped>,
    address: String,
}

struct Scraped {
    /// Seconds from the beginning of the window, and what was found. The first is the state at its beginning.
    series: Vec<(f64, Scrape)>,
    failed: u64,
    first_trouble: Option<String>,
}

impl Scraper {
    /// Scrapes once, to see that it works, and starts the thread.
    pub fn start(address: &str) -> Result<Scraper, String> {
        let bare = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
        let target = Place::resolve(bare)?;
        let first = scrape(&target).map_err(|why| format!("--metrics {address}: {why}"))?;
        let (tell, told) = mpsc::channel();
        let thread = thread::Builder::new().name("scrape".into());
        let thread = thread.spawn(move || run(&target, &told, first));
        let thread = thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Scraper { tell, thread, address: bare.to_owned() })
    }

    /// Requests a scrape at the end of an interval, in seconds from the beginning of the window; negative in the warm-up.
    pub fn on_interval(&self, end_s: f64) {
        // The thread ends with this end of the channel only.
        let _ = self.tell.send(end_s);
    }

    /// Waits for the last scrape. Returns the figures.
    pub fn finish(self) -> Result<ScrapeFigures, String> {
        drop(self.tell);
        let scraped = self.thread.join().map_err(|_| "the thread of --metrics panicked")?;
        Ok(ScrapeFigures::of(self.address, &scraped))
    }
}

fn run(target: &Place, told: &Receiver<f64>, first: Scrape) -> Scraped {
    let mut scraped = Scraped { series: vec![(f64::NEG_INFINITY, first)], failed: 0, first_trouble: None };
    while let Ok(end_s) = told.recv() {
        let end_s = told.try_iter().last().unwrap_or(end_s);
        match scrape(target) {
            Ok(found) => {
                if end_s <= 1e-9 {
                    scraped.series.clear();
                }
                scraped.series.push((end_s, found));
            }
            Err(why) => {
                scraped.failed += 1;
                scraped.first_trouble.get_or_insert(why);
            }
        }
    }
    scraped
}

/// The server's own numbers of one interval.
#[derive(Clone, Debug, Serialize)]
pub struct ScrapePoint {
    /// Its end, in seconds from the beginning of the measured window.
    pub end_s: f64,
    /// Its length in seconds.
    pub length_s: f64,
    /// Upper bound of the 99th percentile of the reactors' lag, in ns; `None` if no turn was sampled.
    pub lag_p99_ns: Option<u64>,
    /// Calls in run queues at its end.
    pub queue: u64,
    /// Calls shed in it.
    pub sheds: u64,
}

/// The server's own numbers of a run.
#[derive(Clone, Debug, Serialize)]
pub struct ScrapeFigures {
    /// The address of the admin listener.
    pub address: String,
    /// Scrapes that failed.
    pub failed: u64,
    /// The reason of the first failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_trouble: Option<String>,
    /// Upper bound of the 99th percentile of the reactors' lag, in ns; `None` if no turn was sampled.
    pub lag_p99_ns: Option<u64>,
    /// Upper bound of the maximum of the same lag.
    pub lag_max_ns: Option<u64>,
    /// The most calls in run queues at the end of an interval.
    pub queue_max: u64,
    /// Calls shed in the window.
    pub sheds: u64,
    /// The same by reason.
    pub sheds_by_reason: BTreeMap<String, u64>,
    /// The intervals.
    pub series: Vec<ScrapePoint>,
}

impl ScrapeFigures {
    fn of(address: String, scraped: &Scraped) -> ScrapeFigures {
        let pairs = scraped.series.windows(2);
        let series = pairs.map(|pair| {
            let [(from_s, before), (end_s, now)] = pair else { unreachable!("windows of two") };
            ScrapePoint {
                end_s: *end_s,
                length_s: end_s - from_s.max(0.0),
                lag_p99_ns: now.lag_since(before, 0.99),
                queue: now.queue,
                sheds: now.sheds_since(before).values().sum(),
            }
        });
        let series: Vec<ScrapePoint> = series.collect();
        let (first, last) = match (scraped.series.first(), scraped.series.last()) {
            (Some((_, first)), Some((_, last))) => (first.clone(), last.clone()),
            _ => Default::default(),
        };
        let sheds_by_reason = last.sheds_since(&first);
        ScrapeFigures {
            address,
            failed: scraped.failed,
            first_trouble: scraped.first_trouble.clone(),
            lag_p99_ns: last.lag_since(&first, 0.99),
            lag_max_ns: last.lag_since(&first, 1.0),
            queue_max: series.iter().map(|point| point.queue).max().unwrap_or(0),
            sheds: sheds_by_reason.values().sum(),
            sheds_by_reason,
            series,
        }
    }

    /// Returns the summary in one line.
    pub fn line(&self) -> String {
        let time =
            |ns: Option<u64>| ns.map_or("–".to_owned(), |ns| format!("≤ {}", units::latency(ns as f64)));
        let mut line = format!(
            "reactor lag p99 {}, max {}; at most {} calls in the run queue; {} shed",
            time(self.lag_p99_ns),
            time(self.lag_max_ns),
            units::count(self.queue_max as f64),
            units::count(self.sheds as f64)
        );
        let reasons: Vec<String> = self
            .sheds_by_reason
            .iter()
            .map(|(reason, count)| format!("{reason} {}", units::count(*count as f64)))
            .collect();
        if !reasons.is_empty() {
            line += &format!(" ({})", reasons.join(", "));
        }
        line
    }

    /// Returns a remark if scrapes failed.
    pub fn remark(&self) -> Option<String> {
        let why = self.first_trouble.as_ref()?;
        Some(format!("{} scrapes of {} failed: {why}.", units::count(self.failed as f64), self.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposition(fast: u64, slow: u64, queue: u64, sheds: u64) -> Scrape {
        Scrape::read(&format!(
            "# TYPE {LAG} histogram\n\
             {LAG}_bucket{{reactor=\"0\",le=\"0.001\"}} {fast}\n\
             {LAG}_bucket{{reactor=\"0\",le=\"0.1\"}} {all}\n\
             {LAG}_bucket{{reactor=\"0\",le=\"+Inf\"}} {all}\n\
             {LAG}_bucket{{reactor=\"1\",le=\"0.001\"}} 10\n\
             {LAG}_bucket{{reactor=\"1\",le=\"0.1\"}} 10\n\
             {LAG}_bucket{{reactor=\"1\",le=\"+Inf\"}} 10\n\
             {QUEUE} {queue}\n\
             {SHEDS}{{method=\"A.B\",reason=\"queue_full\"}} {sheds}\n\
             {SHEDS}{{method=\"C.D\",reason=\"queue_full\"}} 1\n\
             other{{a=\"b c\"}} NaN\n",
            LAG = "coreloop_reactor_lag_seconds",
            all = fast + slow
        ))
    }

    #[test]
    fn reactors_and_methods_are_summed() {
        let scrape = exposition(5, 2, 7, 3);
        assert_eq!(scrape.lag, [(1_000_000, 15), (100_000_000, 17), (u64::MAX, 17)]);
        assert_eq!((scrape.queue, scrape.sheds["queue_full"]), (7, 4));
    }

    #[test]
    fn figures_are_of_the_difference_between_scrapes() {
        let series = vec![
            (-0.0, exposition(100, 0, 0, 2)),
            (1.0, exposition(200, 0, 3, 2)),
            (2.0, exposition(250, 50, 9, 12)),
        ];
        let scraped = Scraped { series, failed: 1, first_trouble: Some("timed out".into()) };
        let figures = ScrapeFigures::of("a:1".into(), &scraped);
        let points: Vec<_> =
            figures.series.iter().map(|point| (point.lag_p99_ns, point.queue, point.sheds)).collect();
        assert_eq!(points, [(Some(1_000_000), 3, 0), (Some(100_000_000), 9, 10)]);
        assert_eq!((figures.queue_max, figures.sheds), (9, 10));
        let line = figures.line();
        assert!(line.contains("at most 9 calls") && line.contains("queue_full 10"), "{line}");
        assert_eq!(figures.remark().as_deref(), Some("1 scrapes of a:1 failed: timed out."));
    }

    #[test]
    fn no_sampled_turn_is_no_lag() {
        let scrape = exposition(5, 0, 0, 0);
        assert_eq!(scrape.lag_since(&scrape, 0.99), None);
        assert_eq!(Scrape::read("").lag_since(&Scrape::default(), 0.99), None);
    }
}
