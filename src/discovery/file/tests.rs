use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::discovery::Update;

const PATIENCE: Duration = Duration::from_secs(20);

fn watched(path: &Path) -> (thread::FileGuard, mpsc::Receiver<Result<Vec<String>, String>>) {
    let (sender, updates) = mpsc::channel();
    let updates_of = Updates::new(move |update| {
        let found = match update {
            Update::Instances(instances) => {
                Ok(instances.iter().map(|one| format!("{}*{}", one.address, one.weight)).collect())
            }
            Update::Failed(why) => Err(why),
        };
        let _ = sender.send(found);
    });
    let url = format!("file://{}?interval=10ms", path.display());
    let target = FileTarget::parse(&Target::parse(&url).unwrap()).unwrap();
    (thread::watch(WatchedFile::new(target, updates_of)).unwrap(), updates)
}

/// Waits for an update; others may come before it, since a file may be seen while it is written.
fn until(
    updates: &mpsc::Receiver<Result<Vec<String>, String>>,
    is_expected: impl Fn(&Result<Vec<String>, String>) -> bool,
) {
    let mut seen = Vec::new();
    loop {
        match updates.recv_timeout(PATIENCE) {
            Ok(update) if is_expected(&update) => return,
            Ok(update) => seen.push(update),
            Err(_) => panic!("found {seen:?}"),
        }
    }
}

fn until_instances(updates: &mpsc::Receiver<Result<Vec<String>, String>>, text: &str) {
    until(updates, |update| update.as_ref().is_ok_and(|found| found.join(" ") == text));
}

fn until_failed(updates: &mpsc::Receiver<Result<Vec<String>, String>>, text: &str) {
    until(updates, |update| update.as_ref().is_err_and(|why| why.contains(text)));
}

#[test]
fn the_file_is_followed_through_replacement_faults_and_absence() {
    let folder = tempfile::tempdir().unwrap();
    let (path, new) = (folder.path().join("orders.endpoints"), folder.path().join("new"));
    let (guard, updates) = watched(&path);
    until_failed(&updates, "orders.endpoints: No such file");
    fs::write(&path, "a:1\nb:1 weight=2\n").unwrap();
    until_instances(&updates, "a:1*1 b:1*2");
    // Replaced by rename, with the same length: whole at once.
    fs::write(&new, "a:2\nb:2 weight=3\n").unwrap();
    fs::rename(&new, &path).unwrap();
    let replaced = updates.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(replaced, ["a:2*1", "b:2*3"]);
    // Overwritten in place, with the same length, perhaps within the clock's resolution.
    fs::write(&path, "a:3\nb:3 weight=4\n").unwrap();
    until_instances(&updates, "a:3*1 b:3*4");
    fs::write(&path, "a:3\nb\n").unwrap();
    until_failed(&updates, "orders.endpoints: line 2: expected an address");
    fs::write(&path, "").unwrap();
    until_failed(&updates, "no instance in it");
    fs::write(&path, b"\xff\n").unwrap();
    until_failed(&updates, "not UTF-8");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    until_failed(&updates, "not a file");
    fs::remove_dir(&path).unwrap();
    fs::write(&path, "a:3\nb:3 weight=4\n").unwrap();
    until_instances(&updates, "a:3*1 b:3*4");
    drop(guard);
    assert_eq!(updates.recv(), Err(mpsc::RecvError), "nothing refers to the watch any more");
}

#[test]
fn a_file_of_another_extension_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.json");
    fs::write(&path, r#"["a:1", {"address": "b:1", "weight": 2}]"#).unwrap();
    let (_guard, updates) = watched(&path);
    until_instances(&updates, "a:1*1 b:1*2");
    fs::write(&path, r#"["a:1""#).unwrap();
    until_failed(&updates, "orders.json: line 1: not an array in JSON");
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.endpoints");
    fs::File::create(&path).unwrap().set_len(5 << 20).unwrap();
    let (_guard, updates) = watched(&path);
    until_failed(&updates, "5242880 bytes, over 4194304");
}

#[test]
fn the_url_is_checked() {
    let parse = |url: &str| FileTarget::parse(&Target::parse(url).unwrap()).map_err(|error| error.expected);
    let target = parse("file:///etc/orders.json?interval=50ms").unwrap();
    assert_eq!(target.path, Path::new("/etc/orders.json"));
    assert_eq!((target.is_json, target.interval), (true, Duration::from_millis(50)));
    for (url, expected) in [
        ("file://etc/orders", "an absolute path"),
        ("file:///", "an absolute path"),
        ("file:///a?interval=9ms", "interval from 10ms"),
        ("file:///a?interval=50", "interval from 10ms"),
        ("file:///a?watch=1", "no parameter but interval, not watch"),
    ] {
        let found = parse(url).unwrap_err();
        assert!(found.starts_with(expected), "{url}: {found}");
    }
}
