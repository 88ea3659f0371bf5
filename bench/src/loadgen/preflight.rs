//! Requests the server's methods before any load: a server that lacks the method is not flooded with calls that can
//! only fail. A server that does not answer the request, or is not coreloop, is tolerated.

use std::time::{Duration, Instant};

use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::codec::gob::dynamic::{decode_json, encode_json};
use coreloop::service::MethodInfo;
use serde_json::Value;

use super::headers::Entry;
use super::speech::AddressProtocol;
use super::streams::Shape;
use super::target::Target;

/// Timeout of the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Maximum number of names that an error suggests.
const SUGGESTIONS_MAX: usize = 3;

/// Checks that the server has these methods, and that none of them has streams. A missing one is an error of one line
/// that names the most similar ones.
pub fn check_methods<'a>(
    speaks: AddressProtocol,
    target: &Target,
    entries: &[Entry],
    wanted: impl IntoIterator<Item = &'a str>,
) -> Result<(), String> {
    match methods_of(speaks, target, entries) {
        Some(known) => {
            let wanted: Vec<&str> = wanted.into_iter().collect();
            missing(speaks, target, &known, wanted.iter().copied())?;
            let streaming = known
                .iter()
                .find(|info| wanted.contains(&info.name.as_str()) && Shape::of(&info.signature).is_some());
            streaming.map_or(Ok(()), |info| {
                Err(format!("{} has streams ({}): call it with --streams N", info.name, info.signature))
            })
        }
        None => Ok(()),
    }
}

/// Returns which sides of a method stream; `None` if the server does not list its methods. A method that is missing or
/// has no stream is an error of one line.
pub fn shape_of(target: &Target, entries: &[Entry], method: &str) -> Result<Option<Shape>, String> {
    let speaks = AddressProtocol::Native;
    let Some(known) = methods_of(speaks, target, entries) else { return Ok(None) };
    missing(speaks, target, &known, [method])?;
    let signature = known.iter().find(|info| info.name == method).map_or("", |info| &info.signature);
    let shape = Shape::of(signature);
    shape.map(Some).ok_or_else(|| format!("{method} has no streams ({signature}): leave --streams out"))
}

/// Returns the names of the server's methods, if it reports them in time.
fn methods_of(speaks: AddressProtocol, target: &Target, entries: &[Entry]) -> Option<Vec<MethodInfo>> {
    let until = Instant::now() + PATIENCE;
    let mut builder = Client::builder(format!("{}:{target}", target.scheme(speaks)));
    if let Some(secured) = &target.tls {
        builder = builder.tls(|tls| *tls = secured.settings.clone());
    }
    let patience_ms = PATIENCE.as_millis() as u64;
    let builder = builder.configure(|config| config.connect_timeout_ms = patience_ms);
    let mut client = builder.connect().ok()?.with_deadline(until);
    for (name, value) in entries {
        client = client.with_metadata(name, value.as_bytes()).ok()?;
    }
    let codec = if speaks.codec() == Some("gob") { Codec::Gob } else { Codec::Json };
    let mut argument = b"\"\"".to_vec();
    if codec == Codec::Gob {
        argument.clear();
        encode_json(&Value::from(""), &mut argument).ok()?;
    }
    let mut call = client.start_bytes("Meta.Methods", codec, &argument);
    let reply = call.wait_timeout(until.saturating_duration_since(Instant::now()));
    drop(call);
    client.close(PATIENCE);
    methods_in(codec, &reply?.ok()?)
}

fn methods_in(codec: Codec, reply: &[u8]) -> Option<Vec<MethodInfo>> {
    let methods: Vec<MethodInfo> = match codec {
        Codec::Gob => serde_json::from_value(decode_json(reply).ok()?).ok()?,
        _ => serde_json::from_slice(reply).ok()?,
    };
    // A list without `Meta.Methods` itself does not come from a coreloop server.
    methods.iter().any(|method| method.name == "Meta.Methods").then_some(methods)
}

fn missing<'a>(
    speaks: AddressProtocol,
    target: &Target,
    known: &[MethodInfo],
    wanted: impl IntoIterator<Item = &'a str>,
) -> Result<(), String> {
    let Some(method) = wanted.into_iter().find(|method| !known.iter().any(|info| info.name == *method))
    else {
        return Ok(());
    };
    Err(format!(
        "the server at {target} has no method {method}; nearest: {} (all of them: coreloop list {}:{target})",
        nearest(method, known).join(", "),
        target.scheme(speaks)
    ))
}

/// Returns the most similar names.
fn nearest<'a>(wanted: &str, known: &'a [MethodInfo]) -> Vec<&'a str> {
    let lower = wanted.to_lowercase();
    let (_, wanted_last) = lower.rsplit_once('.').unwrap_or(("", &lower));
    let mut ranked: Vec<(usize, &str)> = known
        .iter()
        .map(|info| {
            let name = &info.name;
            let lower_name = name.to_lowercase();
            let (_, last) = lower_name.rsplit_once('.').unwrap_or(("", &lower_name));
            // A method of the same name in another service also counts as similar.
            let whole = distance(&lower, &lower_name);
            let mut rank = whole.min(1 + distance(wanted_last, last));
            // So does a name that begins with the requested one.
            if lower_name.starts_with(&lower) {
                rank = rank.min(1);
            }
            (rank, name.as_str())
        })
        .collect();
    ranked.sort();
    ranked.into_iter().take(SUGGESTIONS_MAX).map(|(_, name)| name).collect()
}

/// Returns the number of insertions, deletions and replacements between two names.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other_letter) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other_letter);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loadgen::target::Place;

    fn known() -> Vec<MethodInfo> {
        let names = ["Arith.Add", "Arith.AddFixed", "Arith.Multiply", "Echo.Echo", "Meta.Methods"];
        names.map(|name| MethodInfo { name: name.into(), ..MethodInfo::default() }).into()
    }

    #[test]
    fn distances_are_levenshtein_distances() {
        for (one, other, want) in [("", "abc", 3), ("kitten", "sitting", 3), ("a", "a", 0), ("é", "e", 1)] {
            assert_eq!((distance(one, other), distance(other, one)), (want, want), "{one} {other}");
        }
    }

    #[test]
    fn a_missing_method_is_named_with_similar_ones() {
        let target = Target { place: Place::Unix("/run/x".into()), tls: None };
        assert_eq!(missing(AddressProtocol::Native, &target, &known(), ["Arith.Add", "Echo.Echo"]), Ok(()));
        let why = missing(AddressProtocol::Http, &target, &known(), ["Arith.Add", "Arith.Multply"])
            .expect_err("misspelt");
        assert!(why.contains("no method Arith.Multply; nearest: Arith.Multiply,"), "{why}");
        assert!(why.ends_with("coreloop list http:unix:/run/x)"), "{why}");
        assert_eq!(nearest("Arith.Mul", &known())[0], "Arith.Multiply");
        assert_eq!(nearest("arith.add", &known())[0], "Arith.Add");
        assert_eq!(nearest("Shop.Echo", &known())[0], "Echo.Echo");
    }

    #[test]
    fn an_unrelated_list_is_ignored() {
        for reply in ["", "null", "[]", "{}", "[{\"Name\":\"A.B\"}]", "[1]"] {
            assert_eq!(
                methods_in(Codec::Json, reply.as_bytes()).map(|methods| methods.len()),
                None,
                "{reply}"
            );
        }
        let methods = methods_in(Codec::Json, b"[{\"Name\":\"A.B\"},{\"Name\":\"Meta.Methods\"}]");
        let names: Vec<String> = methods.into_iter().flatten().map(|method| method.name).collect();
        assert_eq!(names, ["A.B", "Meta.Methods"]);
    }
}
