//! The values of etcd's JSON gateway: numbers are texts, keys and values are base64, and a watch is one JSON value per
//! line.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::policy::fleet::Instance;

/// The most bytes of one line of a watch: as much as the largest answer.
pub(super) const LINE_BYTES_MAX: usize = 8 << 20;
/// The most instances that are taken.
pub(super) const INSTANCES_MAX: usize = 10_000;

/// Returns bytes as etcd takes them.
pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Returns the end of the range of keys that begin with the prefix: the next text of the same length. The prefix ends in
/// a slash, so there is one.
pub(super) fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// Returns a number, which etcd writes as a text. A field that is 0 is missing.
pub(super) fn number(value: &Value, key: &str) -> Option<i64> {
    match value.get(key) {
        None => Some(0),
        Some(Value::String(text)) => text.parse().ok(),
        Some(Value::Number(number)) => number.as_i64(),
        Some(_) => None,
    }
}

/// Returns bytes. A field that is empty is missing.
fn bytes(value: &Value, key: &str) -> Option<Vec<u8>> {
    match value.get(key) {
        None => Some(Vec::new()),
        Some(Value::String(text)) => STANDARD.decode(text).ok(),
        Some(_) => None,
    }
}

/// Returns the value that registers an instance.
pub(super) fn instance_value(instance: &Instance) -> Vec<u8> {
    let mut value = json!({ "address": instance.address, "weight": instance.weight });
    if let Some(zone) = &instance.zone {
        value["zone"] = json!(zone);
    }
    if !instance.metadata.is_empty() {
        value["metadata"] = json!(instance.metadata);
    }
    value.to_string().into_bytes()
}

/// Reads the value of a key. The last part of the key is the id of the instance.
fn instance(key: &str, prefix: &str, value: &[u8]) -> Option<Instance> {
    let value: Value = serde_json::from_slice(value).ok()?;
    let address = value.get("address")?.as_str().filter(|address| !address.is_empty())?;
    let mut instance = Instance::new(address).id(key.strip_prefix(prefix).unwrap_or(key));
    if let Some(weight) = value.get("weight") {
        instance.weight = u32::try_from(weight.as_u64()?).unwrap_or(u32::MAX);
    }
    instance.zone = value.get("zone").and_then(Value::as_str).map(str::to_owned);
    for (key, value) in value.get("metadata").and_then(Value::as_object).into_iter().flatten() {
        if let Some(value) = value.as_str() {
            instance.metadata.insert(key.clone(), value.to_owned());
        }
    }
    Some(instance)
}

/// A key of the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EtcdKey {
    pub(super) key: String,
    /// `None` if the key was deleted, or if its value is no instance.
    pub(super) instance: Option<Instance>,
}

fn key_of(value: &Value, prefix: &str, is_deleted: bool) -> Option<EtcdKey> {
    let key = String::from_utf8(bytes(value, "key")?).ok()?;
    let instance = if is_deleted { None } else { instance(&key, prefix, &bytes(value, "value")?) };
    Some(EtcdKey { key, instance })
}

/// The answer to a range request: the revision, and the keys.
pub(super) fn range(body: &[u8], prefix: &str) -> Result<(i64, Vec<EtcdKey>), String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("expected JSON; {error}"))?;
    let revision = value.get("header").and_then(|header| number(header, "revision"));
    let revision = revision.filter(|revision| *revision > 0).ok_or("expected header.revision")?;
    let no_keys = Vec::new();
    let keys = match value.get("kvs") {
        None => &no_keys,
        Some(keys) => keys.as_array().ok_or("expected an array kvs")?,
    };
    if keys.len() > INSTANCES_MAX {
        return Err(format!("expected at most {INSTANCES_MAX} keys; found {}", keys.len()));
    }
    Ok((revision, keys.iter().filter_map(|key| key_of(key, prefix, false)).collect()))
}

/// A line of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WatchLine {
    /// The watch was created, or etcd reports progress.
    Nothing,
    /// Changes, the oldest first.
    Changes(Vec<EtcdKey>),
    /// The watch has ended: the reason. The history before this revision may have been compacted.
    Ended(String),
}

/// Reads a line of a watch.
pub(super) fn watch_line(line: &[u8], prefix: &str) -> Result<WatchLine, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("expected JSON; {error}"))?;
    if let Some(error) = value.get("error") {
        let message =
            error.get("message").and_then(Value::as_str).map_or_else(|| error.to_string(), str::to_owned);
        return Ok(WatchLine::Ended(message));
    }
    let result = value.get("result").ok_or("expected a result or an error")?;
    if result.get("canceled").and_then(Value::as_bool) == Some(true) {
        let compacted = number(result, "compact_revision").unwrap_or(0);
        let reason = result.get("cancel_reason").and_then(Value::as_str);
        return Ok(WatchLine::Ended(match (reason, compacted) {
            (Some(reason), _) if !reason.is_empty() => reason.to_owned(),
            (_, 0) => "the watch was cancelled".to_owned(),
            (_, revision) => format!("the history before revision {revision} was compacted"),
        }));
    }
    let Some(events) = result.get("events") else { return Ok(WatchLine::Nothing) };
    let events = events.as_array().ok_or("expected an array events")?;
    let change = |event: &Value| {
        let is_deleted = event.get("type").and_then(Value::as_str) == Some("DELETE");
        key_of(event.get("kv")?, prefix, is_deleted)
    };
    Ok(WatchLine::Changes(events.iter().filter_map(change).collect()))
}

/// Returns the id of the lease in the answer to a grant.
pub(super) fn granted_lease(body: &[u8]) -> Result<i64, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("expected JSON; {error}"))?;
    number(&value, "ID").filter(|id| *id != 0).ok_or_else(|| "expected the ID of a lease".to_owned())
}

/// Returns the seconds that a lease has left, in the answer to a keep-alive; 0: it has expired.
pub(super) fn lease_seconds(body: &[u8]) -> Result<i64, String> {
    // The first line: a stream of one answer.
    let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("expected JSON; {error}"))?;
    let result = value.get("result").ok_or("expected a result")?;
    number(result, "TTL").ok_or_else(|| "expected the TTL of a lease".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kv(key: &str, value: &str) -> String {
        format!(
            r#"{{"key":"{}","value":"{}","mod_revision":"5"}}"#,
            encode(key.as_bytes()),
            encode(value.as_bytes())
        )
    }

    fn range_body() -> String {
        format!(
            r#"{{"header":{{"revision":"7"}},"kvs":[{},{},{}],"count":"3"}}"#,
            kv("s/a", r#"{"address":"10.0.0.1:1","weight":2,"zone":"a","metadata":{"version":"2","n":3}}"#),
            kv("s/b", "not JSON"),
            kv("s/c/d", r#"{"address":"http:10.0.0.1:2"}"#),
        )
    }

    #[test]
    fn a_range_has_a_revision_and_keys() {
        let (revision, keys) = range(range_body().as_bytes(), "s/").unwrap();
        assert_eq!(revision, 7);
        let found: Vec<_> = keys.iter().map(|key| (key.key.as_str(), key.instance.clone())).collect();
        let first = Instance::new("10.0.0.1:1").id("a").weight(2).zone("a").label("version", "2");
        let third = Instance::new("http:10.0.0.1:2").id("c/d");
        assert_eq!(found, [("s/a", Some(first)), ("s/b", None), ("s/c/d", Some(third))]);
        assert_eq!(range(br#"{"header":{"revision":"1"}}"#, "s/"), Ok((1, Vec::new())));
        for body in
            ["", "[]", "{}", r#"{"header":{"revision":"0"}}"#, r#"{"header":{"revision":"1"},"kvs":1}"#]
        {
            assert!(range(body.as_bytes(), "s/").is_err(), "{body}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let whole = Instance::new("127.0.0.1:1").id("x").zone("b").weight(0).label("k", "v");
        assert_eq!(instance("s/x", "s/", &instance_value(&whole)), Some(whole));
        let plain = Instance::new("127.0.0.1:1");
        assert_eq!(instance("s/127.0.0.1:1", "s/", &instance_value(&plain)), Some(plain));
    }

    #[test]
    fn a_line_is_a_change_or_an_end() {
        let of = |line: &str| watch_line(line.as_bytes(), "s/");
        assert_eq!(of(r#"{"result":{"header":{"revision":"5"},"created":true}}"#), Ok(WatchLine::Nothing));
        let line = format!(
            r#"{{"result":{{"events":[{{"kv":{}}},{{"type":"DELETE","kv":{{"key":"{}"}}}}]}}}}"#,
            kv("s/a", r#"{"address":"h:1"}"#),
            encode(b"s/b")
        );
        let added = EtcdKey { key: "s/a".to_owned(), instance: Some(Instance::new("h:1").id("a")) };
        let removed = EtcdKey { key: "s/b".to_owned(), instance: None };
        assert_eq!(of(&line), Ok(WatchLine::Changes(vec![added, removed])));
        let compacted = of(r#"{"result":{"canceled":true,"compact_revision":"9"}}"#);
        assert_eq!(compacted, Ok(WatchLine::Ended("the history before revision 9 was compacted".to_owned())));
        let error = of(r#"{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}"#);
        assert_eq!(error, Ok(WatchLine::Ended("etcdserver: no leader".to_owned())));
        for line in ["", "{}", "[]", r#"{"result":{"events":1}}"#] {
            assert!(of(line).is_err(), "{line}");
        }
    }

    #[test]
    fn leases_have_ids_and_seconds() {
        assert_eq!(granted_lease(br#"{"ID":"7587848390","TTL":"10"}"#), Ok(7_587_848_390));
        assert!(granted_lease(br#"{"TTL":"10"}"#).is_err());
        assert_eq!(lease_seconds(b"{\"result\":{\"ID\":\"1\",\"TTL\":\"10\"}}\n"), Ok(10));
        assert_eq!(lease_seconds(b"{\"result\":{\"ID\":\"1\"}}\n"), Ok(0));
        assert!(lease_seconds(b"").is_err());
    }

    #[test]
    fn the_range_ends_after_the_prefix() {
        assert_eq!(range_end("a/"), b"a0");
        assert_eq!(encode(b"a/"), "YS8=");
    }

    proptest! {
        #[test]
        fn any_damage_is_an_error_or_a_result(at in 0..200_usize, byte in any::<u8>(), end in 0..300_usize) {
            let mut body = range_body().into_bytes();
            let (at, end) = (at.min(body.len() - 1), end.min(body.len()));
            body[at] = byte;
            let _ = range(&body, "s/");
            let _ = range(&body[..end], "s/");
            let _ = watch_line(&body, "s/");
            let _ = (granted_lease(&body), lease_seconds(&body));
        }
    }
}
