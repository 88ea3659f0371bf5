//! Profiles: other defaults for other machines.

#[cfg(feature = "config-file")]
use super::keys::KEYS;
#[cfg(feature = "config-file")]
use super::layers::{Setting, SettingValue};
#[cfg(feature = "config-file")]
use super::schema::KnownKey;
use super::value::{ConfigField, ConfigValue};
use super::{Config, Limits, TraceConfig, TurnBudget};

/// Which defaults the keys of a configuration have ([`Config::profile`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Profile {
    /// Those of a server: [`Config::default`].
    #[default]
    Server,
    /// Those of a device with little memory: [`Config::small`].
    Small,
}

impl Profile {
    /// The names in a config file, in the order of the variants.
    pub const NAMES: [&'static str; 2] = ["server", "small"];

    /// Returns the name used in a config file.
    pub fn name(self) -> &'static str {
        Profile::NAMES[self as usize]
    }

    /// Returns the profile with that name, if there is one.
    pub fn from_name(name: &str) -> Option<Profile> {
        [Profile::Server, Profile::Small].into_iter().find(|profile| profile.name() == name)
    }

    /// Returns its defaults.
    pub fn config(self) -> Config {
        match self {
            Profile::Server => Config::default(),
            Profile::Small => Config::small(),
        }
    }
}

#[cfg(feature = "config-file")]
impl Setting {
    /// Returns the profile that it chooses.
    pub(super) fn profile(&self) -> Option<Profile> {
        match (self.key, &self.value) {
            (KnownKey::Server(at), SettingValue::Server(ConfigValue::Text(name)))
                if KEYS[at].name() == "profile" =>
            {
                Profile::from_name(name)
            }
            _ => None,
        }
    }
}

impl ConfigField for Profile {
    fn read(&self) -> ConfigValue {
        ConfigValue::Text(self.name().to_owned())
    }
    fn write(&mut self, value: ConfigValue) {
        let ConfigValue::Text(text) = value else { unreachable!("the kind of the key admits names only") };
        *self = Profile::from_name(&text).expect("the kind of the key admits these names only");
    }
}

impl Config {
    /// Returns the defaults for a device with 64 MiB of memory: one reactor, one worker, at most four threads for methods that
    /// block, and [`Limits::small`].
    ///
    /// ```
    /// use coreloop::config::Config;
    ///
    /// let mut config = Config::small();
    /// config.limits.idle_ms = 30_000;
    /// let valid = config.validate(4).unwrap();
    /// assert_eq!((valid.cores, valid.limits.connections_max), (1, 24));
    /// ```
    pub fn small() -> Config {
        Config {
            profile: Profile::Small,
            cores: 1,
            workers: 1,
            blocking_threads: 4,
            batch_max: 8,
            turn: TurnBudget { read_bytes_max: 64 << 10, accepts_max: 8, messages_max: 64 },
            trace: TraceConfig { ring_spans_max: 256, ..TraceConfig::default() },
            limits: Limits::small(),
            ..Config::default()
        }
    }
}

impl Limits {
    /// Returns bounds for a device with 64 MiB of memory: whatever peers do, a server with one reactor holds at most 32 MiB
    /// for them (`docs/small.md` has the sum). Messages are at most 16 KiB; 24 connections.
    ///
    /// ```
    /// use coreloop::config::Limits;
    ///
    /// let limits = Limits::small();
    /// assert_eq!((limits.frame_bytes_max, limits.connections_max), (16 << 10, 24));
    /// ```
    pub fn small() -> Limits {
        Limits {
            frame_bytes_max: 16 << 10,
            connections_max: 24,
            in_flight_max: 4,
            in_flight_bytes_max: 32 << 10,
            write_queue_high_bytes: 32 << 10,
            write_queue_low_bytes: 8 << 10,
            run_queue_max: 64,
            async_in_flight_max: 24,
            http_headers_max: 32,
            http_head_bytes_max: 4 << 10,
            silent_connections_max: 16,
            tls_handshakes_max: 4,
            depth_max: 32,
            gob_types_max: 32,
            gob_type_bytes_max: 1 << 10,
            idle_buffer_bytes_max: 256 << 10,
            reply_bytes_max: 16 << 10,
            streams_max: 1,
            stream_window_bytes: 64 << 10,
            connection_window_bytes: 1 << 20,
            held_bytes_max: 16 << 10,
            refusal_bytes_max: 8 << 10,
            linger_bytes_max: 64 << 10,
            first_bytes_ms: 5_000,
            tls_handshake_ms: 5_000,
            head_ms: 5_000,
            frame_ms: 10_000,
            write_stall_ms: 10_000,
            idle_ms: 60_000,
            ..Limits::default()
        }
    }
}
