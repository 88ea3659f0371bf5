//! The parameters of a resolver's URL: known names only, durations with a unit, tokens by the name of a variable.

use std::time::Duration;

use super::target::{Target, TargetError};
use crate::agent::http::is_field_value;
#[cfg(feature = "tls-core")]
use crate::transport::ClientTls;
use crate::transport::TlsClient;

/// Returns the error of a URL.
pub(super) fn error(target: &Target, expected: impl Into<String>) -> TargetError {
    TargetError { url: target.to_string(), expected: expected.into() }
}

/// The parameters of the TLS of connections to a registry.
const TLS_PARAMETERS: [&str; 4] = ["ca", "cert", "key", "server_name"];

/// Reads the TLS of the connections to a registry, which `+tls` behind the scheme asks for, with its files. It waits for the
/// disk.
pub(super) fn tls(target: &Target) -> Result<Option<TlsClient>, TargetError> {
    if !target.scheme().ends_with("+tls") {
        return match target.parameters().find(|(key, _)| TLS_PARAMETERS.contains(key)) {
            Some((key, _)) => {
                Err(error(target, format!("{}+tls:// for the parameter {key:?}", target.scheme())))
            }
            None => Ok(None),
        };
    }
    load_tls(target).map(Some)
}

#[cfg(feature = "tls-core")]
fn load_tls(target: &Target) -> Result<TlsClient, TargetError> {
    let path = |key| target.parameter(key).map(std::path::PathBuf::from);
    let mut settings = ClientTls::default();
    (settings.ca, settings.certificate, settings.key) = (path("ca"), path("cert"), path("key"));
    settings.server_name = target.parameter("server_name").map(str::to_owned);
    TlsClient::load(&settings)
        .map_err(|found| error(target, format!("files of TLS that can be used; {found}")))
}

#[cfg(not(feature = "tls-core"))]
fn load_tls(target: &Target) -> Result<TlsClient, TargetError> {
    Err(error(target, format!("a build with the feature `tls` for {}://", target.scheme())))
}

/// Checks that the URL has one or more addresses `host:port` and only known parameters.
pub(super) fn check(target: &Target, known: &[&str]) -> Result<(), TargetError> {
    for address in target.authority().split(',') {
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        if port.and_then(|port| port.parse::<u16>().ok()).is_none_or(|port| port == 0)
            || !address.bytes().all(|byte| (b'!'..=b'~').contains(&byte))
        {
            return Err(error(target, "host:port between // and the next /"));
        }
    }
    let is_known = |key: &str| known.contains(&key) || TLS_PARAMETERS.contains(&key);
    match target.parameters().find(|(key, _)| !is_known(key)) {
        Some((key, _)) => {
            let known: Vec<&str> = match target.scheme().ends_with("+tls") {
                true => known.iter().copied().chain(TLS_PARAMETERS).collect(),
                false => known.to_vec(),
            };
            Err(error(target, format!("one of the parameters {}; found {key:?}", known.join(", "))))
        }
        None => Ok(()),
    }
}

/// Returns a duration such as `500ms`, `10s` or `2m`, within these bounds.
pub(super) fn duration(
    target: &Target,
    key: &str,
    default: Duration,
    min: Duration,
    max: Duration,
) -> Result<Duration, TargetError> {
    let Some(text) = target.parameter(key) else { return Ok(default) };
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let ms = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let ms = ms.and_then(|ms: u64| number.parse::<u64>().ok()?.checked_mul(ms));
    ms.map(Duration::from_millis).filter(|found| (min..=max).contains(found)).ok_or_else(|| {
        error(target, format!("{key} from {min:?} to {max:?}, such as 500ms, 10s or 2m; found {text:?}"))
    })
}

/// A value that no text shows.
#[derive(Clone, PartialEq)]
pub(super) struct Secret(pub(super) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Returns the token in the environment variable that the parameter `token_env` names.
pub(super) fn token(target: &Target) -> Result<Option<Secret>, TargetError> {
    let Some(name) = target.parameter("token_env") else { return Ok(None) };
    match std::env::var(name) {
        Ok(token) if !token.is_empty() && is_field_value(&token) => Ok(Some(Secret(token))),
        // Never the value: it is a secret.
        Ok(_) => Err(error(target, format!("a token of visible characters in the variable {name}"))),
        Err(_) => Err(error(target, format!("the variable {name} to be set (token_env)"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text).unwrap()
    }

    #[test]
    fn addresses_and_names_of_parameters_are_checked() {
        for url in ["consul://127.0.0.1:8500/a", "etcd://a:1,b:2/x", "consul://[::1]:80/a?tag=x"] {
            assert!(check(&target(url), &["tag"]).is_ok(), "{url}");
        }
        for url in [
            "consul:///a",
            "consul://a/b",
            "consul://a:0/b",
            "consul://a:1,/b",
            "consul://:1/b",
            "consul://a b:1/c",
        ] {
            let error = check(&target(url), &[]).unwrap_err().to_string();
            assert!(error.contains("host:port"), "{error}");
        }
        let error = check(&target("consul://a:1/b?tga=x"), &["tag", "dc"]).unwrap_err().to_string();
        assert_eq!(
            error,
            "the resolver URL \"consul://a:1/b?tga=x\": expected one of the parameters tag, dc; found \"tga\""
        );
    }

    #[test]
    fn tls_is_asked_for_by_the_scheme() {
        assert_eq!(tls(&target("consul://a:1/b")), Ok(None));
        let error = tls(&target("consul://a:1/b?ca=/x")).unwrap_err().to_string();
        assert!(error.ends_with("expected consul+tls:// for the parameter \"ca\""), "{error}");
        let error = tls(&target("etcd+tls://a:1/b?ca=/no/such/file")).unwrap_err().to_string();
        #[cfg(feature = "tls-core")]
        assert!(
            error.contains("files of TLS that can be used; ") && error.contains("/no/such/file"),
            "{error}"
        );
        #[cfg(not(feature = "tls-core"))]
        assert!(error.ends_with("expected a build with the feature `tls` for etcd+tls://"), "{error}");
        let error = check(&target("etcd+tls://a:1/b?cax=/x"), &["ttl"]).unwrap_err().to_string();
        assert!(error.contains("ttl, ca, cert, key, server_name"), "{error}");
    }

    #[test]
    fn durations_have_units_and_bounds() {
        let of = |text: &str| {
            let target = target(&format!("consul://a:1/b?wait={text}"));
            let seconds = Duration::from_secs;
            duration(&target, "wait", seconds(60), seconds(1), seconds(600))
                .map_err(|error| error.to_string())
        };
        assert_eq!(of("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(of("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "5", "s", "-1s", "999ms", "11m", "1h", "99999999999999999999s", "99999999999999999m"]
        {
            assert!(of(text).unwrap_err().contains("wait from 1s to 600s"), "{text}");
        }
    }

    #[test]
    fn a_token_that_is_missing_is_an_error_without_its_value() {
        let error = token(&target("consul://a:1/b?token_env=CORELOOP_TEST_NO_SUCH_TOKEN")).unwrap_err();
        assert!(error.to_string().contains("the variable CORELOOP_TEST_NO_SUCH_TOKEN to be set"));
        assert_eq!(token(&target("consul://a:1/b")).unwrap(), None);
        assert_eq!(format!("{:?}", Secret("hidden".to_owned())), "…");
    }
}
