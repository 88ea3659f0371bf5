//! Checks of the service as a whole.

use std::collections::HashMap;

use proc_macro2::Ident;
use quote::ToTokens;
use syn::{Error, GenericParam};

use crate::model::{Method, Model};
use crate::tokens::names_any;

/// The functions that every typed client has.
const OWN_FUNCTIONS: [&str; 5] = ["new", "connect", "caller", "caller_mut", "into_caller"];

/// Returns errors for functions with the same method name. Those with different `#[cfg]` are left to the registry.
pub fn same_names(methods: &[Method]) -> Vec<Error> {
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
pub fn clash_with_client(model: &Model) -> Vec<Error> {
    let parameters: Vec<String> = model
        .generics()
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
        if OWN_FUNCTIONS.iter().any(|own| method.ident == own) {
            let message = format!(
                "the typed client has a `{0}` of its own: rename the function (`#[rpc(name = \"…\")]` sets the \
                    method's name), or omit the client, `#[coreloop::service(client = false)]`",
                method.ident
            );
            errors.push(Error::new_spanned(&method.ident, message));
        }
        for ty in method.form.argument.types().into_iter().chain([&method.form.reply]) {
            if names_any(ty.to_token_stream(), &parameters) {
                let message = "the typed client cannot use the type parameters of the service: use a type \
                    without them, or omit the client, `#[coreloop::service(client = false)]`";
                errors.push(Error::new_spanned(ty, message));
            }
        }
    }
    errors
}
