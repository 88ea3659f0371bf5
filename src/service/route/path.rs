//! The path of a route, with captured parts, and how the path of a request matches it.
//!
//! The path of a request is compared segment by segment, as the paths of methods are
//! ([`MethodName::from_http_path`](crate::MethodName::from_http_path)): an encoded letter, digit, `-`, `.`, `_` or `~` is
//! that character, and any other spelling is another path. What a segment captures is decoded, and is always a plain name:
//! not empty, not `.` or `..`, without slashes, backslashes and control characters.

use std::borrow::Cow;
use std::fmt;

use crate::method_name::{hex_value, is_path_character, is_unreserved};

/// The path of a route: literal segments, `{name}` for one segment, and at the end `{name..}` for all others.
///
/// ```
/// use coreloop::route::RoutePath;
///
/// assert!(RoutePath::parse("/hooks/{source}").is_ok());
/// assert!(RoutePath::parse("/static/{rest..}").is_ok());
/// let error = RoutePath::parse("/static/{rest..}/index").unwrap_err();
/// assert!(error.to_string().contains("last"), "{error}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePath {
    text: String,
    segments: Vec<PathSegment>,
}

/// A segment of a route's path. The order is that of specificity.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PathSegment {
    /// This text; empty only as the last one, after a slash at the end.
    Literal(String),
    /// One segment, which is not empty.
    One(String),
    /// All segments up to the end, of which only the last may be empty.
    Rest(String),
}

impl PathSegment {
    fn rank(&self) -> u8 {
        match self {
            PathSegment::Literal(_) => 0,
            PathSegment::One(_) => 1,
            PathSegment::Rest(_) => 2,
        }
    }
}

/// Why a text is not the path of a route.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoutePathError {
    /// It does not begin with a slash.
    NoSlash,
    /// It is longer than [`RoutePath::BYTES_MAX`].
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It has two slashes in a row, or a segment that is `.` or `..`.
    Segment,
    /// It has a character that is not allowed. Paths are written without percent-encoding.
    InvalidCharacter(char),
    /// A brace is not around a whole segment, or the name between is not one: letters, digits and `_`, no digit first.
    Capture,
    /// `{name..}` is not the last segment.
    RestNotLast,
    /// Two captured parts have the same name.
    SameCapture,
}

crate::error_text::debug_as_text!(RoutePathError);

impl fmt::Display for RoutePathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RoutePathError::NoSlash => f.write_str("expected a path that begins with a slash"),
            RoutePathError::TooLong { bytes } => {
                write!(f, "expected at most {} bytes, found {bytes}", RoutePath::BYTES_MAX)
            }
            RoutePathError::Segment => {
                f.write_str("expected no empty segment before the last, and none that is `.` or `..`")
            }
            RoutePathError::InvalidCharacter('%') => {
                f.write_str("expected a path without percent-encoding, found '%'")
            }
            RoutePathError::InvalidCharacter(found) => {
                let found = found.escape_debug();
                write!(
                    f,
                    "expected no white space, no control characters, `?`, `#` and backslash, found '{found}'"
                )
            }
            RoutePathError::Capture => f.write_str(
                "expected `{name}` or `{name..}` as a whole segment, with a name of letters, digits and `_`",
            ),
            RoutePathError::RestNotLast => f.write_str("expected `{name..}` as the last segment only"),
            RoutePathError::SameCapture => f.write_str("expected a different name for each captured part"),
        }
    }
}

impl std::error::Error for RoutePathError {}

/// How the requests of two paths are related.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathRelation {
    /// No request matches both.
    Disjoint,
    /// Some requests match both, and the first is the more specific one.
    FirstWins,
    /// Some requests match both, and the second is the more specific one.
    SecondWins,
    /// Some requests match both, and neither is more specific.
    Conflict,
}

impl RoutePath {
    /// The longest path, in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Parses a path.
    ///
    /// # Errors
    ///
    /// See [`RoutePathError`].
    pub fn parse(text: &str) -> Result<RoutePath, RoutePathError> {
        if text.len() > RoutePath::BYTES_MAX {
            return Err(RoutePathError::TooLong { bytes: text.len() });
        }
        let Some(after) = text.strip_prefix('/') else { return Err(RoutePathError::NoSlash) };
        let is_invalid = |c: &char| c.is_whitespace() || c.is_control() || "?#%\\".contains(*c);
        if let Some(found) = after.chars().find(is_invalid) {
            return Err(RoutePathError::InvalidCharacter(found));
        }
        let mut segments: Vec<PathSegment> = Vec::new();
        let mut parts = after.split('/').peekable();
        while let Some(part) = parts.next() {
            let is_last = parts.peek().is_none();
            let segment = match segment(part)? {
                PathSegment::Literal(text) if text.is_empty() && !is_last => {
                    return Err(RoutePathError::Segment);
                }
                PathSegment::Rest(_) if !is_last => return Err(RoutePathError::RestNotLast),
                segment => segment,
            };
            if let PathSegment::One(name) | PathSegment::Rest(name) = &segment
                && segments.iter().any(|known| known.capture() == Some(name))
            {
                return Err(RoutePathError::SameCapture);
            }
            segments.push(segment);
        }
        Ok(RoutePath { text: text.to_owned(), segments })
    }

    /// Returns the path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it captures nothing, so that it is the path of one resource.
    pub(crate) fn is_literal(&self) -> bool {
        self.segments.iter().all(|segment| segment.capture().is_none())
    }

    /// Whether the path of a request, without its query, matches.
    pub(crate) fn matches(&self, path: &str) -> bool {
        self.walk(path, |_, _| {}).is_some()
    }

    /// Returns what a path captures, by name; `None` if it does not match.
    pub(crate) fn captures<'p>(&self, path: &'p str) -> Option<Vec<Cow<'p, str>>> {
        let mut captures = Vec::new();
        self.walk(path, |_, value| captures.push(value))?;
        Some(captures)
    }

    /// Returns the index of a captured part among the captures.
    pub(crate) fn capture_index(&self, name: &str) -> Option<usize> {
        self.segments.iter().filter_map(PathSegment::capture).position(|known| known == name)
    }

    /// Passes what a path captures to `capture`; `None` if it does not match.
    fn walk<'p>(&self, path: &'p str, mut capture: impl FnMut(&str, Cow<'p, str>)) -> Option<()> {
        let mut left = Some(path.strip_prefix('/')?);
        for segment in &self.segments {
            let rest = left?;
            if let PathSegment::Rest(name) = segment {
                capture(name, decode_rest(rest)?);
                return Some(());
            }
            let (part, after) = match rest.split_once('/') {
                Some((part, after)) => (part, Some(after)),
                None => (rest, None),
            };
            left = after;
            match segment {
                PathSegment::Literal(text) if is_literal(part, text) => {}
                PathSegment::One(name) => capture(name, decode_name(part)?),
                PathSegment::Literal(_) | PathSegment::Rest(_) => return None,
            }
        }
        left.is_none().then_some(())
    }

    /// Returns how the requests of two paths are related.
    pub(crate) fn relation(&self, other: &RoutePath) -> PathRelation {
        let (mut first_wins, mut second_wins) = (false, false);
        let (mut ours, mut theirs) = (self.segments.iter(), other.segments.iter());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => break,
                (None, Some(_)) | (Some(_), None) => return PathRelation::Disjoint,
                (Some(PathSegment::Rest(_)), Some(PathSegment::Rest(_))) => break,
                (Some(PathSegment::Rest(_)), Some(_)) => {
                    second_wins = true;
                    break;
                }
                (Some(_), Some(PathSegment::Rest(_))) => {
                    first_wins = true;
                    break;
                }
                (Some(PathSegment::Literal(one)), Some(PathSegment::Literal(other))) => {
                    if one != other {
                        return PathRelation::Disjoint;
                    }
                }
                (Some(PathSegment::Literal(text)), Some(PathSegment::One(_)))
                | (Some(PathSegment::One(_)), Some(PathSegment::Literal(text)))
                    if text.is_empty() =>
                {
                    return PathRelation::Disjoint;
                }
                (Some(PathSegment::Literal(_)), Some(PathSegment::One(_))) => first_wins = true,
                (Some(PathSegment::One(_)), Some(PathSegment::Literal(_))) => second_wins = true,
                (Some(PathSegment::One(_)), Some(PathSegment::One(_))) => {}
            }
        }
        match (first_wins, second_wins) {
            (true, false) => PathRelation::FirstWins,
            (false, true) => PathRelation::SecondWins,
            (true, true) | (false, false) => PathRelation::Conflict,
        }
    }

    /// Returns the ranks of its segments. Of two paths that match the same request, the more specific one has the lesser
    /// ranks.
    pub(crate) fn ranks(&self) -> impl Iterator<Item = u8> {
        self.segments.iter().map(PathSegment::rank)
    }
}

impl fmt::Display for RoutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PathSegment {
    fn capture(&self) -> Option<&String> {
        match self {
            PathSegment::Literal(_) => None,
            PathSegment::One(name) | PathSegment::Rest(name) => Some(name),
        }
    }
}

fn segment(part: &str) -> Result<PathSegment, RoutePathError> {
    if matches!(part, "." | "..") {
        return Err(RoutePathError::Segment);
    }
    if !part.contains(['{', '}']) {
        return Ok(PathSegment::Literal(part.to_owned()));
    }
    let inside =
        part.strip_prefix('{').and_then(|part| part.strip_suffix('}')).ok_or(RoutePathError::Capture)?;
    let (name, is_rest) = match inside.strip_suffix("..") {
        Some(name) => (name, true),
        None => (inside, false),
    };
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name || name.is_empty() || name.as_bytes()[0].is_ascii_digit() {
        return Err(RoutePathError::Capture);
    }
    let name = name.to_owned();
    Ok(if is_rest { PathSegment::Rest(name) } else { PathSegment::One(name) })
}

/// Whether a segment of a request is this text, in the one spelling that it has.
fn is_literal(part: &str, text: &str) -> bool {
    let mut rest = part.as_bytes();
    for wanted in text.bytes() {
        let Some((&first, after)) = rest.split_first() else { return false };
        rest = after;
        let found = match first {
            b'%' => {
                let Some((byte, after)) = encoded(after) else { return false };
                rest = after;
                if is_path_character(byte) && !is_unreserved(byte) {
                    return false;
                }
                byte
            }
            first if is_path_character(first) => first,
            _ => return false,
        };
        if found != wanted {
            return false;
        }
    }
    rest.is_empty()
}

/// Returns the byte after a percent sign, and what follows its two digits.
fn encoded(after: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, after) = after.split_first_chunk::<2>()?;
    Some((hex_value(digits[0])? << 4 | hex_value(digits[1])?, after))
}

/// Decodes a segment that is captured; `None` if it is not a plain name.
fn decode_name(part: &str) -> Option<Cow<'_, str>> {
    let name = if part.contains('%') {
        let (mut bytes, mut rest) = (Vec::with_capacity(part.len()), part.as_bytes());
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            bytes.push(match first {
                b'%' => {
                    let (byte, after) = encoded(after)?;
                    rest = after;
                    byte
                }
                first => first,
            });
        }
        Cow::Owned(String::from_utf8(bytes).ok()?)
    } else {
        Cow::Borrowed(part)
    };
    let is_plain = |c: char| !(c == '/' || c == '\\' || c.is_control());
    (!matches!(&*name, "" | "." | "..") && name.chars().all(is_plain)).then_some(name)
}

/// Decodes the segments up to the end; `None` if one of them is not a plain name. The last may be empty.
fn decode_rest(rest: &str) -> Option<Cow<'_, str>> {
    let parts = || rest.strip_suffix('/').unwrap_or(rest).split('/');
    if rest.is_empty() {
        return Some(Cow::Borrowed(rest));
    }
    if !rest.contains('%') {
        return parts().all(|part| decode_name(part).is_some()).then_some(Cow::Borrowed(rest));
    }
    let mut names = parts().map(decode_name).collect::<Option<Vec<_>>>()?.join("/");
    if rest.ends_with('/') {
        names.push('/');
    }
    Some(Cow::Owned(names))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> RoutePath {
        RoutePath::parse(text).unwrap()
    }

    fn captures(pattern: &str, request: &str) -> Option<Vec<String>> {
        let found = path(pattern).captures(request)?;
        Some(found.into_iter().map(Cow::into_owned).collect())
    }

    #[test]
    fn paths_that_cannot_be_served_are_refused() {
        for (text, error) in [
            ("", RoutePathError::NoSlash),
            ("files", RoutePathError::NoSlash),
            ("/a//b", RoutePathError::Segment),
            ("//", RoutePathError::Segment),
            ("/a/./b", RoutePathError::Segment),
            ("/..", RoutePathError::Segment),
            ("/a?b", RoutePathError::InvalidCharacter('?')),
            ("/a b", RoutePathError::InvalidCharacter(' ')),
            ("/%41", RoutePathError::InvalidCharacter('%')),
            ("/a\\b", RoutePathError::InvalidCharacter('\\')),
            ("/a\r\n", RoutePathError::InvalidCharacter('\r')),
            ("/a{b}", RoutePathError::Capture),
            ("/{a", RoutePathError::Capture),
            ("/{}", RoutePathError::Capture),
            ("/{..}", RoutePathError::Capture),
            ("/{1a}", RoutePathError::Capture),
            ("/{a-b}", RoutePathError::Capture),
            ("/{a}{b}", RoutePathError::Capture),
            ("/{a..}/b", RoutePathError::RestNotLast),
            ("/{a}/{a}", RoutePathError::SameCapture),
            ("/{a}/{a..}", RoutePathError::SameCapture),
        ] {
            assert_eq!(RoutePath::parse(text), Err(error), "{text:?}");
        }
        let long = format!("/{}", "a".repeat(RoutePath::BYTES_MAX));
        assert_eq!(RoutePath::parse(&long), Err(RoutePathError::TooLong { bytes: 257 }));
    }

    #[test]
    fn literal_paths_have_one_spelling() {
        for (pattern, request, is_match) in [
            ("/", "/", true),
            ("/", "", false),
            ("/", "//", false),
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/%62", true),
            ("/a/b", "/a/b/", false),
            ("/a/b", "/a", false),
            ("/a/b", "/a%2Fb", false),
            ("/a/b", "/a//b", false),
            ("/a/b", "/A/b", false),
            ("/a/", "/a/", true),
            ("/a/", "/a", false),
            ("/a:b", "/a:b", true),
            ("/a:b", "/a%3Ab", false),
            ("/Zählen", "/Z%C3%A4hlen", true),
            ("/a", "/%6", false),
            ("/a", "/%6g", false),
            ("/a", "/./a", false),
        ] {
            assert_eq!(path(pattern).matches(request), is_match, "{pattern} {request}");
        }
    }

    #[test]
    fn parts_are_captured_and_decoded() {
        let some = |parts: &[&str]| Some(parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>());
        assert_eq!(captures("/files/{name}", "/files/a%20b.txt"), some(&["a b.txt"]));
        assert_eq!(captures("/{a}/x/{b}", "/1/x/%C3%A4"), some(&["1", "ä"]));
        assert_eq!(captures("/static/{rest..}", "/static/css/a%2Db.css"), some(&["css/a-b.css"]));
        assert_eq!(captures("/static/{rest..}", "/static/css/"), some(&["css/"]));
        assert_eq!(captures("/static/{rest..}", "/static/%63ss/"), some(&["css/"]));
        assert_eq!(captures("/static/{rest..}", "/static/"), some(&[""]));
        assert_eq!(captures("/static/{rest..}", "/static"), None);
        assert_eq!(captures("/{rest..}", "/"), some(&[""]));
        assert_eq!(captures("/files/{name}", "/files/"), None);
        assert_eq!(path("/{a}/x/{b}").capture_index("b"), Some(1));
        assert_eq!(path("/{a}/x/{b}").capture_index("x"), None);
    }

    #[test]
    fn nothing_but_plain_names_is_captured() {
        for name in [
            ".", "..", "%2e%2E", ".%2e", "a%2Fb", "a%5Cb", "a\\b", "%00", "%0a", "%7f", "%", "%zz", "%ff", "",
        ] {
            assert_eq!(captures("/f/{name}", &format!("/f/{name}")), None, "{name}");
            assert_eq!(captures("/f/{rest..}", &format!("/f/{name}/x")), None, "{name}");
        }
        for name in ["..", "a/..", "a/../b", "a//b", "/a", "a/%2e%2e/b", "//"] {
            assert_eq!(captures("/f/{rest..}", &format!("/f/{name}")), None, "{name}");
        }
        assert!(captures("/f/{name}", "/f/..a").is_some());
    }

    #[test]
    fn the_more_specific_path_wins() {
        use PathRelation::{Conflict, Disjoint, FirstWins, SecondWins};
        for (first, second, relation) in [
            ("/a", "/b", Disjoint),
            ("/a", "/a/", Disjoint),
            ("/a", "/a/{b}", Disjoint),
            ("/a/", "/a/{b}", Disjoint),
            ("/a", "/{b}", FirstWins),
            ("/{a}", "/b", SecondWins),
            ("/a/{b}", "/{rest..}", FirstWins),
            ("/a/{rest..}", "/{b}/c", Conflict),
            ("/a/", "/a/{rest..}", FirstWins),
            ("/a", "/a/{rest..}", Disjoint),
            ("/a", "/a", Conflict),
            ("/{a}", "/{b}", Conflict),
            ("/{a..}", "/{b..}", Conflict),
            ("/a/{b}", "/{a}/b", Conflict),
        ] {
            assert_eq!(path(first).relation(&path(second)), relation, "{first} {second}");
        }
    }

    proptest! {
        #[test]
        fn no_path_of_a_peer_breaks_the_match(
            request in "/[!-~]{0,40}",
            pattern in prop_oneof![Just("/a/{b}"), Just("/{rest..}"), Just("/{a}/{b}"), Just("/a/b/")],
        ) {
            if let Some(found) = captures(pattern, &request) {
                for part in found.iter().flat_map(|found| found.split('/')) {
                    prop_assert!(part != "." && part != ".." && !part.contains(['\\', '\0']));
                }
            }
        }

        #[test]
        fn relations_agree_with_matches(
            first in prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("{x}")], 1..4),
            second in prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("{x}")], 1..4),
            request in prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c")], 1..4),
            rests in any::<(bool, bool)>(),
        ) {
            // Names of captures must differ within a path.
            let make = |parts: &[&str], is_rest: bool| {
                let named = parts.iter().enumerate().map(|(n, part)| part.replace('x', &format!("x{n}")));
                let text: String = named.map(|part| format!("/{part}")).collect();
                path(&if is_rest { format!("{text}/{{rest..}}") } else { text })
            };
            let (first, second) = (make(&first, rests.0), make(&second, rests.1));
            let request: String = request.iter().map(|part| format!("/{part}")).collect();
            if first.matches(&request) && second.matches(&request) {
                let relation = first.relation(&second);
                prop_assert!(relation != PathRelation::Disjoint);
                let is_lesser = first.ranks().lt(second.ranks());
                prop_assert!(relation != PathRelation::FirstWins || is_lesser);
                prop_assert!(relation != PathRelation::SecondWins || second.ranks().lt(first.ranks()));
            }
        }
    }
}
