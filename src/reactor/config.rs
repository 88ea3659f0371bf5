//! The configuration of a reactor: plain values, for use without a server.

use std::time::Duration;

use coreloop_bufpool::PoolConfig;

use crate::config::{Limits, TurnBudget};
use crate::policy::flush::FlushPolicy;

/// The configuration of a reactor.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReactorConfig {
    /// The limits of each connection.
    pub limits: Limits,
    /// When replies are written.
    pub flush: FlushPolicy,
    /// What one turn may do for one connection.
    pub turn: TurnBudget,
    /// How long to poll without sleeping when there is nothing to do; zero disables polling.
    pub busy_poll: Duration,
    /// How long to nap so that calls can gather (see [`policy::gather`](crate::policy::gather)). Zero, the default,
    /// disables naps: a client's calls should be sent when they are made.
    pub gather: Duration,
    /// The core that the thread runs on; `None` is any core.
    pub core: Option<usize>,
    /// The buffer pool. A server sets its bound from [`Limits::idle_buffer_bytes_max`].
    pub pool: PoolConfig,
}

impl Default for ReactorConfig {
    fn default() -> Self {
        let limits = Limits::default();
        ReactorConfig {
            flush: FlushPolicy {
                high_mark_bytes: limits.write_queue_high_bytes / 5 * 4,
                delay: Duration::ZERO,
            },
            limits,
            turn: TurnBudget::default(),
            busy_poll: Duration::ZERO,
            gather: Duration::ZERO,
            core: None,
            pool: PoolConfig::default(),
        }
    }
}
