//! Certificates that are loaded again while the server runs.

use std::sync::atomic::{AtomicBool, Ordering};

use coreloop::TlsFailureKind;
use coreloop::client::TlsFileFault;

use crate::authority::{Wanted, text};
use crate::fixture::{Fixture, direct, eventually, failure, greet};

#[test]
fn a_new_certificate_is_used_and_a_bad_one_is_not() {
    let fixture = Fixture::new();
    let mut tls = fixture.settings();
    tls.server_name = Some("new.example".to_owned());
    assert!(fixture.direct(&tls).is_err(), "the first certificate has other names");
    let connected = fixture.direct(&fixture.settings()).unwrap();

    let new = fixture.authority.issue("new", &Wanted { names: &["new.example"], ..Wanted::default() });
    // The certificate first: until the key follows, they do not match.
    std::fs::copy(&new.certificate, &fixture.pair.certificate).unwrap();
    let error = fixture.reload().unwrap_err();
    assert!(matches!(error.fault(), TlsFileFault::KeyMismatch { .. }), "{error}");
    assert_eq!(error.setting(), "tls.certificate");
    assert!(fixture.direct(&tls).is_err());
    assert!(greet(&fixture.direct(&fixture.settings()).unwrap()).is_ok(), "the old one remains");
    std::fs::copy(&new.key, &fixture.pair.key).unwrap();
    fixture.reload().unwrap();
    assert!(greet(&fixture.direct(&tls).unwrap()).is_ok());
    assert!(greet(&connected).is_ok(), "connections that exist go on");

    let expired = fixture.authority.issue("old", &Wanted { has_expired: true, ..Wanted::default() });
    std::fs::copy(&expired.certificate, &fixture.pair.certificate).unwrap();
    std::fs::copy(&expired.key, &fixture.pair.key).unwrap();
    let error = fixture.reload().unwrap_err();
    assert!(matches!(error.fault(), TlsFileFault::NotValidNow { .. }), "{error}");
    assert!(greet(&fixture.direct(&tls).unwrap()).is_ok());
}

#[test]
fn no_handshake_fails_while_certificates_are_written_and_loaded() {
    let fixture = Fixture::new();
    let whole = std::fs::read(&fixture.pair.certificate).unwrap();
    let is_done = AtomicBool::new(false);
    let (address, tls) = (fixture.address(), fixture.settings());
    let handshakes = std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let mut handshakes = 0;
            while !is_done.load(Ordering::Relaxed) {
                assert!(greet(&direct(&address, &tls).unwrap()).is_ok());
                handshakes += 1;
            }
            handshakes
        });
        let mut bad = 0;
        for round in 0..1000 {
            // Half of the rounds find a file that is being written.
            let end = if round % 2 == 0 { whole.len() * (round % 90) / 100 } else { whole.len() };
            std::fs::write(&fixture.pair.certificate, &whole[..end]).unwrap();
            bad += u64::from(fixture.reload().is_err());
        }
        eventually("a few handshakes", || fixture.tls().full_handshakes >= 5);
        is_done.store(true, Ordering::Relaxed);
        assert_eq!(bad, 500);
        caller.join().unwrap()
    });
    assert_eq!(fixture.tls().full_handshakes, handshakes);
    assert_eq!(fixture.tls().failures.iter().sum::<u64>(), 0, "{:?}", fixture.tls());
}

#[test]
fn a_client_whose_authority_is_removed_cannot_resume_its_session() {
    let fixture = Fixture::with(|authority, config| {
        std::fs::copy(authority.ca(), authority.path("clients.pem")).unwrap();
        config.tls.client_ca = text(&authority.path("clients.pem"));
    });
    let client = fixture.authority.client();
    let tls = fixture.settings_of(&client);
    let caller = fixture.client("https", &tls);
    let _: String = caller.call_value("Greeter.Greet", "you").unwrap();
    let other = crate::authority::Authority::new();
    std::fs::copy(other.ca(), fixture.authority.path("clients.pem")).unwrap();
    fixture.reload().unwrap();
    let error = fixture.direct(&tls).and_then(|direct| greet(&direct)).unwrap_err();
    assert_eq!(failure(&error).kind(), TlsFailureKind::Alert);
    // The same client, which has a ticket, needs further connections when calls run side by side.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..8 {
                    let _ = caller.call_value::<str, String>("Greeter.Greet", "you");
                }
            });
        }
    });
    assert_eq!(fixture.tls().resumed_handshakes, 0);
}
