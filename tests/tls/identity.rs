//! Certificates of clients: who is refused, and what is known of those that are not. Certificates by name.

use coreloop::client::{CallError, ClientTls};
use coreloop::config::ClientAuth;
use coreloop::{Server, TlsFailureKind};

use crate::authority::{Authority, Pair, Wanted, text};
use crate::fixture::{Fixture, eventually, failure, greet};

fn who(fixture: &Fixture, tls: &ClientTls) -> Result<Vec<String>, CallError> {
    fixture.client("native+tls", tls).call_value("Greeter.Who", &())
}

/// Connects and calls: in TLS 1.3 a client learns only then that the server refuses its certificate.
fn refused(fixture: &Fixture, tls: &ClientTls) -> CallError {
    fixture.direct(tls).and_then(|direct| greet(&direct)).unwrap_err()
}

#[test]
fn a_certificate_names_the_peer() {
    let fixture = Fixture::with(|authority, config| config.tls.client_ca = text(&authority.ca()));
    let client = fixture.authority.client();
    let known = who(&fixture, &fixture.settings_of(&client)).unwrap();
    assert_eq!(known, ["CN=client", "orders.shop.example", "spiffe://shop/orders"]);
}

#[test]
fn rules_know_a_caller_by_its_certificate() {
    let fixture = Fixture::with(|authority, config| {
        config.tls.client_ca = text(&authority.ca());
        config.tls.client_auth = ClientAuth::Optional;
        let rules = ["Meta.*=anyone", "Greeter.Who=spiffe://shop/*", "Greeter.Greet=dns.example"];
        config.auth.allow = rules.map(str::to_owned).to_vec();
    });
    let authority = &fixture.authority;
    let names =
        authority.issue("names", &Wanted { names: &["dns.example", "b.example"], ..Wanted::default() });
    let service = fixture.settings_of(&authority.client());
    assert_eq!(who(&fixture, &service).unwrap().len(), 3);
    let code = |result: Result<(), CallError>| result.map_err(|error| error.code());
    let denied = Err(coreloop::Code::PermissionDenied);
    assert_eq!(code(greet(&fixture.direct(&service).unwrap()).map(drop)), denied);
    let host = fixture.settings_of(&names);
    assert_eq!(code(greet(&fixture.direct(&host).unwrap()).map(drop)), Ok(()));
    assert_eq!(code(who(&fixture, &host).map(drop)), denied);
    let none = who(&fixture, &fixture.settings()).map(drop);
    assert_eq!(code(none), Err(coreloop::Code::Unauthenticated));
}

#[test]
fn without_a_valid_certificate_a_client_is_refused() {
    let fixture = Fixture::with(|authority, config| {
        let revoked =
            authority.issue("revoked", &Wanted { names: &["revoked.example"], ..Wanted::default() });
        config.tls.client_ca = text(&authority.ca());
        config.tls.client_crl = text(&authority.revoke(&[&revoked]));
    });
    let authority = &fixture.authority;
    let none = refused(&fixture, &fixture.settings());
    assert_eq!(failure(&none).to_string(), "TLS: the peer sent the alert certificate_required");
    eventually("it is counted", || fixture.tls().failed(TlsFailureKind::NoCertificate) == 1);

    let expired = authority.issue("expired", &Wanted { has_expired: true, ..Wanted::default() });
    let error = refused(&fixture, &fixture.settings_of(&expired));
    assert_eq!(failure(&error).to_string(), "TLS: the peer sent the alert certificate_expired");

    let other = Authority::new().client();
    // The folder of the other authority is gone; this one issues a pair and signs nothing else with it.
    assert!(!other.certificate.exists());
    let stranger = Authority::new();
    let error = refused(&fixture, &fixture.settings_of(&stranger.client()));
    assert_eq!(failure(&error).to_string(), "TLS: the peer sent the alert unknown_ca");

    let revoked =
        Pair { certificate: authority.path("revoked.pem"), key: authority.path("revoked.key"), ..expired };
    let error = refused(&fixture, &fixture.settings_of(&revoked));
    assert_eq!(failure(&error).kind(), TlsFailureKind::Alert, "{error}");
    eventually("all are counted", || fixture.tls().failed(TlsFailureKind::Certificate) == 3);
    assert_eq!(fixture.tls().full_handshakes, 0);

    // A certificate that is not on the list is accepted.
    let direct = fixture.direct(&fixture.settings_of(&authority.client())).unwrap();
    assert!(greet(&direct).is_ok());
}

#[test]
fn an_optional_certificate_may_be_missing_and_must_be_valid() {
    let fixture = Fixture::with(|authority, config| {
        config.tls.client_ca = text(&authority.ca());
        config.tls.client_auth = ClientAuth::Optional;
    });
    assert_eq!(who(&fixture, &fixture.settings()).unwrap(), [""; 0]);
    let client = fixture.authority.client();
    assert_eq!(who(&fixture, &fixture.settings_of(&client)).unwrap().len(), 3);
    let stranger = Authority::new();
    let error = refused(&fixture, &fixture.settings_of(&stranger.client()));
    assert_eq!(failure(&error).to_string(), "TLS: the peer sent the alert unknown_ca");
}

#[test]
fn a_client_gets_the_certificate_for_the_name_that_it_asks_for() {
    let fixture = Fixture::with(|authority, config| {
        for (name, names) in [("shop", &["shop.example"][..]), ("any", &["*.any.example", "SHOP.example"])] {
            let pair = authority.issue(name, &Wanted { names, ..Wanted::default() });
            config.tls.certificate.push(text(&pair.certificate));
            config.tls.key.push(text(&pair.key));
        }
    });
    // The client verifies the name, so a wrong certificate would be an error.
    for name in ["localhost", "shop.example", "SHOP.example", "a.any.example"] {
        let mut tls = fixture.settings();
        tls.server_name = Some(name.to_owned());
        assert!(greet(&fixture.direct(&tls).unwrap()).is_ok(), "{name}");
    }
    // Unknown names, and more labels than a `*` stands for, get the first.
    for name in ["unknown.example", "a.b.any.example", "any.example"] {
        let mut tls = fixture.settings();
        tls.server_name = Some(name.to_owned());
        let error = fixture.direct(&tls).unwrap_err();
        assert_eq!(failure(&error).kind(), TlsFailureKind::Certificate, "{name}: {error}");
        assert!(error.to_string().contains("localhost"), "{name}: {error}");
    }
}

#[test]
fn a_server_with_unusable_files_does_not_start() {
    let authority = Authority::new();
    let good = authority.server();
    let expired = authority.issue("old", &Wanted { has_expired: true, ..Wanted::default() });
    let half = authority.path("half.pem");
    let whole = std::fs::read(&good.certificate).unwrap();
    std::fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    let other = authority.client();
    for (certificate, key, expected) in [
        (&authority.path("none.pem"), &good.key, "cannot be read: No such file"),
        (&half, &good.key, "expected complete PEM sections"),
        (&good.key, &good.key, "expected a PEM section with a certificate; found none"),
        (&good.certificate, &good.certificate, "expected a PEM section with a private key; found none"),
        (&good.certificate, &other.key, "expected the certificate of the private key in"),
        (
            &expired.certificate,
            &expired.key,
            "expected a certificate that is valid now; it expired on 2021-01-01",
        ),
    ] {
        let result = Server::builder()
            .configure(|config| {
                config.listen = vec!["127.0.0.1:0".to_owned()];
                config.tls.certificate = vec![text(certificate)];
                config.tls.key = vec![text(key)];
            })
            .start();
        let error = result.map(drop).expect_err("an error").to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("BEGIN"), "{error}");
    }
    let unequal = Server::builder().configure(|config| config.tls.key = vec!["a".to_owned()]).start();
    assert!(unequal.err().unwrap().to_string().contains("as many files as `tls.certificate`"));
    let missing = Server::builder().listen("native+tls:127.0.0.1:0").start();
    assert!(missing.err().unwrap().to_string().contains("expected `tls.certificate`"));
}
