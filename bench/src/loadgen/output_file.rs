//! A file for results: opened before a run, so that a wrong path is an error at once and not after the run.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A file that is open for a result. An earlier content stays until the result is written; a file that did not exist is
/// removed again if no result is written.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: File,
    is_new: bool,
    is_written: bool,
}

impl OutputFile {
    /// Opens or creates the file; what is wrong comes as one line that names the path.
    pub fn open(path: &Path) -> Result<OutputFile, String> {
        let told = |error| format!("cannot write {}: {error}", path.display());
        let (file, is_new) = match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                (OpenOptions::new().write(true).open(path).map_err(told)?, false)
            }
            Err(error) => return Err(told(error)),
        };
        Ok(OutputFile { path: path.into(), file, is_new, is_written: false })
    }

    /// Opens the files that options name; two results in one file are an error.
    pub fn open_all<const N: usize>(paths: [Option<&Path>; N]) -> Result<[Option<OutputFile>; N], String> {
        let named: Vec<&Path> = paths.iter().flatten().copied().collect();
        if let Some(twice) = named.iter().enumerate().find(|(at, path)| named[..*at].contains(path)) {
            return Err(format!("{} is named for two results", twice.1.display()));
        }
        let mut files = paths.map(|_| None);
        for (file, path) in files.iter_mut().zip(paths) {
            *file = path.map(OutputFile::open).transpose()?;
        }
        Ok(files)
    }

    /// Replaces the content.
    pub fn write(&mut self, text: &str) -> Result<(), String> {
        let is_regular = self.file.metadata().is_ok_and(|metadata| metadata.is_file());
        // Pipes and terminals have no length.
        let emptied = if is_regular { self.file.set_len(0) } else { Ok(()) };
        let written = emptied.and_then(|()| self.file.write_all(text.as_bytes()));
        written.map_err(|error| format!("cannot write {}: {error}", self.path.display()))?;
        self.is_written = true;
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if self.is_new && !self.is_written {
            // An empty file that remains does no harm.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_without_a_result_is_removed_and_an_earlier_one_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        fs::write(&old, "a long earlier result").expect("written");
        drop(OutputFile::open_all([Some(new.as_path()), Some(old.as_path())]).expect("both can be written"));
        assert!(!new.exists());
        assert_eq!(fs::read_to_string(&old).expect("text"), "a long earlier result");
        for path in [&new, &old] {
            OutputFile::open(path).expect("it can be written").write("short").expect("written");
            assert_eq!(fs::read_to_string(path).expect("text"), "short");
        }
    }

    #[test]
    fn path_that_cannot_be_written_or_is_named_twice_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("none/here.json");
        let why = OutputFile::open(&path).expect_err("no such folder");
        assert!(why.contains("none/here.json"), "{why}");
        let same = folder.path().join("same");
        let why = OutputFile::open_all([Some(same.as_path()), Some(same.as_path())]).expect_err("one file");
        assert!(why.contains("two results") && !same.exists(), "{why}");
    }
}
