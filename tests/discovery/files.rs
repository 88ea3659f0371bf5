//! Endpoints in a file, watched through the public interface.

use std::fs;

use crate::common::Reactor;

#[test]
fn a_file_is_followed_until_the_watch_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (path, new) = (folder.path().join("orders.endpoints"), folder.path().join("new"));
    fs::write(&path, "127.0.0.1:1 zone=a # the first\n127.0.0.1:2 weight=3\n").unwrap();
    let reactor = Reactor::start();
    let watched = reactor.watch(&format!("file://{}?interval=10ms", path.display()));
    let found = watched.until_addresses(&["127.0.0.1:1", "127.0.0.1:2"]);
    assert_eq!((found[0].zone.as_deref(), found[1].weight), (Some("a"), 3));
    // A file that is not valid changes nothing, and its fault is said.
    fs::write(&path, "127.0.0.1:1\nnonsense\n").unwrap();
    let why = watched.until_failed();
    assert!(why.contains("orders.endpoints: line 2: expected an address"), "{why}");
    fs::write(&new, "127.0.0.1:3\n").unwrap();
    fs::rename(&new, &path).unwrap();
    watched.until_addresses(&["127.0.0.1:3"]);
}
