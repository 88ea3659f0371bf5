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
    let with_options = model.methods.iter().map(|method| with_options(model, method, &support));
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
            pub fn connect(
                address: impl #support::ToAddress,
            ) -> #support::Result<Self, #support::CallError> {
                #support::Client::connect(address).map(Self::new)
            }
        }

        #(#cfgs)*
        #[allow(dead_code, deprecated, private_interfaces, unreachable_pub, clippy::all)]
        impl #client<#support::Client> {
            #(#with_options)*
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
    /// The parameters for the arguments, and the expression that is passed on, each with the comma before it. Messages
    /// of a stream follow once the call has begun.
    given: Option<TokenStream>,
    passed: Option<TokenStream>,
    /// The parameters' names.
    names: Vec<Ident>,
    /// Items at the start of the body: descriptions by hand, and the method's id as `method`.
    items: TokenStream,
    argument_marker: TokenStream,
    reply_marker: TokenStream,
}

impl Call {
    fn of(model: &Model, method: &Method, support: &TokenStream) -> Call {
        let name = &method.name;
        let mut begin = TokenStream::new();
        let mut names = vec![format_ident!("argument")];
        let (given, passed) = match &method.form.argument {
            Argument::Stream(_) | Argument::None => {
                names.clear();
                let is_none = matches!(method.form.argument, Argument::None);
                (None, is_none.then(|| quote!(, &())))
            }
            Argument::Plain(ty) | Argument::Fixed(ty) => {
                (Some(quote!(, argument: &#ty)), Some(quote!(, argument)))
            }
            Argument::Raw | Argument::Bytes => (Some(quote!(, argument: &[u8])), Some(quote!(, argument))),
            Argument::Several(fields) => {
                names = fields.iter().map(|field| field.ident.clone()).collect();
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
        Call { given, passed, names, items, argument_marker: argument, reply_marker: reply }
    }

    /// Returns a name for another parameter, which is not that of an argument.
    fn parameter(&self, candidates: [&str; 2]) -> Ident {
        let is_free = |name: &&&str| !self.names.iter().any(|taken| taken == **name);
        format_ident!("{}", candidates.iter().find(is_free).unwrap_or(&candidates[0]))
    }
}

/// Returns the name of a function with this suffix, if no method of the service has it.
fn free_name(model: &Model, method: &Method, suffix: &str) -> Option<Ident> {
    let ident = &method.ident;
    let made = format_ident!("{}_{}", ident.unraw(), suffix, span = ident.span());
    (!model.methods.iter().any(|other| other.ident == made)).then_some(made)
}

fn client_method(model: &Model, method: &Method, support: &TokenStream) -> TokenStream {
    let Method { ident, name, cfgs, deprecated, docs, .. } = method;
    let Call { given, passed, items, argument_marker, reply_marker, .. } = Call::of(model, method, support);
    let result = result_type(method, support);
    let (call, calls) = match method.form.shape() {
        Shape::Unary => (quote!(call), format!("Calls `{name}` and blocks until the answer.")),
        Shape::ServerStream => (
            quote!(start_server_stream),
            format!("Calls `{name}` and returns its messages; the error of the call is the last item."),
        ),
        Shape::ClientStream => (
            quote!(start_client_stream),
            format!("Calls `{name}` and returns the sink of its messages, with a handle for the result."),
        ),
        Shape::Bidirectional => (
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

/// Returns what a call of the method returns, without its error.
fn result_type(method: &Method, support: &TokenStream) -> TokenStream {
    let reply = &method.form.reply;
    let message = method.form.argument.ty();
    match method.form.shape() {
        Shape::Unary => quote!(#reply),
        Shape::ServerStream => quote!(#support::Stream<#reply>),
        Shape::ClientStream => quote!(#support::Upload<#message, #reply>),
        Shape::Bidirectional => quote!(#support::Chat<#message, #reply>),
    }
}

/// Returns the calls with settings of their own: each is that of a client with these settings.
fn with_options(model: &Model, method: &Method, support: &TokenStream) -> TokenStream {
    let Method { ident, cfgs, deprecated, form, .. } = method;
    let call = Call::of(model, method, support);
    let (options, then) =
        (call.parameter(["options", "call_options"]), call.parameter(["then", "then_call"]));
    let Call { given, names, .. } = &call;
    let result = result_type(method, support);
    let reply = &form.reply;
    let fallible = |value: &TokenStream| quote!(#support::Result<#value, #support::CallError>);
    // The suffix of the function that is called, what it returns, and whether it takes a function.
    let forms = [
        (None, fallible(&result), false),
        (Some("start"), quote!(#support::InFlight<#reply>), false),
        (Some("then"), quote!(()), true),
        (Some("one_way"), fallible(&quote!(())), false),
    ];
    let count = if form.shape() == Shape::Unary { forms.len() } else { 1 };
    let functions = forms.iter().take(count).filter_map(|(suffix, returned, takes_function)| {
        let called = match suffix {
            None => ident.clone(),
            Some(suffix) => free_name(model, method, suffix)?,
        };
        let made = free_name(model, method, &suffix.map_or("with".into(), |form| format!("{form}_with")))?;
        let about = format!("Calls as [`Self::{}`] does, with settings of its own.", called.unraw());
        let callback = fallible(&quote!(#reply));
        let (function, passed) = match takes_function {
            false => (None, None),
            true => (
                Some(quote! {
                    , #then: impl ::core::ops::FnOnce(#callback) + ::core::marker::Send + 'static
                }),
                Some(quote!(#then)),
            ),
        };
        Some(quote! {
            #(#cfgs)*
            #[doc = #about]
            #deprecated
            pub fn #made(
                &self #given, #options: impl ::core::borrow::Borrow<#support::CallOptions> #function
            ) -> #returned {
                Self::new(self.caller.with_options(::core::borrow::Borrow::borrow(&#options)))
                    .#called(#(#names,)* #passed)
            }
        })
    });
    quote!(#(#functions)*)
}

/// Returns the calls that do not wait, except those whose name another method of the service has.
fn starters(model: &Model, method: &Method, support: &TokenStream) -> TokenStream {
    let Method { name, cfgs, deprecated, .. } = method;
    let free = |suffix: &str| free_name(model, method, suffix);
    let reply = &method.form.reply;
    let call = Call::of(model, method, support);
    let callback = call.parameter(["then", "then_call"]);
    let Call { given, passed, items, argument_marker, reply_marker, .. } = call;
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
