//! The options in parentheses: of `#[coreloop::service(…)]` and of `#[rpc(…)]`.
//!
//! Every mistake is reported at its own token, with the list of valid options.

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Ident, LitBool, LitStr, Path, Result, Token, Visibility};

use crate::rename::RenameRule;

/// The options of `#[coreloop::service(…)]`, as they are written.
const SERVICE_OPTIONS: [&str; 9] = [
    "name = \"…\"",
    "rename = \"…\"",
    "package = \"…\"",
    "rename_all = \"…\"",
    "client = false",
    "client_vis = \"…\"",
    "crate = path",
    "missing_fields = \"…\"",
    "codecs(path, …)",
];
/// The options of `#[rpc(…)]` on a function, as they are written.
const RPC_OPTIONS: [&str; 9] = [
    "name = \"…\"",
    "rename = \"…\"",
    "inline",
    "pooled",
    "blocking",
    "idempotent",
    "argument = path",
    "reply = path",
    "skip",
];

/// The options of `#[coreloop::service(…)]`.
pub struct ServiceOptions {
    /// The service's name, if it is not the type's.
    pub name: Option<LitStr>,
    /// The package, which precedes the name.
    pub package: Option<LitStr>,
    /// How the fields of several arguments are named.
    pub rename_all: RenameRule,
    /// Whether a client is generated.
    pub has_client: bool,
    /// The client's visibility, if it is given.
    pub client_vis: Option<Visibility>,
    /// The path of coreloop.
    pub root: TokenStream,
    /// The variant of `MissingFields`, if the service overrides the rule.
    pub missing_fields: Option<Ident>,
    /// The user's own codecs, which the service and its client accept.
    pub codecs: Vec<Path>,
}

impl ServiceOptions {
    /// Parses the options.
    pub fn parse(tokens: TokenStream) -> Result<ServiceOptions> {
        let (mut name, mut client, mut client_vis, mut root): (Option<LitStr>, _, _, _) =
            (None, None, None, None);
        let (mut missing_fields, mut package) = (None, None);
        let mut rename_all = RenameRule::None;
        let mut codecs = Vec::new();
        let mut seen = Seen::default();
        let parser = syn::meta::parser(|meta| {
            match seen.key(&meta, &SERVICE_OPTIONS)?.as_str() {
                "name" | "rename" => name = Some(service_name(&meta)?),
                "package" => package = Some(service_name(&meta)?),
                "rename_all" => rename_all = rename_rule(&meta)?,
                "client" => client = Some(meta.value()?.parse::<LitBool>()?),
                "client_vis" => {
                    let text: LitStr = meta.value()?.parse()?;
                    let vis = text.parse().map_err(|_| {
                        Error::new(text.span(), "expected a visibility: `\"pub\"`, `\"pub(crate)\"`, `\"\"`")
                    })?;
                    client_vis = Some((text, vis));
                }
                "missing_fields" => missing_fields = Some(missing_fields_rule(&meta)?),
                "codecs" => {
                    let content;
                    syn::parenthesized!(content in meta.input);
                    let list = Punctuated::<Path, Token![,]>::parse_terminated(&content)?;
                    if list.is_empty() {
                        return Err(meta.error("expected the codecs' types, `codecs(Lines)`"));
                    }
                    codecs = list.into_iter().collect();
                }
                "crate" => root = Some(meta.value()?.call(Path::parse_mod_style)?),
                _ => return Err(unknown(&meta, &SERVICE_OPTIONS)),
            }
            Ok(())
        });
        parser.parse2(tokens)?;
        let has_client = client.is_none_or(|client| client.value());
        if let (false, Some((text, _))) = (has_client, &client_vis) {
            return Err(Error::new(
                text.span(),
                "`client_vis` contradicts `client = false`: leave one of them out",
            ));
        }
        if let (Some(_), Some(name)) = (&package, &name)
            && name.value().contains('.')
        {
            return Err(Error::new(
                name.span(),
                "the name has a package of its own: remove it, or remove `package`",
            ));
        }
        Ok(ServiceOptions {
            name,
            package,
            rename_all,
            has_client,
            client_vis: client_vis.map(|(_, vis)| vis),
            root: root.map_or_else(|| quote!(::coreloop), |path| quote!(#path)),
            missing_fields,
            codecs,
        })
    }
}

/// Returns the variant of `MissingFields` that the option names.
fn missing_fields_rule(meta: &ParseNestedMeta<'_>) -> Result<Ident> {
    let text: LitStr = meta.value()?.parse()?;
    let variant = match text.value().as_str() {
        "by_protocol" => "ByProtocol",
        "zero" => "Zero",
        "error" => "Error",
        _ => return Err(Error::new(text.span(), "expected `\"by_protocol\"`, `\"zero\"` or `\"error\"`")),
    };
    Ok(Ident::new(variant, text.span()))
}

/// Returns the rule for the names of fields.
fn rename_rule(meta: &ParseNestedMeta<'_>) -> Result<RenameRule> {
    let text: LitStr = meta.value()?.parse()?;
    RenameRule::named(&text.value()).ok_or_else(|| {
        let known: Vec<String> = RenameRule::ALL.iter().map(|(name, _)| format!("`\"{name}\"`")).collect();
        Error::new(text.span(), format!("expected {}", known.join(", ")))
    })
}

/// The thread or pool on which a method runs.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    Inline,
    #[default]
    Pooled,
    Blocking,
}

/// The `#[rpc(…)]` options of one function.
#[derive(Default)]
pub struct RpcOptions {
    /// The name after the dot, if it is not the function's.
    pub name: Option<LitStr>,
    /// Where the method runs.
    pub kind: Kind,
    /// The option that says so, if there is one.
    pub kind_given: Option<Ident>,
    /// The method changes nothing.
    pub is_idempotent: bool,
    /// The function that describes the argument.
    pub argument: Option<Path>,
    /// The function that describes the reply.
    pub reply: Option<Path>,
    /// The function is not a method.
    pub is_skipped: bool,
}

impl RpcOptions {
    /// Parses the options from all the attributes of a function.
    pub fn parse(attrs: &[Attribute]) -> Result<RpcOptions> {
        let mut options = RpcOptions::default();
        let mut kind: Option<Ident> = None;
        let mut seen = Seen::default();
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("rpc")) {
            if matches!(attr.meta, syn::Meta::Path(_)) {
                continue;
            }
            attr.parse_nested_meta(|meta| {
                let key = seen.key(&meta, &RPC_OPTIONS)?;
                match key.as_str() {
                    "name" | "rename" => options.name = Some(method_name(&meta)?),
                    "inline" => options.kind = Kind::Inline,
                    "pooled" => options.kind = Kind::Pooled,
                    "blocking" => options.kind = Kind::Blocking,
                    "idempotent" => options.is_idempotent = true,
                    "argument" => options.argument = Some(meta.value()?.call(Path::parse_mod_style)?),
                    "reply" => options.reply = Some(meta.value()?.call(Path::parse_mod_style)?),
                    "skip" => options.is_skipped = true,
                    _ => return Err(unknown(&meta, &RPC_OPTIONS)),
                }
                if let ("inline" | "pooled" | "blocking", Some(ident)) = (key.as_str(), meta.path.get_ident())
                    && let Some(first) = kind.replace(ident.clone())
                {
                    let message = format!("`{key}` contradicts `{first}`: a method runs in one place");
                    return Err(Error::new_spanned(ident, message));
                }
                Ok(())
            })?;
        }
        options.kind_given = kind;
        if options.is_skipped
            && let Some(other) = seen.keys.iter().find(|key| *key != "skip")
        {
            let message =
                format!("`{other}` has no effect with `skip`, which excludes the function from the service");
            return Err(Error::new_spanned(other, message));
        }
        Ok(options)
    }
}

/// The options found so far, each at most once.
#[derive(Default)]
struct Seen {
    keys: Vec<Ident>,
}

impl Seen {
    fn key(&mut self, meta: &ParseNestedMeta<'_>, known: &[&str]) -> Result<String> {
        let key = meta.path.get_ident().ok_or_else(|| unknown(meta, known))?;
        if self.keys.contains(key) {
            return Err(Error::new_spanned(key, format!("`{key}` is given twice")));
        }
        let is_name = |key: &Ident| key == "name" || key == "rename";
        if is_name(key)
            && let Some(other) = self.keys.iter().find(|key| is_name(key))
        {
            return Err(Error::new_spanned(key, format!("`{key}` and `{other}` are the same option")));
        }
        self.keys.push(key.clone());
        Ok(key.to_string())
    }
}

/// Returns the error for an unknown option, with the nearest known one.
fn unknown(meta: &ParseNestedMeta<'_>, known: &[&str]) -> Error {
    let list: Vec<String> = known.iter().map(|option| format!("`{option}`")).collect();
    let given = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
    let names = known.iter().map(|option| option.split([' ', '(']).next().unwrap_or_default());
    let nearest = names.min_by_key(|name| distance(&given, name));
    match nearest.filter(|name| distance(&given, name) <= name.len().max(given.len()) / 3) {
        Some(nearest) => {
            meta.error(format!("unknown option: did you mean `{nearest}`? expected {}", list.join(", ")))
        }
        None => meta.error(format!("unknown option; expected {}", list.join(", "))),
    }
}

/// Returns the number of characters to insert, remove, replace or swap with their neighbour to turn one name into the
/// other (the distance of Damerau and Levenshtein, each place edited at most once).
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

/// Parses the name of a service: one part, or several with dots between them (`shop.v1.Orders`).
fn service_name(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let text: LitStr = meta.value()?.parse()?;
    if !text.value().split('.').all(is_name_part) {
        let message = "a service's name is one word, with an optional package before it (`shop.v1.Orders`), \
                       without slashes and spaces";
        return Err(Error::new(text.span(), message));
    }
    Ok(text)
}

/// Parses the name of a method: one part.
fn method_name(meta: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let text: LitStr = meta.value()?.parse()?;
    if !is_name_part(&text.value()) {
        let message = "a method's name is one word, without dots, slashes and spaces";
        return Err(Error::new(text.span(), message));
    }
    Ok(text)
}

/// Returns whether `coreloop::MethodName` accepts the text as a part of a name.
fn is_name_part(part: &str) -> bool {
    let is_invalid = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '/');
    !part.is_empty() && !part.contains(is_invalid)
}
