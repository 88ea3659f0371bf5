//! Files that a program writes at its end and opens before its long work begins, so that a wrong path is an error at
//! once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file to be written later. Its contents stay until then; a file created here and never written is removed.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: File,
    is_new: bool,
    is_written: bool,
}

impl OutputFile {
    /// Opens the file for writing, or creates it.
    pub fn open(path: &Path) -> Result<OutputFile, String> {
        let told = |error: io::Error| format!("cannot write {}: {error}", path.display());
        let (file, is_new) = match File::options().write(true).create_new(true).open(path) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (File::options().write(true).open(path).map_err(told)?, false)
            }
            Err(error) => return Err(told(error)),
        };
        Ok(OutputFile { path: path.to_owned(), file, is_new, is_written: false })
    }

    /// Opens the files that the options name; two results in one file are an error.
    pub fn open_all<const N: usize>(paths: [Option<&Path>; N]) -> Result<[Option<OutputFile>; N], String> {
        let named: Vec<&Path> = paths.iter().flatten().copied().collect();
        if let Some((_, twice)) = named.iter().enumerate().find(|(at, path)| named[..*at].contains(path)) {
            return Err(format!("{} is named for two results", twice.display()));
        }
        let mut files = paths.map(|_| None);
        for (file, path) in files.iter_mut().zip(paths) {
            *file = path.map(OutputFile::open).transpose()?;
        }
        Ok(files)
    }

    /// Opens as [`OutputFile::open`] does, in a folder that is created if it does not exist.
    pub fn open_in(folder: &Path, name: &str) -> Result<OutputFile, String> {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        OutputFile::open(&folder.join(name))
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the contents of the file.
    pub fn write(mut self, text: &str) -> Result<(), String> {
        self.is_written = true;
        // A device or a pipe has no length.
        let is_regular = self.file.metadata().is_ok_and(|meta| meta.is_file());
        let emptied = if is_regular { self.file.set_len(0) } else { Ok(()) };
        let written = emptied.and_then(|()| self.file.write_all(text.as_bytes()));
        written.map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if self.is_new && !self.is_written {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unwritable_path_is_an_error_on_opening() {
        let folder = tempfile::tempdir().expect("a folder");
        let why = OutputFile::open(&folder.path().join("none/a.json")).expect_err("there is no such folder");
        assert!(why.contains("none/a.json: No such file"), "{why}");
        assert!(OutputFile::open(folder.path()).is_err(), "a folder is no file");
        assert!(OutputFile::open_in(&folder.path().join("made"), "a.svg").is_ok());
    }

    #[test]
    fn old_text_stays_until_new_text_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        fs::write(&path, "a long text").expect("written");
        drop(OutputFile::open(&path).expect("it can be written"));
        assert_eq!(fs::read_to_string(&path).expect("text"), "a long text");
        OutputFile::open(&path).expect("it can be written").write("short").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("text"), "short");
    }

    #[test]
    fn a_new_file_that_is_never_written_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        let file = OutputFile::open(&path).expect("it can be written");
        assert!(path.exists());
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn one_file_for_two_results_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let same = folder.path().join("same");
        let why = OutputFile::open_all([Some(same.as_path()), Some(same.as_path())]).expect_err("one file");
        assert!(why.contains("two results") && !same.exists(), "{why}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_an_error_with_the_name() {
        let why = OutputFile::open(Path::new("/dev/full"))
            .expect("it opens")
            .write("text")
            .expect_err("it is full");
        assert!(why.contains("/dev/full: No space left"), "{why}");
        OutputFile::open(Path::new("/dev/null")).expect("it opens").write("text").expect("it takes all");
    }
}
