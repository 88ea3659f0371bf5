//! The form of a function: the encoding of its argument and its reply, determined from its signature.
//!
//! Types are compared as written, never resolved. An unsupported form is an error at the offending token, with a
//! message that names a valid one.

use syn::spanned::Spanned;
use syn::{
    Error, FnArg, GenericArgument, ImplItemFn, PathArguments, PathSegment, Receiver, ReceiverKind, Result,
    ReturnType, Safety, Signature, Type,
};

/// The form of a method's argument.
pub enum Argument {
    /// No argument.
    None,
    /// `T`, any serde type.
    Plain(Type),
    /// `&T`, of fixed layout.
    Fixed(Type),
    /// `&[u8]`.
    Raw,
    /// `Bytes`.
    Bytes,
}

/// The form of a method's reply.
pub enum Marker {
    /// Any serde type.
    Plain,
    /// Fixed layout.
    Fixed,
    /// `Vec<u8>` as a byte string.
    Raw,
    /// `Bytes` as a byte string.
    Bytes,
}

/// The form of a method's signature.
pub struct Form {
    /// The argument.
    pub argument: Argument,
    /// The type of the reply.
    pub reply: Type,
    /// Whether the reply is sent later, through a `Reply`.
    pub is_deferred: bool,
}

impl Form {
    /// Determines the form of a function with a receiver.
    pub fn of(function: &ImplItemFn) -> Result<Form> {
        let sig = &function.sig;
        check_qualifiers(sig)?;
        if let Some(FnArg::Receiver(receiver)) = sig.inputs.first() {
            check_receiver(receiver)?;
        }
        let mut types: Vec<&Type> = sig
            .inputs
            .iter()
            .filter_map(|input| match input {
                FnArg::Typed(input) => Some(peel(&input.ty)),
                FnArg::Receiver(_) => None,
            })
            .collect();
        match types.first() {
            Some(first) => check_context(first)?,
            None => {
                let message = format!(
                    "a method takes the call's context: expected `fn {}(&self, cx: &Context, …)`; \
                     a helper function is marked `#[rpc(skip)]`",
                    sig.ident
                );
                return Err(Error::new_spanned(&sig.ident, message));
            }
        }
        types.remove(0);
        let (reply, is_deferred) = answer(sig, &mut types)?;
        if let Some(third) = types.get(1) {
            let message = "a method has one argument at most: put several into a struct";
            return Err(Error::new_spanned(third, message));
        }
        let argument = types.first().map_or(Ok(Argument::None), |ty| Argument::of(ty))?;
        Ok(Form { argument, reply, is_deferred })
    }

    /// Returns the form of the reply: it follows the argument, since both must be raw, or both fixed.
    pub fn reply_marker(&self) -> Marker {
        match self.argument {
            Argument::None | Argument::Plain(_) => Marker::Plain,
            Argument::Fixed(_) => Marker::Fixed,
            Argument::Raw | Argument::Bytes if is_bytes(&self.reply) => Marker::Bytes,
            Argument::Raw | Argument::Bytes if is_vec_of_u8(&self.reply) => Marker::Raw,
            Argument::Raw | Argument::Bytes => Marker::Plain,
        }
    }
}

impl Argument {
    fn of(ty: &Type) -> Result<Argument> {
        let Type::Reference(reference) = ty else {
            if let Type::ImplTrait(ty) = ty {
                return Err(Error::new_spanned(
                    ty,
                    "an argument has one concrete type, which callers use too",
                ));
            }
            return Ok(if is_bytes(ty) { Argument::Bytes } else { Argument::Plain(ty.clone()) });
        };
        if let Some(mutability) = &reference.mutability {
            let message = "an argument cannot be changed: take `&T` (fixed layout) or `T`";
            return Err(Error::new_spanned(mutability, message));
        }
        if let Some(lifetime) = &reference.lifetime {
            let message = "an argument is borrowed for the call only: omit the lifetime, or take `T`";
            return Err(Error::new_spanned(lifetime, message));
        }
        match peel(&reference.elem) {
            Type::Slice(slice) if is_named(&slice.elem, "u8") => Ok(Argument::Raw),
            Type::Slice(slice) => {
                let message = "the only slice that can be borrowed is `&[u8]`: take `Vec<T>`, or a struct of fixed layout";
                Err(Error::new_spanned(slice, message))
            }
            Type::TraitObject(object) => {
                Err(Error::new_spanned(object, "an argument has one concrete type, which callers use too"))
            }
            ty if is_named(ty, "str") => {
                Err(Error::new_spanned(ty, "text cannot be borrowed: take `String`, or `&[u8]`"))
            }
            ty => Ok(Argument::Fixed(ty.clone())),
        }
    }
}

fn check_qualifiers(sig: &Signature) -> Result<()> {
    if let Some(asyncness) = &sig.asyncness {
        let message = "methods run on plain threads: remove `async`; to answer later, take a `Reply<R>` as the \
                       last parameter and return nothing";
        return Err(Error::new_spanned(asyncness, message));
    }
    if let Safety::Unsafe(token) = &sig.safety {
        return Err(Error::new_spanned(token, "a method cannot be `unsafe`: any peer can call it"));
    }
    if !sig.generics.params.is_empty() {
        let message = "a method has one argument type and one reply type, which its callers know too: it cannot be \
                       generic; name the types";
        return Err(Error::new_spanned(&sig.generics, message));
    }
    Ok(())
}

fn check_receiver(receiver: &Receiver) -> Result<()> {
    let (token, message): (&dyn quote::ToTokens, _) = match &receiver.kind {
        ReceiverKind::Reference(_, _, None) => return Ok(()),
        ReceiverKind::Reference(_, _, Some(mutability)) => (
            mutability,
            "calls run concurrently: expected `&self`; keep mutable state in a `Mutex` or an atomic",
        ),
        ReceiverKind::Value => (receiver, "a service outlives its calls: expected `&self`"),
        _ => (receiver, "expected `&self`; a function that is not a method is marked `#[rpc(skip)]`"),
    };
    Err(Error::new_spanned(token, message))
}

fn check_context(ty: &Type) -> Result<()> {
    match ty {
        Type::Reference(reference) if is_named(&reference.elem, "Context") => match &reference.mutability {
            Some(mutability) => Err(Error::new_spanned(mutability, "expected `&Context`: it is only read")),
            None => Ok(()),
        },
        ty if is_named(ty, "Context") => Err(Error::new_spanned(ty, "expected `&Context`, by reference")),
        ty => Err(Error::new_spanned(
            ty,
            "expected `&Context` as the first parameter after `&self`; the argument is the second",
        )),
    }
}

/// Returns the type of the reply, and whether it is sent later; removes the `Reply` from the parameters.
fn answer(sig: &Signature, types: &mut Vec<&Type>) -> Result<(Type, bool)> {
    let returned = match &sig.output {
        ReturnType::Default => None,
        ReturnType::Type(_, ty) => match peel(ty) {
            Type::Tuple(tuple) if tuple.elems.is_empty() => None,
            ty => Some(ty),
        },
    };
    let replies = types.iter().position(|ty| only_argument_of(ty, "Reply").is_some());
    match (returned, replies) {
        (Some(returned), None) => result_of(returned).map(|reply| (reply, false)),
        (Some(returned), Some(_)) => {
            let message = "this method answers through its `Reply`: remove the return type";
            Err(Error::new_spanned(returned, message))
        }
        (None, Some(index)) if index + 1 < types.len() => {
            Err(Error::new_spanned(types[index], "the `Reply` is the last parameter"))
        }
        (None, Some(index)) => {
            let reply = only_argument_of(types[index], "Reply").cloned();
            types.truncate(index);
            reply.map(|reply| (reply, true)).ok_or_else(|| Error::new(sig.span(), "expected `Reply<R>`"))
        }
        (None, None) => {
            if let Some(bare) = types.iter().find(|ty| is_named(ty, "Reply")) {
                return Err(Error::new_spanned(bare, "expected the type of the reply: `Reply<R>`"));
            }
            let message = format!(
                "`{}` returns nothing: expected `-> Result<R, Status>`, or a last parameter `reply: Reply<R>` to \
                 answer later",
                sig.ident
            );
            Err(match &sig.output {
                ReturnType::Default => Error::new_spanned(&sig.ident, message),
                ReturnType::Type(_, ty) => Error::new_spanned(ty, message),
            })
        }
    }
}

/// Returns the `R` of a `Result<R, Status>`.
fn result_of(ty: &Type) -> Result<Type> {
    const EXPECTED: &str = "expected `Result<R, Status>`: a method can fail; one that cannot returns `Ok(…)`";
    let Some(segment) = last_segment(ty).filter(|segment| segment.ident == "Result") else {
        return Err(Error::new_spanned(ty, EXPECTED));
    };
    let types = type_arguments(segment);
    match types[..] {
        [reply, _] => match reply {
            Type::ImplTrait(_) | Type::Infer(_) => Err(Error::new_spanned(
                reply,
                "a reply has one concrete type, which callers use too: name it",
            )),
            reply => Ok(reply.clone()),
        },
        _ => {
            let message =
                "expected `Result<R, Status>` with both types written out: an alias hides the error's type";
            Err(Error::new_spanned(ty, message))
        }
    }
}

/// Returns the type inside invisible groups and parentheses, which macros leave behind.
fn peel(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peel(&group.elem),
        Type::Paren(paren) => peel(&paren.elem),
        ty => ty,
    }
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match peel(ty) {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        _ => None,
    }
}

fn is_named(ty: &Type, name: &str) -> bool {
    last_segment(ty).is_some_and(|segment| segment.ident == name)
}

/// Returns whether the type is `Bytes`, by any path, without generic arguments.
fn is_bytes(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|segment| segment.ident == "Bytes" && segment.arguments.is_empty())
}

fn is_vec_of_u8(ty: &Type) -> bool {
    only_argument_of(ty, "Vec").is_some_and(|element| is_named(element, "u8"))
}

/// Returns the `T` of a `Name<T>`.
fn only_argument_of<'t>(ty: &'t Type, name: &str) -> Option<&'t Type> {
    let segment = last_segment(ty).filter(|segment| segment.ident == name)?;
    match type_arguments(segment)[..] {
        [only] => Some(only),
        _ => None,
    }
}

fn type_arguments(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return Vec::new();
    };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}
