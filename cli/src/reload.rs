//! `coreloop serve`: reading the configuration again, on SIGHUP or when a file changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, thread};

use coreloop::config::{Config, Layers, WatchedFiles};
use coreloop::server::Reloader;

use crate::args::ServeArgs;
use crate::serve::{layers, say_warnings, set_defaults};

/// The time between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a reload needs.
pub struct Reload {
    args: ServeArgs,
    reloader: Reloader,
    /// The configuration with which the server was started. Sockets of systemd have replaced its addresses since then.
    given: Config,
}

impl Reload {
    pub fn new(args: &ServeArgs, reloader: Reloader, given: Config) -> Reload {
        Reload { args: args.clone(), reloader, given }
    }

    /// Reads the configuration again. The reloader emits an event with what has changed, or why nothing has.
    pub fn run(&self) {
        let current = self.reloader.config();
        let _ = self.reloader.reload_with(|| {
            let mut resolved = layers(&self.args).and_then(Layers::resolve)?;
            say_warnings(&resolved.warnings);
            set_defaults(&mut resolved);
            let mut config = resolved.config;
            if config.listen == self.given.listen {
                config.listen = current.listen;
            }
            if config.admin.listen == self.given.admin.listen {
                config.admin.listen = current.admin.listen;
            }
            Ok(config)
        });
    }

    /// Looks at the files on a thread of its own, until the guard is dropped.
    pub fn watch(self: &Arc<Reload>) -> io::Result<Watch> {
        let config = self.reloader.config();
        let tls = config.tls;
        let named = [config.auth.tokens_file, tls.client_ca, tls.client_crl];
        let named = named.into_iter().chain(tls.certificate).chain(tls.key).filter(|path| !path.is_empty());
        let named = named.map(std::path::PathBuf::from);
        let mut files = WatchedFiles::new(self.args.config.clone().into_iter().chain(named));
        let is_over = Arc::new(AtomicBool::new(false));
        let (reload, over) = (self.clone(), is_over.clone());
        let thread = thread::Builder::new().name("coreloop-reload".into()).spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if files.have_changed() {
                    reload.run();
                }
                thread::park_timeout(LOOK_EVERY);
            }
        })?;
        Ok(Watch { is_over, thread: Some(thread) })
    }
}

/// Ends the look at the files when it is dropped.
pub struct Watch {
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
