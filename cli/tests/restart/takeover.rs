//! Takeovers: the sockets, the files, the number of reactors, and processes that cannot take over.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::common::{Served, coreloop};
use crate::{Place, call, exists};

#[test]
fn a_new_process_serves_at_the_same_port_and_the_old_one_ends() {
    let place = Place::new();
    let first = place.start(&["--cores", "1"]);
    let mode = std::fs::symlink_metadata(place.path()).expect("its file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = place.start(&["--cores", "1"]);
    assert_eq!(first.address(), second.address());
    let ended = first.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    call(second.address());
    let pid = second.pid;
    let ended = second.stop();
    assert_eq!((ended.code, ended.summary("calls")), (Some(0), 1), "{}", ended.stderr);
    assert!(ended.stderr.contains("coreloop: took over from process "), "{pid}: {}", ended.stderr);
    assert!(!exists(&place.path()), "the last process has removed the file");
}

#[test]
fn a_connection_that_waits_is_accepted_by_the_new_process() {
    let place = Place::new();
    // A connection for each socket, whatever process accepts it.
    for (before, after) in [(1, 3), (3, 1), (2, 2)] {
        let first = place.start(&["--cores", &before.to_string()]);
        let address = first.address().to_owned();
        let second = place.start(&["--cores", &after.to_string()]);
        assert_eq!(first.wait().code, Some(0));
        for _ in 0..32 {
            call(&address);
        }
        assert_eq!(second.stop().code, Some(0));
    }
}

#[test]
fn the_file_of_a_unix_socket_stays_until_the_last_process_ends() {
    let place = Place::new();
    let socket = place.folder.path().join("s");
    let listen = format!("unix:{}", socket.display());
    let start = || {
        let mut command = coreloop(&["serve", "--listen", &listen, "--admin", "off", "--takeover"]);
        command.arg(place.path());
        Served::start_command(command, 1)
    };
    let first = start();
    let inode = |path: &std::path::Path| std::fs::symlink_metadata(path).expect("it is there").ino();
    let (before, control) = (inode(&socket), inode(&place.path()));
    let second = start();
    assert_eq!(first.wait().code, Some(0));
    assert_eq!((inode(&socket), inode(&place.path())), (before, control));
    call(&listen);
    assert_eq!(second.stop().code, Some(0));
    assert!(!exists(&socket) && !exists(&place.path()));
}

#[test]
fn a_process_that_cannot_start_leaves_the_old_one_as_it_was() {
    let place = Place::new();
    let server = place.start(&[]);
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = other.local_addr().expect("an address").to_string();
    let error = place.fail(&["--listen", &taken]);
    assert!(error.contains(&format!("cannot listen on {taken}")), "{error}");
    assert!(exists(&place.path()));
    call(server.address());
    // The next one can take over.
    let next = place.start(&[]);
    assert_eq!(server.wait().code, Some(0));
    call(next.address());
}

#[test]
fn the_admin_listener_passes_to_the_new_process() {
    let place = Place::new();
    let start = |admin: &str| {
        let mut command = coreloop(&["serve", "--listen", "127.0.0.1:0", "--admin", admin, "--takeover"]);
        command.arg(place.path());
        Served::start_command(command, 1)
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let admin = free.local_addr().expect("an address").to_string();
    drop(free);
    let first = start(&admin);
    let second = start(&admin);
    assert_eq!(first.wait().code, Some(0));
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n");
    let page = crate::common::http::Raw::to(&admin).ask(request);
    assert!(page.status == 200 && page.body.contains("coreloop_"), "{page:?}");
    let ended = second.stop();
    assert!(ended.stderr.contains(&format!("admin on http://{admin}/")), "{}", ended.stderr);
}

#[test]
fn a_stop_after_a_takeover_is_that_of_the_new_process() {
    let place = Place::new();
    let first = place.start(&[]);
    let address = first.address().to_owned();
    let mut processes = vec![first];
    for _ in 0..3 {
        processes.push(place.start(&["--cores", "2"]));
    }
    let last = processes.pop().expect("four");
    for process in processes {
        assert_eq!(process.wait().code, Some(0));
    }
    call(&address);
    assert_eq!(last.stop().code, Some(0));
}
