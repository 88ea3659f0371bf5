//! The files of a comparison: the record as JSON, the page, the table for a README. Each is written anew after every
//! section, so that whatever happens later loses little.

use std::fs;
use std::path::{Path, PathBuf};

use super::markdown;
use super::record::Record;

/// Where they go.
pub struct Files {
    json: PathBuf,
    page: PathBuf,
    markdown: Option<PathBuf>,
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
        Ok(Files {
            json: with(&stem, "json"),
            page: with(&stem, "html"),
            markdown: markdown.map(Path::to_path_buf),
        })
    }

    /// Writes them.
    pub fn write(&self, record: &Record) -> Result<(), String> {
        let text = serde_json::to_string_pretty(record).map_err(|error| error.to_string())?;
        replace(&self.json, &(text + "\n"))?;
        if let Some(path) = &self.markdown {
            replace(path, &markdown::render(record))?;
        }
        Ok(())
    }

    /// Those that are there.
    pub fn written(&self) -> impl Iterator<Item = &Path> {
        let files = [Some(&self.json), Some(&self.page), self.markdown.as_ref()];
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
        assert_eq!(names, ["2026-11-25-2.json", "2026-11-25.json", "table.md"]);
        let text = fs::read_to_string(place.join("2026-11-25.json")).expect("text");
        assert_eq!(serde_json::from_str::<Record>(&text).expect("as written"), record);
    }
}
