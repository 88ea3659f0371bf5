//! The types of a method as its server describes them, in the text that fingerprints cover (`codec/describe/text.rs`), and
//! which fields a JSON value has that they lack.

use serde_json::Value;

/// A deeper type is not checked.
const DEPTH_MAX: usize = 64;

/// The part of a type that decides about the names of fields.
#[derive(Debug, PartialEq)]
pub(super) enum TypeShape {
    /// A struct: its fields.
    Struct(Vec<(String, TypeShape)>),
    /// A list of such values, or a map to them, or one that may be missing.
    Each(Box<TypeShape>),
    /// An optional value.
    Option(Box<TypeShape>),
    /// A tuple.
    Tuple(Vec<TypeShape>),
    /// An enum: its variants, and what they contain.
    Enum(Vec<(String, Option<TypeShape>)>),
    /// A type without fields, or one whose fields are not known.
    Other,
}

/// A field that its type does not have.
#[derive(Debug, PartialEq)]
pub(super) struct ShapeFault<'a> {
    pub(super) path: String,
    pub(super) field: String,
    pub(super) fields: Vec<&'a str>,
}

impl TypeShape {
    /// Reads the argument of `ARGUMENT->REPLY`. What is not understood is not checked.
    pub(super) fn of_argument(types: &str) -> TypeShape {
        let mut reader = ShapeReader { rest: types };
        match reader.shape(0) {
            Some(shape) if reader.rest.starts_with("->") => shape,
            _ => TypeShape::Other,
        }
    }

    /// Checks that the fields of all structs in the value are those of the type.
    pub(super) fn check<'a>(&'a self, value: &Value, ignores_case: bool) -> Result<(), ShapeFault<'a>> {
        self.check_at(value, ignores_case, &mut Vec::new())
    }

    fn check_at<'a>(
        &'a self,
        value: &Value,
        ignores_case: bool,
        path: &mut Vec<String>,
    ) -> Result<(), ShapeFault<'a>> {
        let mut within = |shape: &'a TypeShape, step: String, value: &Value| {
            path.push(step);
            shape.check_at(value, ignores_case, path)?;
            path.pop();
            Ok(())
        };
        match (self, value) {
            (TypeShape::Struct(fields), Value::Object(members)) => {
                for (name, value) in members {
                    let is_it =
                        |known: &str| known == name || ignores_case && known.eq_ignore_ascii_case(name);
                    match fields.iter().find(|(known, _)| is_it(known)) {
                        Some((known, shape)) => within(shape, format!(".{known}"), value)?,
                        None => {
                            let path = path.concat().trim_start_matches('.').to_owned();
                            let fields = fields.iter().map(|(known, _)| &**known).collect();
                            return Err(ShapeFault { path, field: name.clone(), fields });
                        }
                    }
                }
                Ok(())
            }
            (TypeShape::Each(each), Value::Array(items)) => {
                items.iter().enumerate().try_for_each(|(at, item)| within(each, format!("[{at}]"), item))
            }
            (TypeShape::Each(each), Value::Object(entries)) => {
                entries.iter().try_for_each(|(key, value)| within(each, format!(".{key}"), value))
            }
            (TypeShape::Option(inner), value) => inner.check_at(value, ignores_case, path),
            (TypeShape::Tuple(shapes), Value::Array(items)) => shapes
                .iter()
                .zip(items)
                .enumerate()
                .try_for_each(|(at, (shape, item))| within(shape, format!("[{at}]"), item)),
            (TypeShape::Enum(variants), Value::Object(members)) => {
                members.iter().try_for_each(|(name, value)| {
                    // Another variant is the server's to refuse.
                    match variants.iter().find(|(known, _)| known == name) {
                        Some((_, Some(shape))) => within(shape, format!(".{name}"), value),
                        Some((_, None)) | None => Ok(()),
                    }
                })
            }
            _ => Ok(()),
        }
    }
}

struct ShapeReader<'a> {
    rest: &'a str,
}

impl ShapeReader<'_> {
    fn take(&mut self, mark: char) -> bool {
        match self.rest.strip_prefix(mark) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Reads a shape. `None`: the text is not of the documented form, or nests too deep.
    fn shape(&mut self, depth: usize) -> Option<TypeShape> {
        if depth > DEPTH_MAX {
            return None;
        }
        if self.take('?') {
            return Some(TypeShape::Option(Box::new(self.shape(depth + 1)?)));
        }
        if self.take('[') {
            let mut each = self.shape(depth + 1)?;
            if self.take(':') {
                each = self.shape(depth + 1)?;
            }
            return self.take(']').then(|| TypeShape::Each(Box::new(each)));
        }
        if self.take('{') {
            let fields = self.list('}', ',', |reader| {
                let name = reader.name()?;
                if !reader.take(':') {
                    return None;
                }
                Some((name, reader.shape(depth + 1)?))
            })?;
            return Some(TypeShape::Struct(fields));
        }
        if self.take('<') {
            let variants = self.list('>', '|', |reader| {
                let name = reader.name()?;
                let content = if reader.take(':') { Some(reader.shape(depth + 1)?) } else { None };
                Some((name, content))
            })?;
            return Some(TypeShape::Enum(variants));
        }
        if self.take('(') {
            return self.tuple(depth);
        }
        // A scalar, or a type that contains itself.
        self.take('^');
        let end = self.rest.find(|at: char| !at.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(TypeShape::Other)
    }

    fn tuple(&mut self, depth: usize) -> Option<TypeShape> {
        if self.take(')') {
            return Some(TypeShape::Tuple(Vec::new()));
        }
        let first = self.shape(depth + 1)?;
        if self.take('*') {
            self.rest = self.rest.trim_start_matches(|at: char| at.is_ascii_digit());
            return self.take(')').then(|| TypeShape::Each(Box::new(first)));
        }
        let mut shapes = vec![first];
        while self.take(',') {
            shapes.push(self.shape(depth + 1)?);
        }
        self.take(')').then_some(TypeShape::Tuple(shapes))
    }

    fn list<T>(
        &mut self,
        end: char,
        between: char,
        mut one: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut all = Vec::new();
        if self.take(end) {
            return Some(all);
        }
        loop {
            all.push(one(self)?);
            if self.take(end) {
                return Some(all);
            }
            if !self.take(between) {
                return None;
            }
        }
    }

    /// Reads a name, in which marks are escaped.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, next)) = chars.next() {
            match next {
                '\\' => name.push(chars.next()?.1),
                '{' | '}' | '[' | ']' | '(' | ')' | '<' | '>' | ':' | ',' | '|' | '?' | '^' | '*' => {
                    self.rest = &self.rest[at..];
                    return Some(name);
                }
                other => name.push(other),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fault(types: &str, value: Value) -> Option<(String, String)> {
        let shape = TypeShape::of_argument(types);
        let fault = shape.check(&value, false).err();
        fault.map(|ShapeFault { path, field, .. }| (path, field))
    }

    #[test]
    fn fields_are_found_in_every_kind_of_type() {
        let pair = |path: &str, field: &str| Some((path.to_owned(), field.to_owned()));
        assert_eq!(fault("{A:i64,B:?{c:u8}}->i64", json!({"A": 1, "B": {"c": 1}})), None);
        assert_eq!(fault("{A:i64,B:?{c:u8}}->i64", json!({"A": 1, "B": null})), None);
        assert_eq!(fault("{A:i64}->i64", json!({"a": 1})), pair("", "a"));
        assert_eq!(fault("{A:?{c:u8}}->i64", json!({"A": {"d": 1}})), pair("A", "d"));
        assert_eq!(fault("[{c:u8}]->i64", json!([{"c": 1}, {"d": 1}])), pair("[1]", "d"));
        assert_eq!(fault("{m:[string:{c:u8}]}->i64", json!({"m": {"k": {"d": 1}}})), pair("m.k", "d"));
        assert_eq!(fault("(i64,{c:u8})->i64", json!([1, {"d": 1}])), pair("[1]", "d"));
        assert_eq!(fault("({c:u8}*3)->i64", json!([{"d": 1}])), pair("[0]", "d"));
        assert_eq!(fault("<x|y:{c:u8}>->i64", json!({"y": {"d": 1}})), pair("y", "d"));
        assert_eq!(fault("<x|y:{c:u8}>->i64", json!("x")), None);
        assert_eq!(fault(r"{a\:b:u8}->i64", json!({"a:b": 1})), None);
        assert_eq!(fault("{next:?^1}->i64", json!({"next": {"any": 1}})), None);
        // What is not understood is not checked.
        for types in ["", "any->any", "{A:i64", "{A}->i64", "{A:i64}"] {
            assert_eq!(fault(types, json!({"x": 1})), None, "{types}");
        }
        let deep = format!("{}u8{}->u8", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(TypeShape::of_argument(&deep), TypeShape::Other);
    }

    #[test]
    fn case_counts_unless_the_protocol_ignores_it() {
        let shape = TypeShape::of_argument("{A:i64}->i64");
        assert!(shape.check(&json!({"a": 1}), true).is_ok());
        assert_eq!(shape.check(&json!({"b": 1}), true).unwrap_err().fields, ["A"]);
    }

    proptest! {
        #[test]
        fn no_text_of_a_server_breaks_it(text in "[{}\\[\\]()<>:,|?^*a-c1\\\\>-]{0,40}") {
            let _ = TypeShape::of_argument(&text).check(&json!({"a": [{"b": 1}]}), false);
        }
    }
}
