//! The form of a function: the encoding of its argument and its reply, and which of them are streams, determined from
//! its signature.
//!
//! Types are compared as written, never resolved. An unsupported form is an error at the offending token, with a
//! message that names a valid one.

use syn::spanned::Spanned;
use syn::{Error, FnArg, Receiver, ReceiverKind, Result, ReturnType, Safety, Signature, Type};

use crate::arguments::{Field, Parameter};
use crate::rename::RenameRule;
use crate::types::{is_bytes, is_named, is_vec_of_u8, last_segment, only_argument_of, peel, type_arguments};

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
    /// `Stream<T>`: messages of any serde type.
    Stream(Type),
    /// Several arguments: the fields of a struct.
    Several(Vec<Field>),
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

/// How a method answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It returns the reply.
    Returned,
    /// It sends the reply later, through a `Reply`.
    Deferred,
    /// It sends messages through a `Sink`.
    Sink,
}

/// The shape of a call, named as the variants of `coreloop::service::CallShape`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Unary,
    ServerStream,
    ClientStream,
    Bidirectional,
}

/// The form of a method's signature.
pub struct Form {
    /// The argument.
    pub argument: Argument,
    /// The type of the reply, or of the messages of the sink.
    pub reply: Type,
    /// The type of the error; `None` if it is written as `Status`, or if there is no result.
    pub error: Option<Type>,
    /// How the reply is given.
    pub answer: Answer,
    /// The function is `async`.
    pub is_async: bool,
}

impl Form {
    /// Determines the form of a function with a receiver. The rule names the fields of several arguments.
    pub fn of(sig: &Signature, rename_all: RenameRule) -> Result<Form> {
        check_qualifiers(sig)?;
        if let Some(FnArg::Receiver(receiver)) = sig.inputs.first() {
            check_receiver(receiver)?;
        }
        let parameters = Parameter::all_of(sig)?;
        let mut types: Vec<&Type> = parameters.iter().map(|parameter| parameter.ty).collect();
        match types.first() {
            Some(first) if sig.asyncness.is_some() => check_owned_context(first)?,
            Some(first) => check_context(first)?,
            None => {
                let start = match sig.asyncness {
                    Some(_) => format!("async fn {}(&self, cx: OwnedContext, …)", sig.ident),
                    None => format!("fn {}(&self, cx: &Context, …)", sig.ident),
                };
                let message = format!(
                    "a method takes the call's context: expected `{start}`; a helper function is marked \
                     `#[rpc(skip)]`"
                );
                return Err(Error::new_spanned(&sig.ident, message));
            }
        }
        types.remove(0);
        types.iter().try_for_each(|ty| check_stream(ty))?;
        let (reply, answer) = answer(sig, &mut types)?;
        let (own, others) = parameters[1..].split_at(types.len());
        let argument = match own {
            [] => Argument::None,
            [only] => Argument::of(only.ty)?,
            several => Argument::several(several, rename_all)?,
        };
        let nameless = if own.len() > 1 { others } else { &parameters[1..] };
        for parameter in [&parameters[..1], nameless].concat() {
            parameter.refuse_name()?;
        }
        let is_async = sig.asyncness.is_some();
        if is_async {
            check_async(&parameters, &argument, answer)?;
        }
        let error = match &sig.output {
            ReturnType::Type(_, ty) => error_of(ty).filter(|error| !is_named(error, "Status")).cloned(),
            ReturnType::Default => None,
        };
        Ok(Form { argument, reply, error, answer, is_async })
    }

    /// Returns the shape of its calls.
    pub fn shape(&self) -> Shape {
        match (&self.argument, self.answer) {
            (Argument::Stream(_), Answer::Sink) => Shape::Bidirectional,
            (Argument::Stream(_), Answer::Returned | Answer::Deferred) => Shape::ClientStream,
            (_, Answer::Sink) => Shape::ServerStream,
            (_, Answer::Returned | Answer::Deferred) => Shape::Unary,
        }
    }

    /// Returns the form of the reply: it follows the argument, since both must be raw, or both fixed. Messages of a
    /// stream are never raw.
    pub fn reply_marker(&self) -> Marker {
        match self.argument {
            Argument::None | Argument::Plain(_) | Argument::Stream(_) | Argument::Several(_) => Marker::Plain,
            Argument::Fixed(_) => Marker::Fixed,
            Argument::Raw | Argument::Bytes if self.answer == Answer::Sink => Marker::Plain,
            Argument::Raw | Argument::Bytes if is_bytes(&self.reply) => Marker::Bytes,
            Argument::Raw | Argument::Bytes if is_vec_of_u8(&self.reply) => Marker::Raw,
            Argument::Raw | Argument::Bytes => Marker::Plain,
        }
    }
}

impl Argument {
    /// Returns the type of the one argument or of the messages, unless the form is enough.
    pub fn ty(&self) -> Option<&Type> {
        match self {
            Argument::Plain(ty) | Argument::Fixed(ty) | Argument::Stream(ty) => Some(ty),
            Argument::None | Argument::Raw | Argument::Bytes | Argument::Several(_) => None,
        }
    }

    /// Returns every type that is named.
    pub fn types(&self) -> Vec<&Type> {
        match self {
            Argument::Several(fields) => fields.iter().map(|field| &field.ty).collect(),
            one => one.ty().into_iter().collect(),
        }
    }

    /// Replaces every type that is named.
    pub fn map_types(&mut self, change: impl Fn(&Type) -> Result<Type>) -> Result<()> {
        match self {
            Argument::Plain(ty) | Argument::Fixed(ty) | Argument::Stream(ty) => *ty = change(ty)?,
            Argument::Several(fields) => {
                for field in fields {
                    field.ty = change(&field.ty)?;
                }
            }
            Argument::None | Argument::Raw | Argument::Bytes => {}
        }
        Ok(())
    }

    /// Returns several arguments as the fields of a struct.
    fn several(parameters: &[Parameter<'_>], rename_all: RenameRule) -> Result<Argument> {
        if let Some(at) = parameters.iter().position(|one| only_argument_of(one.ty, "Stream").is_some()) {
            let other = parameters.iter().enumerate().find(|(index, _)| *index != at);
            let (first, second) = match other {
                Some((index, other)) if index > at => (parameters[at].ty, other.ty),
                Some((_, other)) => (other.ty, parameters[at].ty),
                None => (parameters[at].ty, parameters[at].ty),
            };
            return Err(stream_and_argument(first, second));
        }
        Field::all_of(parameters, rename_all).map(Argument::Several)
    }

    fn of(ty: &Type) -> Result<Argument> {
        if let Some(message) = only_argument_of(ty, "Stream") {
            return Ok(Argument::Stream(message.clone()));
        }
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
        ty if is_named(ty, "OwnedContext") => {
            let message = "an `OwnedContext` is for async methods: expected `&Context`, or `async fn`";
            Err(Error::new_spanned(ty, message))
        }
        ty => Err(Error::new_spanned(
            ty,
            "expected `&Context` as the first parameter after `&self`; the argument is the second",
        )),
    }
}

fn check_owned_context(ty: &Type) -> Result<()> {
    if is_named(ty, "OwnedContext") {
        return Ok(());
    }
    let message = match ty {
        Type::Reference(reference) if is_named(&reference.elem, "OwnedContext") => {
            "expected `OwnedContext`, by value: the future owns it"
        }
        Type::Reference(reference) if is_named(&reference.elem, "Context") => {
            "a `Context` is borrowed from the thread that runs a call, which an async method does not hold: expected \
             `cx: OwnedContext`"
        }
        _ => "expected `OwnedContext` as the first parameter after `&self`; the argument is the second",
    };
    Err(Error::new_spanned(ty, message))
}

/// Checks what an async method cannot have.
fn check_async(parameters: &[Parameter<'_>], argument: &Argument, answer: Answer) -> Result<()> {
    if answer == Answer::Deferred {
        let reply = parameters.last().map(|parameter| parameter.ty);
        let message = "an async method returns its result, and holds no thread until then: remove the `Reply` and \
                       return `Result<R, E>`";
        return Err(Error::new_spanned(reply, message));
    }
    if let Argument::Fixed(_) | Argument::Raw = argument {
        let message = "an async method owns its argument, since the bytes that it could borrow from are gone before it \
                       ends: take `T` or `Bytes`";
        return Err(Error::new_spanned(parameters[1].ty, message));
    }
    Ok(())
}

/// Checks that a `Stream<M>` or a `Sink<M>` is passed by value and has messages of one type.
fn check_stream(ty: &Type) -> Result<()> {
    let by_value = match ty {
        Type::Reference(reference) => peel(&reference.elem),
        ty => ty,
    };
    for name in ["Stream", "Sink"] {
        let Some(message) = only_argument_of(by_value, name) else { continue };
        if matches!(ty, Type::Reference(_)) {
            let message = format!("a `{name}` may outlive its handler: expected `{name}<M>`, by value");
            return Err(Error::new_spanned(ty, message));
        }
        return match peel(message) {
            Type::ImplTrait(_) | Type::Infer(_) | Type::TraitObject(_) => {
                let text = format!(
                    "messages have one concrete type, which callers use too: expected `{name}<M>` with a named type"
                );
                Err(Error::new_spanned(message, text))
            }
            Type::Reference(_) => {
                let text = format!("messages cannot be borrowed: expected `{name}<M>` with an owned type");
                Err(Error::new_spanned(message, text))
            }
            _ => Ok(()),
        };
    }
    Ok(())
}

/// Returns the error for a stream beside another parameter in place of the argument.
fn stream_and_argument(first: &Type, second: &Type) -> Error {
    let is_stream = |ty: &Type| only_argument_of(ty, "Stream").is_some();
    let (place, message) = match (is_stream(first), is_stream(second)) {
        (true, true) => {
            (second, "a method has one `Stream` at most: put the messages into one stream of an enum")
        }
        (is_first_stream, _) => (
            if is_first_stream { second } else { first },
            "a method takes arguments or a `Stream<M>`, not both: send the argument as the first message, or as \
             metadata of the call",
        ),
    };
    Error::new_spanned(place, message)
}

/// Returns the type of the reply, and how it is given; removes the `Reply` or the `Sink` from the parameters.
fn answer(sig: &Signature, types: &mut Vec<&Type>) -> Result<(Type, Answer)> {
    let returned = match &sig.output {
        ReturnType::Default => None,
        ReturnType::Type(_, ty) => match peel(ty) {
            Type::Tuple(tuple) if tuple.elems.is_empty() => None,
            ty => Some(ty),
        },
    };
    let messages =
        types.iter().enumerate().find_map(|(index, ty)| Some((index, only_argument_of(ty, "Sink")?)));
    if let Some((index, messages)) = messages {
        check_sink(sig, returned, types, index)?;
        types.truncate(index);
        return Ok((messages.clone(), Answer::Sink));
    }
    let replies = types.iter().position(|ty| only_argument_of(ty, "Reply").is_some());
    match (returned, replies) {
        (Some(returned), None) => result_of(returned).map(|reply| (reply, Answer::Returned)),
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
            reply
                .map(|reply| (reply, Answer::Deferred))
                .ok_or_else(|| Error::new(sig.span(), "expected `Reply<R>`"))
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

/// Checks the signature of a method whose first `Sink` is the parameter at `index`.
fn check_sink(sig: &Signature, returned: Option<&Type>, types: &[&Type], index: usize) -> Result<()> {
    let (sink, others) = (types[index], &types[index + 1..]);
    if let Some(second) = others.iter().find(|ty| only_argument_of(ty, "Sink").is_some()) {
        let message = "a method has one `Sink` at most: send the messages through one sink, of an enum";
        return Err(Error::new_spanned(second, message));
    }
    if let Some(reply) = types.iter().find(|ty| only_argument_of(ty, "Reply").is_some()) {
        let message = "a method answers through its `Sink` or its `Reply`, not both: remove the `Reply` and return \
                       `Result<(), Status>`; a sink can be kept, and ends the call with `finish`";
        return Err(Error::new_spanned(reply, message));
    }
    if !others.is_empty() {
        let message = "the `Sink` is the last parameter: expected it after the argument or the `Stream`";
        return Err(Error::new_spanned(sink, message));
    }
    let message = "the results go through the `Sink`: expected `-> Result<(), Status>`";
    match returned {
        Some(returned) => match result_of(returned)? {
            Type::Tuple(tuple) if tuple.elems.is_empty() => Ok(()),
            result => Err(Error::new_spanned(result, message)),
        },
        None => match &sig.output {
            ReturnType::Default => Err(Error::new_spanned(&sig.ident, message)),
            ReturnType::Type(_, ty) => Err(Error::new_spanned(ty, message)),
        },
    }
}

/// Returns the `E` of a `Result<R, E>`.
fn error_of(ty: &Type) -> Option<&Type> {
    match type_arguments(last_segment(ty)?)[..] {
        [_, error] => Some(error),
        _ => None,
    }
}

/// Returns the `R` of a `Result<R, E>`.
fn result_of(ty: &Type) -> Result<Type> {
    const EXPECTED: &str = "expected `Result<R, E>`, such as `Result<R, Status>`: a method can fail; one that cannot \
                            returns `Ok(…)`";
    let Some(segment) = last_segment(ty).filter(|segment| segment.ident == "Result") else {
        return Err(Error::new_spanned(ty, EXPECTED));
    };
    let types = type_arguments(segment);
    match types[..] {
        [reply, _] => match peel(reply) {
            Type::ImplTrait(_) | Type::Infer(_) => Err(Error::new_spanned(
                reply,
                "a reply has one concrete type, which callers use too: name it",
            )),
            reply if ["Stream", "Sink"].iter().any(|name| only_argument_of(reply, name).is_some()) => {
                let message = "a stream is not returned: take a `Sink<M>` as the last parameter, and return \
                               `Result<(), Status>`";
                Err(Error::new_spanned(reply, message))
            }
            reply => Ok(reply.clone()),
        },
        _ => {
            let message =
                "expected `Result<R, E>` with both types written out: an alias hides the error's type";
            Err(Error::new_spanned(ty, message))
        }
    }
}
