//! The server's half: `impl Service`, a handler over bytes for each method.
//!
//! A handler runs for every call, so it only decodes, calls and encodes: it owns an `Arc` of the service that was
//! cloned once.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Generics, Visibility};

use crate::markers::{End, Markers};
use crate::model::{Method, Model, Subject};
use crate::options::Kind;
use crate::signature::{Answer, Argument, Shape};
use crate::tokens::located;

/// Returns the `impl Service`: of the type, or, for a contract, of a type that holds any implementation of it.
pub fn service_impl(model: &Model) -> TokenStream {
    let support = model.support();
    let (server, own, generics, ty) = match &model.subject {
        Subject::Type { ty, generics } => {
            let mut generics = generics.clone();
            if !generics.params.is_empty() {
                // The bounds of every service; a generic service implements `Service` for the parameters that meet
                // them.
                generics.make_where_clause().predicates.push(syn::parse_quote!(
                    #ty: ::core::marker::Send + ::core::marker::Sync + 'static
                ));
            }
            (None, Callee { path: quote!(Self), receiver: quote!(&service) }, generics, quote!(#ty))
        }
        Subject::Contract { vis } => {
            let parameter = model.free_parameter(["T", "Implementation", "ImplementationOfServer"]);
            let (contract, server) = (&model.ident, format_ident!("{}Server", model.ident));
            let generics: Generics = syn::parse_quote!(
                <#parameter: #contract + ::core::marker::Send + ::core::marker::Sync + 'static>
            );
            let callee =
                Callee { path: quote!(<#parameter as #contract>), receiver: quote!(&service.implementation) };
            let definition = server_type(model, vis, &server, &parameter, &generics);
            (Some(definition), callee, generics, quote!(#server<#parameter>))
        }
    };
    let Model { name, cfgs, .. } = model;
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let missing_fields = model.options.missing_fields.as_ref().map(|rule| {
        quote! {
            fn missing_fields(&self) -> #support::Option<#support::MissingFields> {
                #support::Option::Some(#support::MissingFields::#rule)
            }
        }
    });
    let count = model.methods.len();
    let scope = model.ty().map(|_| generics.clone()).unwrap_or_default();
    let methods = model.methods.iter().map(|method| {
        let cfgs = &method.cfgs;
        let made = made(model, method, &own, &scope, &support);
        quote! { #(#cfgs)* methods.push(#made); }
    });
    quote! {
        #server

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

/// How the functions of the service are called, with `service` in scope.
struct Callee {
    /// What precedes the name of the function.
    path: TokenStream,
    /// The first argument.
    receiver: TokenStream,
}

/// Returns the type that makes a service of an implementation of the contract.
fn server_type(
    model: &Model,
    vis: &Visibility,
    server: &Ident,
    parameter: &Ident,
    generics: &Generics,
) -> TokenStream {
    let Model { name, cfgs, ident, .. } = model;
    let about = format!("The service `{name}` of any type that implements [`{ident}`].");
    let create = format!("Creates a service of an implementation of [`{ident}`].");
    quote! {
        #(#cfgs)*
        #[doc = #about]
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #[allow(dead_code, unreachable_pub)]
        #vis struct #server<#parameter> {
            implementation: #parameter,
        }

        #(#cfgs)*
        #[allow(dead_code, unreachable_pub)]
        impl #generics #server<#parameter> {
            #[doc = #create]
            pub fn new(implementation: #parameter) -> Self {
                Self { implementation }
            }
        }
    }
}

/// Returns the expression that creates the `Method`.
fn made(
    model: &Model,
    method: &Method,
    callee: &Callee,
    generics: &Generics,
    support: &TokenStream,
) -> TokenStream {
    let Markers { items, argument, reply } = method.markers(model, generics, End::Server);
    let (name, docs, options) = (&method.name, &method.docs, &method.options);
    let handler = handler(model, method, callee, support);
    // The compiler reports a reply that cannot be written here.
    let (argument_marker, reply_marker) = located_markers(method);
    let constructor = if method.form.is_async { quote!(async_method) } else { quote!(method) };
    let create = quote!(#support::#constructor(#argument_marker, #reply_marker, #name, handler)?);
    let create = located(create, method.form.reply.span());
    let create = match method.form.shape() {
        Shape::Unary => create,
        shape => {
            let shape = format_ident!("{shape:?}");
            quote!(#support::with_shape(#create, #support::CallShape::#shape))
        }
    };
    let create = match method.form.argument {
        Argument::Several(_) => quote!(#support::with_several_arguments(#create)),
        _ => create,
    };
    let kind = match options.kind {
        Kind::Inline => quote!(Inline),
        Kind::Pooled => quote!(Pooled),
        Kind::Blocking => quote!(Blocking),
    };
    let kind = (!method.form.is_async).then(|| quote!(.kind(#support::Kind::#kind)));
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
        #create #kind #documented #deferring #idempotent #sharing
    }}
}

/// Returns the names of the two markers, located at the types that they are made of.
fn located_markers(method: &Method) -> (TokenStream, TokenStream) {
    let argument = located(quote!(argument_marker), method.argument_span());
    (argument, located(quote!(reply_marker), method.form.reply.span()))
}

/// Returns the handler: a closure over the service.
fn handler(model: &Model, method: &Method, callee: &Callee, support: &TokenStream) -> TokenStream {
    let (path, receiver) = (&callee.path, &callee.receiver);
    let function = &method.ident;
    let function = quote!(#path::#function);
    let (pattern, passed) = match &method.form.argument {
        Argument::None => (quote!(()), quote!()),
        Argument::Plain(_) | Argument::Bytes | Argument::Stream(_) => (quote!(argument), quote!(, argument)),
        Argument::Fixed(_) | Argument::Raw => (quote!(argument), quote!(, &argument)),
        Argument::Several(fields) => {
            let names: Vec<Ident> = (0..fields.len()).map(|at| format_ident!("argument_{at}")).collect();
            (quote!((#(#names,)*)), quote!(#(, #names)*))
        }
    };
    let is_deferred = method.form.answer == Answer::Deferred;
    let (argument_marker, reply_marker) = located_markers(method);
    if method.form.is_async {
        let future = match method.form.shape() {
            Shape::Unary => quote!(async_unary),
            Shape::ServerStream => quote!(async_server_stream),
            Shape::ClientStream => quote!(async_client_stream),
            Shape::Bidirectional => quote!(async_bidirectional),
        };
        let answer = (method.form.answer == Answer::Sink).then(|| quote!(, answer));
        let call = quote_spanned!(method.result_span=> #function(#receiver, cx #passed #answer).await);
        let call = method.converted(model, &call);
        let create = quote! {
            #support::#future(#argument_marker, #reply_marker, move |cx, #pattern #answer| {
                let service = #support::Arc::clone(&service);
                async move { #call }
            })
        };
        return located(create, method.argument_span());
    }
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
        let mut call = quote_spanned!(method.result_span=> #function(#receiver, cx #passed #answer));
        if !is_deferred {
            call = method.converted(model, &call);
        }
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
                    #function(#receiver, cx #passed, reply);
                    #support::Outcome::Deferred
                }
                #support::Err(status) => #support::Outcome::failed(status),
            }
        }
    } else {
        let result = quote_spanned!(method.result_span=> #function(#receiver, cx #passed));
        let result = method.converted(model, &result);
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
