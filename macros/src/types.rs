//! Questions about types as they are written: a macro cannot resolve them.

use syn::{GenericArgument, PathArguments, PathSegment, Type};

/// Returns the type inside invisible groups and parentheses, which macros leave behind.
pub fn peel(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => peel(&group.elem),
        Type::Paren(paren) => peel(&paren.elem),
        ty => ty,
    }
}

/// Returns the last part of the type's path, if it is a path.
pub fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match peel(ty) {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        _ => None,
    }
}

/// Returns whether the last part of the type's path has this name.
pub fn is_named(ty: &Type, name: &str) -> bool {
    last_segment(ty).is_some_and(|segment| segment.ident == name)
}

/// Returns whether the type is `Bytes`, by any path, without generic arguments.
pub fn is_bytes(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|segment| segment.ident == "Bytes" && segment.arguments.is_empty())
}

/// Returns whether the type is `Vec<u8>`.
pub fn is_vec_of_u8(ty: &Type) -> bool {
    only_argument_of(ty, "Vec").is_some_and(|element| is_named(element, "u8"))
}

/// Returns the `T` of a `Name<T>`.
pub fn only_argument_of<'t>(ty: &'t Type, name: &str) -> Option<&'t Type> {
    let segment = last_segment(ty).filter(|segment| segment.ident == name)?;
    match type_arguments(segment)[..] {
        [only] => Some(only),
        _ => None,
    }
}

/// Returns the type arguments of a part of a path.
pub fn type_arguments(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return Vec::new();
    };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}
