//! The parameters of a resolver's URL: known names only, durations with a unit, tokens by the name of a variable.

use std::time::Duration;

use super::target::{Target, TargetError};
use crate::agent::http::is_field_value;

/// Returns the error of a URL.
pub(super) fn error(target: &Target, expected: impl Into<String>) -> TargetError {
    TargetError { url: target.to_string(), expected: expected.into() }
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
    match target.parameters().find(|(key, _)| !known.contains(key)) {
        Some((key, _)) => {
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
