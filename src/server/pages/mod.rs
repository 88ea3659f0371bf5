//! The pages of a server besides its methods: `/`, where a person can browse and call the methods, `/openapi.json`,
//! and the probes of load balancers and Kubernetes.
//!
//! They are routes, so that interceptors and limits apply to them as to those of the user. Console and document are
//! created once, when the server starts; they cost calls nothing.

pub(super) mod openapi;
mod schema;

use std::borrow::Cow;
use std::sync::Arc;

use coreloop_bufpool::Chunk;

use crate::config;
use crate::service::builtin::Health;
use crate::service::route::RouteResponse;
use crate::service::{Method, RegisterError};
use crate::status::Status;

/// The console page: one file, which requests `/openapi.json` and nothing else.
const CONSOLE: &str = include_str!("console.html");
/// The places in the console for the name of the application.
const CONSOLE_TITLES: [(&str, &str, &str); 2] =
    [("<title>", "Methods", "</title>"), ("<h1>", "Methods of this server", "</h1>")];

/// Returns the pages of a server with these methods, as routes.
pub(super) fn routes(
    methods: &[Method],
    health: &Arc<Health>,
    config: &config::HttpConfig,
) -> Result<Vec<Method>, RegisterError> {
    let readiness = |path| {
        let health = health.clone();
        let docs = "Whether the server is ready: 200, or 503 and the reason.";
        Ok::<_, RegisterError>(Method::of_page(path, move || readiness(&health))?.docs(docs))
    };
    // A process that drains is alive.
    let alive = Method::of_page("/livez", || Ok(RouteResponse::text("ok\n")))?;
    let mut pages =
        vec![alive.docs("Whether the process is alive: 200."), readiness("/readyz")?, readiness("/healthz")?];
    if config.openapi {
        let document = openapi::document(methods, config).to_string().into_bytes();
        let document = RouteResponse::json(Chunk::from(document));
        let page = Method::of_page("/openapi.json", move || Ok(document.clone()))?;
        pages.push(page.docs("The OpenAPI document of the methods."));
        if config.console {
            // It reads the document.
            let console = console(&config.application_name).into_owned().into_bytes();
            let console = RouteResponse::html("").body(Chunk::from(console));
            let page = Method::of_page("/", move || Ok(console.clone()))?;
            pages.push(page.docs("A page to read and call the methods."));
        }
    }
    Ok(pages)
}

fn readiness(health: &Health) -> Result<RouteResponse, Status> {
    match health.reason_not_ready() {
        None => Ok(RouteResponse::text("ok\n")),
        Some(reason) => Ok(RouteResponse::text(reason + "\n").status(503)?),
    }
}

/// Returns the console with the name of the application, if it has one.
fn console(application_name: &str) -> Cow<'static, str> {
    if application_name.is_empty() {
        return Cow::Borrowed(CONSOLE);
    }
    let name = escape_html(application_name);
    let mut text = CONSOLE.to_owned();
    for (before, default, after) in CONSOLE_TITLES {
        text = text.replacen(&format!("{before}{default}{after}"), &format!("{before}{name}{after}"), 1);
    }
    Cow::Owned(text)
}

fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(change: impl FnOnce(&mut config::HttpConfig)) -> Vec<String> {
        let mut config = config::HttpConfig::default();
        change(&mut config);
        let pages = routes(&[], &Arc::new(Health::new()), &config).unwrap();
        pages.iter().map(|page| page.name().to_owned()).collect()
    }

    #[test]
    fn console_and_document_can_be_switched_off() {
        let probes = ["GET /livez", "GET /readyz", "GET /healthz"];
        let all = [&probes[..], &["GET /openapi.json", "GET /"]].concat();
        assert_eq!(paths(|_| {}), all);
        assert_eq!(paths(|http| http.console = false), all[..4]);
        // The console reads the document.
        assert_eq!(paths(|http| http.openapi = false), probes);
    }

    #[test]
    fn readiness_is_that_of_all_services() {
        let health = Health::new();
        let text = |text: &str| RouteResponse::text(text);
        health.set("shop.v1.Orders", true);
        assert_eq!(readiness(&health).unwrap(), text("ok\n"));
        health.set("shop.v1.Orders", false);
        assert_eq!(readiness(&health).unwrap(), text("not serving: shop.v1.Orders\n").status(503).unwrap());
        health.set("shop.v1.Orders", true);
        health.go_down();
        assert_eq!(readiness(&health).unwrap(), text("draining\n").status(503).unwrap());
    }

    #[test]
    fn console_and_document_contain_the_application_name() {
        let config = config::HttpConfig {
            application_name: "Shop <&> Söhne".into(),
            application_version: "2.1".into(),
            ..config::HttpConfig::default()
        };
        let console = console(&config.application_name);
        assert!(console.contains("<title>Shop &lt;&amp;&gt; Söhne</title>"));
        assert!(console.contains("<h1>Shop &lt;&amp;&gt; Söhne</h1>"));
        let document = openapi::document(&[], &config);
        assert_eq!(document["info"]["title"], "Shop <&> Söhne");
        assert_eq!(document["info"]["version"], "2.1");
        for (before, default, after) in CONSOLE_TITLES {
            assert!(CONSOLE.contains(&format!("{before}{default}{after}")), "{default}");
        }
    }
}
