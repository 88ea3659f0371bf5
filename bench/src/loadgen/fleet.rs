//! A load on all servers behind a resolver URL, through the library's client: what its callers see while servers fail.
//!
//! The generator's own connections (`link`) know one address. Here the client is a part of what is measured: its
//! resolver, balancing, breakers, retries and hedges. `seconds` counts, `text` and `page` show.

mod page;
mod seconds;
mod text;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use coreloop::client::{CallError, Client, EndpointView, FleetStats, InFlight, WhenFull};
use coreloop::codec::Codec;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use serde::Serialize;

use super::mix::{Call, Content};
use super::options::Options;
use super::schedule::{Picker, Schedule};
use super::speech::AddressProtocol;
use super::{Ending, headers};
use crate::console;
use crate::machine::Machine;
use crate::output::OutputFile;
use seconds::{EndpointRates, Second, ServerRates, Totals};

/// Shows a second: its figures, those of each endpoint, and whether it is the last.
type ShowSecond<'a> = dyn FnMut(&Second, &[EndpointRates], bool) -> Result<(), String> + 'a;

/// The longest that the loop waits without looking whether a signal came.
const LOOK_MS: u64 = 100;

/// The longest that a run waits at its end for its connections.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Runs the load, prints a line per second and the result, and writes the files of `--json` and `--report`.
pub fn run(options: &Options, url: &str, stop: &Arc<AtomicBool>) -> Result<Ending, String> {
    refuse(options)?;
    let calls = options.calls(AddressProtocol::Native)?;
    let [json, report] = OutputFile::open_all([options.json.as_deref(), options.report.as_deref()])?;
    let client = client(options, url)?;
    let began = Instant::now();
    let mut load = Load::new(options, &calls, &client, began)?;
    console::out(&text::heading(options.rate, load.in_flight_max()))?;
    let mut servers = Vec::new();
    let is_cut = load.run(stop, &mut |second, rates, is_warmup| {
        let per_s = rates.iter().map(|rates| (rates.address.clone(), rates.per_s)).collect();
        servers.push(ServerRates { at_s: second.at_s, per_s });
        console::out(&(text::second(second, rates, is_warmup) + "\n"))
    })?;
    let Load { totals, seconds, unanswered, never_sent, before, places, .. } = load;
    let endpoints = client.endpoints();
    let window_s = totals.seconds().max(f64::EPSILON);
    let outcome = Outcome {
        version: env!("CARGO_PKG_VERSION"),
        command: headers::redacted(std::env::args()),
        machine: Machine::here(),
        target: url.to_owned(),
        rate: options.rate,
        window_s,
        total: totals.figures(),
        unanswered,
        never_sent,
        seconds,
        servers,
        endpoints: EndpointRates::of(&before, &endpoints, window_s),
        fleet: FleetFigures::of(&client.fleet_stats()),
    };
    // Its connections end before the process does; calls that are left keep them.
    drop(places);
    client.close(CLOSE_WAIT);
    let shown = console::out(&text::render(&outcome));
    if let Some(json) = json {
        let text = serde_json::to_string_pretty(&outcome).map_err(|error| error.to_string())?;
        json.write(&(text + "\n"))?;
    }
    if let Some(report) = report {
        let is_picture = options.report.as_ref().is_some_and(|path| path.extension() == Some("svg".as_ref()));
        report.write(&if is_picture { page::picture(&outcome)? } else { page::render(&outcome)? })?;
    }
    shown?;
    Ok(match () {
        () if is_cut => Ending::Cut,
        () if outcome.total.ok == 0 => Ending::AllFailed,
        () if outcome.unanswered + outcome.never_sent > 0 => Ending::Incomplete,
        () => Ending::Complete,
    })
}

/// Returns an error if an option has no meaning for a load through the client.
fn refuse(options: &Options) -> Result<(), String> {
    let given = [
        ("--streams", options.streams.streams.is_some()),
        ("--find-max", options.find_max),
        ("--slo", options.slo.is_some()),
        ("--threads", options.threads > 1),
        ("--pin", !options.pin.is_empty()),
        ("--spin", options.spin),
        ("--watch", options.watch.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => {
            Err(format!("{name}: not with a resolver URL, whose load goes through the library's client"))
        }
        None => Ok(()),
    }
}

fn client(options: &Options, url: &str) -> Result<Client, String> {
    let max = in_flight_max(options);
    let builder = Client::builder(url).in_flight_max(max, WhenFull::Refuse);
    let builder = match options.tls.settings() {
        Some(settings) => builder.tls(|tls| *tls = settings),
        None => builder,
    };
    let mut client = builder.build().map_err(|error| error.to_string())?;
    if let Some(timeout) = options.timeout {
        client = client.with_timeout(timeout);
    }
    for (key, value) in options.headers.entries(AddressProtocol::Native)? {
        client = client.with_metadata(&key, value.as_bytes()).map_err(|error| error.to_string())?;
    }
    if options.idempotent {
        client = client.with_idempotent(true);
    }
    Ok(client)
}

/// Calls in flight: in a closed loop exactly, in an open one at most.
fn in_flight_max(options: &Options) -> usize {
    let depth = options.depth.unwrap_or(if options.rate.is_some() { 64 } else { 1 });
    (options.connections as usize * depth as usize).min(1 << 20)
}

/// The results of a run, as `--json` writes them.
#[derive(Debug, Serialize)]
struct Outcome {
    version: &'static str,
    command: Vec<String>,
    machine: Machine,
    target: String,
    rate: Option<f64>,
    /// The length of the measured window.
    window_s: f64,
    /// All calls that were due in it.
    total: seconds::Figures,
    /// Calls without an end when the run ended.
    unanswered: u64,
    /// Calls that were due and never sent.
    never_sent: u64,
    seconds: Vec<seconds::Figures>,
    servers: Vec<ServerRates>,
    endpoints: Vec<EndpointRates>,
    fleet: FleetFigures,
}

/// The client's counts of what it did beyond one attempt per call.
#[derive(Debug, Serialize)]
struct FleetFigures {
    retries: u64,
    hedges: u64,
    hedge_wins: u64,
    budget_refusals: u64,
}

impl FleetFigures {
    fn of(stats: &FleetStats) -> FleetFigures {
        FleetFigures {
            retries: stats.retries,
            hedges: stats.hedges,
            hedge_wins: stats.hedge_wins,
            budget_refusals: stats.budget_refusals,
        }
    }
}

/// A place for a call, and what wakes it.
struct Place {
    call: Option<InFlight<Vec<u8>>>,
    due: Instant,
    waker: Waker,
}

/// Reports that the call in a place may have ended.
struct PlaceWaker {
    place: usize,
    ended: Sender<usize>,
}

impl Wake for PlaceWaker {
    fn wake(self: Arc<Self>) {
        // The loop may have ended; then nothing waits for the call.
        let _ = self.ended.send(self.place);
    }
}

/// A running load: one thread that starts the calls and takes their ends.
struct Load<'a> {
    client: &'a Client,
    /// Method, codec and body of each call of the mix.
    bodies: Vec<(&'a str, Codec, &'a [u8])>,
    picker: Picker,
    schedule: Option<Schedule>,
    places: Vec<Place>,
    free: Vec<usize>,
    ended: Receiver<usize>,
    began: Instant,
    warmup: Duration,
    length: Duration,
    drain: Duration,
    totals: Totals,
    seconds: Vec<seconds::Figures>,
    unanswered: u64,
    never_sent: u64,
    /// The endpoints when the measured window began.
    before: Vec<EndpointView>,
}

impl<'a> Load<'a> {
    fn new(
        options: &Options,
        calls: &'a [Call],
        client: &'a Client,
        began: Instant,
    ) -> Result<Load<'a>, String> {
        let mut bodies = Vec::new();
        for call in calls {
            let Content::Frame(request) = &call.content else {
                return Err("the calls were not made for native:".to_owned());
            };
            let codec = crate::request::codec_number(&call.codec).and_then(Codec::from_number);
            let codec = codec.ok_or_else(|| format!("unknown codec {}", call.codec))?;
            bodies.push((call.method.as_str(), codec, request.body()));
        }
        let weights: Vec<u32> = calls.iter().map(|call| call.weight).collect();
        let (sender, ended) = unbounded();
        let place = |place| Place {
            call: None,
            due: began,
            waker: Waker::from(Arc::new(PlaceWaker { place, ended: sender.clone() })),
        };
        let places: Vec<Place> = (0..in_flight_max(options)).map(place).collect();
        Ok(Load {
            client,
            bodies,
            picker: Picker::new(&weights, options.seed),
            schedule: options.rate.map(|rate| Schedule::new(options.arrivals, rate, 0, 1, options.seed)),
            free: (0..places.len()).rev().collect(),
            places,
            ended,
            began,
            warmup: options.warmup,
            length: options.warmup + options.duration,
            drain: options.drain,
            totals: Totals::default(),
            seconds: Vec::new(),
            unanswered: 0,
            never_sent: 0,
            before: Vec::new(),
        })
    }

    fn in_flight_max(&self) -> usize {
        self.places.len()
    }

    /// Runs until the end; returns whether a signal ended it. `show` is called at the end of each second.
    fn run(&mut self, stop: &AtomicBool, show: &mut ShowSecond<'_>) -> Result<bool, String> {
        let end = self.began + self.length;
        let mut second = Second::default();
        let mut last_views = Vec::new();
        let mut is_warm = self.warmup.is_zero();
        let mut next_line = self.began + Duration::from_secs(1);
        loop {
            let now = Instant::now();
            let is_cut = stop.load(Ordering::Relaxed);
            if !is_warm && now >= self.began + self.warmup {
                is_warm = true;
                self.before = self.client.endpoints();
            }
            if now >= next_line || now >= end || is_cut {
                let views = self.client.endpoints();
                second.length_s = (now - (next_line - Duration::from_secs(1))).as_secs_f64();
                second.at_s = (now - self.began).as_secs_f64();
                let rates = EndpointRates::of(&last_views, &views, second.length_s);
                let is_warmup = now <= self.began + self.warmup;
                show(&second, &rates, is_warmup)?;
                if !is_warmup {
                    self.seconds.push(second.figures());
                }
                second = Second::default();
                last_views = views;
                next_line = now + Duration::from_secs(1);
            }
            if now >= end || is_cut {
                self.totals.length_s = (now - self.began).saturating_sub(self.warmup).as_secs_f64();
                self.finish(now, &mut second);
                return Ok(is_cut);
            }
            self.start_due(now, &mut second);
            let until = self.next_due(now).min(next_line).min(end);
            let wait = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(LOOK_MS));
            match self.ended.recv_timeout(wait) {
                Ok(place) => self.take(place, &mut second),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("the wakers are gone".to_owned()),
            }
            while let Ok(place) = self.ended.try_recv() {
                self.take(place, &mut second);
            }
        }
    }

    /// Returns when the next call is due; now, if it only waits for a place, is as good as never: an end makes one.
    fn next_due(&self, now: Instant) -> Instant {
        match &self.schedule {
            Some(schedule) if !self.free.is_empty() => self.began + Duration::from_nanos(schedule.next_ns()),
            _ => now + Duration::from_secs(1),
        }
    }

    /// Starts the calls that are due, while there are places.
    fn start_due(&mut self, now: Instant, second: &mut Second) {
        while !self.free.is_empty() {
            let due = match &mut self.schedule {
                None => now,
                Some(schedule) => {
                    let due = self.began + Duration::from_nanos(schedule.next_ns());
                    if due > now {
                        return;
                    }
                    schedule.advance();
                    due
                }
            };
            let Some(place) = self.free.pop() else { return };
            let (method, codec, body) = self.bodies[self.picker.pick()];
            second.offered += 1;
            if self.is_measured(due) {
                self.totals.second.offered += 1;
            }
            self.places[place].due = due;
            self.places[place].call = Some(self.client.start_bytes(method, codec, body));
            self.take(place, second);
        }
    }

    fn is_measured(&self, due: Instant) -> bool {
        due >= self.began + self.warmup
    }

    /// Takes the end of the call in a place, if it has ended.
    fn take(&mut self, place: usize, second: &mut Second) {
        let Place { call, due, waker } = &mut self.places[place];
        let Some(in_flight) = call else { return };
        let Poll::Ready(result) = Pin::new(in_flight).poll(&mut Context::from_waker(waker)) else { return };
        *call = None;
        let due = *due;
        self.free.push(place);
        self.count(&result, due, second);
    }

    fn count(&mut self, result: &Result<Vec<u8>, CallError>, due: Instant, second: &mut Second) {
        let ns = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let code = result.as_ref().err().map(CallError::code);
        second.end(code, ns);
        if self.is_measured(due) {
            self.totals.second.end(code, ns);
            if let Err(error) = result {
                self.totals.note(error);
            }
        }
    }

    /// Takes the ends that still come.
    fn finish(&mut self, now: Instant, second: &mut Second) {
        if let Some(schedule) = &mut self.schedule {
            let ns = u64::try_from(self.length.as_nanos()).unwrap_or(u64::MAX);
            let cut_ns = u64::try_from((now - self.began).as_nanos()).unwrap_or(u64::MAX).min(ns);
            self.never_sent = schedule.take_before(cut_ns);
        }
        let until = now + self.drain;
        while self.free.len() < self.places.len() {
            match self.ended.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(place) => self.take(place, second),
                Err(_) => break,
            }
        }
        self.unanswered = (self.places.len() - self.free.len()) as u64;
    }
}
