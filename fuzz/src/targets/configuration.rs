//! The configuration: a file, the environment and flags, and the change of a running server to it.

use std::sync::{Mutex, OnceLock};

use coreloop::config::{Config, Layers, Resolved};
use coreloop::server::{Reloader, Server};
use serde::{Deserialize, Serialize};

/// A section of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Orders {
    db: String,
    pool: u16,
    ratio: f64,
    tags: Vec<String>,
    inner: Inner,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Inner {
    on: bool,
    key: String,
}

impl Default for Orders {
    fn default() -> Orders {
        let (db, tags) = ("orders.sqlite".to_owned(), vec!["a".to_owned()]);
        Orders { db, pool: 4, ratio: 0.5, tags, inner: Inner::default() }
    }
}

/// Parts of the input are separated by a line with this alone: the file, the environment, flags.
const SEPARATOR: &str = "\n%%\n";

fn resolve(base: Layers, text: &str) -> Option<Resolved> {
    let mut parts = text.split(SEPARATOR);
    let file = parts.next().unwrap_or_default();
    let pairs = |part: Option<&str>| -> Vec<(String, String)> {
        let lines = part.unwrap_or_default().lines();
        lines
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let mut layers = base.text("a.toml", file).ok()?.env(pairs(parts.next())).ok()?;
    for (key, value) in pairs(parts.next()) {
        layers = layers.flag(&key, &value).ok()?.set(&format!("{key}={value}")).ok()?;
    }
    layers.resolve().ok()
}

fn program() -> Layers {
    Layers::of_program("SHOP")
        .section::<Orders>("orders")
        .and_then(|layers| layers.secret("orders.inner.key"))
        .unwrap()
}

/// Returns the text of a file with the same values.
fn printed(resolved: &Resolved) -> String {
    let mut text = String::new();
    resolved.print(&mut text).unwrap();
    text
}

/// A server that changes its configuration to whatever is valid.
fn reloader() -> &'static Reloader {
    static RELOADER: OnceLock<(Mutex<Server>, Reloader)> = OnceLock::new();
    let (_, reloader) = RELOADER.get_or_init(|| {
        let mut config = Config::default();
        config.listen = vec!["memory:fuzz".to_owned()];
        (config.cores, config.workers) = (1, 2);
        let server = Server::builder().config(config).start().unwrap();
        let reloader = server.reloader();
        (Mutex::new(server), reloader)
    });
    reloader
}

/// Reads a configuration for a bare server, and one for a program with a section. What is accepted can be printed, and has the
/// same values when it is read again. A running server takes all of it, or none.
pub fn configuration(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(resolved) = resolve(program(), text) {
        let orders: Orders = resolved.section("orders").unwrap();
        let again = resolve(program(), &printed(&resolved)).expect("what is printed is valid");
        assert_eq!(again.config, resolved.config);
        let mut expected = orders;
        // It is not printed.
        expected.inner.key = Inner::default().key;
        let found: Orders = again.section("orders").unwrap();
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    }
    let Some(resolved) = resolve(Layers::new(), text) else { return };
    let again = resolve(Layers::new(), &printed(&resolved)).expect("what is printed is valid");
    assert_eq!(again.config, resolved.config);
    let valid = resolved.validate(4);
    assert_eq!(valid.is_ok(), again.validate(4).is_ok());

    let before = reloader().config();
    let reload = |config: Config| {
        let before = reloader().config();
        match reloader().reload(config.clone()) {
            Ok(reloaded) => {
                assert_eq!(reloader().config(), config);
                assert_eq!(reloaded.changed.is_empty(), before == config, "{:?}", reloaded.changed);
            }
            Err(_) => assert_eq!(reloader().config(), before, "a part of a change was made"),
        }
    };
    // As it is: most often it has other values of keys that cannot change.
    reload(resolved.config.clone());
    // Only what can change.
    let mut config = before.clone();
    config.limits = resolved.config.limits.clone();
    config.trace = resolved.config.trace.clone();
    reload(config);
    reloader().reload(before).expect("it was in force before");
}
