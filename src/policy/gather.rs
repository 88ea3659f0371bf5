//! Decides whether a busy reactor naps so that calls gather before it looks for more.
//!
//! A peer that writes each of many calls separately makes a fast server serve one or two calls per wake-up: a
//! wake-up, a read and a write for each. Network cards have the same problem and use interrupt moderation; here the
//! effect of naps is tried and measured. Naps stay only if calls become clearly cheaper *and* more frequent, so that
//! by Little's law the mean latency falls: peers that wait for their answers send the next calls sooner. A load with
//! a fixed rate, below the capacity of the core, gains no rate and gets no naps. No clock and no sleep here: the
//! reactor passes the time and naps.

use std::time::{Duration, Instant};

/// The period that is judged as a whole.
const WINDOW: Duration = Duration::from_millis(20);
/// After a change of phase the peers need this long to adapt; this period is not judged.
const SETTLE: Duration = Duration::from_millis(20);
/// A window with fewer calls than this is not significant.
const CALLS_MIN: u64 = 256;
/// Consecutive significant windows before a trial.
const WATCHED_MIN: u32 = 4;
/// Below this share of busy time the core has spare capacity.
const BUSY_SHARE_MIN: f64 = 0.5;
/// If a turn serves more calls than this, they gather without naps.
const CALLS_PER_TURN_MAX: f64 = 64.0;
/// If a read brings hardly more than one call, connections have no more in flight.
const CALLS_PER_READ_MIN: f64 = 1.1;
/// Naps must reduce the cost of a call to this share of the cost before …
const COST_SHARE_MAX: f64 = 0.8;
/// … and raise the rate to this share.
const RATE_SHARE_MIN: f64 = 1.05;
/// Naps end when the rate has fallen to this share of the rate at their start.
const LEAVE_SHARE: f64 = 0.6;
/// After this time naps are compared with no naps again.
const HOLD: Duration = Duration::from_secs(5);
/// Delay before the next trial after an unsuccessful one; it doubles each time.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Decides after each turn how long to nap before the next wait.
#[derive(Clone, Debug)]
pub struct Gather {
    nap: Duration,
    phase: GatherPhase,
    window: GatherWindow,
    try_at: Option<Instant>,
    retry: Duration,
}

/// The work of one turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct TurnLoad {
    /// From the end of the turn's wait to the end of the turn.
    pub busy: Duration,
    /// Calls received.
    pub calls: u64,
    /// Reads that brought these calls.
    pub reads: u64,
}

#[derive(Clone, Copy, Debug)]
enum GatherPhase {
    /// No naps: the pace without them, and the number of consecutive windows.
    Watching { pace: TurnPace, windows: u32 },
    /// Naps on trial, compared with the pace without them; judged from `from` on.
    Trying { without: TurnPace, from: Instant },
    /// Naps that paid off, and the rate that they reached.
    Napping { calls_per_s: f64, until: Instant },
}

/// The rate of calls, and the cost of one.
#[derive(Clone, Copy, Debug, Default)]
struct TurnPace {
    calls_per_s: f64,
    busy_s_per_call: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct GatherWindow {
    began: Option<Instant>,
    /// The first turn that ends at this time or later ends the window.
    until: Option<Instant>,
    turns: u64,
    sum: TurnLoad,
}

impl Gather {
    /// Creates the policy with naps of this length; zero disables naps.
    pub fn new(nap: Duration) -> Gather {
        Gather { nap, phase: WATCHING, window: GatherWindow::default(), try_at: None, retry: RETRY_MIN }
    }

    /// Returns whether naps are enabled.
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.nap.is_zero()
    }

    /// Records the end of a turn and returns how long to nap before the next wait: zero after a turn without calls,
    /// so that an idle server does not nap.
    #[inline]
    pub fn on_turn(&mut self, now: Instant, turn: TurnLoad) -> Duration {
        self.window.turns += 1;
        self.window.sum.busy += turn.busy;
        self.window.sum.calls += turn.calls;
        self.window.sum.reads += turn.reads;
        if self.window.until.is_none_or(|until| now >= until) {
            self.end_window(now);
        }
        match self.phase {
            GatherPhase::Trying { .. } | GatherPhase::Napping { .. } if turn.calls > 0 => self.nap,
            GatherPhase::Watching { .. } | GatherPhase::Trying { .. } | GatherPhase::Napping { .. } => {
                Duration::ZERO
            }
        }
    }

    #[cold]
    fn end_window(&mut self, now: Instant) {
        // The very first turn counts in the first window, although it began before.
        if let Some(began) = self.window.began {
            let GatherWindow { turns, sum, .. } = std::mem::take(&mut self.window);
            self.judge(now, began, turns, sum);
        }
        self.window.began = Some(now);
        self.window.until = Some(now + WINDOW);
    }

    fn judge(&mut self, now: Instant, began: Instant, turns: u64, sum: TurnLoad) {
        let (seconds, calls) = (now.saturating_duration_since(began).as_secs_f64(), sum.calls as f64);
        let now_pace = TurnPace {
            calls_per_s: calls / seconds,
            busy_s_per_call: sum.busy.as_secs_f64() / calls.max(1.0),
        };
        let is_telling = sum.calls >= CALLS_MIN;
        let may_gain = sum.busy.as_secs_f64() / seconds >= BUSY_SHARE_MIN
            && calls <= CALLS_PER_TURN_MAX * turns as f64
            && calls >= CALLS_PER_READ_MIN * sum.reads as f64;
        self.phase = match self.phase {
            GatherPhase::Watching { .. } if !is_telling || !may_gain => WATCHING,
            GatherPhase::Watching { pace, windows } => {
                let pace = if windows == 0 { now_pace } else { pace.joined(now_pace) };
                if windows + 1 >= WATCHED_MIN && self.try_at.is_none_or(|at| now >= at) {
                    GatherPhase::Trying { without: pace, from: now + SETTLE }
                } else {
                    GatherPhase::Watching { pace, windows: windows.saturating_add(1) }
                }
            }
            // Only a window that lies entirely within the trial is judged.
            GatherPhase::Trying { from, .. } if began < from && is_telling => self.phase,
            GatherPhase::Trying { without, .. } if is_telling && without.is_improved_by(now_pace) => {
                self.retry = RETRY_MIN;
                GatherPhase::Napping { calls_per_s: now_pace.calls_per_s, until: now + HOLD }
            }
            GatherPhase::Trying { .. } => {
                self.try_at = Some(now + self.retry);
                self.retry = (self.retry * 2).min(RETRY_MAX);
                WATCHING
            }
            GatherPhase::Napping { calls_per_s, until }
                if now < until && now_pace.calls_per_s >= calls_per_s * LEAVE_SHARE =>
            {
                GatherPhase::Napping { calls_per_s, until }
            }
            GatherPhase::Napping { .. } => WATCHING,
        };
    }
}

const WATCHING: GatherPhase =
    GatherPhase::Watching { pace: TurnPace { calls_per_s: 0.0, busy_s_per_call: 0.0 }, windows: 0 };

impl TurnPace {
    /// Returns the weighted mean, a third of it the newer pace, so that one outlier does not set the baseline.
    fn joined(self, newer: TurnPace) -> TurnPace {
        let join = |old: f64, new: f64| (2.0 * old + new) / 3.0;
        TurnPace {
            calls_per_s: join(self.calls_per_s, newer.calls_per_s),
            busy_s_per_call: join(self.busy_s_per_call, newer.busy_s_per_call),
        }
    }

    fn is_improved_by(self, with: TurnPace) -> bool {
        with.busy_s_per_call <= self.busy_s_per_call * COST_SHARE_MAX
            && with.calls_per_s >= self.calls_per_s * RATE_SHARE_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAP: Duration = Duration::from_micros(100);

    /// A simulated load: the length of a turn and its work, without a nap before it and with one.
    struct Load {
        without: (Duration, TurnLoad),
        with: (Duration, TurnLoad),
    }

    fn turn(busy_us: u64, calls: u64, reads: u64) -> TurnLoad {
        TurnLoad { busy: Duration::from_micros(busy_us), calls, reads }
    }

    fn every(us: u64, turn: TurnLoad) -> (Duration, TurnLoad) {
        (Duration::from_micros(us), turn)
    }

    /// The share of turns with a nap, second by second.
    fn run(gather: &mut Gather, load: &Load, now: &mut Instant, seconds: u32) -> Vec<f64> {
        let mut shares = Vec::new();
        let mut nap = Duration::ZERO;
        for _ in 0..seconds {
            let end = *now + Duration::from_secs(1);
            let (mut naps, mut turns) = (0.0, 0.0);
            while *now < end {
                let (length, turn) = if nap.is_zero() { load.without } else { load.with };
                *now += length;
                nap = gather.on_turn(*now, turn);
                turns += 1.0;
                naps += f64::from(u8::from(!nap.is_zero()));
            }
            shares.push(naps / turns);
        }
        shares
    }

    /// Peers that write one call at a time and send the next after an answer: 130 000 calls/s without naps, and 160
    /// 000 with them at a third of the cost.
    fn pipelined() -> Load {
        Load { without: every(100, turn(70, 13, 10)), with: every(125, turn(40, 20, 4)) }
    }

    #[test]
    fn naps_that_pay_stay() {
        let (mut gather, mut now) = (Gather::new(NAP), Instant::now());
        let load = pipelined();
        let shares = run(&mut gather, &load, &mut now, 4);
        assert!(shares[1] > 0.9 && shares[3] > 0.9, "{shares:?}");
    }

    #[test]
    fn useless_naps_are_retried_ever_less_often() {
        let (mut gather, mut now) = (Gather::new(NAP), Instant::now());
        // An open loop: the rate stays the same, however cheap calls become.
        let load = Load { without: every(100, turn(70, 13, 10)), with: every(200, turn(40, 26, 4)) };
        let shares = run(&mut gather, &load, &mut now, 120);
        assert!(shares[0] > 0.0, "never tried");
        assert!(shares[60..].iter().sum::<f64>() / 60.0 < 0.005, "{shares:?}");
    }

    #[test]
    fn naps_that_save_nothing_are_given_up() {
        let (mut gather, mut now) = (Gather::new(NAP), Instant::now());
        let load = Load { without: every(100, turn(70, 13, 10)), with: every(90, turn(63, 13, 10)) };
        let shares = run(&mut gather, &load, &mut now, 30);
        assert!(shares[20..].iter().sum::<f64>() / 10.0 < 0.02, "{shares:?}");
    }

    #[test]
    fn loads_that_cannot_gain_get_no_naps() {
        let with = every(125, turn(10, 20, 4));
        for without in [
            every(10, turn(9, 1, 1)),        // one call in flight on each connection
            every(100, turn(40, 13, 10)),    // spare capacity
            every(1000, turn(900, 900, 60)), // full turns
            every(1_000, turn(900, 2, 1)),   // few calls, long ones
        ] {
            let (mut gather, mut now) = (Gather::new(NAP), Instant::now());
            let shares = run(&mut gather, &Load { without, with }, &mut now, 5);
            assert_eq!(shares, [0.0; 5], "{without:?}");
        }
    }

    #[test]
    fn naps_end_with_the_load() {
        let (mut gather, mut now) = (Gather::new(NAP), Instant::now());
        let load = pipelined();
        run(&mut gather, &load, &mut now, 2);
        let thin = every(125, turn(10, 1, 1));
        let shares = run(&mut gather, &Load { without: thin, with: thin }, &mut now, 1);
        assert!(shares[0] < 0.5, "{shares:?}");
        assert_eq!(gather.on_turn(now, TurnLoad::default()), Duration::ZERO);
    }

    #[test]
    fn a_turn_without_calls_is_not_followed_by_a_nap() {
        let (mut gather, mut now) = (Gather::new(NAP), Instant::now());
        let load = pipelined();
        run(&mut gather, &load, &mut now, 2);
        now += Duration::from_micros(10);
        assert_eq!(gather.on_turn(now, turn(7, 1, 1)), NAP);
        assert_eq!(gather.on_turn(now, turn(7, 0, 0)), Duration::ZERO);
    }

    #[test]
    fn a_zero_nap_disables_gathering() {
        let (mut gather, mut now) = (Gather::new(Duration::ZERO), Instant::now());
        assert!(!gather.is_on());
        let load = pipelined();
        assert_eq!(run(&mut gather, &load, &mut now, 2), [0.0; 2]);
    }
}
