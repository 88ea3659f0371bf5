//! The OpenAPI 3.1 document of a server's methods, as they answer over HTTP (spec.openapis.org/oas/v3.1.0).

use serde_json::{Map, Value, json};

use super::schema::Schemas;
use crate::codec::Codec;
use crate::config;
use crate::method_name::MethodName;
use crate::service::Method;
use crate::status::Code;

/// Returns the document.
pub(super) fn document(methods: &[Method], config: &config::HttpConfig) -> Value {
    let mut schemas = Schemas::default();
    let mut paths = Map::new();
    // A method whose argument is a stream cannot be called over HTTP/1.1.
    let is_callable = |method: &&Method| method.accepts_codec(Codec::Json) && !method.shape().receives();
    for method in methods.iter().filter(is_callable) {
        let Ok(name) = MethodName::parse(method.name()) else { continue };
        paths.insert(name.http_path(), item(name.service(), method, &mut schemas));
    }
    let mut components = schemas.into_components();
    components.insert("coreloop.Error".into(), error_schema());
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": or(&config.application_name, "The methods of this server"),
            "description": "Unary calls in the manner of the Connect protocol: the body is the argument, the reply's body the result. A result that is a stream of messages is newline-delimited JSON.",
            "version": or(&config.application_version, env!("CARGO_PKG_VERSION")),
        },
        "paths": paths,
        "components": { "schemas": components },
    })
}

/// Returns the methods with the schemas of their arguments, for the console of the admin listener: also those with streams of
/// arguments, which HTTP/1.1 does not carry. Routes are not among them.
#[cfg(feature = "admin")]
pub(in crate::server) fn described(methods: &[Method]) -> Value {
    let mut schemas = Schemas::default();
    let mut described = Vec::new();
    for method in methods.iter().filter(|method| !method.is_route()) {
        described.push(json!({
            "name": method.name(),
            "service": method.service().unwrap_or_default(),
            "docs": method.documentation(),
            "signature": method.signature(),
            "runs": method.runs().name(),
            "shape": method.shape().name(),
            "idempotent": method.is_idempotent(),
            "takes_json": method.accepts_codec(Codec::Json),
            "codecs": method.codec_names().collect::<Vec<_>>(),
            "argument_optional": method.takes_empty_body(),
            "argument": schemas.schema_of(method.argument().shape()),
            "reply": schemas.schema_of(method.reply().shape()),
        }));
    }
    json!({ "methods": described, "schemas": schemas.into_components() })
}

fn item(service: &str, method: &Method, schemas: &mut Schemas) -> Value {
    let argument = schemas.schema_of(method.argument().shape());
    let reply = schemas.schema_of(method.reply().shape());
    let content = |schema: &Value| json!({ "application/json": { "schema": schema } });
    let is_required = !method.takes_empty_body();
    let result = if method.shape().sends() {
        json!({
            "description": "The messages of the result, one on each line. A body that ends without its last chunk is incomplete: the call failed.",
            "content": { "application/x-ndjson": { "schema": reply } },
        })
    } else {
        json!({ "description": "The result.", "content": content(&reply) })
    };
    let common = json!({
        "tags": [service],
        "summary": method.documentation().lines().next().unwrap_or_default(),
        "description": format!("{}\n\n`{}`", method.documentation(), method.signature()).trim().to_owned(),
        "x-coreloop-runs": method.runs().name(),
        "responses": {
            "200": result,
            "default": {
                "description": "The call failed.",
                "content": content(&json!({ "$ref": "#/components/schemas/coreloop.Error" })),
            },
        },
    });
    let mut post = common.clone();
    post["operationId"] = json!(method.name());
    post["requestBody"] = json!({ "required": is_required, "content": content(&argument) });
    post["parameters"] = json!([{
        "name": "Connect-Timeout-Ms",
        "in": "header",
        "description": "Milliseconds until the caller stops waiting.",
        "schema": { "type": "integer", "minimum": 1, "maximum": 9_999_999_999_u64 },
    }]);
    let mut item = json!({ "post": post });
    if method.is_idempotent() {
        let mut get = common;
        get["operationId"] = json!(format!("{}.get", method.name()));
        get["parameters"] = json!([
            { "name": "encoding", "in": "query", "required": false, "schema": { "const": "json" } },
            { "name": "message", "in": "query", "required": is_required, "content": content(&argument) },
        ]);
        item["get"] = get;
    }
    item
}

fn error_schema() -> Value {
    let codes: Vec<&str> =
        Code::ALL.into_iter().filter(|code| *code != Code::Ok).map(Code::connect_name).collect();
    json!({
        "type": "object",
        "properties": {
            "code": { "type": "string", "enum": codes },
            "message": { "type": "string" },
        },
        "required": ["code"],
    })
}
