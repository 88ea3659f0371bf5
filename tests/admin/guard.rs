//! What the admin listener refuses: names of other hosts, changes from other sites, callers without a token.

use coreloop::interceptor::TokenCheck;

use crate::common::shared;
use crate::rig::rig;

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const CANCEL: &str = "reactor=0&connection=0000000000000000&slot=0&id=1";
const CALL: &str = r#"{"method":"Arith.Multiply","arguments":["{\"A\":6,\"B\":7}"]}"#;

#[test]
fn a_change_is_accepted_from_own_pages_and_from_programs_only() {
    let _turn = shared();
    let rig = rig(|builder| builder);
    let (admin, own) = (rig.admin(), format!("http://{}", rig.admin()));
    let other_port = format!("http://{}0", rig.admin());
    for (fields, is_accepted) in [
        (&[("Origin", "http://evil.example")][..], false),
        (&[("Origin", "null")], false),
        (&[("Origin", &*other_port)], false),
        (&[("Sec-Fetch-Site", "cross-site")], false),
        (&[("Sec-Fetch-Site", "same-site")], false),
        (&[("Sec-Fetch-Site", "none")], false),
        (&[("Sec-Fetch-Site", "cross-site"), ("Origin", &own)], false),
        (&[("Sec-Fetch-Site", "same-origin"), ("Origin", "http://evil.example")], false),
        (&[("Sec-Fetch-Site", "same-origin"), ("Origin", &own)], true),
        (&[("Origin", &own)], true),
        (&[], true),
    ] {
        let cancel = rig.post("/calls/cancel", &[fields, &[FORM]].concat(), CANCEL);
        // There is no such call.
        assert_eq!(cancel.status, if is_accepted { 404 } else { 403 }, "{fields:?}: {}", cancel.body);
        let call = rig.post("/call", fields, CALL);
        assert_eq!(call.status, if is_accepted { 200 } else { 403 }, "{fields:?}: {}", call.body);
        assert_eq!(call.body.contains("42"), is_accepted, "{}", call.body);
    }
    assert_eq!(rig.get("/calls/cancel", &[]).status, 405);
    assert_eq!(rig.get("/call", &[]).status, 405);
    for form in ["", "reactor=0", "reactor=x&connection=0&slot=0&id=0", "reactor=0&connection=z&slot=0&id=0"]
    {
        assert_eq!(rig.post("/calls/cancel", &[FORM], form).status, 400, "{form}");
    }
    assert_eq!(rig.post("/calls/cancel", &[FORM], "reactor=99&connection=0&slot=0&id=0").status, 404);
    // A name that another site has made resolve to this machine.
    for path in ["/", "/calls", "/config", "/events?page=/"] {
        let answer = rig.get(path, &[("Host", "evil.example:6551")]);
        assert!(answer.status == 403 && answer.body.contains("loopback"), "{path}: {}", answer.body);
    }
    let evil =
        [("Host", "evil.example"), ("Origin", "http://evil.example"), ("Sec-Fetch-Site", "same-origin")];
    assert_eq!(rig.post("/call", &evil, CALL).status, 403);
    let port = admin.rsplit_once(':').unwrap().1.to_owned();
    assert_eq!(rig.get("/calls", &[("Host", &format!("localhost:{port}"))]).status, 200);
}

#[test]
fn interceptors_authenticate_operators() {
    let _turn = shared();
    let rig = rig(|builder| builder.admin_interceptor(TokenCheck::new([("operator", "s3cret")])));
    for path in ["/", "/calls", "/metrics", "/events?page=/", "/assets/console.js"] {
        assert_eq!(rig.get(path, &[]).status, 401, "{path}");
        assert_eq!(rig.get(path, &[("Authorization", "Bearer other")]).status, 401, "{path}");
    }
    assert_eq!(rig.post("/call", &[], CALL).status, 401);
    let token = ("Authorization", "Bearer s3cret");
    assert_eq!(rig.get("/calls", &[token]).status, 200);
    assert!(rig.post("/call", &[token], CALL).body.contains("42"));
}
