//! The rules of `rename_all`, with the names and the results of serde's.

/// How the names of fields are derived from those of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RenameRule {
    /// As written.
    #[default]
    None,
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

impl RenameRule {
    /// The rules and their names.
    pub const ALL: [(&'static str, RenameRule); 8] = [
        ("lowercase", RenameRule::Lower),
        ("UPPERCASE", RenameRule::Upper),
        ("PascalCase", RenameRule::Pascal),
        ("camelCase", RenameRule::Camel),
        ("snake_case", RenameRule::Snake),
        ("SCREAMING_SNAKE_CASE", RenameRule::ScreamingSnake),
        ("kebab-case", RenameRule::Kebab),
        ("SCREAMING-KEBAB-CASE", RenameRule::ScreamingKebab),
    ];

    /// Returns the rule with this name.
    pub fn named(name: &str) -> Option<RenameRule> {
        RenameRule::ALL.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule)
    }

    /// Converts a name in snake case.
    pub fn apply(self, name: &str) -> String {
        match self {
            RenameRule::None | RenameRule::Lower | RenameRule::Snake => name.to_owned(),
            RenameRule::Upper | RenameRule::ScreamingSnake => name.to_ascii_uppercase(),
            RenameRule::Pascal => pascal_case(name),
            RenameRule::Camel => {
                let pascal = pascal_case(name);
                let mut chars = pascal.chars();
                chars.next().into_iter().flat_map(char::to_lowercase).chain(chars).collect()
            }
            RenameRule::Kebab => name.replace('_', "-"),
            RenameRule::ScreamingKebab => name.to_ascii_uppercase().replace('_', "-"),
        }
    }
}

/// Converts `add_fixed` to `AddFixed`, like `coreloop::service::pascal_case`.
pub fn pascal_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for word in name.split('_') {
        let mut chars = word.chars();
        out.extend(chars.next().into_iter().flat_map(char::to_uppercase));
        out.push_str(chars.as_str());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::RenameRule;

    #[test]
    fn names_are_converted_as_serde_does() {
        let expected = [
            "unit_price",
            "UNIT_PRICE",
            "UnitPrice",
            "unitPrice",
            "unit_price",
            "UNIT_PRICE",
            "unit-price",
            "UNIT-PRICE",
        ];
        for ((name, rule), expected) in RenameRule::ALL.into_iter().zip(expected) {
            assert_eq!(rule.apply("unit_price"), expected, "{name}");
            assert_eq!(RenameRule::named(name), Some(rule));
        }
        assert_eq!(RenameRule::None.apply("unit_price"), "unit_price");
        assert_eq!(RenameRule::named("Pascal"), None);
    }
}
