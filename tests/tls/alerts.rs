//! What both sides say of a handshake that fails: the alert by its name, and which side has sent it.

use coreloop::client::{CallError, ClientTls};
use coreloop::config::ClientAuth;
use coreloop::metrics::{MetricSample, MetricValue, server_families};

use crate::authority::{Authority, Wanted, text};
use crate::fixture::{Fixture, direct, eventually, failure, greet};

/// Connects and calls: in TLS 1.3 a client learns only then that the server refuses its certificate.
fn refused(address: &str, tls: &ClientTls) -> CallError {
    direct(address, tls).and_then(|direct| greet(&direct)).unwrap_err()
}

/// Waits until the server has counted one alert of this name in this direction, and no other.
#[track_caller]
fn counted(fixture: &Fixture, direction: &str, name: &str) {
    let expected = vec![(name.to_owned(), 1)];
    let of = |tls: coreloop::TlsSnapshot| match direction {
        "sent" => (tls.alerts_sent, tls.alerts_received),
        _ => (tls.alerts_received, tls.alerts_sent),
    };
    eventually(name, || of(fixture.tls()) == (expected.clone(), Vec::new()));
    let families = server_families(&fixture.server.stats());
    let alerts = families.iter().find(|family| family.name == "coreloop_tls_alerts").unwrap();
    let [sample] = &alerts.samples[..] else { panic!("expected one sample: {alerts:?}") };
    let labels = [("direction", direction.to_owned()), ("alert", name.to_owned())];
    assert_eq!(*sample, MetricSample::new(labels, MetricValue::Count(1)));
}

#[test]
fn a_client_that_refuses_the_server_names_the_alert_that_it_sends() {
    let fixture = Fixture::new();
    let mut stranger = fixture.settings();
    let other = Authority::new();
    stranger.ca = Some(other.ca());
    let error = refused(&fixture.address(), &stranger);
    assert_eq!(
        failure(&error).to_string(),
        "TLS: invalid peer certificate: UnknownIssuer (sent the alert unknown_ca)"
    );
    counted(&fixture, "received", "unknown_ca");

    let fixture = Fixture::new();
    let mut other_name = fixture.settings();
    other_name.server_name = Some("shop.example".to_owned());
    let error = failure(&refused(&fixture.address(), &other_name)).to_string();
    assert!(error.contains("shop.example") && error.ends_with("(sent the alert bad_certificate)"), "{error}");
    counted(&fixture, "received", "bad_certificate");
}

#[test]
fn a_client_that_is_refused_names_the_alert_that_it_receives() {
    let requiring = || {
        Fixture::with(|authority, config| {
            config.tls.client_ca = text(&authority.ca());
            config.tls.client_auth = ClientAuth::Required;
        })
    };
    let fixture = requiring();
    let error = refused(&fixture.address(), &fixture.settings());
    assert_eq!(failure(&error).to_string(), "TLS: the peer sent the alert certificate_required");
    counted(&fixture, "sent", "certificate_required");

    let fixture = requiring();
    let wanted = Wanted { has_expired: true, ..Wanted::default() };
    let expired = fixture.authority.issue("expired", &wanted);
    let error = refused(&fixture.address(), &fixture.settings_of(&expired));
    assert_eq!(failure(&error).to_string(), "TLS: the peer sent the alert certificate_expired");
    counted(&fixture, "sent", "certificate_expired");

    let fixture = requiring();
    let stranger = Authority::new();
    let error = refused(&fixture.address(), &fixture.settings_of(&stranger.client()));
    assert_eq!(failure(&error).to_string(), "TLS: the peer sent the alert unknown_ca");
    counted(&fixture, "sent", "unknown_ca");
}

#[test]
fn a_server_names_the_alert_for_a_protocol_that_it_does_not_serve() {
    // gRPC alone is served here; the client offers native frames.
    let fixture = Fixture::with(|_, config| config.listen = vec!["grpc+tls:127.0.0.1:0".to_owned()]);
    let error = refused(&fixture.address(), &fixture.settings());
    assert_eq!(failure(&error).to_string(), "TLS: the peer sent the alert no_application_protocol");
    counted(&fixture, "sent", "no_application_protocol");
}
