//! The files of a comparison: the record as JSON, the page, the table for a README. Each is written anew after every
//! section, so that whatever happens later loses little.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use super::record::{FORMAT, Record};
use super::{markdown, page};
use crate::output::OutputFile;

/// Where they go.
pub struct Files {
    json: PathBuf,
    page: PathBuf,
    markdown: Option<PathBuf>,
    /// The picture for a README, in a folder of dated records.
    picture: Option<PathBuf>,
    /// The picture is of this record, and not one that an earlier one has left.
    is_drawn: Cell<bool>,
}

impl Files {
    /// In the current folder, or in one of dated records, where no earlier one is overwritten.
    pub fn new(folder: Option<&Path>, date: &str, markdown: Option<&Path>) -> Result<Files, String> {
        let stem = match folder {
            None => PathBuf::from("compare"),
            Some(folder) => {
                fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
                (1..)
                    .map(|number| match number {
                        1 => folder.join(date),
                        number => folder.join(format!("{date}-{number}")),
                    })
                    .find(|stem| !with(stem, "json").exists())
                    .ok_or("no name is left for the record")?
            }
        };
        let files = Files {
            json: with(&stem, "json"),
            page: with(&stem, "html"),
            markdown: markdown.map(Path::to_path_buf),
            picture: folder.map(|folder| folder.join("latest.svg")),
            is_drawn: Cell::new(false),
        };
        files.try_folders()?;
        Ok(files)
    }

    /// Whether the files can be written, before the comparison takes its time.
    fn try_folders(&self) -> Result<(), String> {
        let all = [Some(&self.json), Some(&self.page), self.markdown.as_ref(), self.picture.as_ref()];
        for path in all.into_iter().flatten() {
            if path.is_dir() {
                return Err(format!("{}: it is a folder", path.display()));
            }
            // The file beside it is what is written first; opened and not written, it is removed again.
            drop(OutputFile::open(&with(path, "new"))?);
        }
        Ok(())
    }

    /// Writes page and table anew, beside the record that is there.
    pub fn again(json: &Path, markdown: Option<&Path>) -> Result<Files, String> {
        let text = fs::read_to_string(json).map_err(|error| format!("{}: {error}", json.display()))?;
        let record: Record =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", json.display()))?;
        if record.format != FORMAT {
            return Err(format!("{}: format {}, this program knows {FORMAT}", json.display(), record.format));
        }
        let files = Files {
            json: json.into(),
            page: json.with_extension("html"),
            markdown: markdown.map(Path::to_path_buf),
            picture: Some(json.with_extension("svg")),
            is_drawn: Cell::new(false),
        };
        files.show(&record)?;
        Ok(files)
    }

    /// Writes them.
    pub fn write(&self, record: &Record) -> Result<(), String> {
        let text = serde_json::to_string_pretty(record).map_err(|error| error.to_string())?;
        replace(&self.json, &(text + "\n"))?;
        self.show(record)
    }

    /// All but the record itself.
    fn show(&self, record: &Record) -> Result<(), String> {
        let told = |error: Box<dyn std::error::Error>| format!("cannot draw: {error}");
        replace(&self.page, &page::render(record).map_err(told)?)?;
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

    /// Those that are there.
    pub fn written(&self) -> impl Iterator<Item = &Path> {
        let picture = self.picture.as_ref().filter(|_| self.is_drawn.get());
        let files = [Some(&self.json), Some(&self.page), self.markdown.as_ref(), picture];
        files.into_iter().flatten().map(PathBuf::as_path).filter(|path| path.exists())
    }
}

fn with(stem: &Path, extension: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// The old text stays until the new one is whole.
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

    #[test]
    fn dated_records_are_kept_and_one_of_a_run_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("record");
        let mut record = sample();
        let first = Files::new(Some(&place), "2026-11-25", None).expect("a name");
        first.write(&record).expect("written");
        record.took_s = 99.0;
        first.write(&record).expect("written again");
        let second = Files::new(Some(&place), "2026-11-25", Some(&place.join("table.md"))).expect("a name");
        second.write(&record).expect("written");
        let mut names: Vec<_> = fs::read_dir(&place)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .filter(|name| !name.ends_with(".html"))
            .collect();
        names.sort();
        assert_eq!(names, ["2026-11-25-2.json", "2026-11-25.json", "latest.svg", "table.md"]);
        assert_eq!((first.written().count(), second.written().count()), (3, 4));
        // What nothing can be drawn of leaves the picture of the one before, and does not call it its own.
        let third = Files::new(Some(&place), "2026-11-26", None).expect("a name");
        third.write(&Record { capacity: Vec::new(), ..sample() }).expect("written");
        assert_eq!(third.written().count(), 2);
        let text = fs::read_to_string(place.join("2026-11-25.json")).expect("text");
        assert_eq!(serde_json::from_str::<Record>(&text).expect("as written"), record);
    }

    #[test]
    fn what_cannot_be_written_is_told_before_anything_is_measured() {
        let folder = tempfile::tempdir().expect("a folder");
        let table = folder.path().join("none/table.md");
        let why = Files::new(Some(folder.path()), "2026-11-25", Some(&table)).err().expect("no such folder");
        assert!(why.contains("none/table.md"), "{why}");
        let why = Files::new(Some(folder.path()), "2026-11-25", Some(folder.path())).err().expect("a folder");
        assert!(why.contains("it is a folder"), "{why}");
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing is left behind");
    }

    #[test]
    fn page_of_an_earlier_record_is_the_same_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files::new(Some(folder.path()), "2026-11-25", None).expect("a name");
        files.write(&sample()).expect("written");
        let page = fs::read_to_string(&files.page).expect("the page");
        fs::remove_file(&files.page).expect("it was there");
        let again = Files::again(&files.json, None).expect("the record is read");
        assert_eq!(fs::read_to_string(&again.page).expect("the page"), page);
        assert_eq!(again.written().count(), 3);

        let text = fs::read_to_string(&files.json).expect("text").replace("\"format\": 1", "\"format\": 99");
        fs::write(&files.json, text).expect("written");
        let why = Files::again(&files.json, None).err().expect("it cannot be read");
        assert!(why.contains("format 99"), "{why}");
    }
}
