//! What protocols can look up in the server: its methods by name, its routes, the time of day.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

#[cfg(feature = "http")]
use crate::calendar::imf_fixdate;
use crate::message::method_hash;
use crate::service::{CallShape, Method, Registry};
#[cfg(feature = "http")]
use crate::wire::RoutesAt;
use crate::wire::{DirectoryEntry, MethodDirectory, StreamSupport};

/// The method directory of a server's registry.
pub(super) struct RegistryDirectory {
    registry: Arc<Registry>,
    services: BTreeSet<String>,
}

impl RegistryDirectory {
    pub(super) fn new(registry: Arc<Registry>) -> RegistryDirectory {
        let service = |method: &Method| method.service().map(str::to_owned);
        let services = registry.methods().iter().filter_map(service).collect();
        RegistryDirectory { registry, services }
    }
}

impl MethodDirectory for RegistryDirectory {
    fn method(&self, name: &str) -> Option<DirectoryEntry> {
        let hash = method_hash(name);
        let method = self.registry.method(self.registry.index_of(hash)?);
        let is_idempotent = method.is_idempotent();
        let streams = match method.shape() {
            CallShape::Unary => StreamSupport::Unary,
            CallShape::ServerStream => StreamSupport::ResultOnly,
            CallShape::ClientStream | CallShape::Bidirectional => StreamSupport::Both,
        };
        let takes_several = method.takes_several();
        let is_named = method.name() == name && !method.is_route();
        is_named.then_some(DirectoryEntry { hash, is_idempotent, streams, takes_several })
    }

    fn has_service(&self, service: &str) -> bool {
        self.services.contains(service)
    }

    #[cfg(feature = "http")]
    fn page(&self, path: &str) -> Option<u32> {
        self.registry.routes().page(path)
    }

    #[cfg(feature = "http")]
    fn routes_at(&self, method: &str, path: &str) -> RoutesAt {
        self.registry.routes().at(method, path)
    }

    fn date(&self) -> [u8; 29] {
        thread_local! {
            /// The second that was formatted last, and its text.
            static LAST: Cell<(u64, [u8; 29])> = const { Cell::new((u64::MAX, [b' '; 29])) };
        }
        let second = coreloop_poller::os::unix_seconds();
        let (last, text) = LAST.get();
        if last == second {
            return text;
        }
        let text = imf_fixdate(second);
        LAST.set((second, text));
        text
    }
}

#[cfg(not(feature = "http"))]
fn imf_fixdate(_second: u64) -> [u8; 29] {
    [b' '; 29]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Plain;
    use crate::config::Limits;
    use crate::context::Outcome;

    fn site(methods: Vec<Method>) -> RegistryDirectory {
        let registry = Arc::new(Registry::new(methods, &Limits::default()).unwrap());
        RegistryDirectory::new(registry)
    }

    fn method(name: &str) -> Method {
        Method::new::<Plain<i64>, Plain<i64>>(name, Box::new(|_, _, _, _| Outcome::Deferred)).unwrap()
    }

    #[test]
    fn methods_are_found_by_their_whole_name() {
        let site = site(vec![method("Math.Double").idempotent()]);
        let found = site.method("Math.Double").unwrap();
        assert_eq!((found.hash, found.is_idempotent), (method_hash("Math.Double"), true));
        assert_eq!((site.method("Math.Halve"), site.method("")), (None, None));
        assert!(site.has_service("Math") && !site.has_service("Mat") && !site.has_service(""));
    }

    #[test]
    fn a_service_is_named_with_its_package() {
        let site = site(vec![method("shop.v1.Orders.Price")]);
        assert!(site.has_service("shop.v1.Orders"));
        assert!(!site.has_service("shop") && !site.has_service("shop.v1") && !site.has_service("Orders"));
    }

    #[cfg(feature = "http")]
    #[test]
    fn the_date_has_the_http_format() {
        let date = site(Vec::new()).date();
        let text = std::str::from_utf8(&date).unwrap();
        assert!(httpdate::parse_http_date(text).is_ok() && text.ends_with(" GMT"), "{text}");
    }
}
