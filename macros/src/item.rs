//! The item that the attribute is on: a trait, which is a contract, or an impl block, which is its short form.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Attribute, Error, FnArg, ImplItem, Item, ItemImpl, ItemTrait, Result, Signature, TraitItem};

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

    /// Removes the `rpc` attributes, which the compiler does not know.
    pub fn forget_rpc_attributes(&mut self) {
        match self {
            ServiceItem::Block(block) => block.items.iter_mut().for_each(|item| match item {
                ImplItem::Fn(item) => forget_in_function(&mut item.attrs, &mut item.sig),
                ImplItem::Const(item) => forget(&mut item.attrs),
                ImplItem::Type(item) => forget(&mut item.attrs),
                _ => {}
            }),
            ServiceItem::Contract(contract) => contract.items.iter_mut().for_each(|item| match item {
                TraitItem::Fn(item) => forget_in_function(&mut item.attrs, &mut item.sig),
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
