//! The markers of a method's types: expressions whose types tell the library how values are encoded.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Generics, Type};

use crate::model::{Method, Model};
use crate::signature::{Answer, Argument, Marker};
use crate::tokens::located;

/// The markers of a method's types, as expressions.
pub struct Markers {
    /// What the expressions refer to: descriptions made by hand, names of fields.
    pub items: TokenStream,
    /// The argument, or the messages of its stream.
    pub argument: TokenStream,
    /// The reply, or the messages of the sink.
    pub reply: TokenStream,
}

/// The end of a call that encodes and decodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Server,
    Client,
}

impl Method {
    /// Returns the span at which mistakes in the argument's type are reported.
    pub fn argument_span(&self) -> Span {
        self.form.argument.ty().map_or(self.ident.span(), Spanned::span)
    }

    /// Returns the markers that encode the method's types, at one end. `generics` are those in scope where they are
    /// used.
    pub fn markers(&self, model: &Model, generics: &Generics, end: End) -> Markers {
        let support = model.support();
        let mut items = self.field_names(model);
        items.extend(self.checks(model));
        let mut described = |marker: TokenStream, by_hand: &Option<TokenStream>, name: &str| {
            let Some(path) = by_hand else { return marker };
            let name = Ident::new(name, Span::call_site());
            let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
            let uses = model
                .ty()
                .filter(|_| !generics.params.is_empty())
                .map(|ty| quote!((::core::marker::PhantomData<fn() -> #ty>)));
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
        let argument = described(self.argument_marker(model, end), &self.argument_by_hand, "ArgumentByHand");
        let reply = described(self.reply_marker(model), &self.reply_by_hand, "ReplyByHand");
        Markers { items, argument, reply }
    }

    /// Returns statements at which the compiler reports types that serde cannot encode: one error for each type, since
    /// it reports the same error at the same place once. Without a client only the messages of streams are encoded
    /// and decoded at one end.
    fn checks(&self, model: &Model) -> TokenStream {
        let support = model.support();
        let has_client = model.options.has_client;
        let arguments = match &self.form.argument {
            Argument::Fixed(_) => Vec::new(),
            Argument::Stream(message) => vec![message],
            argument if has_client => argument.types(),
            _ => Vec::new(),
        };
        let is_checked = has_client || self.form.answer == Answer::Sink;
        let is_plain = matches!(self.form.reply_marker(), Marker::Plain);
        let reply = (is_checked && is_plain).then_some(&self.form.reply);
        let checks = arguments.into_iter().chain(reply).map(|ty| {
            let check = quote!(#support::check_transmitted::<#ty>(););
            located(check, ty.span())
        });
        checks.collect()
    }

    /// Returns an expression for the result of the method, `call`, with a `Status` as its error.
    pub fn converted(&self, model: &Model, call: &TokenStream) -> TokenStream {
        let support = model.support();
        let Some(error) = &self.form.error else { return call.clone() };
        let check = located(quote!(#support::check_error::<#error>();), error.span());
        let answer = answer(model, "converts", error);
        quote_spanned!(self.result_span=> { #check #answer.result(#call) })
    }

    /// Returns the marker that encodes the argument or the messages of its stream, as an expression.
    fn argument_marker(&self, model: &Model, end: End) -> TokenStream {
        let support = model.support();
        match &self.form.argument {
            Argument::None => marker(model, "plain", &syn::parse_quote!(())),
            Argument::Plain(ty) => marker(model, "plain", ty),
            Argument::Stream(ty) => transmitted(model, ty),
            Argument::Fixed(ty) => marker(model, "fixed", ty),
            Argument::Raw => quote!(#support::Raw),
            Argument::Bytes => quote!(#support::RawBytes),
            Argument::Several(fields) => {
                let types = fields.iter().map(|field| &field.ty);
                let types = quote!((#(#types,)*));
                let forms = fields.iter().map(|field| protobuf_form(model, &field.ty));
                let forms = quote!((#(#forms,)*));
                let codecs = codecs(model);
                if !model.options.has_client {
                    return quote!(#support::several::<#types, FieldNames, #codecs, _>(#forms));
                }
                let function = match end {
                    End::Server => quote!(several),
                    End::Client => quote!(several_given),
                };
                let given = (end == End::Client).then(|| quote!(, &arguments));
                let answer = answer(model, "all_transmitted", &types);
                quote!(#answer.#function(#support::types::<#types, FieldNames, #codecs>(), #forms #given))
            }
        }
    }

    /// Returns the names of the fields of several arguments, as an item; nothing for other forms.
    fn field_names(&self, model: &Model) -> TokenStream {
        let Argument::Several(fields) = &self.form.argument else { return TokenStream::new() };
        let support = model.support();
        // The name of the type for people; it has no effect on the encoding.
        let name = format!("{}Arguments", self.name.rsplit('.').next().unwrap_or_default());
        let names = fields.iter().map(|field| &field.name);
        quote! {
            struct FieldNames;

            impl #support::ArgumentNames for FieldNames {
                const TYPE: &'static str = #name;
                const FIELDS: &'static [&'static str] = &[#(#names),*];
            }
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
            Marker::Plain if self.form.answer == Answer::Sink => transmitted(model, reply),
            Marker::Plain => marker(model, "plain", reply),
            Marker::Fixed => marker(model, "fixed", reply),
            Marker::Raw => quote!(#support::Raw),
            Marker::Bytes => quote!(#support::RawBytes),
        }
    }
}

/// Returns the marker of a type, as an expression.
fn marker(model: &Model, function: &str, ty: &Type) -> TokenStream {
    let support = model.support();
    let function = Ident::new(function, Span::call_site());
    let (codecs, form) = (codecs(model), protobuf_form(model, ty));
    if function == "plain" && model.options.has_client {
        return transmitted(model, ty);
    }
    quote!(#support::#function::<#ty, _, #codecs>(#form))
}

/// Returns the marker of a serde type that is sent and received, as an expression.
fn transmitted(model: &Model, ty: &Type) -> TokenStream {
    let support = model.support();
    let (codecs, form) = (codecs(model), protobuf_form(model, ty));
    let answer = answer(model, "transmitted", ty);
    quote!(#answer.one(#support::types::<#ty, (), #codecs>(), #form))
}

/// Returns the answer to a question about a type, as an expression. Whether it fits is required by a statement of its own,
/// so that the compiler reports one error and not one for each use.
pub fn answer(model: &Model, question: &str, ty: &impl ToTokens) -> TokenStream {
    let support = model.support();
    let question = Ident::new(question, Span::call_site());
    quote! {
        {
            #[allow(unused_imports)]
            use #support::{
                ProbeAllTransmitted as _, ProbeError as _, ProbeLacks as _, ProbeTransmitted as _,
            };
            (&&#support::Probe::<#ty>::NEW).#question()
        }
    }
}

/// Returns the service's own codecs, as a type.
fn codecs(model: &Model) -> TokenStream {
    let none = quote!(());
    model.options.codecs.iter().rev().fold(none, |rest, codec| quote!((#codec, #rest)))
}

/// Returns the form of a type in protobuf, as an expression: the compiler finds whether it has one.
fn protobuf_form(model: &Model, ty: &Type) -> TokenStream {
    let support = model.support();
    quote! {
        {
            #[allow(unused_imports)]
            use #support::{
                ProbeConverted as _, ProbeConvertedLists as _, ProbeLists as _, ProbeMessages as _,
                ProbeNone as _, ProbeScalars as _,
            };
            (&&&&&&#support::Probe::<#ty>::NEW).protobuf_form()
        }
    }
}
