//! Reads the instances in an answer of Consul's health endpoint.

use std::net::Ipv6Addr;

use serde_json::Value;

use crate::policy::fleet::Instance;

/// The most instances that are taken from one answer. More than that is more than one client can use.
pub(super) const INSTANCES_MAX: usize = 10_000;
/// Keys of a service's metadata with a meaning of their own.
pub(super) const SCHEME: &str = "scheme";
pub(super) const ZONE: &str = "zone";
pub(super) const WEIGHT: &str = "weight";

/// Returns the instances in the body of an answer. An entry without an address is left out.
///
/// # Errors
///
/// The text says what was expected.
pub(super) fn instances(body: &[u8]) -> Result<Vec<Instance>, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("expected JSON; {error}"))?;
    let Value::Array(entries) = value else { return Err("expected a JSON array of services".to_owned()) };
    if entries.len() > INSTANCES_MAX {
        return Err(format!("expected at most {INSTANCES_MAX} instances; found {}", entries.len()));
    }
    Ok(entries.iter().filter_map(instance).collect())
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// Returns the instance of one entry.
fn instance(entry: &Value) -> Option<Instance> {
    let (node, service) = (entry.get("Node")?, entry.get("Service")?);
    let host = text(service, "Address").or_else(|| text(node, "Address"))?;
    let port =
        service.get("Port")?.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)?;
    let meta = |key: &str| service.get("Meta").and_then(|meta| text(meta, key));
    let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() };
    let scheme = meta(SCHEME).map(|scheme| format!("{scheme}:")).unwrap_or_default();
    let mut instance = Instance::new(format!("{scheme}{host}:{port}"));
    // The id of a service is unique on its node only.
    let id = text(service, "ID").unwrap_or(&instance.address);
    instance.id = text(node, "Node").map_or_else(|| id.to_owned(), |node| format!("{node}/{id}"));
    instance.zone =
        meta(ZONE).or_else(|| node.get("Meta").and_then(|meta| text(meta, ZONE))).map(str::to_owned);
    let passing = || service.get("Weights")?.get("Passing")?.as_u64();
    let weight = meta(WEIGHT).and_then(|weight| weight.parse().ok()).or_else(passing).unwrap_or(1);
    instance.weight = u32::try_from(weight).unwrap_or(u32::MAX);
    for (key, value) in service.get("Meta").and_then(Value::as_object).into_iter().flatten() {
        if let Some(value) = value.as_str()
            && ![SCHEME, ZONE, WEIGHT].contains(&key.as_str())
        {
            instance.metadata.insert(key.clone(), value.to_owned());
        }
    }
    Some(instance)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &str = r#"[
        {"Node": {"Node": "n1", "Address": "10.0.0.1", "Meta": {"zone": "b"}},
         "Service": {"ID": "orders-1", "Service": "orders", "Address": "", "Port": 6550, "Weights": {"Passing": 3, "Warning": 1},
                     "Meta": {"version": "2"}}, "Checks": []},
        {"Node": {"Node": "n2", "Address": "10.0.0.2"},
         "Service": {"ID": "orders-1", "Address": "fd00::7", "Port": 80, "Meta": {"scheme": "http", "zone": "a", "weight": "0"}}},
        {"Node": {"Node": "n3"}, "Service": {"ID": "no-address", "Port": 1}},
        {"Node": {"Node": "n4", "Address": "10.0.0.4"}, "Service": {"ID": "no-port", "Port": 0}}
    ]"#;

    #[test]
    fn an_answer_has_addresses_zones_and_weights() {
        let found = instances(ANSWER.as_bytes()).unwrap();
        let expected = [
            Instance::new("10.0.0.1:6550").id("n1/orders-1").zone("b").weight(3).label("version", "2"),
            Instance::new("http:[fd00::7]:80").id("n2/orders-1").zone("a").weight(0),
        ];
        assert_eq!(found, expected);
        assert_eq!(instances(b"[]").unwrap(), []);
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for body in ["", "{}", "null", "[", "[1"] {
            assert!(instances(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(instances(b"[1, null, {}]").unwrap(), []);
    }

    proptest! {
        #[test]
        fn any_damage_is_an_error_or_a_list(at in 0..ANSWER.len(), byte in any::<u8>(), end in 0..ANSWER.len()) {
            let mut body = ANSWER.as_bytes().to_vec();
            body[at] = byte;
            let _ = instances(&body);
            let _ = instances(&body[..end]);
        }
    }
}
