//! Sections of a program's own beside the keys of the server: plain serde structs, whose fields are the keys.
//!
//! The keys and what they accept are found by describing the type, as for the types of methods. A value is checked alone,
//! on top of the type's defaults, when its layer is added; the types of the values are those of TOML.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::ConfigError;
use super::value::ValueFault;
use crate::codec::describe::{DescribeError, Description, Shape};

/// One section: its name, its keys, and its type's defaults.
#[derive(Clone)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) keys: Vec<SectionKey>,
    pub(super) defaults: Table,
    /// Whether the type can be read from this table; if not, why.
    check: fn(Table) -> Result<(), String>,
}

/// One key of a section.
#[derive(Clone, Debug)]
pub(super) struct SectionKey {
    /// The dotted name, with the section in front.
    pub(super) name: String,
    shape: Shape,
    /// The value is not printed.
    pub(super) is_secret: bool,
}

impl Section {
    /// Describes the section; an error is one line of text.
    pub(super) fn of<T: Serialize + DeserializeOwned + Default>(name: &str) -> Result<Section, String> {
        let described = Description::of::<T>().unwrap_or_else(DescribeError::into_description);
        let Shape::Struct { fields, .. } = described.shape() else {
            return Err(format!("the type is no struct but {}", described.readable()));
        };
        let defaults = Table::try_from(T::default()).map_err(|error| one_line(&error))?;
        let mut keys = Vec::new();
        for field in fields {
            add_keys(&format!("{name}.{}", field.name), &field.shape, &mut keys);
        }
        let check = |table: Table| table.try_into::<T>().map(|_| ()).map_err(|error| one_line(&error));
        let section = Section { name: name.to_owned(), keys, defaults, check };
        (section.check)(section.defaults.clone())
            .map_err(|error| format!("its defaults cannot be read back: {error}"))?;
        Ok(section)
    }

    /// Parses the text of an environment variable or a flag.
    pub(super) fn value_of_text(&self, key: &SectionKey, text: &str) -> Result<Value, ValueFault> {
        let came = || ValueFault::Invalid(key.shown(format!("\"{}\"", text.escape_debug())));
        let value = value_of_text(&key.shape, text).ok_or_else(came)?;
        self.admit(key, value)
    }

    /// Returns the value if the section's type accepts it for this key.
    pub(super) fn admit(&self, key: &SectionKey, value: Value) -> Result<Value, ValueFault> {
        let mut table = self.defaults.clone();
        self.put(&mut table, key, value.clone());
        match (self.check)(table) {
            Ok(()) => Ok(value),
            Err(_) if key.is_secret => Err(ValueFault::Invalid(key.shown(String::new()))),
            Err(error) => Err(ValueFault::Invalid(format!("{value} ({error})"))),
        }
    }

    /// Checks all values of the section together.
    pub(super) fn accepts(&self, table: Table) -> Result<(), ConfigError> {
        let name = self.name.clone();
        (self.check)(table).map_err(|message| ConfigError::Section { name, message })
    }

    /// Sets a key in a table of the section's values.
    pub(super) fn put(&self, table: &mut Table, key: &SectionKey, value: Value) {
        let path: Vec<&str> = key.name[self.name.len() + 1..].split('.').collect();
        let (last, outer) = path.split_last().expect("a key has a name");
        let mut table = table;
        for part in outer {
            let inner = table.entry(*part).or_insert_with(|| Value::Table(Table::new()));
            if !inner.is_table() {
                *inner = Value::Table(Table::new());
            }
            table = inner.as_table_mut().expect("made one above");
        }
        table.insert((*last).to_owned(), value);
    }

    /// Returns the value of a key in a table of the section's values.
    pub(super) fn get<'a>(&self, table: &'a Table, key: &SectionKey) -> Option<&'a Value> {
        let mut path = key.name[self.name.len() + 1..].split('.');
        let first = table.get(path.next()?)?;
        path.try_fold(first, |value, part| value.get(part))
    }
}

impl SectionKey {
    /// Returns what the key accepts, for an error's "expected …".
    pub(super) fn expected(&self) -> String {
        expected(&self.shape)
    }

    /// Returns the text of a value that was found, or, for a secret, only that there is one.
    pub(super) fn shown(&self, text: String) -> String {
        if self.is_secret { "a value that is not shown".to_owned() } else { text }
    }
}

/// Fields of structs within the section are keys of their own; everything else is a value.
fn add_keys(name: &str, shape: &Shape, keys: &mut Vec<SectionKey>) {
    match shape {
        Shape::Struct { fields, .. } if !fields.is_empty() => {
            fields.iter().for_each(|field| add_keys(&format!("{name}.{}", field.name), &field.shape, keys));
        }
        _ => keys.push(SectionKey { name: name.to_owned(), shape: shape.clone(), is_secret: false }),
    }
}

fn value_of_text(shape: &Shape, text: &str) -> Option<Value> {
    let trimmed = text.trim();
    match shape {
        Shape::Bool => trimmed.parse().ok().map(Value::Boolean),
        Shape::Int { .. } if !trimmed.starts_with('+') => trimmed.parse().ok().map(Value::Integer),
        Shape::Float { .. } => trimmed.parse().ok().map(Value::Float),
        Shape::String | Shape::Char | Shape::Enum { .. } => Some(Value::String(text.to_owned())),
        Shape::Option(inner) => value_of_text(inner, text),
        Shape::Sequence(_) if trimmed.is_empty() => Some(Value::Array(Vec::new())),
        Shape::Sequence(inner) => trimmed
            .split(',')
            .map(|part| value_of_text(inner, part.trim()))
            .collect::<Option<_>>()
            .map(Value::Array),
        // Maps, lists of structs and the like have no text of their own: they are written as TOML.
        _ => {
            let table = format!("value = {trimmed}").parse::<Table>().ok();
            let value = table.and_then(|mut table| table.remove("value"));
            Some(value.unwrap_or_else(|| Value::String(text.to_owned())))
        }
    }
}

fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Bool => "true or false".to_owned(),
        Shape::Int { bits, signed: false } if *bits < 64 => {
            format!("an integer from 0 to {}", u64::MAX >> (64 - bits))
        }
        Shape::Int { bits, signed: true } if *bits < 64 => {
            let max = i64::MAX >> (64 - bits);
            format!("an integer from {} to {max}", -max - 1)
        }
        Shape::Int { .. } => "an integer".to_owned(),
        Shape::Float { .. } => "a number".to_owned(),
        Shape::String => "text".to_owned(),
        Shape::Char => "one character".to_owned(),
        Shape::Option(inner) => expected(inner),
        Shape::Sequence(inner) => {
            format!(
                "a list, each of its values {}, between commas in the environment and in flags",
                expected(inner)
            )
        }
        Shape::Enum { variants, .. } if variants.iter().all(|variant| variant.content.is_none()) => {
            let names: Vec<String> = variants.iter().map(|variant| format!("\"{}\"", variant.name)).collect();
            names.join(" or ")
        }
        other => Description::new(other.clone()).readable(),
    }
}

fn one_line(error: &dyn fmt::Display) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.next().unwrap_or("it is not accepted").to_owned()
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section").field("name", &self.name).field("keys", &self.keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::config::{ConfigError, Layers, Resolved};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        Fast,
        Safe,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Pool {
        size: u16,
        timeout_s: f64,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Orders {
        db: String,
        password: Option<String>,
        mode: Mode,
        pool: Pool,
        shards: Vec<u32>,
        tags: BTreeMap<String, i64>,
        debug: bool,
    }

    impl Default for Orders {
        fn default() -> Orders {
            Orders {
                db: "orders.sqlite".into(),
                password: None,
                mode: Mode::Safe,
                pool: Pool { size: 4, timeout_s: 1.5 },
                shards: vec![1],
                tags: BTreeMap::new(),
                debug: false,
            }
        }
    }

    fn layers() -> Layers {
        Layers::of_program("shop").section::<Orders>("orders").unwrap().secret("orders.password").unwrap()
    }

    fn var(name: &str, text: &str) -> [(String, String); 1] {
        [(name.to_owned(), text.to_owned())]
    }

    fn printed(resolved: &Resolved) -> String {
        let mut text = String::new();
        resolved.print(&mut text).unwrap();
        text
    }

    fn refusal(result: Result<Layers, ConfigError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn without_layers_a_section_has_its_defaults() {
        let resolved = layers().resolve().unwrap();
        assert_eq!(resolved.section::<Orders>("orders").unwrap(), Orders::default());
        assert_eq!(resolved.config, crate::config::Config::default());
    }

    #[test]
    fn each_layer_sets_keys_of_every_type() {
        let file = "[server]\nworkers = 3\n[server.limits]\nidle_ms = 9\n[orders]\ndb = \"a\"\nmode = \"fast\"\n\
                    shards = [1, 2]\ntags = { x = 1, y = 2 }\n[orders.pool]\nsize = 8\n";
        let resolved = layers()
            .text("shop.toml", file)
            .and_then(|layers| layers.env(var("SHOP_ORDERS_POOL_TIMEOUT_S", "0.25")))
            .and_then(|layers| layers.env(var("SHOP_ORDERS_SHARDS", "7, 8,9")))
            .and_then(|layers| layers.env(var("SHOP_SERVER_CORES", "2")))
            .and_then(|layers| layers.flag("orders.debug", "true"))
            .and_then(|layers| layers.set("orders.password=hunter2"))
            .and_then(|layers| layers.set("orders.tags={ z = 3 }"))
            .and_then(Layers::resolve)
            .unwrap();
        let orders: Orders = resolved.section("orders").unwrap();
        assert_eq!(
            orders,
            Orders {
                db: "a".into(),
                password: Some("hunter2".into()),
                mode: Mode::Fast,
                pool: Pool { size: 8, timeout_s: 0.25 },
                shards: vec![7, 8, 9],
                tags: [("z".to_owned(), 3)].into(),
                debug: true,
            }
        );
        let config = &resolved.config;
        assert_eq!((config.workers, config.cores, config.limits.idle_ms), (3, 2, 9));
        for (key, origin) in [
            ("server.workers", "file shop.toml:2"),
            ("server.cores", "env SHOP_SERVER_CORES"),
            ("orders.pool.size", "file shop.toml:11"),
            ("orders.shards", "env SHOP_ORDERS_SHARDS"),
            ("orders.debug", "flag --orders-debug"),
            ("server.batch_max", "default"),
        ] {
            assert_eq!(resolved.origins.of(key).unwrap().to_string(), origin, "{key}");
        }
    }

    #[test]
    fn what_is_printed_is_a_file_of_the_same_values_without_secrets() {
        let resolved = layers().set("orders.password=hunter2").unwrap().set("orders.pool.size=5").unwrap();
        let text = printed(&resolved.resolve().unwrap());
        assert!(text.contains("\norders.pool.size = 5  # flag --set\n"), "{text}");
        assert!(text.contains("\nserver.limits.idle_ms = "), "{text}");
        assert!(
            text.contains("\n# orders.password: a secret, flag --set\n") && !text.contains("hunter2"),
            "{text}"
        );
        let again = layers().text("printed", &text).unwrap().resolve().unwrap();
        assert_eq!(again.section::<Orders>("orders").unwrap().pool.size, 5);
        let unset = printed(&layers().resolve().unwrap());
        assert!(unset.contains("\n# orders.password: not set\n"), "{unset}");
    }

    #[test]
    fn wrong_values_and_names_are_refused_where_they_are_written() {
        for (text, error) in [
            (
                "[orders]\npool.size = 70000",
                "`orders.pool.size` in a.toml line 2: expected an integer from 0 to 65535; got 70000 (",
            ),
            ("[orders]\ndb = 5", "`orders.db` in a.toml line 2: expected text; got 5 ("),
            (
                "[orders]\nmode = 'slow'",
                "`orders.mode` in a.toml line 2: expected \"fast\" or \"safe\"; got \"slow\" (",
            ),
            (
                "[orders]\npassword = 5",
                "`orders.password` in a.toml line 2: expected text; got a value that is not shown",
            ),
            (
                "[orders]\npol.size = 5",
                "unknown key `orders.pol.size` in a.toml line 2; did you mean `orders.pool.size`?",
            ),
            (
                "[orders.pool]\nsise = 5",
                "unknown key `orders.pool.sise` in a.toml line 2; did you mean `orders.pool.size`?",
            ),
            ("cores = 2", "unknown key `cores` in a.toml line 1; did you mean `server.cores`?"),
            (
                "[server]\ncores = 5000",
                "`server.cores` in a.toml line 2: expected an integer from 0 to 1024; got 5000",
            ),
            ("orders = 5", "`orders` in a.toml line 1: expected a table: [orders]; got 5"),
        ] {
            let refused = refusal(layers().text("a.toml", text));
            assert!(refused.starts_with(error), "{refused}\n{error}");
        }
        assert_eq!(
            refusal(layers().env(var("SHOP_ORDERS_DEBUG", "yes"))),
            "`orders.debug` in environment variable SHOP_ORDERS_DEBUG: expected true or false; got \"yes\""
        );
        assert_eq!(
            refusal(layers().flag("orders.shards", "1,x")),
            "`orders.shards` in flag --orders-shards: expected a list, each of its values an integer from 0 to \
             4294967295, between commas in the environment and in flags; got \"1,x\""
        );
        let resolved = layers().env(var("SHOP_ORDER_DB", "x")).unwrap().resolve().unwrap();
        assert_eq!(
            resolved.warnings[0].to_string(),
            "unknown environment variable `SHOP_ORDER_DB` is ignored; did you mean `SHOP_ORDERS_DB`?"
        );
        let conflict =
            layers().set("server.limits.write_queue_low_bytes=1GiB").unwrap().resolve().unwrap_err();
        assert!(
            conflict.to_string().starts_with("`server.limits.write_queue_low_bytes` in flag --set: "),
            "{conflict}"
        );
    }

    #[test]
    fn sections_that_cannot_be_are_refused() {
        for (result, message) in [
            (layers().section::<Orders>("orders"), "section `orders`: the name is taken"),
            (layers().section::<Orders>("server"), "section `server`: the name is taken"),
            (Layers::new().section::<Orders>("limits"), "section `limits`: the name is taken"),
            (
                layers().section::<Orders>("a.b"),
                "section `a.b`: a name has letters, digits, `_` and `-` only",
            ),
            (layers().section::<u32>("n"), "section `n`: the type is no struct but u32"),
            (
                layers().secret("orders.pasword"),
                "unknown key `orders.pasword` in the program's config; did you mean `orders.password`?",
            ),
        ] {
            assert_eq!(refusal(result), message);
        }
        let resolved = layers().resolve().unwrap();
        assert_eq!(
            resolved.section::<Orders>("order").unwrap_err().to_string(),
            "section `order`: no section of this name was added"
        );
    }
}
