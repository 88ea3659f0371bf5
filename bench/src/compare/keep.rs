//! The files of a comparison: the record as JSON, the page, the table for a README. All are rewritten after every
//! section, so that a later failure loses little.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use super::record::{FORMAT, Record};
use super::{markdown, page};
use crate::output::OutputFile;

/// The output files. A file without a name is not written.
#[derive(Debug, Default)]
pub struct Files {
    json: Option<PathBuf>,
    page: Option<PathBuf>,
    markdown: Option<PathBuf>,
    /// The picture for a README, in the folder of dated records.
    picture: Option<PathBuf>,
    /// Whether the picture shows this record; if false, an existing picture is from an earlier one.
    is_drawn: Cell<bool>,
}

/// The file names from the options.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a> {
    /// A folder of dated records; earlier records are never overwritten.
    pub folder: Option<&'a Path>,
    /// The record.
    pub json: Option<&'a Path>,
    /// The page.
    pub page: Option<&'a Path>,
    /// The table for a README.
    pub markdown: Option<&'a Path>,
}

impl Files {
    /// Checks that each file can be written, so that a wrong path is an error before anything is measured.
    pub fn new(names: Names<'_>, date: &str) -> Result<Files, String> {
        let stem = match names.folder {
            None => None,
            Some(folder) => {
                fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
                let stem = (1..)
                    .map(|number| match number {
                        1 => folder.join(date),
                        number => folder.join(format!("{date}-{number}")),
                    })
                    .find(|stem| !with(stem, "json").exists())
                    .ok_or("no name is left for the record")?;
                Some(stem)
            }
        };
        let of = |extension: &str, named: Option<&Path>| {
            named.map(Path::to_path_buf).or_else(|| stem.as_deref().map(|stem| with(stem, extension)))
        };
        let files = Files {
            json: of("json", names.json),
            page: of("html", names.page),
            markdown: names.markdown.map(Path::to_path_buf),
            picture: names.folder.map(|folder| folder.join("latest.svg")),
            is_drawn: Cell::new(false),
        };
        for path in files.named() {
            if path.is_dir() {
                return Err(format!("cannot write {}: it is a folder", path.display()));
            }
            // `write` writes to this temporary file first; a file that was opened and not written is removed.
            drop(OutputFile::open(&with(path, "new"))?);
        }
        Ok(files)
    }

    fn named(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.json, &self.page, &self.markdown, &self.picture].into_iter().flatten()
    }

    /// Returns whether the options name no file.
    pub fn is_empty(&self) -> bool {
        self.named().next().is_none()
    }

    /// Rewrites page and table beside an existing record.
    pub fn again(json: &Path, markdown: Option<&Path>) -> Result<Files, String> {
        let text = fs::read_to_string(json).map_err(|error| format!("{}: {error}", json.display()))?;
        let record: Record =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", json.display()))?;
        if record.format != FORMAT {
            return Err(format!("{}: format {}, this program knows {FORMAT}", json.display(), record.format));
        }
        let files = Files {
            json: Some(json.into()),
            page: Some(json.with_extension("html")),
            markdown: markdown.map(Path::to_path_buf),
            picture: Some(json.with_extension("svg")),
            is_drawn: Cell::new(false),
        };
        files.show(&record)?;
        Ok(files)
    }

    /// Writes all files.
    pub fn write(&self, record: &Record) -> Result<(), String> {
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(record).map_err(|error| error.to_string())?;
            replace(path, &(text + "\n"))?;
        }
        self.show(record)
    }

    /// Writes all files except the record itself.
    fn show(&self, record: &Record) -> Result<(), String> {
        let told = |error: Box<dyn std::error::Error>| format!("cannot draw: {error}");
        if let Some(path) = &self.page {
            replace(path, &page::render(record).map_err(told)?)?;
        }
        if let Some(path) = &self.picture
            && let Some(picture) = page::latest(record).map_err(told)?
        {
            replace(path, &picture)?;
            self.is_drawn.set(true);
        }
        if let Some(path) = &self.markdown {
            replace(path, &markdown::render(record))?;
        }
        Ok(())
    }

    /// Returns the files that exist.
    pub fn written(&self) -> impl Iterator<Item = &Path> {
        let picture = self.picture.as_ref().filter(|_| self.is_drawn.get());
        let files = [self.json.as_ref(), self.page.as_ref(), self.markdown.as_ref(), picture];
        files.into_iter().flatten().map(PathBuf::as_path).filter(|path| path.exists())
    }
}

fn with(stem: &Path, extension: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// Replaces a file; the old text stays until the new text is complete.
fn replace(path: &Path, text: &str) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let beside = with(path, "new");
    fs::write(&beside, text).map_err(told)?;
    fs::rename(&beside, path).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::super::record::sample::sample;
    use super::*;

    fn dated<'a>(folder: &'a Path, markdown: Option<&'a Path>) -> Names<'a> {
        Names { folder: Some(folder), markdown, ..Names::default() }
    }

    #[test]
    fn files_are_checked_before_anything_is_written() {
        let files = Files::new(Names::default(), "2026-11-25").expect("no names");
        files.write(&sample()).expect("nothing to write");
        assert!(files.is_empty() && files.written().count() == 0);
        let folder = tempfile::tempdir().expect("a folder");
        let (there, missing) = (folder.path().join("a.json"), folder.path().join("none/a.html"));
        let why = Files::new(Names { page: Some(&missing), ..Names::default() }, "").expect_err("no folder");
        assert!(why.contains("none/a.html"), "{why}");
        let files =
            Files::new(Names { json: Some(&there), ..Names::default() }, "").expect("it can be written");
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
        files.write(&sample()).expect("written");
        assert_eq!(files.written().collect::<Vec<_>>(), [there.as_path()]);
    }

    #[test]
    fn a_dated_record_replaces_only_its_own_run() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("record");
        let mut record = sample();
        let first = Files::new(dated(&place, None), "2026-11-25").expect("a name");
        first.write(&record).expect("written");
        record.took_s = 99.0;
        first.write(&record).expect("written again");
        let second = Files::new(dated(&place, Some(&place.join("table.md"))), "2026-11-25").expect("a name");
        second.write(&record).expect("written");
        let mut names: Vec<_> = fs::read_dir(&place)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .filter(|name| !name.ends_with(".html"))
            .collect();
        names.sort();
        assert_eq!(names, ["2026-11-25-2.json", "2026-11-25.json", "latest.svg", "table.md"]);
        assert_eq!((first.written().count(), second.written().count()), (3, 4));
        // A record with nothing to draw keeps the earlier picture and does not list it as its own.
        let third = Files::new(dated(&place, None), "2026-11-26").expect("a name");
        third.write(&Record { capacity: Vec::new(), ..sample() }).expect("written");
        assert_eq!(third.written().count(), 2);
        let text = fs::read_to_string(place.join("2026-11-25.json")).expect("text");
        assert_eq!(serde_json::from_str::<Record>(&text).expect("as written"), record);
    }

    #[test]
    fn an_earlier_record_yields_the_same_page() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files::new(dated(folder.path(), None), "2026-11-25").expect("a name");
        files.write(&sample()).expect("written");
        let (json, html) = (files.json.expect("named"), files.page.expect("named"));
        let page = fs::read_to_string(&html).expect("the page");
        fs::remove_file(&html).expect("it was there");
        let again = Files::again(&json, None).expect("the record is read");
        assert_eq!(fs::read_to_string(&html).expect("the page"), page);
        assert_eq!(again.written().count(), 3);

        let text = fs::read_to_string(&json).expect("text").replace("\"format\": 1", "\"format\": 99");
        fs::write(&json, text).expect("written");
        let why = Files::again(&json, None).expect_err("it cannot be read");
        assert!(why.contains("format 99"), "{why}");
    }
}
