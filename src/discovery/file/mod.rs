//! Endpoints in a file: `file:///etc/orders.endpoints`, or an array in JSON if its name ends with `.json`.
//!
//! [`FileResolver`] has one thread for all watched files of the process, since files cannot be read without waiting; it
//! exists while there is a watch. `poll.rs` decides when a file is read, `parse.rs` knows the two forms.

mod parse;
mod poll;
mod thread;

use std::path::PathBuf;
use std::time::Duration;

use self::thread::WatchedFile;
use super::parameters::duration;
use super::{DiscoveryError, DiscoveryHandle, Resolver, Target, TargetError, Updates, Watch};

/// The default of `interval`, and its bounds.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// The resolver of `file://` URLs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FileResolver;

/// A parsed URL.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileTarget {
    path: PathBuf,
    is_json: bool,
    interval: Duration,
}

impl FileTarget {
    fn parse(target: &Target) -> Result<FileTarget, TargetError> {
        let error = |expected: String| TargetError { url: target.to_string(), expected };
        if !target.authority().is_empty() || target.path().is_empty() {
            return Err(error(
                "an absolute path after file://, as in file:///etc/orders.endpoints".to_owned(),
            ));
        }
        if let Some((key, _)) = target.parameters().find(|(key, _)| *key != "interval") {
            return Err(error(format!("no parameter but interval, not {key}")));
        }
        let interval = duration(target, "interval", INTERVAL_DEFAULT, INTERVAL_MIN, INTERVAL_MAX)?;
        let path = PathBuf::from(format!("/{}", target.path()));
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        Ok(FileTarget { path, is_json, interval })
    }
}

impl Resolver for FileResolver {
    fn scheme(&self) -> &str {
        "file"
    }

    fn watch(
        &self,
        target: &Target,
        updates: Updates,
        _on: &DiscoveryHandle,
    ) -> Result<Watch, DiscoveryError> {
        let target = FileTarget::parse(target)?;
        let guard = thread::watch(WatchedFile::new(target, updates)).map_err(DiscoveryError::System)?;
        Ok(Watch::new(guard))
    }
}

/// Returns the number of instances in a file of lines, or in one of JSON.
#[cfg(feature = "bench-internals")]
pub(super) fn instances_in(text: &str) -> usize {
    let found = parse::lines(text).or_else(|_| parse::json(text));
    found.map_or(0, |instances| instances.len())
}

/// Reads a URL.
#[cfg(feature = "bench-internals")]
pub(super) fn check(target: &Target) -> Result<(), TargetError> {
    FileTarget::parse(target).map(|_| ())
}

#[cfg(test)]
mod tests;
