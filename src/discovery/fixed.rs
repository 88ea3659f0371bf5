//! `static:ADDRESS,ADDRESS,…`: instances that the URL itself lists.

use super::{DiscoveryError, DiscoveryHandle, Instance, Resolver, Target, TargetError, Updates, Watch};

/// The most addresses of one URL.
const ADDRESSES_MAX: usize = 65_536;

/// The resolver of `static:`. An address may be followed by its settings: `10.0.0.7:6550;weight=2;zone=a`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StaticResolver;

impl StaticResolver {
    /// Returns the instances that a URL lists.
    ///
    /// # Errors
    ///
    /// There is none, there are too many, or a setting is not valid.
    pub(crate) fn instances(target: &Target) -> Result<Vec<Instance>, TargetError> {
        let error = |expected: String| TargetError { url: target.to_string(), expected };
        let mut instances: Vec<Instance> = Vec::new();
        for text in target.path().split(',').map(str::trim) {
            let mut parts = text.split(';');
            let address = parts.next().unwrap_or_default();
            if address.is_empty() {
                return Err(error("addresses separated by commas".to_owned()));
            }
            let mut instance = Instance::new(address);
            for setting in parts {
                instance = with_setting(instance, setting).map_err(&error)?;
            }
            if instances.len() == ADDRESSES_MAX {
                return Err(error(format!("at most {ADDRESSES_MAX} addresses")));
            }
            instances.push(instance);
        }
        Ok(instances)
    }
}

fn with_setting(instance: Instance, setting: &str) -> Result<Instance, String> {
    match setting.split_once('=') {
        Some(("weight", weight)) => match weight.parse() {
            Ok(weight) => Ok(instance.weight(weight)),
            Err(_) => Err(format!("weight=NUMBER; found {setting:?}")),
        },
        Some(("zone", zone)) => Ok(instance.zone(zone)),
        Some((key, value)) => Ok(instance.label(key, value)),
        None => Err(format!("settings as KEY=VALUE; found {setting:?}")),
    }
}

impl Resolver for StaticResolver {
    fn scheme(&self) -> &str {
        "static"
    }

    fn watch(
        &self,
        target: &Target,
        updates: Updates,
        _on: &DiscoveryHandle,
    ) -> Result<Watch, DiscoveryError> {
        updates.set(StaticResolver::instances(target)?);
        Ok(Watch::new(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(url: &str) -> Result<Vec<Instance>, String> {
        StaticResolver::instances(&Target::parse(url).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_have_weights_zones_and_labels() {
        let found = instances("static:a:1;weight=2;zone=x;rack=r1, http:b:2,unix:/run/c.sock").unwrap();
        let first = Instance::new("a:1").weight(2).zone("x").label("rack", "r1");
        assert_eq!(found, [first, Instance::new("http:b:2"), Instance::new("unix:/run/c.sock")]);
    }

    #[test]
    fn a_list_that_is_not_valid_is_refused_with_its_reason() {
        for (url, expected) in [
            ("static:", "addresses separated by commas"),
            ("static:a:1,,b:2", "addresses separated by commas"),
            ("static:a:1;weight=-1", "weight=NUMBER; found \"weight=-1\""),
            ("static:a:1;zone", "settings as KEY=VALUE; found \"zone\""),
        ] {
            let error = instances(url).unwrap_err();
            assert!(error.contains(expected) && error.contains(url), "{error}");
        }
    }
}
