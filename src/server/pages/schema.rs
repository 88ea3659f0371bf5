//! JSON Schema (2020-12, as OpenAPI 3.1 uses it) from the descriptions of types.
//!
//! Structs and enums become components, named after their types, so that a recursive type can refer to itself.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::codec::Shape;

/// The components that schemas refer to.
#[derive(Default)]
pub(super) struct Schemas {
    components: Map<String, Value>,
    /// The component of each shape: a shape is described only once.
    names: HashMap<Shape, String>,
}

/// A shape that encloses the one being described, with its component if it becomes one.
type Around<'a> = (&'a Shape, Option<String>);

impl Schemas {
    /// Returns the schema of a whole type.
    pub(super) fn schema_of(&mut self, shape: &Shape) -> Value {
        self.convert(shape, &mut Vec::new())
    }

    pub(super) fn into_components(self) -> Map<String, Value> {
        self.components
    }

    fn convert<'a>(&mut self, shape: &'a Shape, around: &mut Vec<Around<'a>>) -> Value {
        match shape {
            Shape::Bool => json!({ "type": "boolean" }),
            Shape::Int { bits, signed } => integer(*bits, *signed),
            Shape::Float { bits: 32 } => json!({ "type": "number", "format": "float" }),
            Shape::Float { .. } => json!({ "type": "number", "format": "double" }),
            Shape::Char => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
            Shape::String => json!({ "type": "string" }),
            Shape::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Shape::Unit => json!({ "type": "null" }),
            Shape::Any => json!({}),
            Shape::Recursive { levels } => {
                let target = around.len().checked_sub(levels + 1).and_then(|at| around[at].1.as_deref());
                // A reference without a target describes nothing.
                target.map_or(json!({}), reference)
            }
            Shape::Option(_)
            | Shape::Sequence(_)
            | Shape::Tuple(_)
            | Shape::Map { .. }
            | Shape::Struct { .. }
            | Shape::Enum { .. } => self.container(shape, around),
        }
    }

    fn container<'a>(&mut self, shape: &'a Shape, around: &mut Vec<Around<'a>>) -> Value {
        let is_closed = !refers_outside(shape, 0);
        if is_closed && let Some(name) = self.names.get(shape) {
            return reference(name);
        }
        let name = match shape {
            Shape::Struct { name, .. } | Shape::Enum { name, .. } => Some(self.free_name(name)),
            _ if is_target(shape, 0) => Some(self.free_name("Value")),
            _ => None,
        };
        if let Some(name) = &name {
            // The name is taken before the content is known, because the content may refer to it.
            self.components.insert(name.clone(), Value::Null);
            if is_closed {
                self.names.insert(shape.clone(), name.clone());
            }
        }
        around.push((shape, name.clone()));
        let schema = self.content(shape, around);
        around.pop();
        match name {
            Some(name) => {
                let refers = reference(&name);
                self.components.insert(name, schema);
                refers
            }
            None => schema,
        }
    }

    fn content<'a>(&mut self, shape: &'a Shape, around: &mut Vec<Around<'a>>) -> Value {
        match shape {
            Shape::Option(inner) => json!({ "anyOf": [self.convert(inner, around), { "type": "null" }] }),
            Shape::Sequence(element) => json!({ "type": "array", "items": self.convert(element, around) }),
            Shape::Tuple(elements) => {
                let schemas: Vec<Value> =
                    elements.iter().map(|element| self.convert(element, around)).collect();
                let len = schemas.len();
                json!({ "type": "array", "prefixItems": schemas, "minItems": len, "maxItems": len })
            }
            Shape::Map { value, .. } => {
                json!({ "type": "object", "additionalProperties": self.convert(value, around) })
            }
            Shape::Struct { fields, .. } => {
                let properties: Map<String, Value> = fields
                    .iter()
                    .map(|field| (field.name.clone(), self.convert(&field.shape, around)))
                    .collect();
                let required: Vec<&str> = fields
                    .iter()
                    .filter(|field| !matches!(field.shape, Shape::Option(_)))
                    .map(|field| field.name.as_str())
                    .collect();
                json!({ "type": "object", "properties": properties, "required": required })
            }
            Shape::Enum { variants, .. } => {
                let variant = |schemas: &mut Schemas,
                               around: &mut Vec<Around<'a>>,
                               name: &str,
                               content: &'a Option<Shape>| {
                    match content {
                        None => json!({ "const": name }),
                        Some(shape) => json!({
                            "type": "object",
                            "properties": { name: schemas.convert(shape, around) },
                            "required": [name],
                        }),
                    }
                };
                let all: Vec<Value> =
                    variants.iter().map(|one| variant(self, around, &one.name, &one.content)).collect();
                json!({ "oneOf": all })
            }
            _ => json!({}),
        }
    }

    /// Returns an unused name for a component, based on the type's.
    fn free_name(&self, wanted: &str) -> String {
        let fits = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
        let base: String = wanted.chars().map(fits).collect();
        let base = if base.is_empty() { "Value".to_owned() } else { base };
        let mut name = base.clone();
        let mut number = 1;
        while self.components.contains_key(&name) {
            number += 1;
            name = format!("{base}_{number}");
        }
        name
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn integer(bits: u8, signed: bool) -> Value {
    let mut schema = json!({ "type": "integer" });
    // JSON has integers of any size; those beyond 64 bits cannot be written as numbers in this document.
    match (bits, signed) {
        (..=64, true) => {
            let max = i64::MAX >> (64 - bits);
            (schema["minimum"], schema["maximum"]) = (json!(-max - 1), json!(max));
        }
        (..=64, false) => {
            (schema["minimum"], schema["maximum"]) = (json!(0), json!(u64::MAX >> (64 - bits)));
        }
        (_, false) => schema["minimum"] = json!(0),
        (_, true) => {}
    }
    // The formats in OpenAPI's registry.
    match (bits, signed) {
        (8, false) => schema["format"] = json!("uint8"),
        (_, false) => schema["format"] = json!(format!("uint{bits}")),
        (_, true) => schema["format"] = json!(format!("int{bits}")),
    }
    schema
}

fn children(shape: &Shape) -> Vec<&Shape> {
    match shape {
        Shape::Option(inner) | Shape::Sequence(inner) => vec![inner],
        Shape::Tuple(elements) => elements.iter().collect(),
        Shape::Map { key, value } => vec![key, value],
        Shape::Struct { fields, .. } => fields.iter().map(|field| &field.shape).collect(),
        Shape::Enum { variants, .. } => {
            variants.iter().filter_map(|variant| variant.content.as_ref()).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns whether a part of the shape refers to the shape itself; `depth` containers are between the two.
fn is_target(shape: &Shape, depth: usize) -> bool {
    children(shape).into_iter().any(|child| match child {
        Shape::Recursive { levels } => *levels == depth,
        child => is_target(child, depth + 1),
    })
}

/// Returns whether a part of the shape refers to a shape around it.
fn refers_outside(shape: &Shape, depth: usize) -> bool {
    children(shape).into_iter().any(|child| match child {
        Shape::Recursive { levels } => *levels > depth,
        child => refers_outside(child, depth + 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas_of_eight_bits() -> [Value; 2] {
        [Shape::int(8), Shape::uint(8)].map(|shape| Schemas::default().schema_of(&shape))
    }

    #[test]
    fn a_struct_is_described_once_as_a_component() {
        let args = Shape::structure("Args", [("A", Shape::int(64)), ("B", Shape::option(Shape::uint(8)))]);
        let mut schemas = Schemas::default();
        assert_eq!(schemas.schema_of(&args), json!({ "$ref": "#/components/schemas/Args" }));
        assert_eq!(schemas.schema_of(&args), json!({ "$ref": "#/components/schemas/Args" }));
        let other = Shape::structure("Args", [("C", Shape::Bool)]);
        assert_eq!(schemas.schema_of(&other), json!({ "$ref": "#/components/schemas/Args_2" }));
        let components = schemas.into_components();
        assert_eq!(components.len(), 2);
        assert_eq!(components["Args"]["required"], json!(["A"]));
        assert_eq!(
            components["Args"]["properties"]["A"],
            json!({ "type": "integer", "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX })
        );
        let eight = schemas_of_eight_bits();
        assert_eq!((&eight[0]["minimum"], &eight[0]["maximum"]), (&json!(-128), &json!(127)));
        assert_eq!((&eight[1]["minimum"], &eight[1]["maximum"]), (&json!(0), &json!(255)));
    }

    #[test]
    fn a_recursive_type_refers_to_itself() {
        let node =
            Shape::structure("Node", [("Value", Shape::Char), ("Next", Shape::option(Shape::recursive(1)))]);
        let mut schemas = Schemas::default();
        schemas.schema_of(&node);
        let components = schemas.into_components();
        let next = &components["Node"]["properties"]["Next"]["anyOf"][0];
        assert_eq!(next, &json!({ "$ref": "#/components/schemas/Node" }));

        // A list of lists of lists …
        let nested = Shape::sequence(Shape::recursive(0));
        let mut schemas = Schemas::default();
        assert_eq!(schemas.schema_of(&nested), json!({ "$ref": "#/components/schemas/Value" }));
        assert_eq!(
            schemas.into_components()["Value"]["items"],
            json!({ "$ref": "#/components/schemas/Value" })
        );
    }

    #[test]
    fn other_shapes_match_serde_json() {
        let mut schemas = Schemas::default();
        let cases = [
            (Shape::Bytes, json!({ "type": "string", "contentEncoding": "base64" })),
            (Shape::Unit, json!({ "type": "null" })),
            (
                Shape::map(Shape::String, Shape::float(64)),
                json!({ "type": "object", "additionalProperties": { "type": "number", "format": "double" } }),
            ),
            (
                Shape::tuple([Shape::Bool, Shape::String]),
                json!({
                    "type": "array",
                    "prefixItems": [{ "type": "boolean" }, { "type": "string" }],
                    "minItems": 2,
                    "maxItems": 2,
                }),
            ),
        ];
        for (shape, schema) in cases {
            assert_eq!(schemas.schema_of(&shape), schema);
        }
        schemas.schema_of(&Shape::enumeration("Kind", [("Plain", None), ("Of", Some(Shape::Bool))]));
        let kind = &schemas.into_components()["Kind"]["oneOf"];
        assert_eq!(kind[0], json!({ "const": "Plain" }));
        assert_eq!(kind[1]["properties"], json!({ "Of": { "type": "boolean" } }));
    }
}
