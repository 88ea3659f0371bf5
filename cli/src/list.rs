//! `coreloop list`: the methods of a server, one line each, with their documentation below.

use coreloop::Code;
use coreloop::client::CallError;
use coreloop::service::MethodInfo;

use crate::args::ListArgs;
use crate::failure::Failure;
use crate::line::{Line, codec_of, encoded};

/// Runs the command.
pub fn run(args: &ListArgs) -> Result<(), Failure> {
    let codec = codec_of(args.target.scheme, None)?;
    let line = Line::connect(&args.target, codec, Some(args.timeout), &args.tls);
    let line = line.map_err(|error| Failure::call(&error))?;
    let service = args.service.as_deref().unwrap_or_default();
    let asked = encoded(codec, serde_json::json!(service).to_string())?;
    let (reply, _) = line.call("Meta.Methods", &asked).map_err(|failure| {
        // Go's servers, and other servers that are not coreloop's.
        let none = "the server has no method Meta.Methods, which `list` calls";
        failure.explain(Code::Unimplemented, none)
    })?;
    let mut methods: Vec<MethodInfo> = serde_json::from_str(&reply)
        .map_err(|error| Failure::error(format!("the reply of Meta.Methods cannot be read: {error}")))?;
    if methods.is_empty() {
        let status = coreloop::Status::not_found(format!("there is no service {service:?} here"));
        return Err(Failure::call(&CallError::Status(status)));
    }
    methods.sort_by(|one, other| one.name.cmp(&other.name));
    let mut text = String::new();
    for method in &methods {
        describe(method, &mut text);
    }
    crate::print(&text)
}

/// Writes `Arith.Multiply  {A: i64, B: i64} -> i64   pooled`, then the documentation, indented.
fn describe(method: &MethodInfo, out: &mut String) {
    let MethodInfo { name, signature, kind, docs, .. } = method;
    // The server's text may contain any character; it must not control the terminal, and a method must be one line.
    let clean = |text: &str| text.replace(char::is_control, "\u{fffd}");
    out.push_str(&format!("{}  {}   {}\n", clean(name), clean(signature), clean(kind)));
    for line in docs.trim_end().lines() {
        out.push_str(format!("      {}", clean(line.trim_end())).trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_one_line_and_its_documentation_is_indented() {
        let method = MethodInfo {
            name: "Arith.Multiply".into(),
            signature: "{A: i64, B: i64} -> i64".into(),
            kind: "pooled".into(),
            docs: "Product of the two.\n\nIt wraps.\n".into(),
            ..MethodInfo::default()
        };
        let mut text = String::new();
        describe(&method, &mut text);
        assert_eq!(
            text,
            "Arith.Multiply  {A: i64, B: i64} -> i64   pooled\n      Product of the two.\n\n      It wraps.\n"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let method = MethodInfo { docs: "\u{1b}[2J".into(), ..MethodInfo::default() };
        let mut text = String::new();
        describe(&method, &mut text);
        assert!(!text.contains('\u{1b}'));
    }
}
