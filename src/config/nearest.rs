//! "Did you mean": finds the known key that is nearest to an unknown name.
//!
//! `schema.rs` compares a name with all keys.

use strsim::damerau_levenshtein;

/// Returns how far a written name is from the name of a key.
///
/// A name without its section, or with another section, is compared by its last part: `frame_bytes_max` is near to
/// `limits.frame_bytes_max`. Case is ignored, and so is which of `.`, `-` and `_` separates the words.
pub(super) fn distance(written: &str, key: &str) -> usize {
    // The distance is quadratic in the length, and no name is longer than this.
    let written: String = written.chars().take(WRITTEN_CHARS_MAX).collect();
    let written = written.to_lowercase().replace('-', "_");
    let whole = damerau_levenshtein(&written.replace('.', "_"), &key.replace('.', "_"));
    // One more than the distance, so that a whole name wins over a part that fits as well.
    let part = 1 + damerau_levenshtein(last_part(&written), last_part(key));
    whole.min(part)
}

/// Returns whether a name at this distance may be the intended one.
pub(super) fn is_likely(written: &str, distance: usize) -> bool {
    distance <= 1 + written.chars().take(WRITTEN_CHARS_MAX).count() / 4
}

fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

const WRITTEN_CHARS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use crate::config::schema::Schema;
    use crate::config::{ConfigKey, keys};

    fn near(written: &str) -> (String, bool) {
        let schema = Schema::of_server();
        let (key, likely) = schema.nearest(written);
        (schema.name(key), likely)
    }

    #[test]
    fn misspelt_names_find_their_key() {
        for (written, meant) in [
            ("limit.frame_bytes_max", "limits.frame_bytes_max"),
            ("frame_bytes_max", "limits.frame_bytes_max"),
            ("flush.frame_bytes_max", "limits.frame_bytes_max"),
            ("coers", "cores"),
            ("Cores", "cores"),
            ("busy-poll-us", "busy_poll_us"),
            ("delay_us", "flush.delay_us"),
            ("worker", "workers"),
            ("limits.idle", "limits.idle_ms"),
            ("listn", "listen"),
            ("limit_idle_ms", "limits.idle_ms"),
            ("FRAME_BYTES_MAX", "limits.frame_bytes_max"),
        ] {
            assert_eq!(near(written), (meant.to_owned(), true), "{written}");
        }
    }

    #[test]
    fn a_dissimilar_name_is_not_likely() {
        let (name, likely) = near("quite_another_matter");
        assert!(!likely && !name.is_empty());
        assert!(!near(&"x".repeat(100_000)).1);
    }

    #[test]
    fn keys_with_two_letters_swapped_are_found() {
        for name in keys().map(ConfigKey::name) {
            let mut letters: Vec<char> = name.chars().collect();
            letters.swap(0, 1);
            let found = near(&letters.into_iter().collect::<String>());
            // The key without a section is as near.
            let is_last_part = name.split_once('.').is_some_and(|(_, last)| last == found.0);
            assert!(found.1 && (found.0 == name || is_last_part), "{name}: {found:?}");
        }
    }
}
