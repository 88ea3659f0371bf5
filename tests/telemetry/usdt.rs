//! The probes at the begin and the end of calls, as tools of the kernel find them.

use std::process::Command;

#[test]
fn the_executable_describes_the_probes() {
    let executable = std::env::current_exe().unwrap();
    let output = Command::new("readelf").arg("-n").arg(executable).output().expect("readelf of binutils");
    let notes = String::from_utf8_lossy(&output.stdout);
    assert!(notes.contains("Provider: coreloop"), "{notes}");
    for (name, arguments) in [("call_begin", 3), ("call_end", 4)] {
        let probe = notes.split("Provider: coreloop").find(|note| note.contains(&format!("Name: {name}")));
        let probe = probe.unwrap_or_else(|| panic!("no probe {name}: {notes}"));
        let line = probe.lines().find(|line| line.contains("Arguments:")).unwrap();
        assert_eq!(line.matches('@').count(), arguments, "{line}");
    }
}
