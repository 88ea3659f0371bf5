//! The client's half: a struct over any caller, with a typed method for each method of the service.
//!
//! A type with a description by hand has it here too, so that the caller sends the same fingerprint as the server;
//! otherwise codecs that check it would refuse the call.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::Generics;
use syn::ext::IdentExt;

use crate::markers::{End, Markers};
use crate::model::{Method, Model};
use crate::signature::{Argument, Shape};

/// Returns the client, if the options ask for one.
pub fn client(model: &Model) -> Option<TokenStream> {
    if !model.options.has_client {
        return None;
    }
    let support = model.support();
    let (vis, cfgs, name) = (model.client_vis(), &model.cfgs, &model.name);
    let client = format_ident!("{}Client", model.ident);
    let parameter = model.free_parameter(["C", "Via", "CallerOfClient"]);
    let about = format!("A typed client of the service `{name}`.");
    let (unary, streaming): (Vec<&Method>, Vec<&Method>) =
        model.methods.iter().partition(|method| method.form.shape() == Shape::Unary);
    let methods = unary.iter().map(|method| client_method(model, method, &support));
    let starters = unary.iter().map(|method| starters(model, method, &support));
    let streaming = (!streaming.is_empty()).then(|| {
        let methods = streaming.iter().map(|method| client_method(model, method, &support));
        quote! {
            #(#cfgs)*
            #[allow(dead_code, private_interfaces, unreachable_pub, clippy::all)]
            impl<#parameter: #support::StreamCaller> #client<#parameter> {
                #(#methods)*
            }
        }
    });
    Some(quote! {
        #(#cfgs)*
        #[doc = #about]
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #[allow(dead_code, unreachable_pub)]
        #vis struct #client<#parameter = #support::Client> {
            caller: #parameter,
        }

        #(#cfgs)*
        #[allow(dead_code, unreachable_pub)]
        impl #client<#support::Client> {
            /// Connects to a server, with the default settings of `coreloop::client::Client::connect`.
            ///
            /// # Errors
            ///
            /// The connection cannot be made.
            pub fn connect(address: &str) -> #support::Result<Self, #support::CallError> {
                #support::Client::connect(address).map(Self::new)
            }
        }

        #(#cfgs)*
        #[allow(dead_code, unreachable_pub)]
        impl<#parameter> #client<#parameter> {
            /// Creates a client that calls through this caller.
            pub fn new(caller: #parameter) -> Self {
                Self { caller }
            }

            /// Returns the caller, for calls to other services.
            pub fn caller(&self) -> &#parameter {
                &self.caller
            }

            /// Returns the caller, for changes of its settings.
            pub fn caller_mut(&mut self) -> &mut #parameter {
                &mut self.caller
            }

            /// Returns the caller and drops the client.
            pub fn into_caller(self) -> #parameter {
                self.caller
            }
        }

        #(#cfgs)*
        #[allow(dead_code, private_interfaces, unreachable_pub, clippy::all)]
        impl<#parameter: #support::Caller> #client<#parameter> {
            #(#methods)*
        }

        #(#cfgs)*
        #[allow(dead_code, private_interfaces, unreachable_pub, clippy::all)]
        impl<#parameter: #support::Starter> #client<#parameter> {
            #(#starters)*
        }

        #streaming
    })
}

/// The parts that all calls of a method share.
struct Call {
    /// The parameter for the argument, and the expression that is passed on, each with the comma before it. Messages of
    /// a stream follow once the call has begun.
    given: Option<TokenStream>,
    passed: Option<TokenStream>,
    /// Items at the start of the body: descriptions by hand, and the method's id as `method`.
    items: TokenStream,
    argument_marker: TokenStream,
    reply_marker: TokenStream,
}

impl Call {
    fn of(model: &Model, method: &Method, support: &TokenStream) -> Call {
        let name = &method.name;
        let mut begin = TokenStream::new();
        let (given, passed) = match &method.form.argument {
            Argument::Stream(_) => (None, None),
            Argument::None => (None, Some(quote!(, &()))),
            Argument::Plain(ty) | Argument::Fixed(ty) => {
                (Some(quote!(, argument: &#ty)), Some(quote!(, argument)))
            }
            Argument::Raw | Argument::Bytes => (Some(quote!(, argument: &[u8])), Some(quote!(, argument))),
            Argument::Several(fields) => {
                let names: Vec<&Ident> = fields.iter().map(|field| &field.ident).collect();
                let types = fields.iter().map(|field| &field.ty);
                // Before the items, which have names that a parameter may have too.
                begin = quote!(let arguments = (#(#names,)*););
                (Some(quote!(#(, #names: &#types)*)), Some(quote!(, &arguments)))
            }
        };
        // The parameters of a service are not in scope in its client.
        let Markers { items, argument, reply } = method.markers(model, &Generics::default(), End::Client);
        let idempotent = method.options.is_idempotent.then(|| quote!(.idempotent()));
        let items = quote! {
            #begin
            #items
            let method = {
                static ID: #support::MethodId = #support::MethodId::new(#name) #idempotent;
                &ID
            };
        };
        Call { given, passed, items, argument_marker: argument, reply_marker: reply }
    }
}

fn client_method(model: &Model, method: &Method, support: &TokenStream) -> TokenStream {
    let Method { ident, name, cfgs, deprecated, docs, .. } = method;
    let Call { given, passed, items, argument_marker, reply_marker } = Call::of(model, method, support);
    let reply = &method.form.reply;
    let message = method.form.argument.ty();
    let (result, call, calls) = match method.form.shape() {
        Shape::Unary => {
            (quote!(#reply), quote!(call), format!("Calls `{name}` and blocks until the answer."))
        }
        Shape::ServerStream => (
            quote!(#support::Stream<#reply>),
            quote!(start_server_stream),
            format!("Calls `{name}` and returns its messages; the error of the call is the last item."),
        ),
        Shape::ClientStream => (
            quote!(#support::Upload<#message, #reply>),
            quote!(start_client_stream),
            format!("Calls `{name}` and returns the sink of its messages, with a handle for the result."),
        ),
        Shape::Bidirectional => (
            quote!(#support::Chat<#message, #reply>),
            quote!(start_bidirectional),
            format!("Calls `{name}` and returns the sink of its messages, with the stream of the results."),
        ),
    };
    // The documentation as written: each line in its own attribute, with the space in front.
    let lines = docs.lines().map(|line| format!(" {line}"));
    let docs = if docs.is_empty() {
        quote!(#[doc = #calls])
    } else {
        quote! { #(#[doc = #lines])* #[doc = ""] #[doc = #calls] }
    };
    quote! {
        #(#cfgs)*
        #docs
        #deprecated
        pub fn #ident(&self #given) -> #support::Result<#result, #support::CallError> {
            #items
            #support::#call(&self.caller, (#argument_marker, #reply_marker), method #passed)
        }
    }
}

/// Returns the calls that do not wait, except those whose name another method of the service has.
fn starters(model: &Model, method: &Method, support: &TokenStream) -> TokenStream {
    let Method { ident, name, cfgs, deprecated, .. } = method;
    let free = |suffix: &str| {
        let made = format_ident!("{}_{}", ident.unraw(), suffix, span = ident.span());
        (!model.methods.iter().any(|other| other.ident == made)).then_some(made)
    };
    let reply = &method.form.reply;
    let Call { given, passed, items, argument_marker, reply_marker } = Call::of(model, method, support);
    let start = free("start").map(|made| {
        let about = format!("Starts a call of `{name}` and returns a handle to wait for or to await.");
        quote! {
            #(#cfgs)*
            #[doc = #about]
            #deprecated
            pub fn #made(&self #given) -> #support::InFlight<#reply> {
                #items
                #support::start(&self.caller, (#argument_marker, #reply_marker), method #passed)
            }
        }
    });
    // The parameter for the function must not have the name of an argument.
    let names: Vec<String> = match &method.form.argument {
        Argument::Several(fields) => fields.iter().map(|field| field.ident.to_string()).collect(),
        _ => Vec::new(),
    };
    let callback = ["then", "then_call", "then_call_with_result"]
        .into_iter()
        .find(|name| !names.iter().any(|taken| taken == name))
        .unwrap_or("then");
    let callback = format_ident!("{callback}");
    let then = free("then").map(|made| {
        let about = format!(
            "Starts a call of `{name}` and passes the result to a function. It runs on the client's thread and \
                must not block."
        );
        quote! {
            #(#cfgs)*
            #[doc = #about]
            #deprecated
            pub fn #made(
                &self #given,
                #callback: impl ::core::ops::FnOnce(#support::Result<#reply, #support::CallError>)
                    + ::core::marker::Send
                    + 'static,
            ) {
                #items
                #support::start_then(&self.caller, (#argument_marker, #reply_marker), method #passed, #callback)
            }
        }
    });
    let one_way = free("one_way").map(|made| {
        let about = format!("Sends a one-way call of `{name}`: there is no answer.");
        quote! {
            #(#cfgs)*
            #[doc = #about]
            #deprecated
            pub fn #made(&self #given) -> #support::Result<(), #support::CallError> {
                #items
                #support::start_one_way(&self.caller, #argument_marker, method #passed)
            }
        }
    });
    quote!(#start #then #one_way)
}
