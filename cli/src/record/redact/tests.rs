use std::collections::BTreeMap;

use coreloop::codec::{Bytes, decode, encode_plain};
use serde::{Deserialize, Serialize};

use super::*;

fn redactor() -> Redactor {
    Redactor::new(&["password".to_owned(), "Token".to_owned()])
}

fn json(text: &str) -> Option<String> {
    let names = SecretNames(vec!["password".into(), "Token".into()]);
    super::json::blanked(text.as_bytes(), &names).map(|text| String::from_utf8(text).unwrap())
}

#[test]
fn only_values_of_named_fields_are_blanked_in_json() {
    for (text, want) in [
        (r#"{"user":"a","password":"geheim"}"#, r#"{"user":"a","password":""}"#),
        (
            r#" { "PassWord" : "a\"b\\" , "n":12345678901234567890123.50 } "#,
            r#" { "PassWord" : "" , "n":12345678901234567890123.50 } "#,
        ),
        (r#"{"pass\u0077ord":"geheim"}"#, r#"{"pass\u0077ord":""}"#),
        (r#"{"\ud800":"a","token":"b"}"#, r#"{"\ud800":"a","token":""}"#),
        (
            r#"[{"token":[1,[2],{"a":"b"}]},{"token":-1.5e3},{"token":true},{"token":null}]"#,
            r#"[{"token":[]},{"token":0},{"token":false},{"token":null}]"#,
        ),
        (
            r#"{"token":{"a":"b","c":[1],"d":{"e":7}},"f":[1,2]}"#,
            r#"{"token":{"a":"","c":[],"d":{"e":0}},"f":[1,2]}"#,
        ),
        (r#"{"a":"password","token":"x","token":"y"}"#, r#"{"a":"password","token":"","token":""}"#),
        ("\"password\"", "\"password\""),
        ("{}", "{}"),
        ("-0.5", "-0.5"),
    ] {
        assert_eq!(json(text).as_deref(), Some(want));
    }
    let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
    for text in
        ["{", "", "{\"password\"}", "{\"token\":}", "\"\x01\"", "[1,]", "\"\\x\"", "nul", "1 2", &deep]
    {
        assert_eq!(json(text), None, "{text:.40}");
    }
}

proptest::proptest! {
    #[test]
    fn blanked_json_is_valid_and_hides_the_secret(
        text in "[\"\\\\{}\\[\\]:,a-z0-9 \\.é]{0,40}",
        secret in "[a-zA-Z]{12}",
    ) {
        // Any input is refused or copied, never a panic.
        let _ = json(&text);
        let held = serde_json::json!({"kept": text, "token": [secret, {"a": secret}], "in": {"password": {"b": secret}}});
        let blank = json(&held.to_string()).unwrap();
        proptest::prop_assert!(!blank.contains(&secret), "{blank}");
        let read: serde_json::Value = serde_json::from_str(&blank).unwrap();
        proptest::prop_assert_eq!(&read["kept"], &held["kept"]);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Login {
    user: String,
    password: Option<String>,
    tries: u8,
    since: i64,
    share: f64,
    keys: Vec<SecretKey>,
    by_name: BTreeMap<String, String>,
    kind: SecretKind,
    inner: Vec<Login>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SecretKey {
    token: Bytes,
    kept: Bytes,
    pair: (i32, bool),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum SecretKind {
    Plain,
    Token(String),
    Both(u16, String),
    Named { password: String, left: u64 },
}

fn login(kind: SecretKind) -> Login {
    let key = SecretKey { token: b"secret"[..].into(), kept: b"kept"[..].into(), pair: (-7, true) };
    let leaf = Login {
        user: "u".into(),
        password: Some("secret".into()),
        tries: 3,
        since: -5,
        share: 0.25,
        keys: vec![key.clone(), key],
        by_name: [("token".to_owned(), "secret".to_owned()), ("other".to_owned(), "kept".to_owned())].into(),
        kind,
        inner: Vec::new(),
    };
    Login { inner: vec![leaf.clone()], ..leaf }
}

fn without_secrets(mut login: Login) -> Login {
    login.password = Some(String::new());
    for key in &mut login.keys {
        key.token = b""[..].into();
    }
    login.by_name.insert("token".into(), String::new());
    match &mut login.kind {
        SecretKind::Token(token) => token.clear(),
        SecretKind::Named { password, .. } => password.clear(),
        SecretKind::Plain | SecretKind::Both(..) => {}
    }
    login.inner = login.inner.into_iter().map(without_secrets).collect();
    login
}

#[test]
fn values_are_blanked_in_every_codec_with_fields() {
    let argument = Description::of::<Login>().unwrap();
    let mut redactor = redactor();
    for kind in [
        SecretKind::Plain,
        SecretKind::Token("secret".into()),
        SecretKind::Both(1, "kept".into()),
        SecretKind::Named { password: "secret".into(), left: u64::MAX },
    ] {
        for codec in [Codec::Json, Codec::Gob, Codec::Compact, Codec::MessagePack] {
            let login = login(kind.clone());
            let mut body = Vec::new();
            encode_plain(codec, &login, &mut body).unwrap();
            let blank =
                redactor.blanked(codec, 7, &argument, body).unwrap_or_else(|why| panic!("{codec}: {why:?}"));
            assert!(!blank.windows(6).any(|window| window == b"secret"), "{codec} {login:?}");
            assert_eq!(decode::<Login>(codec, &blank), Ok(without_secrets(login)), "{codec}");
        }
    }
}

#[test]
fn a_body_that_cannot_be_inspected_is_left_out() {
    let mut redactor = redactor();
    let argument = Description::of::<Login>().unwrap();
    for codec in [Codec::Json, Codec::Gob, Codec::Compact, Codec::MessagePack] {
        let wrong = redactor.blanked(codec, 1, &argument, vec![0xff; 9]);
        assert_eq!(wrong, Err(OmissionReason::Undecodable), "{codec}");
        assert_eq!(redactor.blanked(codec, 1, &argument, Vec::new()), Ok(Vec::new()), "{codec}");
    }
    let opaque = |redactor: &mut Redactor, codec| redactor.blanked(codec, 1, &argument, vec![1]);
    assert_eq!(opaque(&mut redactor, Codec::Raw), Err(OmissionReason::Opaque));
    assert_eq!(opaque(&mut redactor, Codec::Protobuf), Err(OmissionReason::Opaque));
    assert_eq!(opaque(&mut redactor, Codec::Fixed), Err(OmissionReason::Opaque), "its type has such a field");
    let plain = Description::of::<(i64, i64)>().unwrap();
    assert_eq!(redactor.blanked(Codec::Fixed, 2, &plain, vec![1; 16]), Ok(vec![1; 16]));
    let mut nothing = Redactor::new(&[]);
    assert_eq!(
        nothing.blanked(Codec::Raw, 1, &argument, vec![1, 2]),
        Ok(vec![1, 2]),
        "nothing was asked for"
    );
}
