//! The content of an impl block, in the form that code generation needs: the service, its methods, their names.
//!
//! All errors of a block are collected and reported together.

use std::collections::HashMap;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, Expr, GenericParam, Generics, ImplItem, ImplItemFn, ItemImpl, Lit, Meta, Path, Result,
    Type,
};

use crate::options::{RpcOptions, ServiceOptions};
use crate::signature::{Answer, Argument, Form, Marker};

/// The service of an impl block.
pub struct Model {
    /// The options of the attribute.
    pub options: ServiceOptions,
    /// The name before the dot.
    pub name: String,
    /// The name of the type.
    pub ident: Ident,
    /// The type.
    pub ty: Type,
    /// The type's generic parameters.
    pub generics: Generics,
    /// The block's `#[cfg(…)]`.
    pub cfgs: Vec<Attribute>,
    /// The service's methods.
    pub methods: Vec<Method>,
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
    /// The span at which a type mismatch of the result is reported.
    pub result_span: Span,
    /// The method's documentation; empty if there is none.
    pub docs: String,
    /// The method's `#[cfg(…)]`.
    pub cfgs: Vec<Attribute>,
    /// The method's `#[deprecated]`.
    pub deprecated: Option<Attribute>,
}

/// The markers of a method's types, as expressions.
pub struct Markers {
    /// What the expressions refer to: the descriptions made by hand.
    pub items: TokenStream,
    /// The argument, or the messages of its stream.
    pub argument: TokenStream,
    /// The reply, or the messages of the sink.
    pub reply: TokenStream,
}

impl Model {
    /// Parses the block.
    pub fn of(options: TokenStream, block: &ItemImpl) -> Result<Model> {
        let options = ServiceOptions::parse(options)?;
        if let Some((path, _)) = &block.trait_ {
            let message = "expected an inherent impl, `impl Arith { … }`; found the impl of a trait";
            return Err(Error::new_spanned(path, message));
        }
        let ident = type_name(&block.self_ty)?;
        let name = options.name.as_ref().map_or_else(|| ident.unraw().to_string(), |name| name.value());
        let mut model = Model {
            name,
            ident,
            ty: (*block.self_ty).clone(),
            generics: block.generics.clone(),
            cfgs: attributes(&block.attrs, "cfg"),
            methods: Vec::new(),
            options,
        };
        let mut errors: Option<Error> = None;
        let mut note = |error: Error| match &mut errors {
            Some(errors) => errors.combine(error),
            none => *none = Some(error),
        };
        for item in &block.items {
            match model.method(item) {
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
    fn method(&self, item: &ImplItem) -> Result<Option<Method>> {
        let function = match item {
            ImplItem::Fn(function) => function,
            ImplItem::Const(item) => return no_rpc(&item.attrs),
            ImplItem::Type(item) => return no_rpc(&item.attrs),
            _ => return Ok(None),
        };
        let rpc = function.attrs.iter().find(|attr| attr.path().is_ident("rpc"));
        let options = RpcOptions::parse(&function.attrs)?;
        if options.is_skipped {
            return Ok(None);
        }
        if function.sig.receiver().is_none() {
            return match rpc {
                Some(_) => Err(Error::new_spanned(
                    &function.sig.ident,
                    "a method is called on its service: expected `&self` as the first parameter",
                )),
                None => Ok(None),
            };
        }
        let mut form = Form::of(function)?;
        form.reply = self.outside(&form.reply)?;
        if let Argument::Plain(ty) | Argument::Fixed(ty) | Argument::Stream(ty) = &mut form.argument {
            *ty = self.outside(ty)?;
        }
        if let (Argument::None, Some(path)) = (&form.argument, &options.argument) {
            return Err(Error::new_spanned(path, "there is no argument to describe"));
        }
        let ident = function.sig.ident.clone();
        let own = options
            .name
            .as_ref()
            .map_or_else(|| pascal_case(&ident.unraw().to_string()), |name| name.value());
        Ok(Some(Method {
            name: format!("{}.{own}", self.name),
            docs: docs(function),
            cfgs: attributes(&function.attrs, "cfg"),
            deprecated: attributes(&function.attrs, "deprecated").pop(),
            result_span: function.sig.output.span(),
            argument_by_hand: self.path_outside(options.argument.as_ref()),
            reply_by_hand: self.path_outside(options.reply.as_ref()),
            ident,
            options,
            form,
        }))
    }

    /// Returns the type as written outside of the block, in the client, where `Self` is another type.
    fn outside(&self, ty: &Type) -> Result<Type> {
        syn::parse2(without_self(ty.to_token_stream(), &self.ty.to_token_stream()))
    }

    /// Returns the path as written outside of the block.
    fn path_outside(&self, path: Option<&Path>) -> Option<TokenStream> {
        let ty = &self.ty;
        path.map(|path| without_self(path.to_token_stream(), &quote!(<#ty>)))
    }

    /// Returns the path `coreloop::macro_support`.
    pub fn support(&self) -> TokenStream {
        let root = &self.options.root;
        quote!(#root::macro_support)
    }
}

impl Method {
    /// Returns the span at which mistakes in the argument's type are reported.
    pub fn argument_span(&self) -> Span {
        self.form.argument.ty().map_or(self.ident.span(), Spanned::span)
    }

    /// Returns the markers that encode the method's types. `generics` are those in scope where they are used.
    pub fn markers(&self, model: &Model, generics: &Generics) -> Markers {
        let support = model.support();
        let mut items = TokenStream::new();
        let mut described = |marker: TokenStream, by_hand: &Option<TokenStream>, name: &str| {
            let Some(path) = by_hand else { return marker };
            let name = Ident::new(name, Span::call_site());
            let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
            let ty = &model.ty;
            let uses =
                (!generics.params.is_empty()).then(|| quote!((::core::marker::PhantomData<fn() -> #ty>)));
            items.extend(quote! {
                struct #name #impl_generics #uses #where_clause;

                impl #impl_generics #support::DescribedBy for #name #ty_generics #where_clause {
                    fn description() -> #support::Description {
                        #path()
                    }
                }
            });
            quote!(#support::described::<#name #ty_generics, _>(#marker))
        };
        let argument = described(self.argument_marker(model), &self.argument_by_hand, "ArgumentByHand");
        let reply = described(self.reply_marker(model), &self.reply_by_hand, "ReplyByHand");
        Markers { items, argument, reply }
    }

    /// Returns the marker that encodes the argument or the messages of its stream, as an expression.
    fn argument_marker(&self, model: &Model) -> TokenStream {
        let support = model.support();
        match &self.form.argument {
            Argument::None => marker(model, "plain", &syn::parse_quote!(())),
            Argument::Plain(ty) | Argument::Stream(ty) => marker(model, "plain", ty),
            Argument::Fixed(ty) => marker(model, "fixed", ty),
            Argument::Raw => quote!(#support::Raw),
            Argument::Bytes => quote!(#support::RawBytes),
        }
    }

    /// Returns the marker that encodes the reply or the messages of the sink, as an expression. The type of a reply
    /// with a description by hand and no client to read it needs only to be serializable.
    fn reply_marker(&self, model: &Model) -> TokenStream {
        let support = model.support();
        let reply = &self.form.reply;
        match self.form.reply_marker() {
            Marker::Plain
                if self.reply_by_hand.is_some()
                    && !model.options.has_client
                    && self.form.answer != Answer::Sink =>
            {
                marker(model, "encode_only", reply)
            }
            Marker::Plain => marker(model, "plain", reply),
            Marker::Fixed => marker(model, "fixed", reply),
            Marker::Raw => quote!(#support::Raw),
            Marker::Bytes => quote!(#support::RawBytes),
        }
    }
}

/// Returns the marker of a type, as an expression: the compiler finds whether the type has a message of protobuf, and
/// the service's own codecs are added.
fn marker(model: &Model, function: &str, ty: &Type) -> TokenStream {
    let support = model.support();
    let function = Ident::new(function, Span::call_site());
    let none = quote!(());
    let codecs = model.options.codecs.iter().rev().fold(none, |rest, codec| quote!((#codec, #rest)));
    quote! {
        #support::#function::<#ty, _, #codecs>({
            #[allow(unused_imports)]
            use #support::{
                ProbeConverted as _, ProbeConvertedLists as _, ProbeLists as _, ProbeMessages as _,
                ProbeNone as _, ProbeScalars as _,
            };
            (&&&&&&#support::Probe::<#ty>::NEW).protobuf_form()
        })
    }
}

/// Returns the same tokens, with errors reported at `place`.
pub fn located(tokens: TokenStream, place: Span) -> TokenStream {
    let move_there = |mut token: TokenTree| {
        token.set_span(token.span().located_at(place));
        token
    };
    tokens.into_iter().map(move_there).collect()
}

/// Returns the same tokens, with the type in place of `Self`.
fn without_self(tokens: TokenStream, ty: &TokenStream) -> TokenStream {
    let replace = |token| match token {
        TokenTree::Ident(ident) if ident == "Self" => ty.clone(),
        TokenTree::Group(group) => {
            let mut inner = proc_macro2::Group::new(group.delimiter(), without_self(group.stream(), ty));
            inner.set_span(group.span());
            TokenTree::Group(inner).into()
        }
        other => other.into(),
    };
    tokens.into_iter().flat_map(|token| -> TokenStream { replace(token) }).collect()
}

/// Returns whether the tokens contain one of these names.
pub fn names_any(tokens: TokenStream, names: &[String]) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => names.iter().any(|name| ident == name),
        TokenTree::Group(group) => names_any(group.stream(), names),
        _ => false,
    })
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
fn docs(function: &ImplItemFn) -> String {
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
    let text: Vec<String> = function.attrs.iter().filter_map(line).collect();
    let lines: Vec<&str> = text
        .iter()
        .flat_map(|text| text.split('\n'))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    lines.join("\n").trim_end().to_owned()
}

/// Converts `add_fixed` to `AddFixed`, like `coreloop::service::pascal_case`.
fn pascal_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for word in name.split('_') {
        let mut chars = word.chars();
        out.extend(chars.next().into_iter().flat_map(char::to_uppercase));
        out.push_str(chars.as_str());
    }
    out
}

/// Returns errors for functions with the same method name. Those with different `#[cfg]` are left to the registry.
fn same_names(methods: &[Method]) -> Vec<Error> {
    let mut first: HashMap<&str, &Ident> = HashMap::new();
    let mut errors = Vec::new();
    for method in methods.iter().filter(|method| method.cfgs.is_empty()) {
        if let Some(other) = first.insert(&method.name, &method.ident) {
            let message = format!(
                "`{}` is the name of `{other}` already: rename one of them, `#[rpc(name = \"…\")]`",
                method.name
            );
            errors.push(Error::new_spanned(&method.ident, message));
        }
    }
    errors
}

/// Returns errors for what a client cannot have: functions with the names of its own, and types that only the service
/// can name.
fn clash_with_client(model: &Model) -> Vec<Error> {
    let parameters: Vec<String> = model
        .generics
        .params
        .iter()
        .map(|param| match param {
            GenericParam::Type(param) => param.ident.to_string(),
            GenericParam::Const(param) => param.ident.to_string(),
            GenericParam::Lifetime(param) => param.lifetime.ident.to_string(),
        })
        .collect();
    let mut errors = Vec::new();
    for method in &model.methods {
        if ["new", "caller", "caller_mut", "into_caller"].iter().any(|own| method.ident == own) {
            let message = format!(
                "the typed client has a `{0}` of its own: rename the function (`#[rpc(name = \"…\")]` sets the \
                    method's name), or omit the client, `#[coreloop::service(client = false)]`",
                method.ident
            );
            errors.push(Error::new_spanned(&method.ident, message));
        }
        for ty in method.form.argument.ty().into_iter().chain([&method.form.reply]) {
            if names_any(ty.to_token_stream(), &parameters) {
                let message = "the typed client cannot use the type parameters of the service: use a type \
                    without them, or omit the client, `#[coreloop::service(client = false)]`";
                errors.push(Error::new_spanned(ty, message));
            }
        }
    }
    errors
}
