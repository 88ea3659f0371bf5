//! The options in parentheses: of `#[coreloop::service(…)]` and of `#[rpc(…)]`.
//!
//! Every mistake is reported at its own token, with the options that there are.

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::parse::Parser;
use syn::{Attribute, Error, Ident, LitBool, LitStr, Path, Result, Visibility};

const SERVICE_OPTIONS: &str = "`name = \"…\"`, `client = false`, `client_vis = \"…\"`, `crate = path`";
const RPC_OPTIONS: &str = "`name = \"…\"`, `inline`, `pooled`, `blocking`, `idempotent`, `argument = path`, \
                           `reply = path`, `skip`";

/// What `#[coreloop::service(…)]` says.
pub struct ServiceOptions {
    /// The service's name, if it is not the type's.
    pub name: Option<LitStr>,
    /// Whether there is to be a client.
    pub has_client: bool,
    /// The client's visibility.
    pub client_vis: Visibility,
    /// The path of coreloop.
    pub root: TokenStream,
}

impl ServiceOptions {
    /// Reads them.
    pub fn parse(tokens: TokenStream) -> Result<ServiceOptions> {
        let (mut name, mut client, mut client_vis, mut root) = (None, None, None, None);
        let mut seen = Seen::default();
        let parser = syn::meta::parser(|meta| {
            match seen.key(&meta, SERVICE_OPTIONS)?.as_str() {
                "name" => name = Some(name_part(&meta, "service")?),
                "client" => client = Some(meta.value()?.parse::<LitBool>()?),
                "client_vis" => {
                    let text: LitStr = meta.value()?.parse()?;
                    let vis = text.parse().map_err(|_| {
                        Error::new(text.span(), "expected a visibility: `\"pub\"`, `\"pub(crate)\"`, `\"\"`")
                    })?;
                    client_vis = Some((text, vis));
                }
                "crate" => root = Some(meta.value()?.call(Path::parse_mod_style)?),
                _ => return Err(unknown(&meta, SERVICE_OPTIONS)),
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
        Ok(ServiceOptions {
            name,
            has_client,
            client_vis: client_vis.map_or_else(|| syn::parse_quote!(pub), |(_, vis)| vis),
            root: root.map_or_else(|| quote!(::coreloop), |path| quote!(#path)),
        })
    }
}

/// Where a method runs.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    Inline,
    #[default]
    Pooled,
    Blocking,
}

/// What the `#[rpc(…)]` of one function say.
#[derive(Default)]
pub struct RpcOptions {
    /// The name behind the dot, if it is not the function's.
    pub name: Option<LitStr>,
    /// Where it runs.
    pub kind: Kind,
    /// It changes nothing.
    pub is_idempotent: bool,
    /// The function that describes the argument.
    pub argument: Option<Path>,
    /// The function that describes the reply.
    pub reply: Option<Path>,
    /// It is not a method.
    pub is_skipped: bool,
}

impl RpcOptions {
    /// Reads them from all the attributes of a function.
    pub fn parse(attrs: &[Attribute]) -> Result<RpcOptions> {
        let mut options = RpcOptions::default();
        let mut kind: Option<Ident> = None;
        let mut seen = Seen::default();
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("rpc")) {
            if matches!(attr.meta, syn::Meta::Path(_)) {
                continue;
            }
            attr.parse_nested_meta(|meta| {
                let key = seen.key(&meta, RPC_OPTIONS)?;
                match key.as_str() {
                    "name" => options.name = Some(name_part(&meta, "method")?),
                    "inline" => options.kind = Kind::Inline,
                    "pooled" => options.kind = Kind::Pooled,
                    "blocking" => options.kind = Kind::Blocking,
                    "idempotent" => options.is_idempotent = true,
                    "argument" => options.argument = Some(meta.value()?.call(Path::parse_mod_style)?),
                    "reply" => options.reply = Some(meta.value()?.call(Path::parse_mod_style)?),
                    "skip" => options.is_skipped = true,
                    _ => return Err(unknown(&meta, RPC_OPTIONS)),
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

/// The options that were met, each at most once.
#[derive(Default)]
struct Seen {
    keys: Vec<Ident>,
}

impl Seen {
    fn key(&mut self, meta: &ParseNestedMeta<'_>, known: &str) -> Result<String> {
        let key = meta.path.get_ident().ok_or_else(|| unknown(meta, known))?;
        if self.keys.contains(key) {
            return Err(Error::new_spanned(key, format!("`{key}` is given twice")));
        }
        self.keys.push(key.clone());
        Ok(key.to_string())
    }
}

fn unknown(meta: &ParseNestedMeta<'_>, known: &str) -> Error {
    meta.error(format!("unknown option; expected {known}"))
}

/// A part of a name that the registry will take.
fn name_part(meta: &ParseNestedMeta<'_>, what: &str) -> Result<LitStr> {
    let text: LitStr = meta.value()?.parse()?;
    let value = text.value();
    if value.is_empty() || value.contains(|c: char| c.is_whitespace() || c == '.' || c == '/') {
        let message = format!("a {what}'s name is one word, without dots, slashes and spaces");
        return Err(Error::new(text.span(), message));
    }
    Ok(text)
}
