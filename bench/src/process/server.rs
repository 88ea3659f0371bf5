//! A server process: started on its cores, waited for until ready, and ended when the value is dropped.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Group, confine};

const READY_WAIT: Duration = Duration::from_secs(10);
/// Polling interval for a server that prints no ready line.
const KNOCK_EVERY: Duration = Duration::from_millis(10);
/// Time a server may take to end after SIGTERM.
const END_WAIT: Duration = Duration::from_secs(2);

/// How a server signals that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It prints `listening on ADDR`.
    Line,
    /// It accepts a connection at this address, which it received as an argument.
    Connect(SocketAddr),
}

/// A server process that is ready.
pub struct Server {
    child: Group,
    /// The address that it listens on.
    pub address: SocketAddr,
    last_words: Arc<Mutex<String>>,
    /// Set once it was requested to end: its output is no longer reported.
    is_ending: Arc<AtomicBool>,
}

impl Server {
    /// Starts the command on these cores and waits for its line `listening on ADDR`.
    pub fn start(command: Command, cores: &[usize]) -> Result<Server, String> {
        Server::launch(command, cores, Ready::Line)
    }

    /// Starts the command on these cores and waits until it is ready.
    pub fn launch(mut command: Command, cores: &[usize], ready: Ready) -> Result<Server, String> {
        confine(&mut command, cores);
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = Group::spawn(&mut command);
        let mut child = child.map_err(|error| format!("cannot start {name}: {error}"))?;
        let stdout = child.child().stdout.take().expect("asked for a pipe above");
        let stderr = child.child().stderr.take().expect("asked for a pipe above");
        let last_words = Arc::new(Mutex::new(String::new()));
        // A server's log is not shown, except if it panicked or could not start.
        let is_ending = Arc::new(AtomicBool::new(false));
        let heard = thread::spawn({
            let (said_by, last_words, is_ending) = (name.clone(), last_words.clone(), is_ending.clone());
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let is_trouble = line.starts_with("coreloop:") && !is_ending.load(Ordering::Relaxed);
                    if line.contains("panicked") || is_trouble {
                        eprintln!("{said_by}: {line}");
                    }
                    if !line.trim().is_empty() {
                        *last_words.lock().unwrap_or_else(PoisonError::into_inner) = line;
                    }
                }
            }
        });
        let (sender, lines) = mpsc::channel();
        // Reads to the end, so that the server never blocks on a full standard output.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let address = match ready {
            Ready::Line => address_in(&lines, &name),
            Ready::Connect(address) => knock(&mut child, address, &name),
        };
        let last = last_words.clone();
        address.map(|address| Server { child, address, last_words, is_ending }).map_err(|why| {
            // Dropping the guard ended the group, so its standard error ends too.
            let _ = heard.join();
            match last.lock().unwrap_or_else(PoisonError::into_inner).as_str() {
                "" => why,
                words => format!("{why}: {words}"),
            }
        })
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns how it ended and its last line of output; `None` while it runs.
    pub fn death(&mut self) -> Option<String> {
        let status = self.child.ended()?;
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let colon = if words.is_empty() { "" } else { ": " };
        Some(format!("the server died ({status}){colon}{words}"))
    }

    /// Ends it with SIGTERM, and with SIGKILL if it does not react.
    pub fn stop(self) {
        self.is_ending.store(true, Ordering::Relaxed);
        self.child.stop(END_WAIT);
    }
}

fn address_in(lines: &mpsc::Receiver<String>, name: &str) -> Result<SocketAddr, String> {
    let until = Instant::now() + READY_WAIT;
    loop {
        let line = lines.recv_timeout(until.saturating_duration_since(Instant::now()));
        let line = line.map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("{name} did not say `listening on` within {READY_WAIT:?}"),
            RecvTimeoutError::Disconnected => format!("{name} ended before it said `listening on`"),
        })?;
        if let Some(address) = line.strip_prefix("listening on ") {
            return address.trim().parse().map_err(|_| format!("{name} listens on {address}?"));
        }
    }
}

fn knock(child: &mut Group, address: SocketAddr, name: &str) -> Result<SocketAddr, String> {
    let until = Instant::now() + READY_WAIT;
    loop {
        let answers = TcpStream::connect_timeout(&address, READY_WAIT).is_ok();
        // Checked after connecting: another process may own the port, and this server may have ended because of that.
        if let Some(status) = child.ended() {
            return Err(format!("{name} ended before it served ({status})"));
        }
        if answers {
            return Ok(address);
        }
        if Instant::now() > until {
            return Err(format!("{name} took no connection at {address} within {READY_WAIT:?}"));
        }
        thread::sleep(KNOCK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::allowed_cores;
    use super::*;

    fn cores() -> Vec<usize> {
        allowed_cores().expect("affinity")
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_server_that_ends_early_is_reported_with_its_output() {
        let Err(why) = Server::start(Command::new("true"), &cores()) else { panic!("it serves?") };
        assert!(why.contains("ended before"), "{why}");
        let Err(why) = Server::start(shell("echo no such file >&2"), &cores()) else { panic!("it serves?") };
        assert!(why.ends_with(": no such file"), "{why}");
    }

    #[test]
    fn server_dies_with_its_guard() {
        let script = "echo listening on 127.0.0.1:9; exec sleep 60";
        let server = Server::start(shell(script), &cores()[..1]).expect("it says so");
        assert_eq!(server.address.port(), 9);
        let pid = server.pid();
        drop(server);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_silent_server_is_ready_when_its_own_port_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let ready = Ready::Connect(listener.local_addr().expect("its address"));
        let mut server = Server::launch(shell("exec sleep 60"), &cores(), ready).expect("the port answers");
        assert_eq!(server.death(), None);
        server.stop();
        let mut command = shell("exit 3");
        command.env("X", "1");
        // The first check may still see it alive; then the next check reports its end.
        match Server::launch(command, &cores(), ready) {
            Err(why) => assert!(why.contains("ended before it served"), "{why}"),
            Ok(mut server) => while server.death().is_none() {},
        }
    }
}
