//! The thread that looks at all watched files of the process, each when it is due.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::FileTarget;
use super::parse;
use super::poll::{FilePoll, FileState, FileStep};
use crate::discovery::{Instance, Updates};
use crate::threads;

/// The most bytes of a file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A file with its watch.
pub(super) struct WatchedFile {
    target: FileTarget,
    updates: Updates,
    poll: FilePoll,
    /// What was passed on last.
    last: Option<Result<Vec<Instance>, String>>,
}

impl WatchedFile {
    pub(super) fn new(target: FileTarget, updates: Updates) -> WatchedFile {
        let poll = FilePoll::new(target.interval, Instant::now());
        WatchedFile { target, updates, poll, last: None }
    }

    /// Looks at the file, and passes on what has changed.
    fn look(&mut self) {
        let found = match self.read() {
            Ok(None) => return,
            Ok(Some(found)) => found,
            Err(error) => {
                self.poll.on_absent(Instant::now());
                Err(error.to_string())
            }
        };
        let found = found.map_err(|why| format!("{}: {why}", self.target.path.display()));
        if self.last.as_ref() == Some(&found) {
            return;
        }
        match &found {
            Ok(instances) => self.updates.set(instances.clone()),
            Err(why) => self.updates.failed(why.clone()),
        }
        self.last = Some(found);
    }

    /// Reads the file if it is due. `None`: it has not changed, or it is being written.
    fn read(&mut self) -> io::Result<Option<Result<Vec<Instance>, String>>> {
        let state = state_of(&std::fs::metadata(&self.target.path)?)?;
        if self.poll.on_look(state, Instant::now()) == FileStep::Wait {
            return Ok(None);
        }
        let mut file = File::open(&self.target.path)?;
        let before = state_of(&file.metadata()?)?;
        let at = SystemTime::now();
        if before.bytes > FILE_BYTES_MAX {
            self.poll.on_read(before, before, at, Instant::now());
            return Ok(Some(Err(format!("{} bytes, over {FILE_BYTES_MAX}", before.bytes))));
        }
        let mut bytes = Vec::new();
        // One more, to notice a file that grows.
        (&mut file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        let after = state_of(&file.metadata()?)?;
        if !self.poll.on_read(before, after, at, Instant::now()) {
            return Ok(None);
        }
        let Ok(text) = String::from_utf8(bytes) else { return Ok(Some(Err("not UTF-8".to_owned()))) };
        let parsed = if self.target.is_json { parse::json(&text) } else { parse::lines(&text) };
        Ok(Some(match parsed {
            Ok(instances) if instances.is_empty() => Err("no instance in it".to_owned()),
            Ok(instances) => Ok(instances),
            Err(fault) => Err(fault.to_string()),
        }))
    }
}

fn state_of(metadata: &std::fs::Metadata) -> io::Result<FileState> {
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    Ok(FileState { inode: metadata.ino(), bytes: metadata.len(), modified: metadata.modified()? })
}

/// The watched files, by number. A file that the thread looks at is not among them.
static FILES: Mutex<Files> = Mutex::new(Files { files: BTreeMap::new(), next: 1, is_running: false });
/// Rung when a file is added or removed.
static CHANGED: Condvar = Condvar::new();

struct Files {
    /// `None` while the thread looks at it.
    files: BTreeMap<u64, Option<WatchedFile>>,
    next: u64,
    is_running: bool,
}

fn lock() -> MutexGuard<'static, Files> {
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the watch of a file when it is dropped.
pub(super) struct FileGuard(u64);

impl Drop for FileGuard {
    fn drop(&mut self) {
        let removed = lock().files.remove(&self.0);
        CHANGED.notify_all();
        drop(removed);
    }
}

/// Watches a file.
///
/// # Errors
///
/// The system provides no thread.
pub(super) fn watch(file: WatchedFile) -> io::Result<FileGuard> {
    let mut files = lock();
    if !files.is_running {
        threads::detached("coreloop-files", run)?;
        files.is_running = true;
    }
    let number = files.next;
    files.next += 1;
    files.files.insert(number, Some(file));
    CHANGED.notify_all();
    Ok(FileGuard(number))
}

/// Looks at the files until there are none.
fn run() {
    let mut files = lock();
    loop {
        let due =
            files.files.iter().filter_map(|(number, file)| Some((file.as_ref()?.poll.next_at, *number)));
        let Some((at, number)) = due.min() else {
            files.is_running = false;
            return;
        };
        let wait = at.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            files = CHANGED.wait_timeout(files, wait).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        let Some(mut file) = files.files.get_mut(&number).and_then(Option::take) else { continue };
        drop(files);
        // Without the lock: a file system may keep this thread waiting, and a watch may end meanwhile.
        file.look();
        files = lock();
        match files.files.get_mut(&number) {
            Some(place) => *place = Some(file),
            None => {
                drop(files);
                drop(file);
                files = lock();
            }
        }
    }
}
