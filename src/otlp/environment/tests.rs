use std::collections::BTreeMap;

use super::*;
use crate::trace::AttributeValue;

fn find(config: &OtlpConfig, variables: &[(&str, &str)]) -> Result<ExportSettings, ExportError> {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    ExportSettings::find(config, &|name| variables.get(name).map(|value| (*value).to_owned()))
}

fn ok(variables: &[(&str, &str)]) -> ExportSettings {
    find(&OtlpConfig::default(), variables).unwrap()
}

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

#[test]
fn the_general_endpoint_has_the_paths_added_and_that_of_a_signal_has_not() {
    let settings = ok(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector/a/"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://[::1]:9090?x=y"),
    ]);
    let (traces, metrics) = (settings.traces.unwrap(), settings.metrics.unwrap());
    assert_eq!((&*traces.authority, &*traces.target), ("collector:80", "/a/v1/traces"));
    assert_eq!((&*metrics.authority, &*metrics.target), ("[::1]:9090", "/?x=y"));
    assert!(settings.is_from_environment);
    let only = ok(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://h:1/t")]);
    assert!(only.metrics.is_none() && only.traces.unwrap().target == "/t");
    assert!(ok(&[]).is_empty());
}

#[test]
fn the_configuration_takes_precedence() {
    let config = OtlpConfig {
        endpoint: "http://a:1".into(),
        service_name: "own".into(),
        timeout_ms: 5,
        gzip: false,
        interval_ms: 70,
        ..OtlpConfig::default()
    };
    let variables = [
        ENDPOINT,
        ("OTEL_SERVICE_NAME", "other"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "77"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_BSP_SCHEDULE_DELAY", "88"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "99"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ];
    let settings = find(&config, &variables).unwrap();
    let (traces, metrics) = (settings.traces.unwrap(), settings.metrics.unwrap());
    assert_eq!((&*traces.authority, &*traces.target), ("a:1", "/v1/traces"));
    let millis = Duration::from_millis;
    assert_eq!((traces.timeout, traces.gzip, traces.interval), (millis(5), false, millis(70)));
    assert_eq!(metrics.interval, millis(99));
    assert!(!settings.is_from_environment);
    let name = ("service.name".to_owned(), AttributeValue::Text("own".into()));
    assert!(settings.resource.contains(&name));
}

#[test]
fn the_variables_of_a_signal_come_before_the_general_ones() {
    let settings = ok(&[
        ENDPOINT,
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "123"),
    ]);
    let (traces, metrics) = (settings.traces.unwrap(), settings.metrics.unwrap());
    assert_eq!((traces.format, metrics.format), (BodyFormat::Protobuf, BodyFormat::Json));
    assert!(!traces.gzip && !metrics.gzip);
    assert_eq!((traces.timeout.as_millis(), metrics.timeout.as_millis()), (10_000, 123));
    assert!(settings.warnings.is_empty());
}

#[test]
fn the_sdk_and_each_signal_can_be_switched_off() {
    assert!(ok(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]).is_empty());
    let settings = ok(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]);
    assert!(settings.traces.is_none() && settings.metrics.is_some());
    let settings = ok(&[ENDPOINT, ("OTEL_METRICS_EXPORTER", "console")]);
    assert!(settings.metrics.is_none() && settings.warnings.len() == 1);
    let config = OtlpConfig { metrics_interval_ms: 0, ..OtlpConfig::default() };
    assert!(find(&config, &[ENDPOINT]).unwrap().metrics.is_none());
}

#[test]
fn headers_are_decoded_and_never_printed() {
    let text = "Api-Key=s%3Dcret%2C1, x=y ,broken,host=evil,z=%zz,q=a%0D%0Ab";
    let settings = ok(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_HEADERS", text)]);
    let headers = settings.traces.unwrap().headers;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(headers, [pair("api-key", "s=cret,1"), pair("x", "y")]);
    assert_eq!(settings.warnings.len(), 2, "{:?}", settings.warnings);
    assert!(!settings.warnings.iter().any(|warning| warning.contains("cret") || warning.contains("evil")));
}

#[test]
fn values_that_are_not_valid_are_ignored_with_a_warning() {
    let settings = ok(&[
        ENDPOINT,
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c"),
    ]);
    let traces = settings.traces.unwrap();
    assert_eq!((traces.format, traces.gzip, traces.timeout.as_secs()), (BodyFormat::Protobuf, true, 10));
    assert_eq!(settings.warnings.len(), 5, "{:?}", settings.warnings);
    assert!(!settings.resource.iter().any(|(key, _)| key == "a"));
}

#[test]
#[cfg(feature = "tls-core")]
fn an_https_endpoint_has_the_files_of_the_configuration_or_of_the_environment() {
    let fault =
        |config: &OtlpConfig, variables: &[(&str, &str)]| find(config, variables).err().unwrap().to_string();
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://h");
    for variable in ["OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"] {
        let text = fault(&OtlpConfig::default(), &[endpoint, (variable, "/no/such/ca")]);
        assert!(text.starts_with("the TLS for the URL in OTEL_EXPORTER_OTLP_ENDPOINT: "), "{text}");
        assert!(text.contains("/no/such/ca"), "{text}");
    }
    let mut config =
        OtlpConfig { endpoint: "https://h:1".into(), ca: "/no/such/own".into(), ..OtlpConfig::default() };
    let text = fault(&config, &[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/ca")]);
    assert!(text.contains("otlp.endpoint") && text.contains("/no/such/own"), "{text}");
    config.endpoint = "http://h:1".into();
    let text = fault(&config, &[]);
    assert_eq!(
        text,
        "otlp.ca: expected no file without an https:// URL; found \"/no/such/own\", and an http:// URL in otlp.endpoint"
    );
    // The variables may be there for other exporters.
    let plain = ok(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/ca")]);
    assert!(plain.traces.unwrap().tls.is_none());
}

#[test]
#[cfg(not(feature = "tls-core"))]
fn an_https_endpoint_needs_a_feature() {
    let error = find(&OtlpConfig::default(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://h")]).err().unwrap();
    assert!(error.to_string().contains("needs the feature `tls`"), "{error}");
}

#[test]
fn an_endpoint_must_be_http_without_a_user() {
    let error = |url: &str| find(&OtlpConfig::default(), &[("OTEL_EXPORTER_OTLP_ENDPOINT", url)]).err();
    for url in [
        "h:4318",
        "ftp://h",
        "http://",
        "http://:1",
        "http://h:0",
        "http://h:65536",
        "http://h:+1",
        "http://a,b:1",
        "http://h/ a",
        "http://h/#a",
        "http://[::g]:1",
        "http://u:hunter2@h:1",
        "http://h:1:2",
    ] {
        let error = error(url).unwrap_or_else(|| panic!("{url} is valid")).to_string();
        assert!(error.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: expected "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_sampler_sets_what_the_configuration_has_not() {
    let apply = |trace: TraceConfig, name: &str, argument: Option<&str>| {
        let mut trace = trace;
        let (is_set, warning) = apply_sampler(&mut trace, &|variable| match variable {
            "OTEL_TRACES_SAMPLER" => Some(name.to_owned()),
            _ => argument.map(str::to_owned),
        });
        assert_eq!(is_set, warning.is_none());
        (trace.sample_one_in, is_set)
    };
    let default = TraceConfig::default;
    assert_eq!(apply(default(), "always_on", None), (1, true));
    assert_eq!(apply(default(), "parentbased_always_off", None), (0, true));
    assert_eq!(apply(default(), "traceidratio", Some("0.01")), (100, true));
    assert_eq!(apply(default(), "parentbased_traceidratio", Some("0")), (0, true));
    assert_eq!(apply(default(), "traceidratio", None), (1, true));
    let own = TraceConfig { sample_one_in: 7, ..default() };
    assert_eq!(apply(own, "always_on", None), (7, true));
    for (name, argument) in
        [("jaeger_remote", None), ("traceidratio", Some("2")), ("traceidratio", Some("NaN"))]
    {
        assert_eq!(apply(default(), name, argument), (1000, false), "{name}");
    }
}

#[test]
fn each_exporter_has_an_id_of_its_own() {
    let id = || {
        let resource = ok(&[ENDPOINT]).resource;
        let found = resource.into_iter().find(|(key, _)| key == "service.instance.id").unwrap().1;
        let AttributeValue::Text(id) = found else { panic!("{found:?}") };
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!((&parts[..], &id[14..15]), (&[8, 4, 4, 4, 12][..], "4"));
        assert!("89ab".contains(&id[19..20]), "{id}");
        id
    };
    assert_ne!(id(), id());
}

#[test]
fn the_resource_has_the_names_of_the_container() {
    let settings = ok(&[
        ENDPOINT,
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ("POD_NAME", "shop-1"),
        ("NODE_NAME", "node-7"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=from-attributes,k8s.node.name=node%208,deployment.environment=test",
        ),
    ]);
    let text = |key: &str| {
        let found = settings.resource.iter().find(|(other, _)| other == key);
        found.map(|(_, value)| match value {
            AttributeValue::Text(text) => text.to_string(),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(text("k8s.pod.name").as_deref(), Some("shop-1"));
    assert_eq!(text("k8s.node.name").as_deref(), Some("node 8"));
    assert_eq!(text("service.name").as_deref(), Some("from-attributes"));
    assert_eq!(text("deployment.environment").as_deref(), Some("test"));
    // Elsewhere such variables may mean something else.
    let outside = ok(&[ENDPOINT, ("NODE_NAME", "jenkins")]);
    assert!(!outside.resource.iter().any(|(key, _)| key.starts_with("k8s.")));
    let name = outside.resource.iter().find(|(key, _)| key == "service.name").unwrap();
    assert!(matches!(&name.1, AttributeValue::Text(text) if text.starts_with("unknown_service:coreloop")));
}
