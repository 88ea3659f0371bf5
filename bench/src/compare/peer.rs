//! A peer as its `peer.toml` describes it (the contract is in bench/peers/README.md), independent of how it runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fmt, fs};

use serde::Deserialize;

use super::overload::Called;
use crate::loadgen::speech::AddressProtocol;

/// The file in a peer's folder.
pub const FILE: &str = "peer.toml";

/// The contents of a `peer.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// The name in tables.
    pub title: String,
    /// The protocol. native, http, jsonrpc, gob: the load generator can be the client; own: the peer has its own
    /// client.
    pub protocol: Spoken,
    /// What it lacks or does differently.
    #[serde(default)]
    pub differs: String,
    /// The programming language. Default: derived from the build command.
    pub language: Option<String>,
    /// The programs that it requires.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// The build command; empty: there is nothing to build.
    #[serde(default)]
    pub build: Vec<String>,
    /// The command that starts the server.
    pub server: Vec<String>,
    /// The command that prints the version in its first line.
    pub version: Vec<String>,
    /// The command of its own client.
    pub client: Option<Vec<String>>,
    /// The kinds of call that it answers.
    pub calls: Vec<Kind>,
    /// Whether several calls can be in flight on one connection.
    pub pipelines: bool,
    /// Environment variables of all its programs.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How the server signals that it is ready.
    #[serde(default)]
    pub ready: ReadyBy,
    /// How the load generator calls it in the section overload, beside `Users.List` in its protocol.
    #[serde(default)]
    pub overload: Vec<Called>,
}

/// The protocol of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spoken {
    /// coreloop's own frames.
    Native,
    /// HTTP/1.1 with JSON.
    Http,
    /// Go's net/rpc/jsonrpc.
    JsonRpc,
    /// Go's net/rpc.
    Gob,
    /// A protocol that only the peer's own client implements.
    Own,
}

impl Spoken {
    /// Returns the load generator's protocol, if it has this one.
    pub fn speaks(self) -> Option<AddressProtocol> {
        match self {
            Spoken::Native => Some(AddressProtocol::Native),
            Spoken::Http => Some(AddressProtocol::Http),
            Spoken::JsonRpc => Some(AddressProtocol::JsonRpc),
            Spoken::Gob => Some(AddressProtocol::Gob),
            Spoken::Own => None,
        }
    }

    /// Returns the name as in `peer.toml`.
    pub fn name(self) -> &'static str {
        self.speaks().map_or("own", AddressProtocol::name)
    }
}

/// A program that must be installed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// Its name, or its path from the peer's folder.
    pub program: String,
    /// The command that installs it, or where to find instructions.
    pub install: String,
}

/// How a server signals that it is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadyBy {
    /// It prints `listening on ADDR`.
    #[default]
    Line,
    /// Its port accepts a connection.
    Connect,
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Two integers in, their sum out.
    Add,
    /// Sends 1 KiB and receives it back.
    #[serde(rename = "echo-1k")]
    Echo1k,
    /// Returns a hundred users.
    #[serde(rename = "users-100")]
    Users100,
    /// Sends 256 KiB and receives it back.
    #[serde(rename = "echo-256k")]
    Echo256k,
    /// Replies after 20 ms.
    Sleep,
    /// A reference's own smallest call, measured in place of `add`.
    Ping,
    /// Fixed bytes, measured in place of `add`.
    Static,
}

impl Kind {
    /// Returns the name, as in `peer.toml` and in the arguments of a peer's client.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Add => "add",
            Kind::Echo1k => "echo-1k",
            Kind::Users100 => "users-100",
            Kind::Echo256k => "echo-256k",
            Kind::Sleep => "sleep",
            Kind::Ping => "ping",
            Kind::Static => "static",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Contract {
    /// Parses and checks the text of a `peer.toml`.
    pub fn parse(text: &str) -> Result<Contract, String> {
        let contract: Contract = toml::from_str(text).map_err(|error| error.to_string())?;
        contract.check().map(|()| contract)
    }

    /// Reads and checks the `peer.toml` of a folder.
    pub fn read(folder: &Path) -> Result<Contract, String> {
        let file = folder.join(FILE);
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        Contract::parse(&text).map_err(|why| format!("{}: {why}", file.display()))
    }

    fn check(&self) -> Result<(), String> {
        if self.title.trim().is_empty() {
            return Err("it has no title".into());
        }
        for (name, command) in [("server", Some(&self.server)), ("version", Some(&self.version))]
            .into_iter()
            .chain([("client", self.client.as_ref())])
        {
            if command.is_some_and(Vec::is_empty) {
                return Err(format!("the command `{name}` is empty"));
            }
        }
        if self.protocol == Spoken::Own && self.client.is_none() {
            return Err("with a protocol of its own it must bring a client".into());
        }
        if self.client.as_ref().is_some_and(|client| !names(client, "{address}")) {
            return Err("the client is not told the {address}".into());
        }
        if self.ready == ReadyBy::Connect && !names(&self.server, "{address}") {
            return Err("a server that does not print its port must take the {address} as an argument".into());
        }
        if !self.calls.iter().any(|kind| matches!(kind, Kind::Add | Kind::Ping | Kind::Static)) {
            return Err("it answers none of add, ping and static, with which every table begins".into());
        }
        Ok(())
    }

    /// Returns the programming language.
    pub fn language(&self) -> String {
        if let Some(language) = &self.language {
            return language.clone();
        }
        let program = self.build.first().map(String::as_str);
        match program {
            Some("cargo") => "Rust",
            Some("go") => "Go",
            Some("python" | "python3") => "Python",
            _ => "C",
        }
        .into()
    }

    /// Returns whether it is a bound and not a competitor: it answers a call of its own, or is a floor.
    pub fn is_reference(&self) -> bool {
        !self.calls.contains(&Kind::Add) || self.title.to_lowercase().contains("floor")
    }
}

fn names(command: &[String], placeholder: &str) -> bool {
    command.iter().any(|word| word.contains(placeholder))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#"
        title = "least 1.0"
        protocol = "http"
        server = ["./least", "{address}"]
        version = ["./least", "--version"]
        calls = ["add", "echo-1k", "users-100", "echo-256k", "sleep"]
        pipelines = false
    "#;

    #[test]
    fn least_peer_is_understood() {
        let peer = Contract::parse(LEAST).expect("as the contract has it");
        assert_eq!((peer.ready, peer.protocol), (ReadyBy::Line, Spoken::Http));
        assert_eq!(peer.calls.last(), Some(&Kind::Sleep));
        assert_eq!(peer.language(), "C");
        assert!(!peer.is_reference());
        for kind in peer.calls {
            assert!(LEAST.contains(kind.name()), "{kind}");
        }
    }

    #[test]
    fn a_broken_contract_is_an_error() {
        let changed = |from: &str, to: &str| {
            assert!(LEAST.contains(from), "{from}");
            Contract::parse(&LEAST.replace(from, to)).expect_err(to)
        };
        for (from, to, want) in [
            ("\"least 1.0\"", "\"\"", "no title"),
            ("\"http\"", "\"own\"", "must bring a client"),
            ("\"http\"", "\"grpc\"", "unknown variant"),
            ("[\"./least\", \"{address}\"]", "[]", "`server` is empty"),
            ("pipelines = false", "", "missing field `pipelines`"),
            ("pipelines = false", "pipelines = false\nport = 1", "unknown field `port`"),
            ("pipelines = false", "pipelines = false\nclient = [\"./client\"]", "not told the {address}"),
            ("\"add\", ", "", "none of add"),
            ("\"add\", ", "\"add\", \"subtract\", ", "unknown variant"),
            (", \"{address}\"]", "]\nready = \"connect\"", "must take the"),
        ] {
            let why = changed(from, to);
            assert!(why.contains(want), "{to}: {why}");
        }
    }
}
