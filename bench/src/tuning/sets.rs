//! The measured settings: sets of settings that differ in one thing, each with the loads that show its effect.

/// A load, and the figure of it that is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    pub name: &'static str,
    /// The calls, in the syntax of the load generator's `--mix`.
    pub mix: &'static str,
    pub codec: Option<&'static str>,
    pub connections: u32,
    /// Calls in flight on each connection; `None`: the default, as many as are due in an open loop.
    pub depth: Option<u32>,
    /// Calls per second of an open loop.
    pub rate: Option<f64>,
    pub shows: Shown,
}

/// The figure that a load is designed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    Rate,
    P50,
    P99,
}

/// One value of the changed setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    /// Arguments of `coreloop serve`.
    pub args: &'static [&'static str],
}

/// Settings that differ in one thing.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    pub name: &'static str,
    /// The keys of the configuration.
    pub keys: &'static str,
    /// Arguments that all servers of the set have.
    pub args: &'static [&'static str],
    pub settings: &'static [Setting],
    pub trials: &'static [Trial],
}

const LONE: Trial = Trial {
    name: "a lone caller, 1x1",
    mix: "Arith.AddFixed=1",
    codec: None,
    connections: 1,
    depth: Some(1),
    rate: None,
    shows: Shown::P50,
};
const FULL: Trial =
    Trial { name: "closed loop, 64x16", connections: 64, depth: Some(16), shows: Shown::Rate, ..LONE };
const STEADY: Trial = Trial {
    name: "20 000 calls/s on 64",
    connections: 64,
    depth: None,
    rate: Some(20_000.0),
    shows: Shown::P99,
    ..LONE
};
const QUIET: Trial = Trial { name: "1 000 calls/s on 8", connections: 8, rate: Some(1000.0), ..STEADY };
const LONE_POOLED: Trial = Trial { mix: "Arith.Multiply=1", codec: Some("compact"), ..LONE };
const FULL_POOLED: Trial = Trial { mix: LONE_POOLED.mix, codec: LONE_POOLED.codec, ..FULL };
const STEADY_POOLED: Trial = Trial { mix: LONE_POOLED.mix, codec: LONE_POOLED.codec, ..STEADY };
/// A handler that computes, with a reply of about 12 KB.
const HEAVY: Trial = Trial {
    name: "lists of 100 users, 16x4",
    mix: "Users.List:100=1",
    connections: 16,
    depth: Some(4),
    shows: Shown::Rate,
    ..LONE
};
const SLEEPS: Trial =
    Trial { name: "1 000 sleeps/s of 20 ms", mix: "Echo.Sleep:20=1", rate: Some(1000.0), ..STEADY };

const fn setting(name: &'static str, args: &'static [&'static str]) -> Setting {
    Setting { name, args }
}

/// All sets, in the order of the page.
pub const SETS: [Set; 9] = [
    Set {
        name: "cores",
        keys: "cores",
        args: &["--workers", "1"],
        settings: &[setting("1", &["--cores", "1"]), setting("2", &["--cores", "2"])],
        trials: &[LONE, FULL, STEADY],
    },
    Set {
        name: "workers",
        keys: "workers",
        args: &["--cores", "1"],
        settings: &[
            setting("1", &["--workers", "1"]),
            setting("2", &["--workers", "2"]),
            setting("4", &["--workers", "4"]),
        ],
        trials: &[FULL_POOLED, STEADY_POOLED, HEAVY],
    },
    Set {
        name: "pin",
        keys: "pin, with one reactor and with two",
        args: &["--workers", "1"],
        settings: &[
            setting("1, free", &["--cores", "1"]),
            setting("1, pinned", &["--cores", "1", "--pin"]),
            setting("2, free", &["--cores", "2"]),
            setting("2, pinned", &["--cores", "2", "--pin"]),
        ],
        trials: &[LONE, FULL, STEADY],
    },
    Set {
        name: "busy-poll",
        keys: "busy_poll_us",
        args: &["--cores", "1", "--workers", "1", "--pin"],
        settings: &[
            setting("0", &["--set", "busy_poll_us=0"]),
            setting("50", &["--set", "busy_poll_us=50"]),
            setting("200", &["--set", "busy_poll_us=200"]),
            setting("1000", &["--set", "busy_poll_us=1000"]),
        ],
        trials: &[LONE, QUIET, STEADY],
    },
    Set {
        name: "spin",
        keys: "worker_spin_us",
        args: &["--cores", "1", "--workers", "1"],
        settings: &[
            setting("0", &["--set", "worker_spin_us=0"]),
            setting("20", &["--set", "worker_spin_us=20"]),
            setting("100", &["--set", "worker_spin_us=100"]),
            setting("1000", &["--set", "worker_spin_us=1000"]),
        ],
        trials: &[LONE_POOLED, STEADY_POOLED, FULL_POOLED],
    },
    Set {
        name: "flush",
        keys: "flush.delay_us",
        args: &["--cores", "1", "--workers", "1"],
        settings: &[
            setting("0", &["--set", "flush.delay_us=0"]),
            setting("50", &["--set", "flush.delay_us=50"]),
            setting("200", &["--set", "flush.delay_us=200"]),
            setting("1000", &["--set", "flush.delay_us=1000"]),
        ],
        trials: &[LONE_POOLED, STEADY_POOLED, FULL_POOLED],
    },
    Set {
        name: "high-mark",
        keys: "flush.high_mark_bytes",
        args: &["--cores", "1", "--workers", "1"],
        settings: &[
            setting("4 KiB", &["--set", "flush.high_mark_bytes=4096"]),
            setting("64 KiB", &["--set", "flush.high_mark_bytes=65536"]),
            setting("default", &[]),
        ],
        trials: &[HEAVY, FULL_POOLED],
    },
    Set {
        name: "batch",
        keys: "batch_max, with two workers",
        args: &["--cores", "1", "--workers", "2"],
        settings: &[
            setting("1", &["--set", "batch_max=1"]),
            setting("8", &["--set", "batch_max=8"]),
            setting("32", &["--set", "batch_max=32"]),
            setting("64", &["--set", "batch_max=64"]),
        ],
        trials: &[FULL_POOLED, STEADY_POOLED, HEAVY],
    },
    Set {
        name: "blocking",
        keys: "blocking_threads",
        args: &["--cores", "1", "--workers", "1"],
        settings: &[
            setting("16", &["--set", "blocking_threads=16"]),
            setting("32", &["--set", "blocking_threads=32"]),
            setting("512", &["--set", "blocking_threads=512"]),
        ],
        trials: &[SLEEPS],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loadgen::mix;
    use crate::loadgen::speech::AddressProtocol;

    #[test]
    fn names_differ_and_mixes_can_be_read() {
        for (at, set) in SETS.iter().enumerate() {
            assert!(SETS[..at].iter().all(|other| other.name != set.name), "{}", set.name);
            for trial in set.trials {
                mix::parse(AddressProtocol::Native, trial.mix, trial.codec, 0).expect(trial.name);
                assert_eq!(trial.rate.is_some(), trial.depth.is_none(), "{}", trial.name);
            }
        }
    }
}
