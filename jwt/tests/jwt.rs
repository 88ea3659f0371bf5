//! Tokens of real keys at a real server: what is accepted, what is refused, rotation.

#![allow(missing_docs)]

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use coreloop::client::Client;
use coreloop::codec::Codec;
use coreloop::interceptor::Permissions;
use coreloop::{Code, Context, Server};
use coreloop_jwt::JwtCheck;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// A private key, and its public one as a JWKS file has it.
struct Key {
    key: EncodingKey,
    algorithm: Algorithm,
    jwk: Value,
}

impl Key {
    fn new(algorithm: Algorithm, id: Option<&str>) -> Key {
        let key = match algorithm {
            Algorithm::ES256 => {
                let pkcs8 =
                    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                        .unwrap();
                EncodingKey::from_ec_der(pkcs8.as_ref())
            }
            Algorithm::EdDSA => EncodingKey::from_ed_der(
                Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap().as_ref(),
            ),
            Algorithm::RS256 => {
                use aws_lc_rs::encoding::AsDer;
                let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
                let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
                // PKCS #1 is what is inside; the last 1,190 bytes or so of PKCS #8 for this size.
                EncodingKey::from_rsa_der(pkcs1(der.as_ref()))
            }
            other => panic!("{other:?}"),
        };
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        match id {
            Some(id) => jwk["kid"] = json!(id),
            None => drop(jwk.as_object_mut().unwrap().remove("kid")),
        }
        Key { key, algorithm, jwk }
    }

    fn token(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = self.jwk["kid"].as_str().map(str::to_owned);
        encode(&header, claims, &self.key).unwrap()
    }
}

/// Returns the RSAPrivateKey within a PrivateKeyInfo (RFC 5208): version, algorithm, and an OCTET STRING.
fn pkcs1(pkcs8: &[u8]) -> &[u8] {
    // SEQUENCE (4 bytes of head), INTEGER 0 (3), AlgorithmIdentifier (15), OCTET STRING (4 bytes of head).
    let inner = &pkcs8[4 + 3 + 15..];
    assert_eq!(inner[..2], [0x04, 0x82]);
    &inner[4..]
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = json!({
        "sub": "ann", "iss": "https://login", "aud": ["orders", "stock"], "exp": now() + 600, "roles": ["admin", "ops"],
    });
    change(&mut claims);
    claims
}

struct Scene {
    _server: Server,
    client: Client,
    check: Arc<JwtCheck>,
    file: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

fn set(keys: &[&Key]) -> String {
    json!({ "keys": keys.iter().map(|key| &key.jwk).collect::<Vec<_>>() }).to_string()
}

fn scene(keys: &[&Key]) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, set(keys)).unwrap();
    let check = JwtCheck::from_file(&file).unwrap().issuer("https://login").audience("orders");
    let check = Arc::new(check);
    let server = Server::builder()
        .cores(1)
        .workers(1)
        .listen("127.0.0.1:0")
        .interceptor(check.clone())
        .interceptor(Permissions::new().allow("Who.*", ["authenticated"]))
        .method("Who.Am", |cx: &Context<'_>, _n: i64| {
            let roles: Vec<&str> = cx.extensions().roles().iter().map(|role| &**role).collect();
            Ok(format!("{} {}", cx.principal().unwrap_or("unknown"), roles.join(",")))
        })
        .start()
        .unwrap();
    let client = Client::connect(server.addresses()[0].to_string()).unwrap();
    Scene { _server: server, client, check, file, _folder: folder }
}

impl Scene {
    fn ask(&self, token: &str) -> Result<String, (Code, String)> {
        let value = format!("Bearer {token}");
        let client = self.client.with_metadata("authorization", value.as_bytes()).unwrap();
        let reply = client.call_bytes("Who.Am", Codec::Json, b"1");
        reply.map(|body| String::from_utf8(body).unwrap()).map_err(|error| (error.code(), error.to_string()))
    }

    fn refuses(&self, token: &str, part: &str) {
        let (code, text) = self.ask(token).unwrap_err();
        assert_eq!(code, Code::Unauthenticated, "{text}");
        assert!(text.contains(part), "expected {part:?} in {text:?}");
        assert!(token.is_empty() || !text.contains(token), "the token is in the text");
    }
}

#[test]
fn tokens_of_each_kind_of_key_are_verified() {
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256] {
        for id in [Some("k1"), None] {
            let key = Key::new(algorithm, id);
            let other = Key::new(algorithm, Some("k1"));
            let scene = scene(&[&key]);
            assert_eq!(scene.ask(&key.token(&claims(|_| {}))).unwrap(), "\"ann admin,ops\"", "{algorithm:?}");
            let forged = match id {
                Some(_) => other.token(&claims(|_| {})),
                None => {
                    let unnamed = Key { jwk: json!({}), ..other };
                    unnamed.token(&claims(|_| {}))
                }
            };
            scene.refuses(&forged, "its signature is wrong");
        }
    }
}

#[test]
fn claims_must_be_those_that_were_configured() {
    let key = Key::new(Algorithm::ES256, Some("k1"));
    let scene = scene(&[&key]);
    let token = |change: &dyn Fn(&mut Value)| key.token(&claims(|claims| change(claims)));
    for (change, part) in [
        (&(|claims: &mut Value| claims["exp"] = json!(now() - 61)) as &dyn Fn(&mut Value), "it has expired"),
        (&|claims| drop(claims.as_object_mut().unwrap().remove("exp")), "lacks one of exp"),
        (&|claims| claims["exp"] = json!("soon"), "the bearer token"),
        (&|claims| claims["nbf"] = json!(now() + 120), "not valid yet"),
        (&|claims| claims["iss"] = json!("https://other"), "another issuer"),
        (&|claims| drop(claims.as_object_mut().unwrap().remove("iss")), "lacks one of"),
        (&|claims| claims["aud"] = json!("stock"), "another audience"),
        (&|claims| drop(claims.as_object_mut().unwrap().remove("aud")), "lacks one of"),
        (&|claims| drop(claims.as_object_mut().unwrap().remove("sub")), "names no subject"),
        (&|claims| claims["sub"] = json!(""), "names no subject"),
        (&|claims| claims["roles"] = json!([1]), "roles are not texts"),
        (&|claims| claims["roles"] = json!(vec!["r"; 1025]), "more than 1024 roles"),
    ] {
        scene.refuses(&token(change), part);
    }
    assert_eq!(scene.ask(&token(&|claims| claims["exp"] = json!(now() - 30))).unwrap(), "\"ann admin,ops\"");
    assert_eq!(scene.ask(&token(&|claims| claims["aud"] = json!("orders"))).unwrap(), "\"ann admin,ops\"");
    assert_eq!(scene.ask(&token(&|claims| claims["roles"] = json!("a b"))).unwrap(), "\"ann a,b\"");
    assert_eq!(scene.ask(&token(&|claims| claims["roles"] = json!(null))).unwrap(), "\"ann \"");
}

#[test]
fn texts_that_are_no_tokens_are_refused() {
    let key = Key::new(Algorithm::ES256, Some("k1"));
    let scene = scene(&[&key]);
    let good = key.token(&claims(|_| {}));
    let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    for text in [
        "x",
        "a.b.c",
        "..",
        &format!("{head}.{body}"),
        &format!("{head}.{body}."),
        &format!("{head}.{body}.{signature}.x"),
        &format!("{head}=.{body}.{signature}"),
        // {"alg":"none"}
        &format!("eyJhbGciOiJub25lIn0.{body}."),
        // {"alg":"HS256","kid":"k1"}: the public key is no secret.
        &format!("eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.{body}.{signature}"),
    ] {
        scene.refuses(text, "the bearer token");
    }
    scene.refuses("", "");
    let (code, text) = scene.ask(&"x".repeat(17 << 10)).unwrap_err();
    assert!(code == Code::Unauthenticated && text.contains("at most 16384 bytes, found 17408"), "{text}");
    // Each byte of the signature counts. The last character has bits beyond the last byte, which must be 0.
    for at in 0..signature.len() {
        let mut changed = signature.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        scene.refuses(&format!("{head}.{body}.{changed}"), "the bearer token");
    }
}

#[test]
fn keys_rotate_with_the_file() {
    let [old, new] = ["old", "new"].map(|id| Key::new(Algorithm::EdDSA, Some(id)));
    let scene = scene(&[&old]);
    scene.refuses(&new.token(&claims(|_| {})), "a key that is not known");
    std::fs::write(&scene.file, set(&[&old, &new])).unwrap();
    assert_eq!(scene.check.reload().unwrap(), 2);
    for key in [&old, &new] {
        assert_eq!(scene.ask(&key.token(&claims(|_| {}))).unwrap(), "\"ann admin,ops\"");
    }
    // What cannot be used changes nothing.
    for (text, part) in [
        ("{", "expected a JSON Web Key Set"),
        ("{\"keys\": []}", "expected at least one key"),
        (&set(&[&old, &old]), "found \"old\" twice"),
        (&json!({ "keys": vec![&old.jwk; 257] }).to_string(), "at most 256 keys, found 257"),
        (r#"{"keys":[{"kty":"EC","crv":"P-999","x":"a","y":"b"},{"kty":"x"},7]}"#, "at least one key"),
    ] {
        std::fs::write(&scene.file, text).unwrap();
        let error = scene.check.reload().unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(scene.ask(&new.token(&claims(|_| {}))).unwrap(), "\"ann admin,ops\"");
    }
    // A key that is gone from the file is not used any more.
    std::fs::write(&scene.file, set(&[&new])).unwrap();
    scene.check.reload().unwrap();
    scene.refuses(&old.token(&claims(|_| {})), "a key that is not known");
}

#[test]
fn keys_for_another_use_or_algorithm_are_not_used() {
    let mut key = Key::new(Algorithm::RS256, Some("k1"));
    key.jwk["alg"] = json!("RS512");
    let other = Key::new(Algorithm::EdDSA, Some("k2"));
    let scene = scene(&[&key, &other]);
    scene.refuses(&key.token(&claims(|_| {})), "a key that is not known");
    key.jwk["alg"] = json!("RS256");
    key.jwk["use"] = json!("enc");
    std::fs::write(&scene.file, set(&[&key, &other])).unwrap();
    assert_eq!(scene.check.reload().unwrap(), 1);
    scene.refuses(&key.token(&claims(|_| {})), "a key that is not known");
    key.jwk["use"] = json!("sig");
    std::fs::write(&scene.file, set(&[&key, &other])).unwrap();
    scene.check.reload().unwrap();
    assert_eq!(scene.ask(&key.token(&claims(|_| {}))).unwrap(), "\"ann admin,ops\"");
}
