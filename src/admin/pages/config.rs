//! `/config`: every value in force, and where it came from.

use serde::Serialize;

use super::{Console, Page, Params};
use crate::admin::view::{Block, Cell, Table, Tone, View};
use crate::config;
use crate::status::Status;

/// Keys whose values are URLs, which may hold a password or a token.
const URL_KEYS: [&str; 2] = ["register.url", "otlp.endpoint"];

#[derive(Serialize)]
struct ConfigModel {
    keys: Vec<ShownKey>,
}

#[derive(Serialize)]
struct ShownKey {
    key: String,
    /// As in a configuration file.
    value: String,
    /// Empty if it is not known.
    origin: String,
    summary: &'static str,
}

pub(super) fn page(console: &Console, _params: &Params) -> Result<Page, Status> {
    let (config, admin) = (console.inspector.config(), console.inspector.admin());
    let origin = |name: &str| {
        let found = admin.origins.iter().find(|(known, _)| known == name);
        found.map(|(_, origin)| origin.clone()).unwrap_or_default()
    };
    let default = config::Config::default();
    let mut keys: Vec<ShownKey> = config::keys()
        .map(|key| {
            let value = key.toml(config);
            let origin = match origin(key.name()) {
                origin if !origin.is_empty() => origin,
                // Without origins, what differs was set by the program or resolved.
                _ if value == key.toml(&default) => "default".to_owned(),
                _ => "program".to_owned(),
            };
            let value = if URL_KEYS.contains(&key.name()) { without_secrets(&value) } else { value };
            ShownKey { key: key.name().to_owned(), value, origin, summary: key.summary() }
        })
        .collect();
    keys.extend(admin.sections.iter().map(|(name, value)| ShownKey {
        key: name.clone(),
        value: value.clone(),
        origin: origin(name),
        summary: "",
    }));
    let model = ConfigModel { keys };
    let view = view(&model);
    Page::of(&model, view)
}

/// Returns the text of a URL, in quotes, without user information and query.
fn without_secrets(value: &str) -> String {
    let (text, query) = value.split_once('?').unwrap_or((value, ""));
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut shown = text[..text.len() - rest.len()].to_owned();
    match authority.rsplit_once('@') {
        Some((_, host)) => shown.push_str(&format!("…@{host}")),
        None => shown.push_str(authority),
    }
    shown.push_str(path);
    if !query.is_empty() {
        // The quotes of the value stay a pair.
        shown.push_str(if query.ends_with('"') { "?…\"" } else { "?…" });
    }
    shown
}

fn view(model: &ConfigModel) -> View {
    let mut table = Table::new("", "").text("key").text("value").text("origin").wide("meaning");
    for key in &model.keys {
        let origin = match &*key.origin {
            "default" => Cell::text("default"),
            origin => Cell::Tag(Tone::Warn, origin.to_owned()),
        };
        table.row(vec![Cell::code(&key.key), Cell::code(&key.value), origin, Cell::text(key.summary)]);
    }
    View {
        title: "Config",
        lead: "The configuration in force, with values of 0 resolved. Secrets, and what URLs may hold of them, are left out."
            .to_owned(),
        blocks: vec![Block::Table(table)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_what_may_be_secret() {
        for (value, shown) in [
            ("\"\"", "\"\""),
            ("\"consul://10.0.0.1:8500/demo\"", "\"consul://10.0.0.1:8500/demo\""),
            ("\"consul://me:pa@ss@host:1/demo?token=abc&x=1\"", "\"consul://…@host:1/demo?…\""),
            ("\"http://user@host\"", "\"http://…@host\""),
            ("\"etcd://host?password=a@b/c\"", "\"etcd://host?…\""),
        ] {
            assert_eq!(without_secrets(value), shown);
        }
    }
}
