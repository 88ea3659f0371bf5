//! The resource attributes: what program on what machine has made the data.

use std::hash::{BuildHasher, RandomState};

use super::environment::{ReadVariable, percent_decoded};
use crate::trace::AttributeValue;

/// Names and values.
pub(super) type Resource = Vec<(String, AttributeValue)>;

/// The most attributes and bytes of `OTEL_RESOURCE_ATTRIBUTES`.
const ATTRIBUTES_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 1024;

/// The variables of a container that Kubernetes' downward API is commonly asked to set, and the attributes that they become.
/// They are read where `KUBERNETES_SERVICE_HOST` is set, as in each container of Kubernetes.
const DOWNWARD: [(&str, &str); 6] = [
    ("POD_NAME", "k8s.pod.name"),
    ("POD_NAMESPACE", "k8s.namespace.name"),
    ("POD_UID", "k8s.pod.uid"),
    ("POD_IP", "k8s.pod.ip"),
    ("NODE_NAME", "k8s.node.name"),
    ("CONTAINER_NAME", "k8s.container.name"),
];

/// Returns the attributes, sorted. `service_name` is that of the configuration, or empty.
pub(super) fn resource(
    service_name: &str,
    variable: ReadVariable<'_>,
    warnings: &mut Vec<String>,
) -> Resource {
    let mut all = vec![
        // Two exporters of a program have series of the same names.
        ("service.instance.id".to_owned(), random_uuid()),
        ("telemetry.sdk.language".to_owned(), "rust".to_owned()),
        ("telemetry.sdk.name".to_owned(), "coreloop".to_owned()),
        ("telemetry.sdk.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let program = std::env::current_exe().ok();
    let program = program.as_ref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy());
    set(&mut all, "service.name", format!("unknown_service:{}", program.as_deref().unwrap_or("coreloop")));
    if variable("KUBERNETES_SERVICE_HOST").is_some() {
        for (name, key) in DOWNWARD {
            if let Some(value) = variable(name) {
                set(&mut all, key, value);
            }
        }
    }
    if let Some(text) = variable("OTEL_RESOURCE_ATTRIBUTES") {
        match parse(&text) {
            Some(pairs) => pairs.into_iter().for_each(|(key, value)| set(&mut all, &key, value)),
            // By the specification, all of it is discarded.
            None => warnings.push(format!(
                "OTEL_RESOURCE_ATTRIBUTES: expected at most {ATTRIBUTES_MAX} of KEY=VALUE, separated by commas, with \
                 other characters as %XX; ignored"
            )),
        }
    }
    if let Some(name) = variable("OTEL_SERVICE_NAME") {
        set(&mut all, "service.name", name);
    }
    if !service_name.is_empty() {
        set(&mut all, "service.name", service_name.to_owned());
    }
    for (_, value) in &mut all {
        if value.len() > VALUE_BYTES_MAX {
            *value = crate::error_text::shortened(value, VALUE_BYTES_MAX).into_owned();
        }
    }
    let mut all: Resource =
        all.into_iter().map(|(key, value)| (key, AttributeValue::Text(value.into()))).collect();
    all.push(("process.pid".to_owned(), AttributeValue::Int(std::process::id().into())));
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

/// Returns a random UUID (RFC 9562, version 4).
fn random_uuid() -> String {
    // The standard library has no other source of random numbers: each of these hashes has a random key.
    let bits = [0, 1].map(|half| RandomState::new().hash_one(half));
    let [high, low] = [bits[0] & !0xf000 | 0x4000, bits[1] & !(0b11 << 62) | 0b10 << 62];
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

fn set(all: &mut Vec<(String, String)>, key: &str, value: String) {
    match all.iter_mut().find(|(other, _)| other == key) {
        Some((_, old)) => *old = value,
        None => all.push((key.to_owned(), value)),
    }
}

fn parse(text: &str) -> Option<Vec<(String, String)>> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pairs: Option<Vec<_>> = pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let (key, value) = (percent_decoded(key.trim())?, percent_decoded(value.trim())?);
            (!key.is_empty() && key.len() <= VALUE_BYTES_MAX).then_some((key, value))
        })
        .collect();
    pairs.filter(|pairs| pairs.len() <= ATTRIBUTES_MAX)
}
