//! The parts of one JSON value as text: the members of an object, the items of a list. For small values off the fast
//! path.

use super::{ContainerStack, JsonReader, unescape};

/// Returns the members of an object, each name with the text of its value; `None` if the text is not one object.
pub(crate) fn members(text: &[u8]) -> Option<Vec<(String, &[u8])>> {
    let mut reader = JsonReader::new(text, ContainerStack::ROOM);
    let mut members = Vec::new();
    if reader.next() != Some(b'{') {
        return None;
    }
    let mut goes_on = reader.opens(b'{', b'}').ok()?;
    while goes_on {
        let name = reader.name().ok()?;
        let value = reader.value().ok()?;
        let mut plain = String::new();
        unescape(reader.bytes_of(name), &mut plain);
        members.push((plain, reader.bytes_of(value)));
        goes_on = reader.goes_on(b'}').ok()?;
    }
    reader.end().ok()?;
    Some(members)
}

/// Returns the texts of the items of a list; `None` if the text is not one list.
pub(crate) fn items(text: &[u8]) -> Option<Vec<&[u8]>> {
    let mut reader = JsonReader::new(text, ContainerStack::ROOM);
    let mut items = Vec::new();
    if reader.next() != Some(b'[') {
        return None;
    }
    let mut goes_on = reader.opens(b'[', b']').ok()?;
    while goes_on {
        let value = reader.value().ok()?;
        items.push(reader.bytes_of(value));
        goes_on = reader.goes_on(b']').ok()?;
    }
    reader.end().ok()?;
    Some(items)
}

/// Returns the value of the last member with that name.
pub(crate) fn member<'a>(members: &[(String, &'a [u8])], name: &str) -> Option<&'a [u8]> {
    members.iter().rev().find(|(known, _)| known == name).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_its_members_as_they_are_written() {
        let found = members(br#" {"a": {"x": 1} , "\u0062":[1, 2],"a":"s"} "#).unwrap();
        let expected: [(&str, &[u8]); 3] = [("a", br#"{"x": 1}"#), ("b", b"[1, 2]"), ("a", br#""s""#)];
        assert_eq!(found.iter().map(|(name, value)| (&name[..], *value)).collect::<Vec<_>>(), expected);
        assert_eq!(member(&found, "a"), Some(&br#""s""#[..]));
        assert_eq!(member(&found, "c"), None);
        assert_eq!(members(b"{}"), Some(Vec::new()));
        for text in ["", "[]", "1", "{", r#"{"a"}"#, r#"{"a":1,}"#, "{} 1", r#"{"a":1 "b":2}"#] {
            assert_eq!(members(text.as_bytes()), None, "{text}");
        }
        assert_eq!(members("{\"a\":".repeat(10_000).as_bytes()), None);
    }

    #[test]
    fn a_list_has_its_items_as_they_are_written() {
        let expected: [&[u8]; 3] = [b"1", b"[2, 3]", b"{ }"];
        assert_eq!(items(b"[1, [2, 3] ,{ }]"), Some(expected.to_vec()));
        assert_eq!(items(b" [ ] "), Some(Vec::new()));
        for text in ["", "{}", "[1", "[1,]", "[1] 2", "[1 2]"] {
            assert_eq!(items(text.as_bytes()), None, "{text}");
        }
    }
}
