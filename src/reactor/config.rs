//! How a reactor is built: plain values, for those who use one without a server.

use std::time::Duration;

use coreloop_bufpool::PoolConfig;

use crate::config::{Config, Limits, TurnBudget};
use crate::policy::flush::FlushPolicy;

/// How a reactor is built.
#[derive(Clone, Debug)]
pub struct ReactorConfig {
    /// What each connection may use.
    pub limits: Limits,
    /// When replies are written.
    pub flush: FlushPolicy,
    /// What one turn may do for one connection.
    pub turn: TurnBudget,
    /// How long to poll without sleeping when there is nothing to do; zero is not at all.
    pub busy_poll: Duration,
    /// How long to nap where that lets calls gather (see [`policy::gather`](crate::policy::gather)); zero is never, which is the default:
    /// a client's calls should leave when they are made.
    pub gather: Duration,
    /// The core to run on; `None` is any.
    pub core: Option<usize>,
    /// The buffer pool. A server takes its bound from [`Limits::idle_buffer_bytes_max`].
    pub pool: PoolConfig,
}

impl Default for ReactorConfig {
    fn default() -> Self {
        let Config { limits, turn, .. } = Config::default();
        ReactorConfig {
            flush: FlushPolicy {
                high_mark_bytes: limits.write_queue_high_bytes / 5 * 4,
                delay: Duration::ZERO,
            },
            limits,
            turn,
            busy_poll: Duration::ZERO,
            gather: Duration::ZERO,
            core: None,
            pool: PoolConfig::default(),
        }
    }
}
