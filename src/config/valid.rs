//! Turns a `Config` into a `ValidConfig`: checks ranges and rules between keys, and resolves every 0 that has a
//! meaning.
//!
//! This happens once, at start; code that has a `ValidConfig` checks nothing again. Ranges come from `keys.rs`.
//! Nothing here inspects the machine: the number of allowed cores is an argument.

use std::ops::Deref;

use super::keys::KEYS;
use super::{AcceptMode, Config, ConfigError, Origin};

/// A valid configuration with all values resolved.
///
/// In addition to the ranges of the single keys: `cores` and `workers` are at least 1; `accept` is not
/// [`AcceptMode::Auto`]; `batch_max <= run_queue_max`; with one allowed core no thread spins; `write_queue_low_bytes
/// < write_queue_high_bytes`; `1 <= flush.high_mark_bytes <= write_queue_high_bytes`; `frame_bytes_max <=
/// in_flight_bytes_max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidConfig(Config);

impl ValidConfig {
    /// Returns the plain structs, to be changed and validated again.
    pub fn into_config(self) -> Config {
        self.0
    }
}

impl Deref for ValidConfig {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.0
    }
}

impl Config {
    /// Checks the config and resolves values of 0, given the number of cores that the process may run on (0 counts as
    /// 1).
    ///
    /// ```
    /// use coreloop::config::{Config, ConfigError};
    ///
    /// let mut config = Config::default();
    /// config.limits.depth_max = 0;
    /// let error = config.validate(4).unwrap_err();
    /// assert!(matches!(error, ConfigError::OutOfRange { ref key, .. } if key == "limits.depth_max"));
    /// ```
    pub fn validate(self, cores_allowed: usize) -> Result<ValidConfig, ConfigError> {
        check(&self, |_| Origin::Program)?;
        Ok(resolve(self, cores_allowed.max(1)))
    }
}

/// Checks ranges, then the rules between keys; `origin_of` returns the origin of a key's value.
pub(super) fn check(config: &Config, origin_of: impl Fn(&str) -> Origin) -> Result<(), ConfigError> {
    for key in KEYS {
        key.check(config, || origin_of(key.name()))?;
    }
    let limits = &config.limits;
    let rules = [
        (
            limits.write_queue_low_bytes < limits.write_queue_high_bytes,
            "limits.write_queue_low_bytes",
            "less than",
            "limits.write_queue_high_bytes",
        ),
        (
            config.flush.high_mark_bytes <= limits.write_queue_high_bytes,
            "flush.high_mark_bytes",
            "at most",
            "limits.write_queue_high_bytes",
        ),
        // Otherwise a frame within the limit could never be accepted.
        (
            limits.frame_bytes_max <= limits.in_flight_bytes_max,
            "limits.frame_bytes_max",
            "at most",
            "limits.in_flight_bytes_max",
        ),
    ];
    for (holds, key, relation, other) in rules {
        if !holds {
            return Err(ConfigError::Conflict {
                key: key.to_owned(),
                expected: format!(
                    "{relation} `{other}`, which is {} ({})",
                    toml(config, other),
                    origin_of(other)
                ),
                came: toml(config, key),
                origin: origin_of(key),
            });
        }
    }
    if config.proxy_protocol.from.is_empty() && !config.proxy_protocol.listen.is_empty() {
        return Err(ConfigError::Conflict {
            key: "proxy_protocol.listen".to_owned(),
            expected: format!(
                "nothing without `proxy_protocol.from`, which is [] ({})",
                origin_of("proxy_protocol.from")
            ),
            came: toml(config, "proxy_protocol.listen"),
            origin: origin_of("proxy_protocol.listen"),
        });
    }
    let (certificates, keys) = (config.tls.certificate.len(), config.tls.key.len());
    if certificates != keys {
        return Err(ConfigError::Conflict {
            key: "tls.key".to_owned(),
            expected: format!(
                "as many files as `tls.certificate` has, which is {certificates} ({})",
                origin_of("tls.certificate")
            ),
            came: toml(config, "tls.key"),
            origin: origin_of("tls.key"),
        });
    }
    Ok(())
}

fn toml(config: &Config, name: &str) -> String {
    KEYS.iter()
        .find(|key| key.name() == name)
        .map(|key| key.toml(config))
        .expect("rules name keys of the table")
}

fn resolve(mut config: Config, cores_allowed: usize) -> ValidConfig {
    if config.cores == 0 {
        config.cores = cores_allowed;
    }
    if config.workers == 0 {
        config.workers = config.cores.max(2);
    }
    if cores_allowed == 1 {
        // A spinning thread occupies the core that the thread it waits for needs.
        config.busy_poll_us = 0;
        config.worker_spin_us = 0;
    }
    // A batch larger than the queue would always be refused.
    config.batch_max = config.batch_max.min(config.limits.run_queue_max);
    config.accept = match config.accept {
        AcceptMode::Auto if cfg!(target_os = "linux") && config.cores > 1 => AcceptMode::ReusePort,
        AcceptMode::Auto | AcceptMode::Acceptor => AcceptMode::Acceptor,
        AcceptMode::ReusePort => AcceptMode::ReusePort,
    };
    if config.flush.high_mark_bytes == 0 {
        let high = config.limits.write_queue_high_bytes;
        config.flush.high_mark_bytes = high - high / 5;
    }
    ValidConfig(config)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Flush, Limits};

    fn with_limits(limits: Limits) -> Config {
        Config { limits, ..Config::default() }
    }

    #[test]
    fn the_default_is_valid_and_fully_resolved() {
        let valid = Config::default().validate(8).unwrap();
        assert_eq!((valid.cores, valid.workers, valid.worker_spin_us), (8, 8, 20));
        assert_eq!(valid.flush.high_mark_bytes, (4 << 20) - (4 << 20) / 5);
        let expected = if cfg!(target_os = "linux") { AcceptMode::ReusePort } else { AcceptMode::Acceptor };
        assert_eq!(valid.accept, expected);
    }

    #[test]
    fn one_core_gives_one_reactor_and_no_spinning() {
        let config = Config { busy_poll_us: 50, ..Config::default() };
        let valid = config.clone().validate(1).unwrap();
        assert_eq!((valid.cores, valid.workers, valid.busy_poll_us, valid.worker_spin_us), (1, 2, 0, 0));
        assert_eq!(valid.accept, AcceptMode::Acceptor);
        assert_eq!(config.validate(0).unwrap(), valid);
    }

    #[test]
    fn explicit_values_are_kept() {
        let flush = Flush { high_mark_bytes: 7, delay_us: 10 };
        let config =
            Config { cores: 3, workers: 1, accept: AcceptMode::Acceptor, flush, ..Config::default() };
        assert_eq!(config.clone().validate(8).unwrap().into_config(), config);
    }

    #[test]
    fn a_batch_is_never_larger_than_the_run_queue() {
        let config = with_limits(Limits { run_queue_max: 5, ..Limits::default() });
        assert_eq!(config.validate(2).unwrap().batch_max, 5);
    }

    #[test]
    fn low_mark_must_lie_below_the_high_mark() {
        let limits =
            Limits { write_queue_high_bytes: 1 << 20, write_queue_low_bytes: 1 << 20, ..Limits::default() };
        assert_eq!(
            with_limits(limits).validate(1).unwrap_err().to_string(),
            "`limits.write_queue_low_bytes` in the program's config: expected less than \
             `limits.write_queue_high_bytes`, which is \"1 MiB\" (program); got \"1 MiB\""
        );
    }

    #[test]
    fn flush_mark_must_not_pass_the_high_mark() {
        let flush = Flush { high_mark_bytes: (4 << 20) + 1, delay_us: 0 };
        let error = Config { flush, ..Config::default() }.validate(1).unwrap_err();
        assert!(
            matches!(error, ConfigError::Conflict { ref key, .. } if key == "flush.high_mark_bytes"),
            "{error}"
        );
    }

    #[test]
    fn listeners_behind_proxies_need_the_proxies() {
        let mut config = Config::default();
        config.proxy_protocol.listen = vec!["127.0.0.1:6550".to_owned()];
        assert_eq!(
            config.clone().validate(1).unwrap_err().to_string(),
            "`proxy_protocol.listen` in the program's config: expected nothing without `proxy_protocol.from`, which \
             is [] (program); got [\"127.0.0.1:6550\"]"
        );
        config.proxy_protocol.from = vec!["10.0.0.0/8".to_owned(), "unix".to_owned()];
        assert!(config.clone().validate(1).is_ok());
        config.proxy_protocol.from = vec!["10.0.0.1/8".to_owned()];
        assert_eq!(
            config.validate(1).unwrap_err().to_string(),
            "`proxy_protocol.from` in the program's config: expected IP addresses, networks like `10.0.0.0/8` with \
             zeros behind their bits, or `unix`, each once; got \"10.0.0.1/8\""
        );
    }

    #[test]
    fn a_frame_must_fit_in_what_may_be_in_flight() {
        let error =
            with_limits(Limits { frame_bytes_max: 65 << 20, ..Limits::default() }).validate(1).unwrap_err();
        assert!(
            matches!(error, ConfigError::Conflict { ref key, .. } if key == "limits.frame_bytes_max"),
            "{error}"
        );
    }

    #[test]
    fn ranges_hold_for_configs_made_in_code() {
        let bad = [
            Config { batch_max: 0, ..Config::default() },
            Config { batch_max: 65, ..Config::default() },
            Config { listen: vec![], ..Config::default() },
            Config { listen: vec!["6550".into()], ..Config::default() },
            Config { blocking_threads: 0, ..Config::default() },
            with_limits(Limits { frame_bytes_max: u32::MAX as usize - 65_536 - 31, ..Limits::default() }),
            with_limits(Limits { run_queue_max: 0, ..Limits::default() }),
            with_limits(Limits { run_queue_max: (1 << 22) + 1, ..Limits::default() }),
            with_limits(Limits { idle_ms: 0, ..Limits::default() }),
        ];
        for config in bad {
            let error = config.validate(4).unwrap_err();
            assert!(matches!(error, ConfigError::OutOfRange { .. } | ConfigError::Invalid { .. }), "{error}");
        }
        let at_most = u32::MAX as usize - 65_536 - 32;
        let limits = Limits { frame_bytes_max: at_most, in_flight_bytes_max: at_most, ..Limits::default() };
        assert!(with_limits(limits).validate(4).is_ok());
    }

    proptest! {
        #[test]
        fn every_valid_config_holds_the_invariants(
            cores in 0usize..5, workers in 0usize..5, allowed in 0usize..5, batch_max in 0usize..70,
            high in 0usize..9, low in 0usize..9, mark in 0usize..9, queue in 0usize..99,
        ) {
            let limits = Limits {
                write_queue_high_bytes: high, write_queue_low_bytes: low, run_queue_max: queue, ..Limits::default()
            };
            let flush = Flush { high_mark_bytes: mark, delay_us: 0 };
            let config = Config { cores, workers, batch_max, flush, limits, ..Config::default() };
            if let Ok(valid) = config.validate(allowed) {
                prop_assert!(valid.cores >= 1 && valid.workers >= 1 && valid.accept != AcceptMode::Auto);
                prop_assert!((1..=64.min(queue)).contains(&valid.batch_max));
                prop_assert!((1..=high).contains(&valid.flush.high_mark_bytes) && low < high);
                // Resolving again must change nothing.
                prop_assert_eq!(valid.clone().into_config().validate(allowed).unwrap(), valid);
            }
        }
    }
}
