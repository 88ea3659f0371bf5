//! The attribute `#[coreloop::service]`: turns a plain impl block into a service and its typed client.
//!
//! The input is documented at [`macro@service`]. `options.rs` reads the attributes, `signature.rs` determines the
//! form of a function (or its error), `model.rs` combines the two; `server.rs` and `client.rs` generate the code.
//! Nothing here depends on protocols: the generated code refers to `coreloop::macro_support`.
#![forbid(unsafe_code)]

mod client;
mod model;
mod options;
mod server;
mod signature;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{ImplItem, Item, ItemImpl};

/// Makes a service of an `impl` block, and generates a typed client.
///
/// ```ignore
/// struct Arith;
///
/// #[coreloop::service]
/// impl Arith {
///     /// Product of the two.
///     fn multiply(&self, _cx: &Context, args: Args) -> Result<i64, Status> { Ok(args.a * args.b) }
///
///     #[rpc(inline, name = "Plus")]
///     fn add(&self, _cx: &Context, args: Args) -> Result<i64, Status> { Ok(args.a + args.b) }
///
///     #[rpc(skip)]
///     fn helper(&self) -> i64 { 42 }
/// }
/// ```
///
/// Every function with a `&self` receiver becomes a method `Service.Method`, the names in PascalCase; it takes
/// `&Context` and at most one argument, and returns `Result<R, Status>`, or takes or sends a
/// [stream](#streams). Items without a receiver are unchanged. Doc
/// comments become the documentation that `Meta.Methods` returns. A type can have one such block.
///
/// # On the block: `#[coreloop::service(…)]`
///
/// | option | meaning |
/// |---|---|
/// | `name = "…"` | the service's name instead of the type's, optionally with a package (`shop.v1.Orders`) |
/// | `client = false` | no typed client; then arguments need only `Deserialize` |
/// | `client_vis = "pub(crate)"` | the client's visibility; `pub` by default |
/// | `crate = path` | the path of coreloop, if not `::coreloop` |
/// | `missing_fields = "zero"` | the rule for missing fields of arguments, instead of the server's: `"by_protocol"`, `"zero"`, `"error"` |
/// | `codecs(Lines, …)` | types that implement `coreloop::codec::UserCodec`: the methods accept them beside the codecs of the crate |
///
/// # On a function: `#[rpc(…)]`
///
/// | option | meaning |
/// |---|---|
/// | `name = "…"` | the method's name, the part after the dot |
/// | `inline` | it runs on the reactor's thread: it must never block |
/// | `pooled` | it runs on the worker pool, which is the default |
/// | `blocking` | it runs on the elastic pool: it may block |
/// | `idempotent` | it changes nothing: it may be called with GET, and retried |
/// | `argument = path`, `reply = path` | functions `fn() -> Description`, for types that serde cannot describe; of a stream they describe a message |
/// | `skip` | not a method |
///
/// # How the argument is encoded
///
/// | parameter | encoding | reply |
/// |---|---|---|
/// | none | the unit type | any serde type |
/// | `T` | any serde type | any serde type |
/// | `&T` | fixed layout (zerocopy): a reference into the body | fixed layout too |
/// | `&[u8]` | a byte string, borrowed | `Vec<u8>` or `Bytes` as a byte string, others as serde types |
/// | `Bytes` | a byte string, shared with the body | the same |
///
/// A function whose last parameter is `Reply<R>` and that returns nothing answers later, through that parameter.
///
/// # Streams
///
/// A parameter `Stream<M>` in place of the argument receives messages, and a last parameter `Sink<M>` sends them. Both
/// are recognized as written, by the last part of the path and one type argument, and passed by value.
///
/// | parameters after the context | result | shape |
/// |---|---|---|
/// | the argument or none, `Sink<M>` | `Result<(), Status>` | server streaming |
/// | `Stream<M>` | `Result<R, Status>` | client streaming |
/// | `Stream<M>`, `Reply<R>` | nothing | client streaming, answered later |
/// | `Stream<M>`, `Sink<N>` | `Result<(), Status>` | bidirectional |
///
/// Messages are of any serde type, with both `Serialize` and `Deserialize`. Beside an argument `&T` the messages of
/// the sink have a fixed layout too; beside an argument of bytes they are serde types.
///
/// # The client
///
/// `ArithClient<C = Direct>` has `new`, `caller`, `caller_mut`, `into_caller`, and each method with its argument by
/// reference: `fn multiply(&self, args: &Args) -> Result<i64, CallError>`. For a caller that can start calls without
/// waiting for them (`coreloop::client::Client`, a batch), each method has three more functions:
///
/// | function | result |
/// |---|---|
/// | `multiply_start(&self, args: &Args)` | `InFlight<i64>`: a handle to wait for, or to await |
/// | `multiply_then(&self, args: &Args, then)` | nothing: the answer is passed to the function `then` |
/// | `multiply_one_way(&self, args: &Args)` | whether the call could be handed over: the server sends no answer |
///
/// A function whose name another method of the service has is left out.
///
/// Methods with [streams](#streams) have one function each, for a caller that implements
/// `coreloop::client::StreamCaller`, as `coreloop::client::Client` does:
///
/// | shape | function |
/// |---|---|
/// | server streaming | `watch(&self, argument: &A) -> Result<Stream<M>, CallError>` |
/// | client streaming | `import(&self) -> Result<Upload<M, R>, CallError>` |
/// | bidirectional | `chat(&self) -> Result<Chat<M, N>, CallError>` |
///
/// Serde types then need both `Serialize` and
/// `Deserialize`. A generic service has a client if no method's types name its parameters.
#[proc_macro_attribute]
pub fn service(options: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand(options.into(), item.into()).into()
}

/// Returns the item unchanged, followed by the generated code or by the errors.
fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut block = match syn::parse2(item.clone()) {
        Ok(Item::Impl(block)) => block,
        Ok(other) => {
            let error = syn::Error::new_spanned(
                &other,
                "expected an `impl` block after `#[coreloop::service]`: `impl Arith { … }`",
            );
            return with_error(&item, &error);
        }
        Err(error) => return with_error(&item, &error),
    };
    let model = model::Model::of(options, &block);
    forget_rpc_attributes(&mut block);
    match model {
        Ok(model) => {
            let server = server::service_impl(&model);
            let client = client::client(&model);
            quote! { #block #server #client }
        }
        Err(error) => with_error(&quote!(#block), &error),
    }
}

/// The item stays, so that the mistake does not cause errors wherever the item is used.
fn with_error(item: &TokenStream, error: &syn::Error) -> TokenStream {
    let error = error.to_compile_error();
    quote! { #item #error }
}

/// Removes the `rpc` attributes, which the compiler does not know.
fn forget_rpc_attributes(block: &mut ItemImpl) {
    for item in &mut block.items {
        let attrs = match item {
            ImplItem::Fn(item) => &mut item.attrs,
            ImplItem::Const(item) => &mut item.attrs,
            ImplItem::Type(item) => &mut item.attrs,
            _ => continue,
        };
        attrs.retain(|attr| !attr.path().is_ident("rpc"));
    }
}
