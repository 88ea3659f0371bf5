//! The parameters of a function, and several arguments as the fields of a struct.

use proc_macro2::Ident;
use syn::ext::IdentExt;
use syn::{Attribute, Error, FnArg, LitStr, Pat, Result, Signature, Type};

use crate::rename::RenameRule;
use crate::types::peel;

/// A parameter beside the receiver.
#[derive(Clone)]
pub struct Parameter<'s> {
    /// The pattern.
    pub pattern: &'s Pat,
    /// The type.
    pub ty: &'s Type,
    /// The name given by `#[rpc(rename = "…")]`.
    pub rename: Option<LitStr>,
}

impl<'s> Parameter<'s> {
    /// Returns all parameters beside the receiver.
    pub fn all_of(sig: &'s Signature) -> Result<Vec<Parameter<'s>>> {
        let typed = sig.inputs.iter().filter_map(|input| match input {
            FnArg::Typed(typed) => Some(typed),
            FnArg::Receiver(_) => None,
        });
        typed
            .map(|typed| {
                let rename = rename(&typed.attrs)?;
                Ok(Parameter { pattern: &typed.pat, ty: peel(&typed.ty), rename })
            })
            .collect()
    }

    /// Refuses a name on the wire, where the parameter has none.
    pub fn refuse_name(&self) -> Result<()> {
        let message = "only one of several arguments has a name on the wire, as a field of their struct: remove \
                       the attribute";
        match &self.rename {
            Some(name) => Err(Error::new(name.span(), message)),
            None => Ok(()),
        }
    }

    fn ident(&self) -> Option<&'s Ident> {
        match self.pattern {
            Pat::Ident(pattern) if pattern.subpat.is_none() => Some(&pattern.ident),
            _ => None,
        }
    }
}

/// Parses the attributes of a parameter.
fn rename(attrs: &[Attribute]) -> Result<Option<LitStr>> {
    let mut rename = None;
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("rpc")) {
        attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident("rename") {
                return Err(meta.error("expected `rename = \"…\"`, the only option of a parameter"));
            }
            let text: LitStr = meta.value()?.parse()?;
            if text.value().is_empty() {
                return Err(Error::new(text.span(), "the name of a field is not empty"));
            }
            match rename.replace(text) {
                None => Ok(()),
                Some(_) => Err(meta.error("`rename` is given twice")),
            }
        })?;
    }
    Ok(rename)
}

/// One of several arguments: a field of the struct that is sent.
pub struct Field {
    /// The name of the parameter.
    pub ident: Ident,
    /// The name on the wire.
    pub name: String,
    /// The type.
    pub ty: Type,
}

/// The maximum number of arguments: that of the tuples for which the library has code.
const ARGUMENTS_MAX: usize = 8;

impl Field {
    /// Returns the fields of several arguments.
    pub fn all_of(parameters: &[Parameter<'_>], rename_all: RenameRule) -> Result<Vec<Field>> {
        if let Some(parameter) = parameters.get(ARGUMENTS_MAX) {
            let message =
                format!("a method has {ARGUMENTS_MAX} arguments at most: put several into a struct");
            return Err(Error::new_spanned(parameter.ty, message));
        }
        let mut fields: Vec<Field> = Vec::new();
        for parameter in parameters {
            let field = Field::of(parameter, rename_all)?;
            if let Some(other) = fields.iter().find(|other| other.name == field.name) {
                let message = format!(
                    "`{}` is the name of the field for `{}` already: rename one of them, \
                     `#[rpc(rename = \"…\")]` before the parameter",
                    field.name, other.ident
                );
                return Err(Error::new_spanned(parameter.pattern, message));
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn of(parameter: &Parameter<'_>, rename_all: RenameRule) -> Result<Field> {
        match parameter.ty {
            Type::Reference(reference) => {
                let message = "several arguments are sent as a struct, which owns its fields: take them by value; \
                               only a single argument can be borrowed";
                return Err(Error::new_spanned(reference, message));
            }
            Type::ImplTrait(ty) => {
                let message = "an argument has one concrete type, which callers use too";
                return Err(Error::new_spanned(ty, message));
            }
            _ => {}
        }
        let Some(ident) = parameter.ident() else {
            let message =
                "expected a name: several arguments are sent as a struct, with a field of this name";
            return Err(Error::new_spanned(parameter.pattern, message));
        };
        let written = ident.unraw().to_string();
        let own = written.trim_start_matches('_');
        let name = match &parameter.rename {
            Some(name) => name.value(),
            None if own.is_empty() => {
                let message = "expected a name with letters: several arguments are sent as a struct, with a field \
                               of this name";
                return Err(Error::new_spanned(ident, message));
            }
            None => rename_all.apply(own),
        };
        Ok(Field { ident: ident.clone(), name, ty: parameter.ty.clone() })
    }
}
