//! The text of descriptions, and the hashes for the frame: all of it is part of the wire contract.
//!
//! ```text
//! shape     = scalar | option | sequence | tuple | map | struct | enum | recursion
//! scalar    = "bool" | "i8" … "i128" | "u8" … "u128" | "f32" | "f64" | "char" | "string" | "bytes" | "unit" | "any"
//! option    = "?" shape
//! sequence  = "[" shape "]"
//! map       = "[" shape ":" shape "]"
//! tuple     = "(" [shape {"," shape}] ")" | "(" shape "*" count ")"    count ≥ 2: iff all elements are alike
//! struct    = "{" [name ":" shape {"," name ":" shape}] "}"
//! enum      = "<" [variant {"|" variant}] ">"       variant = name [":" shape]
//! recursion = "^" level      0 = the nearest enclosing option, sequence, map, tuple, struct or enum
//! ```
//!
//! There is no white space. Fields and variants are in the order of declaration. The names of containers are omitted,
//! and newtypes are replaced by their content. In a name each of `\ { } [ ] ( ) < > : , | ? ^ *` is escaped with a
//! backslash. A variant with several fields contains a tuple or a struct, which counts as a level. The fingerprint is
//! the 32-bit FNV-1a hash of `ARGUMENT->REPLY`, such as `{A:i64,B:i64}->i64`. A hash of 0 is replaced by 1, since 0
//! means that no fingerprint is given.

use super::{Description, Shape};
pub use crate::message::{fnv1a32, method_hash};

/// Returns the fingerprint of a method's argument and reply types; never 0. A caller with the same types has the same
/// one.
///
/// ```
/// use coreloop::codec::{Description, fingerprint, fnv1a32};
/// let (argument, reply) = (Description::of::<(i64, i64)>().unwrap(), Description::of::<i64>().unwrap());
/// assert_eq!(fingerprint(&argument, &reply), fnv1a32(b"(i64*2)->i64"));
/// ```
pub fn fingerprint(argument: &Description, reply: &Description) -> u32 {
    fnv1a32(format!("{}->{}", argument.text(), reply.text()).as_bytes()).max(1)
}

pub(super) fn canonical(shape: &Shape) -> String {
    let mut out = String::new();
    write(shape, &CANONICAL, &mut out);
    out
}

pub(super) fn readable(shape: &Shape) -> String {
    let mut out = String::new();
    write(shape, &READABLE, &mut out);
    out
}

struct Style {
    comma: &'static str,
    colon: &'static str,
    bar: &'static str,
    repeat: &'static str,
    escapes: bool,
}

const CANONICAL: Style = Style { comma: ",", colon: ":", bar: "|", repeat: "*", escapes: true };
const READABLE: Style = Style { comma: ", ", colon: ": ", bar: " | ", repeat: " * ", escapes: false };

fn write(shape: &Shape, style: &Style, out: &mut String) {
    match shape {
        Shape::Bool => out.push_str("bool"),
        Shape::Int { bits, signed } => {
            out.push(if *signed { 'i' } else { 'u' });
            out.push_str(&bits.to_string());
        }
        Shape::Float { bits } => {
            out.push('f');
            out.push_str(&bits.to_string());
        }
        Shape::Char => out.push_str("char"),
        Shape::String => out.push_str("string"),
        Shape::Bytes => out.push_str("bytes"),
        Shape::Unit => out.push_str("unit"),
        Shape::Any => out.push_str("any"),
        Shape::Option(inner) => {
            out.push('?');
            write(inner, style, out);
        }
        Shape::Sequence(inner) => {
            out.push('[');
            write(inner, style, out);
            out.push(']');
        }
        Shape::Map { key, value } => {
            out.push('[');
            write(key, style, out);
            out.push_str(style.colon);
            write(value, style, out);
            out.push(']');
        }
        Shape::Tuple(elements) => write_tuple(elements, style, out),
        Shape::Struct { fields, .. } => {
            out.push('{');
            for (at, field) in fields.iter().enumerate() {
                if at > 0 {
                    out.push_str(style.comma);
                }
                write_name(&field.name, style, out);
                out.push_str(style.colon);
                write(&field.shape, style, out);
            }
            out.push('}');
        }
        Shape::Enum { variants, .. } => {
            out.push('<');
            for (at, variant) in variants.iter().enumerate() {
                if at > 0 {
                    out.push_str(style.bar);
                }
                write_name(&variant.name, style, out);
                if let Some(content) = &variant.content {
                    out.push_str(style.colon);
                    write(content, style, out);
                }
            }
            out.push('>');
        }
        Shape::Recursive { levels } => {
            out.push('^');
            out.push_str(&levels.to_string());
        }
    }
}

/// Writes equal elements once, so that an array of thousands stays short.
fn write_tuple(elements: &[Shape], style: &Style, out: &mut String) {
    let texts_of = |shape: &Shape| {
        let mut text = String::new();
        write(shape, style, &mut text);
        text
    };
    out.push('(');
    if let [first, rest @ ..] = elements {
        let first_text = texts_of(first);
        out.push_str(&first_text);
        // Equal shapes have equal texts; shapes that differ only in names have equal texts as well.
        if !rest.is_empty() && rest.iter().all(|other| other == first || texts_of(other) == first_text) {
            out.push_str(style.repeat);
            out.push_str(&elements.len().to_string());
        } else {
            for other in rest {
                out.push_str(style.comma);
                write(other, style, out);
            }
        }
    }
    out.push(')');
}

fn write_name(name: &str, style: &Style, out: &mut String) {
    for letter in name.chars() {
        if style.escapes && r"\{}[]()<>:,|?^*".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        // From the reference vectors of the algorithm's authors.
        assert_eq!(fnv1a32(b""), 0x811c_9dc5);
        assert_eq!(fnv1a32(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a32(b"foobar"), 0xbf9c_f968);
        assert_eq!(method_hash("a"), 0xe40c_292c);
    }

    #[test]
    fn shapes_have_the_text_of_the_grammar() {
        let cases = [
            (Shape::Tuple(vec![]), "()"),
            (Shape::tuple([Shape::Bool]), "(bool)"),
            (Shape::tuple([Shape::Bool, Shape::Char]), "(bool,char)"),
            (Shape::tuple([Shape::uint(8), Shape::uint(8), Shape::uint(8)]), "(u8*3)"),
            (Shape::map(Shape::String, Shape::float(64)), "[string:f64]"),
            (Shape::option(Shape::sequence(Shape::Bytes)), "?[bytes]"),
            (
                Shape::enumeration(
                    "E",
                    [
                        ("A", None),
                        ("B", Some(Shape::Unit)),
                        ("C", Some(Shape::structure("C", [("x", Shape::int(128))]))),
                    ],
                ),
                "<A|B:unit|C:{x:i128}>",
            ),
            (Shape::structure("S", [("next", Shape::option(Shape::recursive(1)))]), "{next:?^1}"),
            (Shape::structure("S", [(r"a:b\", Shape::float(32))]), r"{a\:b\\:f32}"),
        ];
        for (shape, text) in cases {
            assert_eq!(Description::new(shape).text(), text);
        }
    }

    #[test]
    fn names_of_containers_do_not_count() {
        let named = |name: &str| Shape::structure(name, [("A", Shape::int(64))]);
        assert_eq!(canonical(&named("One")), canonical(&named("Two")));
        assert_eq!(canonical(&Shape::tuple([named("One"), named("Two")])), "({A:i64}*2)");
    }

    #[test]
    fn a_fingerprint_is_never_zero_and_never_changes() {
        let args = Description::new(Shape::structure("Args", [("A", Shape::int(64)), ("B", Shape::int(64))]));
        let int = Description::new(Shape::int(64));
        // Computed independently of this code: it is on the wire.
        assert_eq!(fingerprint(&args, &int), 0xe8af_7046);
        assert_ne!(fingerprint(&args, &int), fingerprint(&int, &args));
        assert_eq!(format!("{} -> {}", args.readable(), int.readable()), "{A: i64, B: i64} -> i64");
    }
}
