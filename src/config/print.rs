//! `--print-config`: prints a config as TOML, each line with the origin of its value.
//!
//! The output is a valid config file with the same values. Nothing here changes a config.

use std::fmt;

use super::keys::KEYS;
use super::schema::KnownKey;
use super::{Origin, Profile, Resolved};

impl Resolved {
    /// Writes every key as a line of TOML, with its origin as a comment.
    ///
    /// A 0 that has a meaning is printed as 0 and explained, so that the output can be used on another machine. To
    /// print the resolved values of this machine, replace `config` by the result of [`Self::validate`].
    ///
    /// ```
    /// use coreloop::config::Layers;
    ///
    /// let resolved = Layers::new().flag("cores", "2")?.resolve()?;
    /// let mut text = String::new();
    /// resolved.print(&mut text).unwrap();
    /// assert!(text.contains("\ncores = 2  # flag --cores\n"));
    /// assert!(text.contains("\nlimits.frame_bytes_max = \"16 MiB\"  # default\n"));
    /// # Ok::<(), coreloop::config::ConfigError>(())
    /// ```
    pub fn print(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let schema = &self.origins.schema;
        for known in schema.all() {
            let name = schema.name(known);
            let origin = self.origins.of(&name).unwrap_or(&Origin::Default);
            let origin = match (origin, known, self.config.profile) {
                (Origin::Default, KnownKey::Server(_), profile) if profile != Profile::default() => {
                    format!("profile {}", profile.name())
                }
                _ => one_line(&origin.to_string()),
            };
            match known {
                KnownKey::Server(at) => {
                    let value = KEYS[at].toml(&self.config);
                    write!(out, "{name} = {value}  # {origin}")?;
                    match KEYS[at].zero() {
                        Some(zero) if value == "0" => writeln!(out, "; 0: {zero}")?,
                        Some(_) | None => writeln!(out)?,
                    }
                }
                KnownKey::Section(section, at) => {
                    let (section, table) = (&schema.sections[section], &self.sections[section]);
                    match section.get(table, &section.keys[at]) {
                        Some(_) if section.keys[at].is_secret => {
                            writeln!(out, "# {name}: a secret, {origin}")?
                        }
                        Some(value) => writeln!(out, "{name} = {value}  # {origin}")?,
                        None => writeln!(out, "# {name}: not set")?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// A file name may contain a line break, which would end the comment and begin a setting.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::value::{ConfigValue, ValueKind};
    use crate::config::{Config, ConfigKey, Layers};

    const DOCS: &str = include_str!("../../docs/configuration.md");

    fn printed(resolved: &Resolved) -> String {
        let mut text = String::new();
        resolved.print(&mut text).unwrap();
        text
    }

    #[test]
    fn every_origin_is_printed_beside_its_value() {
        let resolved = Layers::new()
            .text("coreloop.toml", "\n\nbatch_max = 8")
            .and_then(|layers| layers.env([("CORELOOP_WORKERS".to_owned(), "0".to_owned())]))
            .and_then(|layers| layers.flag("cores", "2")?.set("listen=unix:/a\"b"))
            .and_then(Layers::resolve)
            .unwrap();
        let text = printed(&resolved);
        for line in [
            "listen = [\"unix:/a\\\"b\"]  # flag --set",
            "cores = 2  # flag --cores",
            "workers = 0  # env CORELOOP_WORKERS; 0: as many as reactors, at least 2",
            "batch_max = 8  # file coreloop.toml:3",
            "pin = false  # default",
            "accept = \"auto\"  # default",
        ] {
            assert!(text.lines().any(|printed| printed == line), "{line}\nis not in\n{text}");
        }
        assert_eq!(text.lines().count(), KEYS.len());
    }

    #[test]
    fn a_line_break_in_a_file_name_stays_in_the_comment() {
        let resolved = Layers::new().text("a\ncores = 9", "pin = true").unwrap().merge();
        let again = Layers::new().text("b", &printed(&resolved)).unwrap().merge();
        assert_eq!(again.config, resolved.config);
    }

    #[test]
    fn the_resolved_config_can_be_printed() {
        let mut resolved = Layers::new().resolve().unwrap();
        resolved.config = resolved.validate(4).unwrap().into_config();
        assert!(printed(&resolved).contains("\ncores = 4  # default\nworkers = 4  # default\n"));
    }

    #[test]
    fn the_example_in_the_docs_is_valid() {
        let example = DOCS.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let resolved = Layers::new().text("coreloop.toml", example).unwrap().resolve().unwrap();
        assert_ne!(resolved.config, Config::default());
        resolved.validate(4).unwrap();
    }

    fn unique_methods(set: std::collections::BTreeSet<String>) -> ConfigValue {
        let mut list: Vec<String> = set.into_iter().collect();
        list.dedup_by_key(|text| text.split('=').next().map(str::to_owned));
        ConfigValue::List(list)
    }

    fn value_for(key: &'static ConfigKey) -> BoxedStrategy<ConfigValue> {
        match key.kind {
            ValueKind::Origins => prop::collection::btree_set("https?://[a-z]{1,9}(:[5-9][0-9]{3})?", 0..4)
                .prop_map(|set| ConfigValue::List(set.into_iter().collect()))
                .boxed(),
            ValueKind::PermissionRules => {
                prop::collection::vec("[A-Z][a-z*]{1,9}\\.[A-Z*]=(role:)?[a-z:/*]{1,9}( anyone)?", 0..4)
                    .prop_map(ConfigValue::List)
                    .boxed()
            }
            ValueKind::Files => {
                prop::collection::vec("/[a-z.]{1,9}", 0..3).prop_map(ConfigValue::List).boxed()
            }
            ValueKind::MethodLimits => {
                prop::collection::btree_set("[A-Z][a-z]{1,9}\\.[A-Z][a-z]{1,9}=[1-9][0-9]{0,3}", 0..4)
                    .prop_map(unique_methods)
                    .boxed()
            }
            ValueKind::Networks => {
                prop::collection::btree_set("10\\.[1-9]{1,2}\\.0\\.0/16|::[1-9a-f]{1,4}|unix", 0..4)
                    .prop_map(|set| ConfigValue::List(set.into_iter().collect()))
                    .boxed()
            }
            ValueKind::Addresses | ValueKind::ChosenAddresses => {
                let address = prop_oneof![
                    "(native|jsonrpc|http):[a-z]{1,9}:[1-9][0-9]{0,3}",
                    "[a-z]{1,9}:[1-9][0-9]{0,3}",
                    "unix:/[ -~é]{1,20}",
                    "\\[::[0-9a-f]{1,4}\\]:0"
                ];
                prop::collection::btree_set(address, 1..4)
                    .prop_map(|set| ConfigValue::List(set.into_iter().collect()))
                    .boxed()
            }
            ValueKind::Switch => any::<bool>().prop_map(ConfigValue::Switch).boxed(),
            ValueKind::Choice(names) => {
                prop::sample::select(names).prop_map(|name| ConfigValue::Text(name.to_owned())).boxed()
            }
            ValueKind::SocketFileMode => "0[0-7]{3}".prop_map(ConfigValue::Text).boxed(),
            ValueKind::Account => "[a-z_.é\"0-9]{0,9}".prop_map(ConfigValue::Text).boxed(),
            ValueKind::Line(_) => "[ -~é\"\\\\]{0,20}".prop_map(ConfigValue::Text).boxed(),
            ValueKind::Number(min, max) => (min..=max).prop_map(ConfigValue::Number).boxed(),
            // Include round sizes, which print with a unit.
            ValueKind::Bytes(min, max) => (min..=max, 0u32..31)
                .prop_map(move |(bytes, shift)| ConfigValue::Number((bytes >> shift << shift).max(min)))
                .boxed(),
        }
    }

    proptest! {
        #[test]
        fn a_printed_config_parses_to_the_same_config(
            values in KEYS.iter().map(value_for).collect::<Vec<_>>()
        ) {
            let mut resolved = Layers::new().merge();
            for (key, value) in KEYS.iter().zip(values) {
                (key.write)(&mut resolved.config, key.kind.admit(value).unwrap());
            }
            let again = Layers::new().text("a.toml", &printed(&resolved)).unwrap().merge();
            prop_assert_eq!(&again.config, &resolved.config);
        }

        #[test]
        fn any_text_is_a_config_or_an_error(text in "\\PC{0,60}") {
            let _ = Layers::new().text("a.toml", &text);
            for key in KEYS {
                let _ = key.set(&mut Config::default(), &text, Origin::Program);
            }
        }
    }
}
