//! The layers of a configuration: defaults, then files, then the environment, then flags; the later layer wins.
//!
//! Every layer is checked when it is added, so a wrong value is an error even if a later layer overrides it.
//! `schema.rs` has the names of all keys, `section.rs` the sections of a program's own; `file.rs` converts the text of a
//! file into settings; `print.rs` prints a config with origins.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::keys::KEYS;
use super::schema::{KnownKey, Schema};
use super::section::Section;
use super::value::ConfigValue;
use super::{Config, ConfigError, ConfigWarning, Origin, ValidConfig, file, valid};

/// A builder that merges the layers of a config.
///
/// The order of calls does not matter between kinds of layer: a flag wins over the environment, and the environment
/// wins over a file. Within one kind the later call wins, except that flags for `listen` add up.
///
/// ```
/// use coreloop::config::Layers;
///
/// let env = [("CORELOOP_WORKERS".to_owned(), "3".to_owned())];
/// let resolved = Layers::new()
///     .text("coreloop.toml", "workers = 8\n[limits]\nframe_bytes_max = \"1 MiB\"\n")?
///     .env(env)?
///     .flag("cores", "2")?
///     .resolve()?;
/// let valid = resolved.validate(4)?;
/// assert_eq!((valid.cores, valid.workers, valid.limits.frame_bytes_max), (2, 3, 1 << 20));
/// assert_eq!(resolved.origins.of("workers").unwrap().to_string(), "env CORELOOP_WORKERS");
/// # Ok::<(), coreloop::config::ConfigError>(())
/// ```
///
/// # In a program of your own
///
/// [`Layers::of_program`] has the keys of the server in the section `[server]` and takes a prefix for the environment;
/// [`Layers::section`] adds sections of the program, each a serde struct with defaults. All layers, origins and errors
/// are the same for them:
///
/// ```
/// use coreloop::config::Layers;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Orders { db: String, pool: u16 }
///
/// impl Default for Orders {
///     fn default() -> Self { Orders { db: "orders.sqlite".into(), pool: 4 } }
/// }
///
/// let file = "[server]\ncores = 2\n[orders]\npool = 8\n";
/// let resolved = Layers::of_program("SHOP")
///     .section::<Orders>("orders")?
///     .text("shop.toml", file)?
///     .env([("SHOP_ORDERS_DB".to_owned(), "/var/lib/orders.sqlite".to_owned())])?
///     .set("server.workers=3")?
///     .resolve()?;
/// let orders: Orders = resolved.section("orders")?;
/// assert_eq!((orders.db.as_str(), orders.pool), ("/var/lib/orders.sqlite", 8));
/// assert_eq!((resolved.config.cores, resolved.config.workers), (2, 3));
/// # Ok::<(), coreloop::config::ConfigError>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct Layers {
    schema: Schema,
    file: Vec<Setting>,
    env: Vec<Setting>,
    flags: Vec<Setting>,
    warnings: Vec<ConfigWarning>,
}

/// One checked value of one key, with its origin.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) key: KnownKey,
    pub(super) value: SettingValue,
    pub(super) origin: Origin,
}

/// A value of a key of the server, or of a section of the program.
#[derive(Clone, Debug)]
pub(super) enum SettingValue {
    Server(ConfigValue),
    Section(Value),
}

/// The result of all layers: the config, and where each value came from.
///
/// Ranges and rules between keys are checked; values of 0 that have a meaning are not resolved yet.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The merged config of the server.
    pub config: Config,
    /// Where each value came from.
    pub origins: Origins,
    /// What the layers ignored, in the order of the calls.
    pub warnings: Vec<ConfigWarning>,
    /// The values of the program's own sections, in the order of the schema.
    pub(super) sections: Vec<Table>,
}

/// Where each key's value came from.
#[derive(Clone, Debug)]
pub struct Origins {
    pub(super) schema: Schema,
    /// One entry for each key of the schema, in the same order.
    by_key: Vec<Origin>,
}

impl Default for Layers {
    fn default() -> Self {
        Layers::new()
    }
}

impl Layers {
    /// Creates a builder with the defaults only: the keys of the server at the top level, and the prefix `CORELOOP_` in
    /// the environment, as `coreloop serve` has them.
    pub fn new() -> Self {
        Layers::of_schema(Schema::of_server())
    }

    /// Creates a builder for a program of your own: the keys of the server are in the section `server`, and variables
    /// of the environment begin with `prefix` and an underscore, as `SHOP_SERVER_CORES`.
    pub fn of_program(prefix: &str) -> Self {
        let env_prefix = format!("{}_", prefix.trim_end_matches('_').to_ascii_uppercase());
        Layers::of_schema(Schema { env_prefix, server_prefix: "server.", sections: Vec::new() })
    }

    fn of_schema(schema: Schema) -> Self {
        Layers { schema, file: Vec::new(), env: Vec::new(), flags: Vec::new(), warnings: Vec::new() }
    }

    /// Adds a section of the program's own, before the layers. Its keys are the fields of the struct `T`, and those of
    /// structs within it with a dot between; what no layer sets has the value of `T::default()`.
    ///
    /// In the environment and in flags lists have commas between their values; maps and lists of structs are written as
    /// in TOML.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Section`]: the name is taken, or not a plain word, or `T` is not a struct of named fields.
    pub fn section<T: Serialize + DeserializeOwned + Default>(
        mut self,
        name: &str,
    ) -> Result<Self, ConfigError> {
        let error = |message: String| ConfigError::Section { name: name.to_owned(), message };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if name.is_empty() || !name.bytes().all(is_plain) {
            return Err(error("a name has letters, digits, `_` and `-` only".to_owned()));
        }
        let section = Section::of::<T>(name).map_err(error)?;
        let taken = |name: &str| self.schema.find(name).is_some() || self.schema.is_section(name);
        if taken(name) || self.schema.server_prefix == format!("{name}.") {
            return Err(ConfigError::Section {
                name: name.to_owned(),
                message: "the name is taken".to_owned(),
            });
        }
        self.schema.sections.push(section);
        Ok(self)
    }

    /// Marks a key of a section as a secret: neither errors nor [`Resolved::print`] show its value.
    ///
    /// # Errors
    ///
    /// [`ConfigError::UnknownKey`]: no section that was added has this key.
    pub fn secret(mut self, key: &str) -> Result<Self, ConfigError> {
        match self.schema.find(key) {
            Some(KnownKey::Section(section, at)) => self.schema.sections[section].keys[at].is_secret = true,
            Some(KnownKey::Server(_)) | None => return Err(self.schema.unknown_key(key, Origin::Program)),
        }
        Ok(self)
    }

    /// Adds the TOML file at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or as for [`Layers::text`].
    pub fn file(self, path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let name = path.as_ref().display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => self.text(&name, &text),
            Err(cause) => Err(ConfigError::Unreadable { path: name, cause }),
        }
    }

    /// Adds the text of a TOML file; errors and origins call it `name`.
    ///
    /// # Errors
    ///
    /// The text is not TOML, or has an unknown key, or a value that its key does not accept.
    pub fn text(mut self, name: &str, text: &str) -> Result<Self, ConfigError> {
        self.file.extend(file::settings(&self.schema, name, text)?);
        Ok(self)
    }

    /// Adds environment variables: the prefix (`CORELOOP_`), then the key in capitals with `_` in place of the dot.
    ///
    /// A variable that starts with the prefix and names no key is a warning ([`Resolved::warnings`]), except for the
    /// variables that Kubernetes sets in every pod for a service with the name of the prefix: `CORELOOP_SERVICE_*`,
    /// `CORELOOP_PORT` and `CORELOOP_PORT_*`.
    ///
    /// # Errors
    ///
    /// A variable of a key has an invalid value.
    pub fn env(mut self, vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        for (name, text) in vars {
            let Some(written) = name.strip_prefix(&self.schema.env_prefix) else { continue };
            if self.schema.is_from_kubernetes(&name) {
                continue;
            }
            let Some(key) = self.schema.find_variable(&name) else {
                let (nearest, likely) = self.schema.nearest(written);
                let nearest = self.schema.env_name(nearest);
                self.warnings.push(ConfigWarning::UnknownVariable { name, nearest, likely });
                continue;
            };
            let setting = self.setting(key, &text, Origin::Env(name))?;
            self.env.push(setting);
        }
        Ok(self)
    }

    /// Adds the environment of this process.
    ///
    /// # Errors
    ///
    /// As for [`Layers::env`].
    pub fn process_env(self) -> Result<Self, ConfigError> {
        // A name that is not Unicode matches no key; after the lossy conversion it is ignored with a warning.
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        self.env(std::env::vars_os().map(|(name, text)| (lossy(name), lossy(text))))
    }

    /// Adds a command line flag for a key: `flag("busy_poll_us", "50")` for `--busy-poll-us 50`. `listen` may be
    /// given several times.
    ///
    /// # Errors
    ///
    /// No key has this name, or it does not accept the value.
    pub fn flag(self, key: &str, text: &str) -> Result<Self, ConfigError> {
        self.any_flag(key, text, Origin::Flag(format!("--{}", key.replace(['_', '.'], "-"))))
    }

    /// Adds the argument of `--set`: `key=value`, with the key's dotted name.
    ///
    /// # Errors
    ///
    /// The argument is not a pair, or as for [`Layers::flag`].
    pub fn set(self, pair: &str) -> Result<Self, ConfigError> {
        let Some((key, text)) = pair.split_once('=') else {
            return Err(ConfigError::NotAPair { came: pair.to_owned() });
        };
        self.any_flag(key.trim(), text, Origin::Flag("--set".to_owned()))
    }

    /// Merges the layers and checks the rules between keys.
    ///
    /// # Errors
    ///
    /// Two values conflict, or a section does not accept its values together.
    pub fn resolve(self) -> Result<Resolved, ConfigError> {
        let resolved = self.merge();
        resolved.check()?;
        Ok(resolved)
    }

    pub(super) fn merge(self) -> Resolved {
        let Layers { schema, file, env, flags, warnings } = self;
        let settings = || file.iter().chain(&env).chain(&flags);
        // The last one wins, as with every key.
        let profile = settings().rev().find_map(Setting::profile).unwrap_or_default();
        let mut config = profile.config();
        let mut sections: Vec<Table> =
            schema.sections.iter().map(|section| section.defaults.clone()).collect();
        let mut by_key = vec![Origin::Default; schema.all().count()];
        for Setting { key, value, origin } in file.into_iter().chain(env).chain(flags) {
            match (key, value) {
                (KnownKey::Server(at), SettingValue::Server(value)) => (KEYS[at].write)(&mut config, value),
                (KnownKey::Section(section, at), SettingValue::Section(value)) => {
                    let described = &schema.sections[section];
                    described.put(&mut sections[section], &described.keys[at], value);
                }
                (KnownKey::Server(_), _) | (KnownKey::Section(..), _) => {
                    unreachable!("values fit their keys")
                }
            }
            let at = schema.all().position(|known| known == key).expect("settings name keys of the schema");
            by_key[at] = origin;
        }
        Resolved { config, origins: Origins { schema, by_key }, warnings, sections }
    }

    fn any_flag(mut self, name: &str, text: &str, origin: Origin) -> Result<Self, ConfigError> {
        let Some(key) = self.schema.find(name) else { return Err(self.schema.unknown_key(name, origin)) };
        let mut new = self.setting(key, text, origin)?;
        // `--listen A --listen B` listens on both.
        let earlier = self.flags.iter().rposition(|earlier| earlier.key == key);
        if let (KnownKey::Server(at), SettingValue::Server(ConfigValue::List(list)), Some(earlier)) =
            (key, &new.value, earlier)
        {
            let SettingValue::Server(ConfigValue::List(mut joined)) = self.flags.remove(earlier).value else {
                unreachable!("same key")
            };
            joined.extend_from_slice(list);
            let joined = KEYS[at].kind.admit(ConfigValue::List(joined));
            let joined = joined.map_err(|misfit| self.schema.refusal(key, misfit, new.origin.clone()))?;
            new.value = SettingValue::Server(joined);
        }
        self.flags.push(new);
        Ok(self)
    }

    fn setting(&self, key: KnownKey, text: &str, origin: Origin) -> Result<Setting, ConfigError> {
        let value = match key {
            KnownKey::Server(at) => KEYS[at].kind.value_of_text(text).map(SettingValue::Server),
            KnownKey::Section(section, at) => {
                let section = &self.schema.sections[section];
                section.value_of_text(&section.keys[at], text).map(SettingValue::Section)
            }
        };
        match value {
            Ok(value) => Ok(Setting { key, value, origin }),
            Err(misfit) => Err(self.schema.refusal(key, misfit, origin)),
        }
    }
}

impl Resolved {
    /// Does the same as [`Config::validate`]; errors also name where the value came from.
    ///
    /// # Errors
    ///
    /// As for [`Config::validate`].
    pub fn validate(&self, cores_allowed: usize) -> Result<ValidConfig, ConfigError> {
        self.check()?;
        self.config.clone().validate(cores_allowed)
    }

    /// Returns the values of a section of the program's own.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Section`]: no section of this name was added, or `T` does not accept its values together.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, ConfigError> {
        let error = |message: String| ConfigError::Section { name: name.to_owned(), message };
        let at = self.origins.schema.sections.iter().position(|section| section.name == name);
        let at = at.ok_or_else(|| error("no section of this name was added".to_owned()))?;
        Value::Table(self.sections[at].clone()).try_into().map_err(|cause| error(cause.to_string()))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let prefix = self.origins.schema.server_prefix;
        let origin_of = |key: &str| self.origins.of(&format!("{prefix}{key}")).cloned().unwrap_or_default();
        valid::check(&self.config, origin_of).map_err(|error| error.with_prefix(prefix))?;
        let sections = self.origins.schema.sections.iter().zip(&self.sections);
        for (section, table) in sections {
            section.accepts(table.clone())?;
        }
        Ok(())
    }
}

impl Origins {
    /// Returns the origin of a key's value, by the key's dotted name; `None` if there is no such key.
    pub fn of(&self, key: &str) -> Option<&Origin> {
        let key = self.schema.find(key)?;
        self.by_key.get(self.schema.all().position(|known| known == key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigKey;
    use crate::config::value::ValueKind;

    fn var(name: &str, text: &str) -> [(String, String); 1] {
        [(name.to_owned(), text.to_owned())]
    }

    /// A text that is valid for the key and differs from its default, and the same value as TOML.
    fn other_than_default(key: &ConfigKey) -> (String, String) {
        let texts = match key.kind {
            ValueKind::Addresses => return ("b:2".into(), "[\"b:2\"]".into()),
            ValueKind::ChosenAddresses => return ("c:2".into(), "[\"c:2\"]".into()),
            ValueKind::Networks => return ("::/8".into(), "[\"::/8\"]".into()),
            ValueKind::Origins => return ("https://b".into(), "[\"https://b\"]".into()),
            ValueKind::Files => return ("/b.pem".into(), "[\"/b.pem\"]".into()),
            ValueKind::MethodLimits => return ("A.B=2".into(), "[\"A.B=2\"]".into()),
            ValueKind::PermissionRules => return ("A.*=b c".into(), "[\"A.*=b c\"]".into()),
            ValueKind::Switch if key.toml(&Config::default()) == "true" => "false".to_owned(),
            ValueKind::Switch => "true".to_owned(),
            ValueKind::Line(_) => return ("a b".into(), "\"a b\"".into()),
            ValueKind::Choice(names) => return (names[1].into(), format!("\"{}\"", names[1])),
            ValueKind::SocketFileMode => return ("0640".into(), "\"0640\"".into()),
            ValueKind::Account => return ("33".into(), "33".into()),
            ValueKind::Number(min, max) | ValueKind::Bytes(min, max) => {
                if key.toml(&Config::default()) == max.to_string() {
                    min.to_string()
                } else {
                    max.to_string()
                }
            }
        };
        (texts.clone(), texts)
    }

    #[test]
    fn every_key_can_be_set_from_each_layer() {
        for key in KEYS {
            let (name, (text, toml)) = (key.name(), other_than_default(key));
            let layers = [
                (Layers::new().text("a.toml", &format!("\n{name} = {toml}")), "file a.toml:2".to_owned()),
                (Layers::new().env(var(&key.env_name(), &text)), format!("env {}", key.env_name())),
                (Layers::new().flag(name, &text), format!("flag --{}", name.replace(['_', '.'], "-"))),
                (Layers::new().set(&format!("{name}={text}")), "flag --set".to_owned()),
            ];
            // A profile brings other defaults.
            let mut expected = if name == "profile" { Config::small() } else { Config::default() };
            key.set(&mut expected, &text, Origin::Program).unwrap();
            assert_ne!(expected, Config::default(), "{name}");
            for (layer, origin) in layers {
                let resolved = layer.unwrap().merge();
                assert_eq!(resolved.config, expected, "{name}");
                assert_eq!(resolved.origins.of(name).unwrap().to_string(), origin);
                assert_eq!(
                    resolved.origins.by_key.iter().filter(|origin| **origin != Origin::Default).count(),
                    1
                );
            }
        }
    }

    #[test]
    fn a_profile_changes_the_defaults_of_all_keys_that_no_layer_sets() {
        let layers = Layers::new().text("a.toml", "limits.connections_max = 8\nprofile = 'server'").unwrap();
        let resolved = layers.env(var("CORELOOP_PROFILE", "small")).and_then(Layers::resolve).unwrap();
        let mut expected = Config::small();
        expected.limits.connections_max = 8;
        assert_eq!(resolved.config, expected);
        let mut text = String::new();
        resolved.print(&mut text).unwrap();
        assert!(text.starts_with("profile = \"small\"  # env CORELOOP_PROFILE\n"), "{text}");
        assert!(text.contains("\nlimits.in_flight_max = 4  # profile small\n"), "{text}");
        assert!(text.contains("\nlimits.connections_max = 8  # file a.toml:1\n"), "{text}");
        assert_eq!(Layers::new().text("b.toml", &text).unwrap().resolve().unwrap().config, expected);
        assert!(expected.validate(4).is_ok());
    }

    #[test]
    fn precedence_is_independent_of_call_order() {
        let resolved = Layers::new()
            .flag("cores", "4")
            .and_then(|layers| layers.env(var("CORELOOP_CORES", "3")))
            .and_then(|layers| layers.env(var("CORELOOP_WORKERS", "3")))
            .and_then(|layers| layers.text("a.toml", "cores = 2\nworkers = 2\nbatch_max = 2"))
            .and_then(Layers::resolve)
            .unwrap();
        let config = &resolved.config;
        assert_eq!((config.cores, config.workers, config.batch_max, config.blocking_threads), (4, 3, 2, 512));
    }

    #[test]
    fn within_a_layer_the_later_wins() {
        let layers = Layers::new().text("a.toml", "cores = 2").unwrap().text("b.toml", "cores = 3").unwrap();
        let resolved = layers.resolve().unwrap();
        assert_eq!(resolved.config.cores, 3);
        assert_eq!(resolved.origins.of("cores").unwrap().to_string(), "file b.toml:1");
        assert_eq!(Layers::new().set("cores=1").unwrap().flag("cores", "5").unwrap().merge().config.cores, 5);
    }

    #[test]
    fn listen_flags_add_up_and_replace_lower_layers() {
        let layers = Layers::new().env(var("CORELOOP_LISTEN", "x:1, y:2")).unwrap();
        assert_eq!(layers.merge().config.listen, ["x:1", "y:2"]);
        let layers = Layers::new().env(var("CORELOOP_LISTEN", "x:1")).unwrap().flag("listen", "a:1").unwrap();
        let layers = layers.flag("listen", "unix:/b").unwrap().set("listen=c:3").unwrap();
        assert_eq!(layers.merge().config.listen, ["a:1", "unix:/b", "c:3"]);
        let error = Layers::new().flag("listen", "a:1").unwrap().flag("listen", "a:1").unwrap_err();
        assert!(error.to_string().ends_with("got \"a:1\" twice"), "{error}");
    }

    #[test]
    fn an_unknown_variable_warns_with_the_nearest_name() {
        let resolved = Layers::new()
            .env(var("CORELOOP_LIMIT_IDLE_MS", "5"))
            .and_then(|layers| layers.env(var("CORELOOP_HEADLESS_SERVICE_HOST", "10.0.0.1")))
            .and_then(|layers| layers.env(var("CORELOOP_A\nB", "")))
            .and_then(Layers::resolve)
            .unwrap();
        assert_eq!(resolved.config, Config::default());
        let warnings: Vec<String> = resolved.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings[0],
            "unknown environment variable `CORELOOP_LIMIT_IDLE_MS` is ignored; did you mean `CORELOOP_LIMITS_IDLE_MS`?"
        );
        let ignored = "unknown environment variable `CORELOOP_HEADLESS_SERVICE_HOST` is ignored; the nearest known name is `";
        assert!(warnings[1].starts_with(ignored), "{}", warnings[1]);
        assert!(warnings[2].contains("`CORELOOP_A\\nB`"), "{}", warnings[2]);
        assert_eq!(warnings.len(), 3);
    }

    #[test]
    fn unknown_names_are_errors_in_files_and_flags() {
        let error = |result: Result<Layers, ConfigError>| result.unwrap_err().to_string();
        assert!(error(Layers::new().text("a.toml", "coers = 2")).contains("did you mean `cores`?"));
        assert_eq!(
            error(Layers::new().set("coers=2")),
            "unknown key `coers` in flag --set; did you mean `cores`?"
        );
        assert_eq!(
            error(Layers::new().flag("workrs", "2")),
            "unknown key `workrs` in flag --workrs; did you mean `workers`?"
        );
        assert_eq!(error(Layers::new().set("cores")), "--set expects `key=value`; got `cores`");
    }

    #[test]
    fn wrong_values_name_the_variable_or_the_flag() {
        let error = |result: Result<Layers, ConfigError>| result.unwrap_err().to_string();
        assert_eq!(
            error(Layers::new().env(var("CORELOOP_CORES", "two"))),
            "`cores` in environment variable CORELOOP_CORES: expected an integer from 0 to 1024; got \"two\""
        );
        assert_eq!(
            error(Layers::new().flag("batch_max", "65")),
            "`batch_max` in flag --batch-max: expected an integer from 1 to 64; got 65"
        );
        assert_eq!(
            error(Layers::new().set("pin=yes")),
            "`pin` in flag --set: expected true or false; got \"yes\""
        );
    }

    #[test]
    fn unrelated_and_kubernetes_variables_are_ignored() {
        for name in ["PATH", "CORELOOP", "CORELOOP_PORT", "CORELOOP_PORT_6550_TCP", "CORELOOP_SERVICE_HOST"] {
            let resolved = Layers::new().env(var(name, "tcp://10.0.0.1:6550")).unwrap().merge();
            assert_eq!((resolved.config, resolved.warnings.len()), (Config::default(), 0));
        }
    }

    #[test]
    fn no_key_has_the_name_of_a_service_link() {
        // Kubernetes derives such variables from the names of services and their ports. A key with such a name would
        // take a cluster address for its value, or keep the server from starting.
        for name in KEYS.iter().map(ConfigKey::env_name) {
            assert!(!Schema::of_server().is_from_kubernetes(&name), "{name}");
            let is_link =
                name.ends_with("_PORT") || name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT");
            let words: Vec<&str> = name.split('_').collect();
            let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
            let is_port = words.windows(2).any(|pair| pair[0] == "PORT" && is_number(pair[1]));
            assert!(!is_link && !is_port, "{name}");
        }
    }

    #[test]
    fn conflicts_name_both_origins() {
        let layers = Layers::new().text("a.toml", "limits.write_queue_high_bytes = '1 MiB'").unwrap();
        assert_eq!(
            layers.resolve().unwrap_err().to_string(),
            "`limits.write_queue_low_bytes` in the defaults: expected less than `limits.write_queue_high_bytes`, \
             which is \"1 MiB\" (file a.toml:1); got \"1 MiB\""
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coreloop.toml");
        fs::write(&path, "cores = 2\n").unwrap();
        assert_eq!(Layers::new().file(&path).unwrap().resolve().unwrap().config.cores, 2);
        let error = Layers::new().file(dir.path().join("none.toml")).unwrap_err();
        assert!(matches!(error, ConfigError::Unreadable { ref path, .. } if path.ends_with("none.toml")));
    }
}
