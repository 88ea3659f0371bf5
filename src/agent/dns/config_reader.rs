//! Keeps the system's configuration of names for the agents of an app.
//!
//! The files are read on a thread that exists only for that, since a file system may not answer; at most once in
//! [`CONFIG_TIME`] while names are looked up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::NameConfig;
use crate::agent::AgentId;
use crate::threads;

/// The time for which a configuration is used.
const CONFIG_TIME: Duration = Duration::from_secs(60);

/// The configuration, and the agents that wait for it.
#[derive(Default)]
pub(crate) struct ConfigReader {
    current: Option<(Arc<NameConfig>, Instant)>,
    is_reading: bool,
    waiting: Vec<AgentId>,
}

/// What is known when an agent asks for the configuration.
pub(crate) enum ConfigState {
    /// It is known.
    Known(Arc<NameConfig>),
    /// It is being read.
    Reading,
    /// It cannot be read now.
    Failed(String),
}

impl ConfigReader {
    /// Returns the configuration for an agent; or reads it, and passes it to the function, which
    /// [`ConfigReader::on_read`] must follow.
    pub(crate) fn get(
        &mut self,
        agent: AgentId,
        now: Instant,
        pass: impl FnOnce(Arc<NameConfig>) + Send + 'static,
    ) -> ConfigState {
        if let Some((config, read_at)) = &self.current
            && now.saturating_duration_since(*read_at) < CONFIG_TIME
        {
            return ConfigState::Known(config.clone());
        }
        if !self.is_reading {
            let thread = threads::detached("coreloop-names", move || pass(Arc::new(NameConfig::read())));
            if let Err(error) = thread {
                return ConfigState::Failed(format!("no thread reads /etc/resolv.conf: {error}"));
            }
            self.is_reading = true;
        }
        self.waiting.push(agent);
        ConfigState::Reading
    }

    /// Takes a configuration that was read. Returns the agents that wait for it.
    pub(crate) fn on_read(&mut self, config: Arc<NameConfig>, now: Instant) -> Vec<AgentId> {
        self.is_reading = false;
        self.current = Some((config, now));
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn one_reading_serves_all_agents_for_a_minute() {
        let (sender, read) = mpsc::channel();
        let (mut reader, now) = (ConfigReader::default(), Instant::now());
        let get = |reader: &mut ConfigReader, agent: u64, now: Instant| {
            let sender = sender.clone();
            reader.get(AgentId(agent), now, move |config| sender.send(config).unwrap())
        };
        assert!(matches!(get(&mut reader, 1, now), ConfigState::Reading));
        assert!(matches!(get(&mut reader, 2, now), ConfigState::Reading));
        let config = read.recv().unwrap();
        assert_eq!(reader.on_read(config, now), [AgentId(1), AgentId(2)]);
        let later = now + CONFIG_TIME / 2;
        assert!(matches!(get(&mut reader, 3, later), ConfigState::Known(_)));
        assert!(matches!(get(&mut reader, 4, now + CONFIG_TIME), ConfigState::Reading));
        let config = read.recv().unwrap();
        assert_eq!(reader.on_read(config, later), [AgentId(4)]);
        assert_eq!(read.try_recv().unwrap_err(), mpsc::TryRecvError::Empty, "it was read twice");
    }
}
