//! Changes of files, for programs that read them again: found by looking, since a watch of the system does not see the
//! exchange of a folder that links point to (Kubernetes mounts configuration that way), nor network file systems.

use std::path::PathBuf;
use std::time::SystemTime;

/// Files that are looked at from time to time. A change is reported once it has been the same for two looks, so that a file
/// which is being written is not read half-way.
///
/// ```
/// use coreloop::config::WatchedFiles;
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("server.toml");
/// std::fs::write(&file, "cores = 1\n")?;
/// let mut files = WatchedFiles::new([file.clone()]);
/// assert!(!files.have_changed());
///
/// std::fs::write(&file, "cores = 10\n")?;
/// assert!(!files.have_changed(), "it may still be written");
/// assert!(files.have_changed());
/// assert!(!files.have_changed());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct WatchedFiles {
    files: Vec<PathBuf>,
    reported: Vec<Option<FileStamp>>,
    /// What the last look has found, if it was something else.
    pending: Option<Vec<Option<FileStamp>>>,
}

/// What tells a file from an earlier one at its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    modified: Option<SystemTime>,
    bytes: u64,
    #[cfg(unix)]
    inode: u64,
}

impl WatchedFiles {
    /// Begins with these files as they are. A file may appear later.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> WatchedFiles {
        let files: Vec<PathBuf> = files.into_iter().collect();
        let reported = stamps(&files);
        WatchedFiles { files, reported, pending: None }
    }

    /// Looks at the files: returns true if they differ from what was reported last, and have not changed since the look
    /// before. Call it every second or so.
    pub fn have_changed(&mut self) -> bool {
        let now = stamps(&self.files);
        if now == self.reported {
            self.pending = None;
            return false;
        }
        if self.pending.as_ref() != Some(&now) {
            self.pending = Some(now);
            return false;
        }
        self.pending = None;
        self.reported = now;
        true
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<FileStamp>> {
    let stamp = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some(FileStamp {
            modified: found.modified().ok(),
            bytes: found.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(&found),
        })
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_when_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], "1").unwrap();
        let mut files = WatchedFiles::new(paths.clone());
        let mut looks = |count: usize| (0..count).map(|_| files.have_changed()).collect::<Vec<_>>();
        assert_eq!(looks(2), [false, false]);
        // It appears, and grows.
        std::fs::write(&paths[1], "1").unwrap();
        assert_eq!(looks(1), [false]);
        std::fs::write(&paths[1], "12").unwrap();
        assert_eq!(looks(3), [false, true, false]);
        // It is there again as it was: nothing has changed.
        std::fs::rename(&paths[1], folder.path().join("c")).unwrap();
        assert_eq!(looks(1), [false]);
        std::fs::rename(folder.path().join("c"), &paths[1]).unwrap();
        assert_eq!(looks(2), [false, false]);
        // Another file in its place.
        std::fs::write(folder.path().join("d"), "12").unwrap();
        std::fs::rename(folder.path().join("d"), &paths[1]).unwrap();
        assert_eq!(looks(3), [false, true, false]);
        std::fs::remove_file(&paths[0]).unwrap();
        assert_eq!(looks(3), [false, true, false]);
    }
}
