//! The environment of all measurements: cores, starting servers, and stopping what runs.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::peer::ReadyBy;
use super::record::Setting;
use super::screen::Screen;
use super::subject::Subject;
use crate::process::{self, Ready, Server};

/// How often a server that takes a port is restarted with another port if it does not come up.
const PORTS_TRIED: usize = 3;

/// Why a measurement is missing.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The user requested an end.
    Stopped,
    /// The measurement failed, with the reason.
    Broken(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure::Broken(why)
    }
}

/// The available cores, and how server and client divide them.
#[derive(Clone, Debug)]
pub struct Cores {
    /// All cores that may be used.
    pub all: Vec<usize>,
    /// The server's cores in the setting `apart`.
    pub server: Vec<usize>,
    /// The client's cores in the setting `apart`.
    pub client: Vec<usize>,
    /// The cores that both use in the setting `shared`.
    pub shared: Vec<usize>,
}

impl Cores {
    /// Gives the first core to the server and the second to the client; with only one core, both use it.
    pub fn among(all: Vec<usize>) -> Result<Cores, String> {
        let (Some(&server), Some(&client)) = (all.first(), all.get(1).or(all.first())) else {
            return Err("no core to run on".into());
        };
        let shared = all.iter().copied().take(2).collect();
        Ok(Cores { all, server: vec![server], client: vec![client], shared })
    }

    /// Returns the server's and the client's cores.
    pub fn of(&self, setting: Setting) -> (&[usize], &[usize]) {
        match setting {
            Setting::Apart => (&self.server, &self.client),
            Setting::Shared => (&self.shared, &self.shared),
        }
    }
}

/// State that every measurement needs.
pub struct Ground {
    /// The path of this program, which also runs as the bare client.
    pub own: PathBuf,
    /// The assignment of cores.
    pub cores: Cores,
    /// Set when everything is to end.
    pub stop: Arc<AtomicBool>,
    /// The progress display.
    pub screen: Screen,
    /// Length of a measured window, in seconds.
    pub seconds: f64,
    /// Length of the warm-up before each window, in seconds.
    pub warmup_s: f64,
}

impl Ground {
    /// Returns [`Failure::Stopped`] if the user requested an end.
    pub fn check(&self) -> Result<(), Failure> {
        if self.stop.load(Ordering::Relaxed) { Err(Failure::Stopped) } else { Ok(()) }
    }

    /// Starts the subject's server on the setting's cores.
    pub fn start(&self, subject: &Subject, setting: Setting) -> Result<Server, Failure> {
        self.start_on(subject, self.cores.of(setting).0)
    }

    /// Starts the subject's server on these cores.
    pub fn start_on(&self, subject: &Subject, cores: &[usize]) -> Result<Server, Failure> {
        self.check()?;
        if subject.ready == ReadyBy::Line {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            return Ok(Server::start(server_command(subject, any, cores.len()), cores)?);
        }
        let mut trouble = String::new();
        for _ in 0..PORTS_TRIED {
            self.check()?;
            // The port is free now, but another process may take it before the server does; hence the retry.
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let address = free.map_err(|error| format!("no port: {error}"))?;
            let command = server_command(subject, address, cores.len());
            match Server::launch(command, cores, Ready::Connect(address)) {
                Ok(server) => return Ok(server),
                Err(why) => trouble = why,
            }
        }
        Err(Failure::Broken(trouble))
    }
}

fn server_command(subject: &Subject, address: SocketAddr, threads: usize) -> Command {
    command_of(subject, &subject.server, Some(address), threads)
}

/// Builds a command of a subject in its folder and environment, with the placeholders in braces replaced.
pub fn command_of(
    subject: &Subject,
    words: &[String],
    address: Option<SocketAddr>,
    threads: usize,
) -> Command {
    let put_in = |word: &String| {
        let word = word.replace("{threads}", &threads.to_string());
        address.map_or(word.clone(), |address| word.replace("{address}", &address.to_string()))
    };
    // The program is never empty: the contract was checked.
    let program = words.first().map(&put_in).unwrap_or_default();
    // A path is relative to the peer's folder. Without the join, the base of a relative path depends on the platform.
    let program = if program.contains('/') { subject.folder.join(program) } else { program.into() };
    let mut command = Command::new(program);
    command.args(words.iter().skip(1).map(&put_in)).current_dir(&subject.folder);
    command.envs(subject.env.iter().map(|(name, value)| (name, put_in(value))));
    command.stdin(Stdio::null());
    command
}

/// Returns the cores that this process may use.
pub fn cores_here() -> Result<Cores, String> {
    Cores::among(process::allowed_cores().map_err(|error| error.to_string())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_is_shared() {
        let cores = Cores::among(vec![3]).expect("one");
        assert_eq!((cores.server, cores.client, cores.shared), (vec![3], vec![3], vec![3]));
        let cores = Cores::among(vec![2, 5, 7]).expect("three");
        assert_eq!(cores.of(Setting::Apart), (&[2][..], &[5][..]));
        assert_eq!(cores.of(Setting::Shared), (&[2, 5][..], &[2, 5][..]));
        assert!(Cores::among(Vec::new()).is_err());
    }
}
