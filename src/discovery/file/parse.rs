//! The contents of an endpoints file: a line for each instance, or an array in JSON.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::discovery::Instance;
use crate::transport::Address;
use crate::wire::Scheme;

/// The most instances of a file.
pub(super) const INSTANCES_MAX: usize = 16_384;

/// A file that is not valid: where, and why.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct FileFault {
    /// From 1; 0 if it is not known.
    pub(super) line: usize,
    pub(super) why: String,
}

crate::error_text::debug_as_text!(FileFault);

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.why),
            line => write!(f, "line {line}: {}", self.why),
        }
    }
}

impl std::error::Error for FileFault {}

/// Parses lines `ADDRESS KEY=VALUE …`. What follows a `#` at the beginning of a word is a comment.
pub(super) fn lines(text: &str) -> Result<Vec<Instance>, FileFault> {
    let mut set = InstanceSet::default();
    for (index, line) in text.lines().enumerate() {
        let fault = |why: String| FileFault { line: index + 1, why };
        let mut words = line.split_ascii_whitespace().take_while(|word| !word.starts_with('#'));
        let Some(address) = words.next() else { continue };
        let mut instance = Instance::new(address);
        let mut seen = BTreeSet::new();
        for word in words {
            let (key, value) = word
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| fault(format!("expected KEY=VALUE after the address; found {word:?}")))?;
            if !seen.insert(key) {
                return Err(fault(format!("{key} is there twice")));
            }
            match key {
                "weight" => {
                    let weight = value.parse().map_err(|_| {
                        fault(format!("weight: expected a number from 0 to {}; found {value:?}", u32::MAX))
                    })?;
                    instance = instance.weight(weight);
                }
                "zone" => instance = instance.zone(value),
                "id" => instance = instance.id(value),
                _ => instance = instance.label(key, value),
            }
        }
        set.add(instance).map_err(fault)?;
    }
    Ok(set.instances)
}

/// Parses an array of addresses and objects.
pub(super) fn json(text: &str) -> Result<Vec<Instance>, FileFault> {
    let parsed: Vec<Value> = serde_json::from_str(text)
        .map_err(|error| FileFault { line: error.line(), why: format!("not an array in JSON: {error}") })?;
    let mut set = InstanceSet::default();
    for (index, value) in parsed.into_iter().enumerate() {
        let fault = |why: String| FileFault { line: 0, why: format!("element {index}: {why}") };
        let instance = instance_of(value).ok_or_else(|| {
            let form = r#"expected "ADDRESS" or {"address", "id", "weight", "zone", "metadata"}"#;
            fault(form.to_owned())
        })?;
        set.add(instance).map_err(fault)?;
    }
    Ok(set.instances)
}

/// Returns the instance that an element describes: its address, or an object with that and other members.
fn instance_of(value: Value) -> Option<Instance> {
    let mut object = match value {
        Value::String(address) => return Some(Instance::new(address)),
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => return None,
    };
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        _ => None,
    };
    let mut instance = Instance::new(text(object.remove("address")?)?);
    for (key, value) in object {
        match key.as_str() {
            "id" => instance.id = text(value)?,
            "weight" => instance.weight = u32::try_from(value.as_u64()?).ok()?,
            "zone" => instance.zone = Some(text(value)?),
            "metadata" => {
                let Value::Object(labels) = value else { return None };
                for (key, label) in labels {
                    instance.metadata.insert(key, text(label)?);
                }
            }
            _ => return None,
        }
    }
    Some(instance)
}

/// The instances so far, each id once.
#[derive(Default)]
struct InstanceSet {
    instances: Vec<Instance>,
    ids: BTreeSet<String>,
}

impl InstanceSet {
    fn add(&mut self, instance: Instance) -> Result<(), String> {
        let (_, _, address) = Scheme::split_tls(&instance.address);
        address.parse::<Address>().map_err(|error| error.to_string())?;
        if self.instances.len() >= INSTANCES_MAX {
            return Err(format!("expected at most {INSTANCES_MAX} instances"));
        }
        if !self.ids.insert(instance.id.clone()) {
            return Err(format!("{} is there twice", instance.id));
        }
        self.instances.push(instance);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_an_instance() {
        let found = lines(
            "# the shop\n10.0.0.1:6550\n\n  10.0.0.2:6550\tweight=3 zone=a rack=r1 # moved\r\n\
             http:10.0.0.3:80 id=three weight=0\nunix:/run/shop.sock #last",
        )
        .unwrap();
        let expected = [
            Instance::new("10.0.0.1:6550"),
            Instance::new("10.0.0.2:6550").weight(3).zone("a").label("rack", "r1"),
            Instance::new("http:10.0.0.3:80").id("three").weight(0),
            Instance::new("unix:/run/shop.sock"),
        ];
        assert_eq!(found, expected);
        assert_eq!(lines("").unwrap(), []);
    }

    #[test]
    fn json_has_the_same_instances() {
        let text = r#"["10.0.0.1:6550",
            {"address": "10.0.0.2:6550", "weight": 3, "zone": "a", "metadata": {"rack": "r1"}},
            {"address": "http:10.0.0.3:80", "id": "three", "weight": 0}]"#;
        let same = "10.0.0.1:6550\n10.0.0.2:6550 weight=3 zone=a rack=r1\nhttp:10.0.0.3:80 id=three weight=0";
        assert_eq!(json(text).unwrap(), lines(same).unwrap());
    }

    #[test]
    fn faults_name_the_line() {
        for (text, expected) in [
            ("a:1\nb", "line 2: expected an address host:port, unix:PATH or memory:NAME; found \"b\""),
            ("a:1 weight=x", "line 1: weight: expected a number from 0 to 4294967295; found \"x\""),
            ("a:1 weight", "line 1: expected KEY=VALUE after the address; found \"weight\""),
            ("a:1 =x", "line 1: expected KEY=VALUE after the address; found \"=x\""),
            ("a:1 zone=a zone=b", "line 1: zone is there twice"),
            ("a:1\n\na:1 weight=2", "line 3: a:1 is there twice"),
        ] {
            assert_eq!(lines(text).unwrap_err().to_string(), expected);
        }
        for (text, expected) in [
            ("[\"a:1\",\n", "line 2: not an array in JSON: "),
            ("{}", "line 1: not an array in JSON: "),
            ("[1]", "element 0: expected \"ADDRESS\" or {"),
            (r#"[{"weight": 1}]"#, "element 0: expected \"ADDRESS\" or {"),
            (r#"[{"address": "a:1", "weight": 4294967296}]"#, "element 0: expected \"ADDRESS\" or {"),
            (r#"[{"address": "a:1", "metadata": {"a": 1}}]"#, "element 0: expected \"ADDRESS\" or {"),
            (r#"["a:1", {"address": "b:1", "wait": 1}]"#, "element 1: expected \"ADDRESS\" or {"),
            (r#"["a:1", "a:1"]"#, "element 1: a:1 is there twice"),
            (r#"["a"]"#, "element 0: expected an address"),
        ] {
            let found = json(text).unwrap_err().to_string();
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn the_instances_are_bounded() {
        let text: String = (0..=INSTANCES_MAX).map(|i| format!("10.0.0.1:{}\n10.0.1.1:{}\n", i, i)).collect();
        let fault = lines(&text).unwrap_err();
        assert_eq!(fault.line, INSTANCES_MAX + 1);
    }
}
