//! Other users of the machine: the file keeps them away, and so does what the system says of a peer. To be another user
//! needs root; without it these tests are skipped.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::partner::settle;
use crate::{Place, call};

/// Becomes another user, and connects to the path or listens there.
const OTHER: &str = r#"
import os, socket, sys
what, path = sys.argv[1:]
os.setgroups([]); os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
if what == "connect":
    try:
        s.connect(path)
    except PermissionError:
        print("no permission")
        sys.exit()
    answer = b""
    while part := s.recv(4096):
        answer += part
    print(answer[answer.find(b"only"):].decode())
else:
    s.bind(path)
    s.listen(1)
    print("listening", flush=True)
    sys.stdin.read()
"#;

fn other(what: &str, path: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", OTHER, what]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn is_root() -> bool {
    let user = Command::new("id").arg("-u").output().expect("id runs").stdout;
    let is_root = user == b"0\n";
    if !is_root {
        eprintln!("skipped: not root");
    }
    is_root
}

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn another_user_cannot_take_over() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let server = place.start(&[]);
    let connect = || {
        let output = other("connect", &place.path()).output().expect("python3 runs");
        String::from_utf8(output.stdout).expect("text")
    };
    allow(place.folder.path(), 0o755);
    assert_eq!(connect(), "no permission\n", "the file has the mode 0600");
    allow(&place.path(), 0o666);
    assert_eq!(connect(), "only user 0 and root may take over, not user 65534\n");
    settle(&place);
    call(server.address());
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn the_listener_of_another_user_is_not_trusted() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    allow(place.folder.path(), 0o777);
    let mut child = other("listen", &place.path()).spawn().expect("python3 runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("text");
    assert_eq!(line, "listening\n");
    let error = place.fail(&[]);
    assert!(error.contains("it belongs to user 65534, this process to user 0"), "{error}");
    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").success());
}
