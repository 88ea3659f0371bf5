//! The pages of a server besides its methods: `/`, where a person can browse and call the methods, `/openapi.json`,
//! and the probes of load balancers and Kubernetes.
//!
//! Console and document are created once, when the server starts; they cost calls nothing.

mod openapi;
mod schema;

use std::borrow::Cow;
use std::sync::Arc;

use crate::config;
use crate::service::Method;
use crate::service::builtin::Health;
use crate::wire::Page;

/// The console page: one file, which requests `/openapi.json` and nothing else.
const CONSOLE: &str = include_str!("console.html");
/// The places in the console for the name of the application.
const CONSOLE_TITLES: [(&str, &str, &str); 2] =
    [("<title>", "Methods", "</title>"), ("<h1>", "Methods of this server", "</h1>")];

/// Returns whether a server of that configuration has a page at a path.
pub(super) fn is_page(path: &str, config: &config::HttpConfig) -> bool {
    match path {
        "/" => config.console && config.openapi,
        "/openapi.json" => config.openapi,
        "/livez" | "/readyz" | "/healthz" => true,
        _ => false,
    }
}

/// The pages of one server.
pub(super) struct Pages {
    health: Arc<Health>,
    console: Option<Cow<'static, [u8]>>,
    openapi: Option<Vec<u8>>,
}

impl Pages {
    pub(super) fn new(methods: &[Method], health: Arc<Health>, config: &config::HttpConfig) -> Pages {
        let openapi = config.openapi.then(|| openapi::document(methods, config).to_string().into_bytes());
        // The console reads the document.
        let console = (config.console && config.openapi).then(|| console(&config.application_name));
        Pages { health, console, openapi }
    }

    /// Returns the page at a path.
    pub(super) fn at(&self, path: &str) -> Option<Page> {
        let page = |content_type, body| Some(Page { status: 200, content_type, body });
        match path {
            "/" => page("text/html; charset=utf-8", self.console.clone()?),
            "/openapi.json" => page("application/json", Cow::Owned(self.openapi.clone()?)),
            // A process that drains is alive.
            "/livez" => page(PLAIN_TEXT, Cow::Borrowed(b"ok\n")),
            "/readyz" | "/healthz" => match self.health.reason_not_ready() {
                None => page(PLAIN_TEXT, Cow::Borrowed(b"ok\n")),
                Some(reason) => {
                    let body = Cow::Owned((reason + "\n").into_bytes());
                    Some(Page { status: 503, content_type: PLAIN_TEXT, body })
                }
            },
            _ => None,
        }
    }
}

const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// Returns the console with the name of the application, if it has one.
fn console(application_name: &str) -> Cow<'static, [u8]> {
    if application_name.is_empty() {
        return Cow::Borrowed(CONSOLE.as_bytes());
    }
    let name = escape_html(application_name);
    let mut text = CONSOLE.to_owned();
    for (before, default, after) in CONSOLE_TITLES {
        text = text.replacen(&format!("{before}{default}{after}"), &format!("{before}{name}{after}"), 1);
    }
    Cow::Owned(text.into_bytes())
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(change: impl FnOnce(&mut config::HttpConfig)) -> (Pages, Arc<Health>) {
        let (mut config, health) = (config::HttpConfig::default(), Arc::new(Health::new()));
        change(&mut config);
        (Pages::new(&[], health.clone(), &config), health)
    }

    fn text(pages: &Pages, path: &str) -> Option<(u16, String)> {
        pages.at(path).map(|page| (page.status, String::from_utf8(page.body.into_owned()).unwrap()))
    }

    #[test]
    fn probes_report_the_state_of_the_server() {
        let (pages, health) = pages(|_| {});
        health.set("shop.v1.Orders", true);
        for path in ["/livez", "/readyz", "/healthz"] {
            assert_eq!(text(&pages, path), Some((200, "ok\n".into())), "{path}");
        }
        health.set("shop.v1.Orders", false);
        let failed = Some((503, "not serving: shop.v1.Orders\n".into()));
        assert_eq!((text(&pages, "/readyz"), text(&pages, "/healthz")), (failed.clone(), failed));
        assert_eq!(text(&pages, "/livez"), Some((200, "ok\n".into())));
        health.set("shop.v1.Orders", true);
        health.go_down();
        assert_eq!(text(&pages, "/readyz"), Some((503, "draining\n".into())));
        assert_eq!(text(&pages, "/livez"), Some((200, "ok\n".into())));
        assert_eq!(text(&pages, "/readyz/"), None);
    }

    #[test]
    fn console_and_document_can_be_switched_off() {
        let is_served = |change: fn(&mut config::HttpConfig)| {
            let (pages, _) = pages(change);
            let mut config = config::HttpConfig::default();
            change(&mut config);
            for path in ["/", "/openapi.json", "/livez", "/readyz", "/healthz", "/other"] {
                assert_eq!(is_page(path, &config), pages.at(path).is_some(), "{path}");
            }
            (pages.at("/").is_some(), pages.at("/openapi.json").is_some(), pages.at("/livez").is_some())
        };
        assert_eq!(is_served(|_| {}), (true, true, true));
        assert_eq!(is_served(|http| http.console = false), (false, true, true));
        assert_eq!(is_served(|http| http.openapi = false), (false, false, true));
    }

    #[test]
    fn console_and_document_contain_the_application_name() {
        let (pages, _) = pages(|http| {
            http.application_name = "Shop <&> Söhne".into();
            http.application_version = "2.1".into();
        });
        let console = text(&pages, "/").unwrap().1;
        assert!(console.contains("<title>Shop &lt;&amp;&gt; Söhne</title>"));
        assert!(console.contains("<h1>Shop &lt;&amp;&gt; Söhne</h1>"));
        let document = text(&pages, "/openapi.json").unwrap().1;
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["info"]["title"], "Shop <&> Söhne");
        assert_eq!(document["info"]["version"], "2.1");
        for (before, default, after) in CONSOLE_TITLES {
            assert!(CONSOLE.contains(&format!("{before}{default}{after}")), "{default}");
        }
    }
}
