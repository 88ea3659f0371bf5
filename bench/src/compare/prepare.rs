//! Checks each subject before anything is measured: its programs exist, it builds, it starts, and its answers are
//! correct.
//!
//! A subject that fails is left out with the reason; the others continue.

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::ground::{Failure, Ground, command_of};
use super::peer::{Kind, Need};
use super::probe;
use super::record::{LeftOut, Peer, Setting};
use super::subject::{Client, Subject};
use crate::versus::Load;

/// A first build fetches and compiles a whole framework.
const BUILD_PATIENCE: Duration = Duration::from_secs(3600);
const VERSION_PATIENCE: Duration = Duration::from_secs(20);
/// Duration of a trial run of a client process, in seconds.
const TRIAL_S: f64 = 0.2;

/// The results of builds: each command runs once, though several subjects may share it.
pub type Builds = HashMap<(PathBuf, Vec<String>), Result<(), String>>;

/// Prepares one subject and records in `left_out` what is missing or wrong. Returns `None` if it cannot take part.
pub fn prepare(
    ground: &Ground,
    subject: Subject,
    builds: &mut Builds,
    left_out: &mut Vec<LeftOut>,
) -> Result<Option<(Subject, Peer)>, Failure> {
    let mut leave = |what: &str, why: String, install: Option<String>| {
        ground.screen.say(&format!("{}: {what} left out: {why}", subject.name));
        left_out.push(LeftOut { peer: subject.name.clone(), what: what.into(), why, install });
    };
    let missing: Vec<&Need> =
        subject.needs.iter().filter(|need| find(&need.program, &subject.folder).is_none()).collect();
    if !missing.is_empty() {
        for need in missing {
            leave("all", format!("there is no program {}", need.program), Some(need.install.clone()));
        }
        return Ok(None);
    }
    if let Err(why) = build(ground, &subject, builds)? {
        leave("all", why, None);
        return Ok(None);
    }
    let version = match version(ground, &subject) {
        Ok(version) => version,
        Err(Failure::Stopped) => return Err(Failure::Stopped),
        Err(Failure::Broken(why)) => {
            leave("all", why, None);
            return Ok(None);
        }
    };
    let mut subject = subject.clone();
    match try_calls(ground, &subject)? {
        Ok(wrong) => {
            subject.calls.retain(|kind| wrong.iter().all(|(other, _)| other != kind));
            for (kind, why) in wrong {
                leave(kind.name(), why, None);
            }
        }
        Err(why) => {
            leave("all", why, None);
            return Ok(None);
        }
    }
    let peer = Peer {
        name: subject.name.clone(),
        title: subject.title.clone(),
        language: subject.language.clone(),
        differs: subject.differs.clone(),
        protocol: subject.spoken.name().into(),
        client: match &subject.client {
            Client::Loadgen(_) => "loadgen".into(),
            Client::Drive => "drive".into(),
            Client::Own { command, .. } => name_of(command),
        },
        version,
        is_coreloop: subject.is_coreloop,
        is_reference: subject.is_reference,
    };
    Ok(Some((subject, peer)))
}

fn name_of(command: &[String]) -> String {
    let program = command.first().map(Path::new).and_then(Path::file_name);
    program.map_or("its own".into(), |name| name.to_string_lossy().into_owned())
}

/// Finds a program: on the path, or in the folder if the name contains a slash.
pub fn find(program: &str, folder: &Path) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| path.is_file();
    if program.contains('/') {
        return Some(folder.join(program)).filter(is_program);
    }
    env::split_paths(&env::var_os("PATH")?).map(|place| place.join(program)).find(is_program)
}

fn build(ground: &Ground, subject: &Subject, builds: &mut Builds) -> Result<Result<(), String>, Failure> {
    if subject.build.is_empty() {
        return Ok(Ok(()));
    }
    let key = (subject.folder.clone(), subject.build.clone());
    if let Some(known) = builds.get(&key) {
        return Ok(known.clone());
    }
    ground.screen.begin(format!("building {}", subject.title));
    let command = command_of(subject, &subject.build, None, ground.cores.all.len());
    let result = run_build(ground, command)?;
    builds.insert(key, result.clone());
    Ok(result)
}

/// Runs a build command, and returns the reason if it fails.
pub fn run_build(ground: &Ground, mut command: Command) -> Result<Result<(), String>, Failure> {
    // The output is expected in the peer's own folder.
    command.env_remove("CARGO_TARGET_DIR");
    match ground.finish(command, &ground.cores.all, BUILD_PATIENCE, || ground.screen.tick()) {
        Ok(said) if said.status.success() => Ok(Ok(())),
        Ok(said) => Ok(Err(format!("it does not build ({}): {}", said.status, said.last_words))),
        Err(Failure::Stopped) => Err(Failure::Stopped),
        Err(Failure::Broken(why)) => Ok(Err(format!("it does not build: {why}"))),
    }
}

fn version(ground: &Ground, subject: &Subject) -> Result<String, Failure> {
    ground.screen.begin(format!("{}: which version", subject.title));
    let command = command_of(subject, &subject.version, None, 1);
    let said = ground.finish(command, &ground.cores.all, VERSION_PATIENCE, || ground.screen.tick())?;
    // Some programs print the version to standard error.
    let line = said.stdout.lines().map(str::trim).find(|line| !line.is_empty());
    let line = line.map_or(said.last_words.clone(), ToOwned::to_owned);
    match (said.status.success(), line.is_empty()) {
        (true, false) => Ok(line),
        _ => Err(Failure::Broken(format!("it does not say its version ({}): {line}", said.status))),
    }
}

/// The calls that it answers wrongly, with the reasons; or why it cannot take part at all.
type Tried = Result<Vec<(Kind, String)>, String>;

fn try_calls(ground: &Ground, subject: &Subject) -> Result<Tried, Failure> {
    let first = subject.first_kind();
    let mut wrong = Vec::new();
    let mut running = None;
    for kind in &subject.calls {
        ground.screen.begin(format!("{}: does it answer {kind}", subject.title));
        let mut server = match running.take().map_or_else(|| ground.start(subject, Setting::Apart), Ok) {
            Ok(server) => server,
            Err(Failure::Broken(why)) => return Ok(Err(why)),
            Err(Failure::Stopped) => return Err(Failure::Stopped),
        };
        let tried = try_call(ground, subject, &mut server, *kind);
        let why = match (server.death(), tried) {
            (None, Ok(())) => {
                running = Some(server);
                continue;
            }
            (_, Err(Failure::Stopped)) => return Err(Failure::Stopped),
            (Some(why), _) | (None, Err(Failure::Broken(why))) => why,
        };
        // The next call gets a fresh server, so that a crash in one call does not affect the others.
        server.stop();
        if *kind == first {
            return Ok(Err(format!("{kind}: {why}")));
        }
        wrong.push((*kind, why));
    }
    if let Some(server) = running {
        server.stop();
    }
    Ok(Ok(wrong))
}

fn try_call(
    ground: &Ground,
    subject: &Subject,
    server: &mut crate::process::Server,
    kind: Kind,
) -> Result<(), Failure> {
    ground.check()?;
    match &subject.client {
        Client::Loadgen(speaks) => Ok(probe::check(subject, server.address, *speaks, kind)?),
        Client::Drive | Client::Own { .. } => {
            let load = Load { connections: 1, depth: 1 };
            let order = super::load::Order {
                seconds: TRIAL_S,
                warmup_s: 0.0,
                ..ground.order(kind, load, Setting::Apart, 0)
            };
            let measured = ground.make(subject, server, &order)?;
            match measured.run.errors {
                0 => Ok(()),
                errors => {
                    let first = measured.run.first_error.unwrap_or_default();
                    Err(Failure::Broken(format!("{errors} wrong answers, the first: {first}")))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path_and_beside() {
        assert!(find("sh", Path::new("/")).is_some());
        assert_eq!(find("no-such-program-anywhere", Path::new("/")), None);
        assert!(find("bin/sh", Path::new("/")).is_some());
        assert_eq!(find("./sh", Path::new("/proc")), None);
        assert_eq!(name_of(&["../target/release/peer-client".into(), "x".into()]), "peer-client");
    }
}
