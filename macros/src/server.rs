//! The server's half: `impl Service`, a handler over bytes for each method.
//!
//! A handler runs for every call, so it only decodes, calls and encodes: it owns an `Arc` of the service that was
//! cloned once.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::Generics;
use syn::spanned::Spanned;

use crate::model::{Markers, Method, Model, located};
use crate::options::Kind;
use crate::signature::{Answer, Argument, Shape};

/// Returns the `impl Service` of the type.
pub fn service_impl(model: &Model) -> TokenStream {
    let support = model.support();
    let Model { name, ty, generics, cfgs, .. } = model;
    let mut generics = generics.clone();
    if !generics.params.is_empty() {
        // The bounds of every service; a generic service implements `Service` for the parameters that meet them.
        generics.make_where_clause().predicates.push(syn::parse_quote!(
            #ty: ::core::marker::Send + ::core::marker::Sync + 'static
        ));
    }
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let missing_fields = model.options.missing_fields.as_ref().map(|rule| {
        quote! {
            fn missing_fields(&self) -> #support::Option<#support::MissingFields> {
                #support::Option::Some(#support::MissingFields::#rule)
            }
        }
    });
    let count = model.methods.len();
    let methods = model.methods.iter().map(|method| {
        let cfgs = &method.cfgs;
        let made = made(model, method, &generics, &support);
        quote! { #(#cfgs)* methods.push(#made); }
    });
    quote! {
        #(#cfgs)*
        #[automatically_derived]
        #[allow(dead_code, deprecated, unused_mut, clippy::all)]
        impl #impl_generics #support::Service for #ty #where_clause {
            fn service_name(&self) -> &str {
                #name
            }

            #missing_fields

            fn methods(
                self: #support::Arc<Self>,
            ) -> #support::Result<#support::Vec<#support::Method>, #support::RegisterError> {
                let mut methods = #support::Vec::with_capacity(#count);
                #(#methods)*
                #support::Ok(methods)
            }
        }
    }
}

/// Returns the expression that creates the `Method`.
fn made(model: &Model, method: &Method, generics: &Generics, support: &TokenStream) -> TokenStream {
    let Markers { items, argument, reply } = method.markers(model, generics);
    let (name, docs, options) = (&method.name, &method.docs, &method.options);
    let handler = handler(method, support);
    // The compiler reports a reply that cannot be written here.
    let (argument_marker, reply_marker) = located_markers(method);
    let create = quote!(#support::method(#argument_marker, #reply_marker, #name, handler)?);
    let create = located(create, method.form.reply.span());
    let create = match method.form.shape() {
        Shape::Unary => create,
        shape => {
            let shape = format_ident!("{shape:?}");
            quote!(#support::with_shape(#create, #support::CallShape::#shape))
        }
    };
    let kind = match options.kind {
        Kind::Inline => quote!(Inline),
        Kind::Pooled => quote!(Pooled),
        Kind::Blocking => quote!(Blocking),
    };
    let documented = (!docs.is_empty()).then(|| quote!(.docs(#docs)));
    let is_deferred = method.form.answer == Answer::Deferred;
    let deferring = is_deferred.then(|| quote!(.deferring()));
    let idempotent = options.is_idempotent.then(|| quote!(.idempotent()));
    let sharing = matches!(method.form.argument, Argument::Bytes).then(|| quote!(.sharing_body()));
    quote! {{
        let service = #support::Arc::clone(&self);
        #items
        let (argument_marker, reply_marker) = (#argument, #reply);
        let handler = #handler;
        #create.kind(#support::Kind::#kind) #documented #deferring #idempotent #sharing
    }}
}

/// Returns the names of the two markers, located at the types that they are made of.
fn located_markers(method: &Method) -> (TokenStream, TokenStream) {
    let argument = located(quote!(argument_marker), method.argument_span());
    (argument, located(quote!(reply_marker), method.form.reply.span()))
}

/// Returns the handler: a closure over the service.
fn handler(method: &Method, support: &TokenStream) -> TokenStream {
    let function = &method.ident;
    let passed = match method.form.argument {
        Argument::None => None,
        Argument::Plain(_) | Argument::Bytes | Argument::Stream(_) => Some(quote!(, argument)),
        Argument::Fixed(_) | Argument::Raw => Some(quote!(, &argument)),
    };
    let pattern = if passed.is_some() { quote!(argument) } else { quote!(()) };
    let is_deferred = method.form.answer == Answer::Deferred;
    let (argument_marker, reply_marker) = located_markers(method);
    // Of a streaming method only the call itself is generated.
    let stream_handler = match method.form.shape() {
        Shape::Unary => None,
        Shape::ServerStream => Some(quote!(server_stream)),
        Shape::ClientStream if is_deferred => Some(quote!(client_stream_deferring)),
        Shape::ClientStream => Some(quote!(client_stream)),
        Shape::Bidirectional => Some(quote!(bidirectional)),
    };
    if let Some(stream_handler) = stream_handler {
        let answer = (method.form.answer != Answer::Returned).then(|| quote!(, answer));
        let call = quote_spanned!(method.result_span=> Self::#function(&service, cx #passed #answer));
        // The compiler reports messages that cannot be encoded or decoded here.
        let messages = match method.form.argument {
            Argument::Stream(_) => method.argument_span(),
            _ => method.form.reply.span(),
        };
        let create = quote! {
            #support::#stream_handler(#argument_marker, #reply_marker, move |cx, #pattern #answer| #call)
        };
        return located(create, messages);
    }
    let call = if is_deferred {
        quote! {
            match #support::take_reply(#reply_marker, cx, codec) {
                #support::Ok(reply) => {
                    Self::#function(&service, cx #passed, reply);
                    #support::Outcome::Deferred
                }
                #support::Err(status) => #support::Outcome::failed(status),
            }
        }
    } else {
        let result = quote_spanned!(method.result_span=> Self::#function(&service, cx #passed));
        quote!(#support::finish(#reply_marker, cx, codec, #result, out))
    };
    // The compiler reports an argument that cannot be read here.
    let decode = located(quote!(#support::decode(#argument_marker, codec, body)), method.argument_span());
    // A deferred answer is written elsewhere.
    let out = if is_deferred { quote!(_) } else { quote!(out) };
    quote! {
        #support::Box::new(move |cx: &#support::Context<'_>, codec, body: #support::Body<'_>, #out: &mut #support::Vec<u8>| {
            match #decode {
                #support::Ok(#pattern) => #call,
                #support::Err(error) => #support::refuse_argument(cx, error),
            }
        })
    }
}
