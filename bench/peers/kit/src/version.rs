//! What a peer is made of, from the lock file that it was built with.

use clap::Command;

/// A command line whose `--version` names these crates, on one line, and nothing of ours.
pub(crate) fn named(command: Command, crates: &[&str]) -> Command {
    let versions: Vec<String> = crates.iter().map(|name| version_of(name)).collect();
    let versions = versions.join(", ");
    // clap prints the command's name, a space and its version.
    let (name, version) = versions.split_once(' ').expect("at least one crate");
    command.name(name.to_string()).version(version.to_string())
}

/// `axum 0.8.9`: a crate of this workspace's lock file, with its version. The highest, should there be several.
///
/// # Panics
///
/// Where the lock file has no such crate: then the peer does not measure what it says.
pub fn version_of(name: &str) -> String {
    let found = versions(include_str!("../../Cargo.lock"), name).last();
    format!("{name} {}", found.unwrap_or_else(|| panic!("{name} is not in Cargo.lock")))
}

/// Cargo writes a crate's versions in rising order, each line `version` right after its `name`.
fn versions<'a>(lock: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let lines = lock.lines().zip(lock.lines().skip(1));
    lines.filter_map(move |(first, second)| {
        let is_it = quoted(first, "name = ") == Some(name);
        is_it.then(|| quoted(second, "version = ")).flatten()
    })
}

fn quoted<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_name_alone() {
        let lock = "name = \"hyper\"\nversion = \"0.14.1\"\n\nname = \"hyper\"\nversion = \"1.2.3\"\n\n\
            name = \"hyper-util\"\nversion = \"9.9.9\"\n";
        assert_eq!(versions(lock, "hyper").collect::<Vec<_>>(), ["0.14.1", "1.2.3"]);
        assert!(version_of("tokio").starts_with("tokio 1."));
    }
}
