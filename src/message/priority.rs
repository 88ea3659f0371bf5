//! The priority of a call, which its caller states in the metadata.

use super::Metadata;

/// How important a call is to its caller. A server that is overloaded refuses calls of a lower priority first.
///
/// It travels in the metadata as the decimal number of the level, under the key [`Priority::KEY`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Priority {
    /// Level 0: refused last.
    Highest = 0,
    /// Level 1: calls that state no level, or none that there is.
    #[default]
    Normal = 1,
    /// Level 2.
    Low = 2,
    /// Level 3: refused first.
    Lowest = 3,
}

impl Priority {
    /// The key of the metadata.
    pub const KEY: &'static str = "priority";
    /// Every level, the highest priority first.
    pub const ALL: [Priority; 4] = [Priority::Highest, Priority::Normal, Priority::Low, Priority::Lowest];

    /// Returns the number of the level: 0 is the highest priority, 3 the lowest.
    #[inline]
    pub const fn level(self) -> u8 {
        self as u8
    }

    /// Returns the value of the metadata: the level in decimal.
    pub const fn as_bytes(self) -> &'static [u8] {
        match self {
            Priority::Highest => b"0",
            Priority::Normal => b"1",
            Priority::Low => b"2",
            Priority::Lowest => b"3",
        }
    }

    /// Returns the priority of a call with this metadata. It is [`Priority::Normal`] if there is none, or if the value
    /// of the first entry is not a level.
    ///
    /// ```
    /// use coreloop::{Metadata, MetadataBuf, Priority};
    ///
    /// assert_eq!(Priority::of(Metadata::default()), Priority::Normal);
    /// let mut metadata = MetadataBuf::new();
    /// metadata.push("priority", b"0")?;
    /// assert_eq!(Priority::of(metadata.view()), Priority::Highest);
    /// # Ok::<(), coreloop::message::MetadataTooLong>(())
    /// ```
    #[inline]
    pub fn of(metadata: Metadata<'_>) -> Priority {
        if metadata.as_bytes().is_empty() { Priority::Normal } else { Priority::stated(metadata) }
    }

    #[inline(never)]
    fn stated(metadata: Metadata<'_>) -> Priority {
        match metadata.find(Priority::KEY) {
            Some(b"0") => Priority::Highest,
            Some(b"2") => Priority::Low,
            Some(b"3") => Priority::Lowest,
            Some(_) | None => Priority::Normal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MetadataBuf;

    #[test]
    fn a_level_is_read_as_it_is_written() {
        for (level, priority) in Priority::ALL.into_iter().enumerate() {
            let mut metadata = MetadataBuf::new();
            metadata.push("b3", b"0").unwrap();
            metadata.push(Priority::KEY, priority.as_bytes()).unwrap();
            metadata.push(Priority::KEY, b"9").unwrap();
            assert_eq!(Priority::of(metadata.view()), priority);
            assert_eq!(
                (usize::from(priority.level()), priority.as_bytes()),
                (level, level.to_string().as_bytes())
            );
        }
    }

    #[test]
    fn what_is_no_level_is_normal() {
        for value in ["", "4", "00", "-1", " 0", "0 ", "high", "u=0, i", "\u{660}"] {
            let mut metadata = MetadataBuf::new();
            metadata.push(Priority::KEY, value.as_bytes()).unwrap();
            metadata.push(Priority::KEY, b"3").unwrap();
            assert_eq!(Priority::of(metadata.view()), Priority::Normal, "{value:?}");
        }
        let mut other = MetadataBuf::new();
        other.push("Priority", b"0").unwrap();
        assert_eq!(Priority::of(other.view()), Priority::Normal);
        assert_eq!(Priority::default(), Priority::Normal);
    }
}
