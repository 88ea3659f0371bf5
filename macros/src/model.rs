//! The content of a trait or an impl block, in the form that code generation needs: the service, its methods, their
//! names.
//!
//! All errors are collected and reported together.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, Expr, FnArg, Generics, ItemImpl, ItemTrait, Lit, Meta, Path, Result, Signature, Type,
    Visibility,
};

use crate::checks::{clash_with_client, same_names};
use crate::item::{Entry, ServiceItem};
use crate::options::{RpcOptions, ServiceOptions};
use crate::rename::pascal_case;
use crate::signature::{Argument, Form};
use crate::tokens::{names_any, without_self};
use crate::types::is_named;

/// A service.
pub struct Model {
    /// The options of the attribute.
    pub options: ServiceOptions,
    /// The name before the last dot.
    pub name: String,
    /// The name of the type or the trait.
    pub ident: Ident,
    /// What implements the methods.
    pub subject: Subject,
    /// The item's `#[cfg(…)]`.
    pub cfgs: Vec<Attribute>,
    /// The service's methods.
    pub methods: Vec<Method>,
}

/// What implements the methods of a service.
pub enum Subject {
    /// The type of an impl block.
    Type { ty: Box<Type>, generics: Generics },
    /// Any type that implements the trait.
    Contract { vis: Visibility },
}

/// One method of the service.
pub struct Method {
    /// The name of the function.
    pub ident: Ident,
    /// `Service.Method`.
    pub name: String,
    /// The options of its attributes.
    pub options: RpcOptions,
    /// The form of its signature, without `Self`.
    pub form: Form,
    /// The function that describes the argument, without `Self`.
    pub argument_by_hand: Option<TokenStream>,
    /// The function that describes the reply, without `Self`.
    pub reply_by_hand: Option<TokenStream>,
    /// The span at which a mismatch of the result's type is reported.
    pub result_span: Span,
    /// The method's documentation; empty if there is none.
    pub docs: String,
    /// The method's `#[cfg(…)]`.
    pub cfgs: Vec<Attribute>,
    /// The method's `#[deprecated]`.
    pub deprecated: Option<Attribute>,
}

impl Model {
    /// Reads the item.
    pub fn of(options: TokenStream, item: &ServiceItem) -> Result<Model> {
        let options = ServiceOptions::parse(options)?;
        let (ident, subject) = match item {
            ServiceItem::Block(block) => type_of(block)?,
            ServiceItem::Contract(contract) => contract_of(contract)?,
        };
        let own = options.name.as_ref().map_or_else(|| ident.unraw().to_string(), |name| name.value());
        let name = match &options.package {
            Some(package) => format!("{}.{own}", package.value()),
            None => own,
        };
        let cfgs = attributes(item.attrs(), "cfg");
        let mut model = Model { name, ident, subject, cfgs, methods: Vec::new(), options };
        let mut errors: Option<Error> = None;
        let mut note = |error: Error| match &mut errors {
            Some(errors) => errors.combine(error),
            none => *none = Some(error),
        };
        for entry in item.entries() {
            match model.method(entry) {
                Ok(Some(method)) => model.methods.push(method),
                Ok(None) => {}
                Err(error) => note(error),
            }
        }
        same_names(&model.methods).into_iter().for_each(&mut note);
        if model.options.has_client {
            clash_with_client(&model).into_iter().for_each(&mut note);
        }
        errors.map_or(Ok(model), Err)
    }

    /// Returns the method of an item, if it is one.
    fn method(&self, entry: Entry<'_>) -> Result<Option<Method>> {
        let (attrs, sig) = match entry {
            Entry::Function(attrs, sig) => (attrs, sig),
            Entry::Other(attrs) => return no_rpc(attrs),
        };
        let options = RpcOptions::parse(attrs)?;
        if options.is_skipped {
            return Ok(None);
        }
        if sig.receiver().is_none() {
            return self.without_receiver(attrs, sig);
        }
        let mut form = Form::of(sig, self.options.rename_all)?;
        if let (true, Some(kind)) = (form.is_async, &options.kind_given) {
            let message = format!("`{kind}` contradicts `async`: the future runs on the server's executor");
            return Err(Error::new_spanned(kind, message));
        }
        form.reply = self.outside(&form.reply)?;
        form.error = form.error.map(|error| self.outside(&error)).transpose()?;
        form.argument.map_types(|ty| self.outside(ty))?;
        if let (Argument::None, Some(path)) = (&form.argument, &options.argument) {
            return Err(Error::new_spanned(path, "there is no argument to describe"));
        }
        let ident = sig.ident.clone();
        let own = options
            .name
            .as_ref()
            .map_or_else(|| pascal_case(&ident.unraw().to_string()), |name| name.value());
        Ok(Some(Method {
            name: format!("{}.{own}", self.name),
            docs: docs(attrs),
            cfgs: attributes(attrs, "cfg"),
            deprecated: attributes(attrs, "deprecated").pop(),
            result_span: sig.output.span(),
            argument_by_hand: self.path_outside(options.argument.as_ref())?,
            reply_by_hand: self.path_outside(options.reply.as_ref())?,
            ident,
            options,
            form,
        }))
    }

    /// Refuses a function without a receiver if it was meant to be a method: it has an attribute, or takes a context,
    /// or is part of a contract.
    fn without_receiver(&self, attrs: &[Attribute], sig: &Signature) -> Result<Option<Method>> {
        let takes_context = sig.inputs.first().is_some_and(|input| match input {
            FnArg::Typed(input) => match &*input.ty {
                Type::Reference(reference) => is_named(&reference.elem, "Context"),
                ty => is_named(ty, "OwnedContext"),
            },
            FnArg::Receiver(_) => false,
        });
        let has_attribute = attrs.iter().any(|attr| attr.path().is_ident("rpc"));
        let message = match self.subject {
            _ if has_attribute || takes_context => {
                "a method is called on its service: expected `&self` as the first parameter"
            }
            Subject::Contract { .. } => {
                "a contract consists of methods: expected `&self` as the first parameter; a function that is none \
                 is marked `#[rpc(skip)]`"
            }
            Subject::Type { .. } => return Ok(None),
        };
        Err(Error::new_spanned(&sig.ident, message))
    }

    /// Returns the type as written outside of the block, in the client, where `Self` is another type.
    fn outside(&self, ty: &Type) -> Result<Type> {
        match &self.subject {
            Subject::Type { ty: own, .. } => {
                syn::parse2(without_self(ty.to_token_stream(), &own.to_token_stream()))
            }
            Subject::Contract { .. } => {
                refuse_self(ty)?;
                Ok(ty.clone())
            }
        }
    }

    /// Returns the path as written outside of the block.
    fn path_outside(&self, path: Option<&Path>) -> Result<Option<TokenStream>> {
        let Some(path) = path else { return Ok(None) };
        match &self.subject {
            Subject::Type { ty, .. } => Ok(Some(without_self(path.to_token_stream(), &quote!(<#ty>)))),
            Subject::Contract { .. } => {
                refuse_self(path)?;
                Ok(Some(path.to_token_stream()))
            }
        }
    }

    /// Returns the path `coreloop::macro_support`.
    pub fn support(&self) -> TokenStream {
        let root = &self.options.root;
        quote!(#root::macro_support)
    }

    /// Returns the type that implements the methods, if it is known.
    pub fn ty(&self) -> Option<&Type> {
        match &self.subject {
            Subject::Type { ty, .. } => Some(ty),
            Subject::Contract { .. } => None,
        }
    }

    /// Returns the generic parameters of the type that implements the methods.
    pub fn generics(&self) -> Generics {
        match &self.subject {
            Subject::Type { generics, .. } => generics.clone(),
            Subject::Contract { .. } => Generics::default(),
        }
    }

    /// Returns the visibility of the client.
    pub fn client_vis(&self) -> Visibility {
        match (&self.options.client_vis, &self.subject) {
            (Some(vis), _) | (None, Subject::Contract { vis }) => vis.clone(),
            (None, Subject::Type { .. }) => syn::parse_quote!(pub),
        }
    }

    /// Returns the name of a type parameter for the generated code: one that no type of the methods has.
    pub fn free_parameter(&self, candidates: [&str; 3]) -> Ident {
        let types: TokenStream = self
            .methods
            .iter()
            .flat_map(|method| method.form.argument.types().into_iter().chain([&method.form.reply]))
            .chain(self.ty())
            .map(ToTokens::to_token_stream)
            .collect();
        let is_free = |name: &&&str| self.ident != **name && !names_any(types.clone(), &[name.to_string()]);
        format_ident!("{}", candidates.iter().find(is_free).unwrap_or(&candidates[0]))
    }
}

/// Returns the name and the type of an impl block.
fn type_of(block: &ItemImpl) -> Result<(Ident, Subject)> {
    if let Some((path, _)) = &block.trait_ {
        let message = "expected an inherent impl, `impl Arith { … }`; found the impl of a trait: a contract has \
                       the attribute on the trait itself";
        return Err(Error::new_spanned(path, message));
    }
    let ident = type_name(&block.self_ty)?;
    Ok((ident, Subject::Type { ty: block.self_ty.clone(), generics: block.generics.clone() }))
}

/// Returns the name and the visibility of a contract.
fn contract_of(contract: &ItemTrait) -> Result<(Ident, Subject)> {
    if !contract.generics.params.is_empty() {
        let message = "a contract has one type for each argument and reply, which callers know too: it cannot be \
                       generic; name the types";
        return Err(Error::new_spanned(&contract.generics, message));
    }
    if let Some(token) = &contract.unsafety {
        return Err(Error::new_spanned(
            token,
            "a contract cannot be `unsafe`: any peer can call its methods",
        ));
    }
    Ok((contract.ident.clone(), Subject::Contract { vis: contract.vis.clone() }))
}

/// Refuses `Self` in the types of a contract.
fn refuse_self(tokens: &impl ToTokens) -> Result<()> {
    if names_any(tokens.to_token_stream(), &["Self".to_owned()]) {
        let message = "callers of a contract do not know what implements it: name the type instead of `Self`";
        return Err(Error::new_spanned(tokens, message));
    }
    Ok(())
}

fn type_name(ty: &Type) -> Result<Ident> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.clone()),
        Type::Group(group) => return type_name(&group.elem),
        Type::Paren(paren) => return type_name(&paren.elem),
        _ => None,
    }
    .ok_or_else(|| Error::new_spanned(ty, "a service is a struct or an enum: expected `impl Arith { … }`"))
}

fn no_rpc(attrs: &[Attribute]) -> Result<Option<Method>> {
    match attributes(attrs, "rpc").first() {
        Some(attr) => Err(Error::new_spanned(attr, "only a function can be a method")),
        None => Ok(None),
    }
}

fn attributes(attrs: &[Attribute], name: &str) -> Vec<Attribute> {
    attrs.iter().filter(|attr| attr.path().is_ident(name)).cloned().collect()
}

/// Returns the doc comments, without the leading space.
fn docs(attrs: &[Attribute]) -> String {
    let line = |attr: &Attribute| match &attr.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    let text: Vec<String> = attrs.iter().filter_map(line).collect();
    let lines: Vec<&str> = text
        .iter()
        .flat_map(|text| text.split('\n'))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    lines.join("\n").trim_end().to_owned()
}
