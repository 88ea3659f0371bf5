//! A whole run: starts the threads, merges their intervals as they arrive, and adds up their counts at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::job::{Counted, Job, Stop, ThreadReport};
use super::load;
use super::protocol::Protocol;
use super::schedule::{Arrivals, Entry, Picker, Schedule};
use super::speech::AddressProtocol;
use super::streams::counts::StreamCounts;
use super::tally::{Connections, Interval, MethodTally, STATUSES, Timeline};
use super::target::Target;
use super::trace::{TraceSampler, TraceTally};
use super::worker::Worker;
use crate::histogram::Histogram;
use crate::machine;
use crate::process::{CpuClock, tree};

/// Maximum number of connections that a thread makes at the same time: few enough not to overflow a backlog.
const CONNECTING_MAX: usize = 64;
/// That of all threads together where each connection makes a call first: as many have sent nothing yet, and coreloop's
/// smallest profile allows 16 of them.
const CALLING_FIRST_MAX: usize = 16;
/// Timeout of the one connection attempt after a run with lost connections.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// The plan of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The protocol.
    pub speaks: AddressProtocol,
    /// The server.
    pub target: Target,
    /// The weights of the methods.
    pub weights: Vec<u32>,
    /// Number of connections of all threads.
    pub connections: u32,
    /// Calls in flight on each connection: the exact number in a closed loop, the maximum in an open one.
    pub depth: u32,
    /// Calls per second of an open loop; `None`: a closed loop.
    pub rate: Option<f64>,
    /// The spacing of the calls.
    pub arrivals: Arrivals,
    /// Length of the warm-up.
    pub warmup: Duration,
    /// Length of the measured window.
    pub duration: Duration,
    /// How long to wait at the end for missing answers.
    pub drain: Duration,
    /// The deadline of each request, in ns from when the call is due; `u64::MAX` for none. Empty if no call states a
    /// deadline.
    pub deadlines_ns: Arc<[u64]>,
    /// If above 0, the open loop has one method with this many requests. The first states the whole deadline, each
    /// further one as much less. A call that waited for a connection uses the request for what is left of its
    /// deadline, and is not sent if nothing is left.
    pub deadline_steps: u32,
    /// Number of threads.
    pub threads: usize,
    /// The threads' cores, used in turn; empty: the kernel decides.
    pub cores: Vec<usize>,
    /// Poll instead of sleeping.
    pub spin: bool,
    /// Seed of Poisson gaps and of the order of a mix.
    pub seed: u64,
    /// A process whose CPU time is also read.
    pub watch: Option<u32>,
    /// One call in this many is traced; its request has the index of its method, plus the number of methods. 0: none.
    pub trace_one_in: u64,
    /// Each connection makes a call of the first method, which does not count, as soon as it is open, at the beginning before
    /// further ones are opened: a server may close connections that have sent nothing. Open loop only.
    pub calls_first: bool,
    /// The calls of the open loop as a list, in place of arrivals at a rate; their link numbers count over all
    /// connections.
    pub list: Option<Arc<[Entry]>>,
}

/// One interval of all threads together.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Point {
    /// Its end, in seconds from the beginning of the measured window.
    pub end_s: f64,
    /// Its length in seconds.
    pub length_s: f64,
    /// Ok answers.
    pub ok: u64,
    /// Ok answers within their deadline; all of them if there is no deadline.
    pub in_time: u64,
    /// Answers with an error, and lost calls.
    pub failed: u64,
    /// Calls that were due; in a closed loop, calls sent.
    pub due: u64,
    /// Calls sent.
    pub sent: u64,
    /// Calls in flight at its end.
    pub in_flight: u64,
    /// Median latency of the ok answers from the intended time, in ns; `None` if there were none.
    pub p50_ns: Option<u64>,
    /// 99th percentile of the same latency, in ns.
    pub p99_ns: Option<u64>,
    /// Maximum of the same latency, in ns.
    pub max_ns: Option<u64>,
    /// CPU time of the watched process, in ns; read when the interval's report arrives.
    pub server_cpu_ns: Option<u64>,
}

/// The current state of a run.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Number of open connections while they are being made; the other fields are not known then.
    pub connecting: Option<u64>,
    /// Seconds from the beginning of the warm-up.
    pub elapsed_s: f64,
    /// Whether the warm-up is over.
    pub is_measured: bool,
    /// Ok answers per second in the last interval.
    pub rate: f64,
    /// Calls in flight.
    pub in_flight: u64,
    /// 99th percentile of the latency so far (without the warm-up, once it is over), in ns.
    pub p99_ns: u64,
    /// Calls that failed so far.
    pub failed: u64,
}

/// The CPU time of one thread.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct ThreadUse {
    /// CPU time within the window, in ns.
    pub cpu_ns: u64,
    /// CPU time as a share of the window; 1 is a whole core.
    pub cpu_share: f64,
    /// Share of the window in which it was ready to run but another process used its core.
    pub waited_share: f64,
}

/// The counts of all threads.
pub struct Measured {
    /// The counts of each method, by index in the mix.
    pub methods: Vec<MethodTally>,
    /// Delay of the calls as far as the generator caused it.
    pub late: Histogram,
    /// Calls that waited for a connection with room.
    pub held: u64,
    /// The connection counts.
    pub connections: Connections,
    /// The counts of streams; zero in a run of calls.
    pub streams: StreamCounts,
    /// The traced calls.
    pub traces: TraceTally,
    /// The start of the window, in ns from the beginning of the run.
    pub from_ns: u64,
    /// The first message of each status.
    pub messages: [Option<String>; STATUSES],
    /// Measured length of the window, in seconds.
    pub window_s: f64,
    /// Answers in the whole run, of any status.
    pub answers_in_all: u64,
    /// Ok answers within the window.
    pub ok_in_window: u64,
    /// Ok answers within the window and within their deadline.
    pub in_time_in_window: u64,
    /// Answers with an error and lost calls within the window.
    pub failed_in_window: u64,
    /// The CPU time of each thread.
    pub threads: Vec<ThreadUse>,
    /// The intervals of the measured window.
    pub series: Vec<Point>,
    /// CPU time of the watched process within the window, in ns, or why it is unknown.
    pub watched_cpu_ns: Option<Result<u64, String>>,
    /// CPU time of this whole process within the window, in ns.
    pub own_cpu_ns: u64,
    /// The share of all cores' time within the window that a hypervisor withheld; 0 if that is unknown.
    pub stolen_share: f64,
    /// Whether it was stopped before its end.
    pub is_cut: bool,
    /// Why no connection to the server could be made after the run; tried only if some were lost or never made.
    pub server_gone: Option<String>,
}

/// Runs the plan, and reports its progress.
pub fn measure<P: Protocol>(
    plan: &Plan,
    protocol: &P,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&Live),
) -> Result<Measured, String> {
    measure_with(plan, stop, progress, |threads, number, stop| {
        let job = job(plan, protocol, threads, number, stop);
        move |tell: &_, timeline: &_| load::run::<Worker<_>>(job, tell, timeline)
    })
}

/// Runs the plan with threads that `body` makes: for the number of all threads and that of the thread.
pub fn measure_with<T>(
    plan: &Plan,
    stop: &Arc<AtomicBool>,
    progress: &mut dyn FnMut(&Live),
    body: impl Fn(usize, usize, &Stop) -> T,
) -> Result<Measured, String>
where
    T: FnOnce(&mpsc::Sender<ThreadReport>, &mpsc::Receiver<Timeline>) + Send + 'static,
{
    let stop = &Stop::new(stop);
    let (tell, told) = mpsc::channel();
    let threads = plan.threads.min(plan.connections as usize).max(1);
    let mut timelines = Vec::new();
    let mut handles = Vec::new();
    for number in 0..threads {
        let (send, timeline) = mpsc::channel();
        timelines.push(send);
        let body = body(threads, number, stop);
        let tell = tell.clone();
        let thread = thread::Builder::new().name(format!("loadgen-{number}"));
        let spawned = thread.spawn(move || body(&tell, &timeline));
        handles.push(spawned.map_err(|error| format!("cannot start a thread: {error}"))?);
    }
    drop(tell);
    let mut gathering = Gathering::new(plan, threads);
    let result = gathering.run(&told, timelines, stop, progress);
    if result.is_err() {
        // Threads that still run after another thread's failure see this and end.
        stop.fail();
    }
    drop(told);
    for handle in handles {
        handle.join().map_err(|_| "a thread of the generator panicked")?;
    }
    result?;
    gathering.measured(stop.is_asked())
}

/// Returns the job of one thread.
pub fn job<P: Clone>(plan: &Plan, protocol: &P, threads: usize, number: usize, stop: &Stop) -> Job<P> {
    let share =
        plan.connections as usize / threads + usize::from(number < plan.connections as usize % threads);
    let schedule = match &plan.list {
        Some(list) => Some(Schedule::listed(share_of(list, number, threads))),
        None => {
            let of = |rate| Schedule::new(plan.arrivals, rate, number as u64, threads as u64, plan.seed);
            plan.rate.map(of)
        }
    };
    Job {
        target: plan.target.clone(),
        protocol: protocol.clone(),
        connections: share,
        depth: plan.depth,
        schedule,
        calls_first: plan.calls_first,
        connecting_max: match plan.calls_first {
            true => (CALLING_FIRST_MAX / threads).max(1),
            false => CONNECTING_MAX,
        },
        picker: Picker::new(&plan.weights, plan.seed.wrapping_add(number as u64)),
        traces: TraceSampler::new(plan.trace_one_in, number, plan.weights.len()),
        methods: plan.weights.len(),
        deadlines_ns: plan.deadlines_ns.clone(),
        deadline_steps: plan.deadline_steps,
        drain_ns: plan.drain.as_nanos() as u64,
        spin: plan.spin,
        core: (!plan.cores.is_empty()).then(|| plan.cores[number % plan.cores.len()]),
        stop: stop.clone(),
    }
}

/// Returns a thread's part of a list: connections are assigned to the threads in turn.
fn share_of(list: &[Entry], number: usize, threads: usize) -> Arc<[Entry]> {
    let own = list.iter().filter(|entry| entry.link as usize % threads == number);
    own.map(|entry| Entry { link: entry.link / threads as u32, ..*entry }).collect()
}

struct Gathering<'a> {
    plan: &'a Plan,
    threads: usize,
    time: Timeline,
    /// Intervals that some threads have not reported: the number of reports so far, and their sum.
    open: BTreeMap<i64, (usize, Interval, Histogram)>,
    so_far: Histogram,
    failed_so_far: u64,
    series: Vec<Point>,
    counted: Vec<Counted>,
    cpu_at: [Option<CpuMarks>; 2],
    /// The watched process's CPU time at the end of the last interval.
    watched_ns: Option<u64>,
}

/// CPU clocks of this process and the watched one, and the time that a hypervisor withheld.
struct CpuMarks {
    at: Instant,
    own_ns: u64,
    stolen_ns: u64,
    watched_ns: Option<Result<u64, String>>,
}

fn watched_ns(pid: u32) -> Option<u64> {
    CpuClock::of(pid).ok()?.now_ns().ok()
}

impl CpuMarks {
    fn read(watch: Option<u32>) -> CpuMarks {
        let told = |pid: u32| tree::cpu_ns(pid).map_err(|error| format!("process {pid}: {error}"));
        let own = CpuClock::of(std::process::id()).and_then(CpuClock::now_ns);
        CpuMarks {
            at: Instant::now(),
            own_ns: own.unwrap_or(0),
            stolen_ns: machine::stolen_ns().unwrap_or(0),
            watched_ns: watch.map(told),
        }
    }
}

impl<'a> Gathering<'a> {
    fn new(plan: &'a Plan, threads: usize) -> Gathering<'a> {
        let from_ns = plan.warmup.as_nanos() as u64;
        let length_ns = plan.duration.as_nanos() as u64;
        // About 200 points, each between a tenth of a second and one second long.
        let interval_ns = (length_ns / 200).clamp(100_000_000, 1_000_000_000);
        let time = Timeline { began: Instant::now(), from_ns, end_ns: from_ns + length_ns, interval_ns };
        Gathering {
            plan,
            threads,
            time,
            open: BTreeMap::new(),
            so_far: Histogram::default(),
            failed_so_far: 0,
            series: Vec::new(),
            counted: Vec::new(),
            cpu_at: [None, None],
            watched_ns: None,
        }
    }

    fn run(
        &mut self,
        told: &mpsc::Receiver<ThreadReport>,
        timelines: Vec<mpsc::Sender<Timeline>>,
        stop: &Stop,
        progress: &mut dyn FnMut(&Live),
    ) -> Result<(), String> {
        let (mut ready, mut open, mut trouble) = (0, 0, None);
        let mut connecting = 0;
        while self.counted.len() < self.threads {
            // Each thread ends with `Done` or `Failed`, so the channel is not empty before all have reported.
            match told.recv().map_err(|_| "a thread of the generator ended early")? {
                ThreadReport::Failed(why) => return Err(why),
                ThreadReport::Connecting(more) => {
                    connecting += more as u64;
                    progress(&Live { connecting: Some(connecting), ..Live::default() });
                }
                ThreadReport::Ready(connections, why) => {
                    ready += 1;
                    open += connections;
                    trouble = trouble.or(why);
                    if ready < self.threads {
                        continue;
                    }
                    if stop.is_asked() {
                        return Err("stopped before the connections were made".into());
                    }
                    if open == 0 {
                        let why = trouble.unwrap_or("no connection".into());
                        return Err(format!("cannot connect to {}: {why}", self.plan.target));
                    }
                    self.time.began = Instant::now();
                    for timeline in &timelines {
                        // A thread that has ended has reported why, or is detected as missing above.
                        let _ = timeline.send(self.time);
                    }
                    if self.time.from_ns == 0 {
                        self.watched_ns = self.plan.watch.and_then(watched_ns);
                        self.cpu_at[0] = Some(CpuMarks::read(self.plan.watch));
                    }
                }
                ThreadReport::Interval(interval) => self.on_interval(interval, stop.is_asked(), progress),
                ThreadReport::Done(counted) => {
                    if self.cpu_at[1].is_none() && counted.closed.is_some() {
                        self.cpu_at[1] = Some(CpuMarks::read(self.plan.watch));
                    }
                    self.counted.push(*counted);
                }
            }
        }
        // A run that was cut may have an interval that only some threads began.
        while let Some((index, (_, interval, latencies))) = self.open.pop_first() {
            self.end_interval(index, interval, &latencies, progress);
        }
        Ok(())
    }

    fn on_interval(&mut self, interval: Interval, is_cut: bool, progress: &mut dyn FnMut(&Live)) {
        let index = interval.index;
        let end_ns = self.time.from_ns as i64 + (index + 1) * self.time.interval_ns as i64;
        // Read when the report arrives, so close to the window's ends; each thread reads its own time itself.
        if end_ns >= self.time.from_ns as i64 && self.cpu_at[0].is_none() {
            self.cpu_at[0] = Some(CpuMarks::read(self.plan.watch));
        }
        if (is_cut || end_ns >= self.time.end_ns as i64) && self.cpu_at[1].is_none() {
            self.cpu_at[1] = Some(CpuMarks::read(self.plan.watch));
        }
        let entry = self.open.entry(index).or_default();
        entry.0 += 1;
        entry.1.ok += interval.ok;
        entry.1.in_time += interval.in_time;
        entry.1.failed += interval.failed;
        entry.1.due += interval.due;
        entry.1.sent += interval.sent;
        entry.1.in_flight += interval.in_flight;
        entry.2.add_sparse(&interval.latencies);
        if entry.0 == self.threads
            && let Some((_, interval, latencies)) = self.open.remove(&index)
        {
            self.end_interval(index, interval, &latencies, progress);
        }
    }

    fn end_interval(
        &mut self,
        index: i64,
        interval: Interval,
        latencies: &Histogram,
        progress: &mut dyn FnMut(&Live),
    ) {
        let step_s = self.time.interval_ns as f64 / 1e9;
        let window_s = (self.time.end_ns - self.time.from_ns) as f64 / 1e9;
        let end_s = ((index + 1) as f64 * step_s).min(window_s);
        let length_s = (end_s - index as f64 * step_s).max(1e-9);
        if index == 0 {
            self.so_far = Histogram::default();
            self.failed_so_far = 0;
        }
        self.so_far.add(latencies);
        self.failed_so_far += interval.failed;
        let watched_ns = self.plan.watch.and_then(watched_ns);
        let before_ns = std::mem::replace(&mut self.watched_ns, watched_ns);
        if index >= 0 {
            let some = |ns| (latencies.count() > 0).then_some(ns);
            self.series.push(Point {
                end_s,
                length_s,
                ok: interval.ok,
                in_time: interval.in_time,
                failed: interval.failed,
                due: interval.due,
                sent: interval.sent,
                in_flight: interval.in_flight,
                p50_ns: some(latencies.quantile(0.5)),
                p99_ns: some(latencies.quantile(0.99)),
                max_ns: some(latencies.max()),
                server_cpu_ns: watched_ns.zip(before_ns).map(|(now, before)| now.saturating_sub(before)),
            });
        }
        progress(&Live {
            connecting: None,
            elapsed_s: end_s + self.time.from_ns as f64 / 1e9,
            is_measured: index >= 0,
            rate: interval.ok as f64 / length_s,
            in_flight: interval.in_flight,
            p99_ns: self.so_far.quantile(0.99),
            failed: self.failed_so_far,
        });
    }

    fn measured(mut self, is_cut: bool) -> Result<Measured, String> {
        let ends: Vec<_> =
            self.counted.iter().filter_map(|counted| counted.opened.zip(counted.closed)).collect();
        if ends.is_empty() {
            return Err("stopped before the warm-up was over: nothing was measured".into());
        }
        let length = |from: u64, to: u64| to.saturating_sub(from).max(1) as f64;
        let threads = ends.iter().map(|(opened, closed)| {
            let length_ns = length(opened.at_ns, closed.at_ns);
            let cpu_ns = closed.cpu_ns - opened.cpu_ns;
            ThreadUse {
                cpu_ns,
                cpu_share: cpu_ns as f64 / length_ns,
                waited_share: closed.waited_ns.saturating_sub(opened.waited_ns) as f64 / length_ns,
            }
        });
        let threads = threads.collect();
        let window_s = ends.iter().map(|(opened, closed)| length(opened.at_ns, closed.at_ns)).sum::<f64>()
            / 1e9
            / ends.len() as f64;
        let [Some(first), Some(last)] = self.cpu_at else {
            return Err("the run ended before its window did".into());
        };
        let watched_cpu_ns = match (first.watched_ns, last.watched_ns) {
            (Some(Ok(first)), Some(Ok(last))) => Some(Ok(last.saturating_sub(first))),
            (_, Some(Err(why))) | (Some(Err(why)), _) => Some(Err(why)),
            (None, _) | (_, None) => None,
        };
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let cores_ns = last.at.duration_since(first.at).as_nanos() as f64 * cores as f64;
        let mut measured = Measured {
            methods: vec![MethodTally::default(); self.plan.weights.len()],
            late: Histogram::default(),
            held: 0,
            connections: Connections::default(),
            streams: StreamCounts::default(),
            traces: TraceTally::default(),
            from_ns: self.time.from_ns,
            messages: Default::default(),
            window_s,
            answers_in_all: 0,
            ok_in_window: ends.iter().map(|(opened, closed)| closed.ok - opened.ok).sum(),
            in_time_in_window: ends.iter().map(|(opened, closed)| closed.in_time - opened.in_time).sum(),
            failed_in_window: ends.iter().map(|(opened, closed)| closed.failed - opened.failed).sum(),
            threads,
            series: std::mem::take(&mut self.series),
            watched_cpu_ns,
            own_cpu_ns: last.own_ns.saturating_sub(first.own_ns),
            stolen_share: last.stolen_ns.saturating_sub(first.stolen_ns) as f64 / cores_ns.max(1.0),
            is_cut,
            server_gone: None,
        };
        for counted in self.counted {
            let tally = counted.tally;
            for (sum, method) in measured.methods.iter_mut().zip(&tally.methods) {
                sum.add(method);
            }
            measured.answers_in_all += tally.answered_ok + tally.answered_failed;
            measured.late.add(&tally.late);
            measured.held += tally.held;
            measured.connections.add(&tally.connections);
            measured.streams.add(&tally.streams);
            measured.traces.add(&tally.traces);
            for (known, message) in measured.messages.iter_mut().zip(tally.messages) {
                *known = known.take().or(message);
            }
        }
        let connections = &measured.connections;
        if !is_cut && connections.lost + connections.drained + connections.attempts_failed > 0 {
            let reached = self.plan.target.connect_once(RECONNECT_PATIENCE);
            measured.server_gone = reached.err().map(|error| error.to_string());
        }
        Ok(measured)
    }
}
