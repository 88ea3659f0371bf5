//! The servers that can be measured: coreloop in several configurations, and every peer's folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::overload::Called;
use super::peer::{self, Contract, Kind, Need, ReadyBy, Spoken};
use crate::loadgen::mix::{Body, Call};
use crate::loadgen::speech::AddressProtocol;

/// One server and its client.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The folder's name, or `coreloop-…`.
    pub name: String,
    /// The name in tables.
    pub title: String,
    /// The programming language.
    pub language: String,
    /// What it lacks or does differently.
    pub differs: String,
    /// The protocol.
    pub spoken: Spoken,
    /// The client that makes the calls.
    pub client: Client,
    /// The working directory of its commands.
    pub folder: PathBuf,
    /// Required programs, beyond those that build coreloop.
    pub needs: Vec<Need>,
    /// The build command.
    pub build: Vec<String>,
    /// The command that starts the server.
    pub server: Vec<String>,
    /// The command that prints the version.
    pub version: Vec<String>,
    /// Environment variables of all its programs.
    pub env: BTreeMap<String, String>,
    /// How the server signals that it is ready.
    pub ready: ReadyBy,
    /// The kinds of call that it answers.
    pub calls: Vec<Kind>,
    /// Whether several calls can be in flight on one connection.
    pub pipelines: bool,
    /// How `add` is called in native frames.
    pub adds: Adds,
    /// How the load generator calls it in the section overload, beside `Users.List` in its protocol.
    pub overload: Vec<Called>,
    /// Whether it is coreloop itself.
    pub is_coreloop: bool,
    /// Whether it is a bound and not a competitor.
    pub is_reference: bool,
}

/// The client that makes the calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// The load generator, in this process.
    Loadgen(AddressProtocol),
    /// The bare client, as a process.
    Drive,
    /// The peer's own client, run in that folder.
    Own {
        /// The command.
        command: Vec<String>,
        /// The peer's folder.
        folder: PathBuf,
    },
}

/// The method and codec of `add` in native frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adds {
    /// The method.
    pub method: &'static str,
    /// The codec.
    pub codec: &'static str,
}

const FIXED: Adds = Adds { method: "Arith.AddFixed", codec: "fixed" };
const SERDE: Adds = Adds { method: "Arith.Add", codec: "compact" };
const POOLED: Adds = Adds { method: "Arith.Multiply", codec: "compact" };

/// The kinds of call that are compared.
const EVERYTHING: [Kind; 5] = [Kind::Add, Kind::Echo1k, Kind::Users100, Kind::Echo256k, Kind::Sleep];

impl Subject {
    /// Creates the subject of a peer's folder.
    fn peer(folder: &Path, name: &str, contract: Contract) -> Subject {
        let own = |command: &Vec<String>| Client::Own { command: command.clone(), folder: folder.into() };
        let client = match (&contract.client, contract.protocol.speaks()) {
            (Some(command), _) => own(command),
            (None, Some(speaks)) => Client::Loadgen(speaks),
            (None, None) => Client::Drive,
        };
        let mut differs = contract.differs.clone();
        if let Some(kind) = contract.calls.iter().find(|kind| matches!(kind, Kind::Ping | Kind::Static)) {
            differs = format!("{differs} Its call is `{kind}`, where others add.").trim().into();
        }
        Subject {
            name: name.into(),
            language: contract.language(),
            is_reference: contract.is_reference(),
            title: contract.title,
            differs,
            spoken: contract.protocol,
            client,
            folder: folder.into(),
            needs: contract.needs,
            build: contract.build,
            server: contract.server,
            version: contract.version,
            env: contract.env,
            ready: contract.ready,
            calls: contract.calls,
            pipelines: contract.pipelines,
            adds: FIXED,
            overload: contract.overload,
            is_coreloop: false,
        }
    }

    /// Returns the kind that is measured as `add`.
    pub fn first_kind(&self) -> Kind {
        let first = self.calls.iter().find(|kind| matches!(kind, Kind::Add | Kind::Ping | Kind::Static));
        first.copied().unwrap_or(Kind::Add)
    }

    /// Returns whether it answers calls of this kind; a reference's own call counts as `add`.
    pub fn answers(&self, kind: Kind) -> bool {
        kind == Kind::Add || self.calls.contains(&kind)
    }

    /// Returns the load generator's call of that kind.
    pub fn call(&self, speaks: AddressProtocol, kind: Kind, weight: u32) -> Result<Call, String> {
        let is_native = speaks == AddressProtocol::Native;
        let (method, codec, body) = match kind {
            Kind::Add | Kind::Ping | Kind::Static if is_native => {
                (self.adds.method, Some(self.adds.codec), Body::Usual)
            }
            Kind::Add | Kind::Ping | Kind::Static => ("Arith.Add", None, Body::Usual),
            Kind::Echo1k => ("Echo.Bytes", None, bytes(speaks, 1 << 10)),
            Kind::Echo256k => ("Echo.Bytes", None, bytes(speaks, 256 << 10)),
            // 100 in the compact codec: zigzag, in groups of seven bits.
            Kind::Users100 if is_native => ("Users.List", Some("compact"), Body::Bytes(vec![0xc8, 0x01])),
            Kind::Users100 => ("Users.List", None, Body::Json("100".into())),
            Kind::Sleep => ("Echo.Sleep", None, Body::Json("20".into())),
        };
        Call::new(speaks, method, weight, codec, &body, 0)
    }
}

/// Returns a body of this many bytes: raw, or as base64 if the protocol carries JSON.
fn bytes(speaks: AddressProtocol, size: usize) -> Body {
    match speaks {
        AddressProtocol::Native | AddressProtocol::Gob | AddressProtocol::GobHttp | AddressProtocol::Grpc => {
            Body::Size(size)
        }
        AddressProtocol::JsonRpc | AddressProtocol::Http => {
            Body::Json(format!("\"{}\"", base64_of_zeros(size)))
        }
    }
}

fn base64_of_zeros(size: usize) -> String {
    let (letters, padding) = match size % 3 {
        0 => (0, ""),
        1 => (2, "=="),
        _ => (3, "="),
    };
    "A".repeat(size / 3 * 4 + letters) + padding
}

/// Returns coreloop in all its configurations; Go's clients come from the peers `go-netrpc` and `go-jsonrpc`, if
/// present.
pub fn coreloop(program: &Path, peers: &[Subject]) -> Vec<Subject> {
    let program = program.to_string_lossy().into_owned();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let serve = ["serve", "--listen", "{address}", "--cores", "{threads}", "--workers", "{threads}"];
    let native = Subject {
        name: "coreloop-inline".into(),
        title: "coreloop, inline, fixed layout".into(),
        language: "Rust".into(),
        differs: String::new(),
        spoken: Spoken::Native,
        client: Client::Loadgen(AddressProtocol::Native),
        folder: ".".into(),
        needs: Vec::new(),
        build: Vec::new(),
        server: [vec![program.clone()], words(&serve)].concat(),
        version: vec![program, "--version".into()],
        env: BTreeMap::new(),
        ready: ReadyBy::Line,
        calls: EVERYTHING.to_vec(),
        pipelines: true,
        adds: FIXED,
        overload: vec![Called { protocol: "grpc".into(), method: "Users.List".into() }],
        is_coreloop: true,
        is_reference: false,
    };
    let variant = |name: &str, title: &str, adds| Subject {
        name: name.into(),
        title: title.into(),
        adds,
        calls: vec![Kind::Add],
        overload: Vec::new(),
        ..native.clone()
    };
    let drive = |subject: Subject| Subject { client: Client::Drive, ..subject };
    let mut all = vec![
        native.clone(),
        variant("coreloop-serde", "coreloop, inline, serde", SERDE),
        Subject {
            calls: vec![Kind::Add, Kind::Sleep],
            ..variant("coreloop-pooled", "coreloop, pooled, serde", POOLED)
        },
        drive(variant("coreloop-inline-drive", "coreloop, inline, bare client", FIXED)),
        drive(variant("coreloop-pooled-drive", "coreloop, pooled, bare client", POOLED)),
        Subject {
            name: "coreloop-http".into(),
            title: "coreloop, HTTP + JSON".into(),
            overload: Vec::new(),
            spoken: Spoken::Http,
            client: Client::Loadgen(AddressProtocol::Http),
            ..native.clone()
        },
    ];
    for (name, title, spoken, whose) in [
        ("coreloop-gob-go", "coreloop, Go's net/rpc client", Spoken::Gob, "go-netrpc"),
        ("coreloop-jsonrpc-go", "coreloop, Go's jsonrpc client", Spoken::JsonRpc, "go-jsonrpc"),
    ] {
        let Some(peer) = peers.iter().find(|peer| peer.name == whose) else { continue };
        if let Client::Own { .. } = peer.client {
            all.push(Subject {
                name: name.into(),
                title: title.into(),
                spoken,
                client: peer.client.clone(),
                needs: peer.needs.clone(),
                build: peer.build.clone(),
                folder: peer.folder.clone(),
                env: peer.env.clone(),
                overload: Vec::new(),
                calls: peer.calls.iter().copied().filter(|kind| EVERYTHING.contains(kind)).collect(),
                ..native.clone()
            });
        }
    }
    all
}

/// A peer, or the name of a folder with an invalid `peer.toml` and the reason.
pub type Found = Result<Subject, (String, String)>;

/// Returns the peers of that folder, ordered by name.
pub fn peers(folder: &Path) -> Result<Vec<Found>, String> {
    let entries = fs::read_dir(folder).map_err(|error| {
        format!(
            "no peers in {} ({error}): run it in the repository, or name their folder with --peers",
            folder.display()
        )
    })?;
    let folder = fs::canonicalize(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| folder.join(name).join(peer::FILE).is_file())
        .collect();
    names.sort();
    if names.is_empty() {
        return Err(format!("no folder in {} has a {}", folder.display(), peer::FILE));
    }
    let found = names.into_iter().map(|name| {
        let home = folder.join(&name);
        match Contract::read(&home) {
            Ok(contract) => Ok(Subject::peer(&home, &name, contract)),
            Err(why) => Err((name, why)),
        }
    });
    Ok(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loadgen::mix::Content;

    #[test]
    fn coreloop_has_a_call_of_every_answered_kind() {
        for subject in coreloop(Path::new("coreloop"), &[]) {
            let Client::Loadgen(speaks) = subject.client else { continue };
            for kind in &subject.calls {
                let call = subject.call(speaks, *kind, 1).expect("it can be made");
                assert!(
                    matches!(call.content, Content::Frame(_)) == (speaks == AddressProtocol::Native),
                    "{kind}"
                );
            }
        }
    }

    #[test]
    fn base64_has_the_length_of_its_bytes() {
        assert_eq!([0, 1, 2, 3, 4].map(base64_of_zeros), ["", "AA==", "AAA=", "AAAA", "AAAAAA=="]);
        assert_eq!(base64_of_zeros(1024).len(), 1368);
    }

    #[test]
    fn every_peer_in_the_repository_fulfils_the_contract() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let listed = fs::read_dir(&folder).expect("the folder").filter_map(Result::ok);
        let homes = listed.map(|entry| entry.path()).filter(|path| path.join(peer::FILE).exists());
        for home in homes {
            let contract = Contract::read(&home).unwrap_or_else(|why| panic!("{why}"));
            assert!(!contract.differs.is_empty(), "{}: it differs in nothing?", home.display());
            assert!(contract.needs.iter().all(|need| !need.install.is_empty()), "{}", home.display());
        }
    }
}
