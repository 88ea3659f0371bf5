//! The item that the attribute is on: a trait, which is a contract, or an impl block, which is its short form.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{
    Attribute, Error, FnArg, ImplItem, Item, ItemImpl, ItemTrait, Result, ReturnType, Signature, TraitItem,
    TraitItemFn, Type,
};

use crate::options::RpcOptions;

/// A trait or an impl block.
pub enum ServiceItem {
    Block(ItemImpl),
    Contract(ItemTrait),
}

/// An item of the trait or the block.
pub enum Entry<'i> {
    /// A function.
    Function(&'i [Attribute], &'i Signature),
    /// A constant or a type.
    Other(&'i [Attribute]),
}

impl ServiceItem {
    /// Parses the item.
    pub fn parse(item: TokenStream) -> Result<ServiceItem> {
        match syn::parse2(item)? {
            Item::Impl(block) => Ok(ServiceItem::Block(block)),
            Item::Trait(contract) => Ok(ServiceItem::Contract(contract)),
            other => Err(Error::new_spanned(
                other,
                "expected a trait or an `impl` block after `#[coreloop::service]`: `pub trait Arith { … }`, \
                 `impl Arith { … }`",
            )),
        }
    }

    /// Returns the attributes of the item.
    pub fn attrs(&self) -> &[Attribute] {
        match self {
            ServiceItem::Block(block) => &block.attrs,
            ServiceItem::Contract(contract) => &contract.attrs,
        }
    }

    /// Returns the functions, constants and types.
    pub fn entries(&self) -> Vec<Entry<'_>> {
        match self {
            ServiceItem::Block(block) => block
                .items
                .iter()
                .filter_map(|item| match item {
                    ImplItem::Fn(item) => Some(Entry::Function(&item.attrs, &item.sig)),
                    ImplItem::Const(item) => Some(Entry::Other(&item.attrs)),
                    ImplItem::Type(item) => Some(Entry::Other(&item.attrs)),
                    _ => None,
                })
                .collect(),
            ServiceItem::Contract(contract) => contract
                .items
                .iter()
                .filter_map(|item| match item {
                    TraitItem::Fn(item) => Some(Entry::Function(&item.attrs, &item.sig)),
                    TraitItem::Const(item) => Some(Entry::Other(&item.attrs)),
                    TraitItem::Type(item) => Some(Entry::Other(&item.attrs)),
                    _ => None,
                })
                .collect(),
        }
    }

    /// Rewrites the item as the compiler takes it: without the `rpc` attributes, which it does not know, and with the
    /// async methods of a contract as functions that return a future which can be sent to another thread.
    pub fn rewrite(&mut self) {
        match self {
            ServiceItem::Block(block) => block.items.iter_mut().for_each(|item| match item {
                ImplItem::Fn(item) => forget_in_function(&mut item.attrs, &mut item.sig),
                ImplItem::Const(item) => forget(&mut item.attrs),
                ImplItem::Type(item) => forget(&mut item.attrs),
                _ => {}
            }),
            ServiceItem::Contract(contract) => contract.items.iter_mut().for_each(|item| match item {
                TraitItem::Fn(item) => {
                    if !is_skipped(&item.attrs) {
                        return_future(item);
                    }
                    forget_in_function(&mut item.attrs, &mut item.sig);
                }
                TraitItem::Const(item) => forget(&mut item.attrs),
                TraitItem::Type(item) => forget(&mut item.attrs),
                _ => {}
            }),
        }
    }
}

impl ToTokens for ServiceItem {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        match self {
            ServiceItem::Block(block) => block.to_tokens(tokens),
            ServiceItem::Contract(contract) => contract.to_tokens(tokens),
        }
    }
}

fn is_skipped(attrs: &[Attribute]) -> bool {
    RpcOptions::parse(attrs).is_ok_and(|options| options.is_skipped)
}

/// Rewrites `async fn f(…) -> R` as `fn f(…) -> impl Future<Output = R> + Send`. An implementation may still be written
/// with `async`.
fn return_future(function: &mut TraitItemFn) {
    if function.sig.asyncness.take().is_none() {
        return;
    }
    let output: Type = match &function.sig.output {
        ReturnType::Default => syn::parse_quote!(()),
        ReturnType::Type(_, ty) => (**ty).clone(),
    };
    function.sig.output = syn::parse_quote! {
        -> impl ::core::future::Future<Output = #output> + ::core::marker::Send
    };
    if let Some(body) = &mut function.default {
        *body = syn::parse_quote!({ async move #body });
    }
}

fn forget_in_function(attrs: &mut Vec<Attribute>, sig: &mut Signature) {
    forget(attrs);
    for input in &mut sig.inputs {
        if let FnArg::Typed(input) = input {
            forget(&mut input.attrs);
        }
    }
}

fn forget(attrs: &mut Vec<Attribute>) {
    attrs.retain(|attr| !attr.path().is_ident("rpc"));
}
