//! What a page shows, independent of the form: [`html`](super::html) and [`text`](super::text) render it.

/// A page.
pub(super) struct View {
    pub(super) title: &'static str,
    /// What the page answers, in a sentence.
    pub(super) lead: String,
    pub(super) blocks: Vec<Block>,
}

/// A part of a page.
pub(super) enum Block {
    /// Numbers with names.
    Facts(Vec<Fact>),
    Charts(Vec<Chart>),
    Table(Table),
    /// A remark, or what is wrong.
    Note(Tone, String),
    /// The fields of a filter, sent by GET.
    Filter(Vec<FilterField>),
    /// A part that the script fills, by its name; the text is for those without it.
    Widget(&'static str, String),
}

/// The meaning of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Warn,
    Bad,
}

impl Tone {
    pub(super) fn name(self) -> &'static str {
        match self {
            Tone::Plain => "plain",
            Tone::Good => "good",
            Tone::Warn => "warn",
            Tone::Bad => "bad",
        }
    }
}

/// A number with its name.
pub(super) struct Fact {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) tone: Tone,
}

impl Fact {
    pub(super) fn new(name: &str, value: impl Into<String>) -> Fact {
        Fact { name: name.to_owned(), value: value.into(), tone: Tone::Plain }
    }

    pub(super) fn tone(self, tone: Tone) -> Fact {
        Fact { tone, ..self }
    }
}

/// A number over time.
pub(super) struct Chart {
    pub(super) name: &'static str,
    /// The last value, for people.
    pub(super) now: String,
    /// The largest value, for people.
    pub(super) top: String,
    /// The lines, the first one in front; each has one value for each moment.
    pub(super) lines: Vec<ChartLine>,
    /// How far the lines go back, for people.
    pub(super) span: String,
}

/// One line of a chart.
pub(super) struct ChartLine {
    pub(super) name: &'static str,
    pub(super) tone: Tone,
    pub(super) values: Vec<f64>,
}

/// A table.
pub(super) struct Table {
    pub(super) title: String,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// What the table says if it has no rows.
    pub(super) empty: &'static str,
    /// What is left out.
    pub(super) note: Option<String>,
}

/// A column of a table.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) is_number: bool,
    /// It can take more room than others.
    pub(super) is_wide: bool,
}

/// A cell of a table.
pub(super) enum Cell {
    Text(String),
    /// A name or a value of the program.
    Code(String),
    Number(String),
    Tag(Tone, String),
    Link {
        href: String,
        text: String,
    },
    /// A share of 1, and its text.
    Bar(f64, Tone, String),
    /// A part of the time of the row's table: begin and length as shares of 1.
    Time {
        begin: f64,
        length: f64,
        tone: Tone,
        text: String,
    },
    /// A button that posts these fields to a path.
    Button {
        path: &'static str,
        fields: Vec<(&'static str, String)>,
        text: &'static str,
        name: String,
    },
}

/// A field of a filter.
pub(super) struct FilterField {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) value: String,
    /// The values to choose from, with their texts; a text field if there are none.
    pub(super) options: Vec<(String, String)>,
}

impl Table {
    pub(super) fn new(title: impl Into<String>, empty: &'static str) -> Table {
        Table { title: title.into(), columns: Vec::new(), rows: Vec::new(), empty, note: None }
    }

    pub(super) fn text(mut self, name: &'static str) -> Table {
        self.columns.push(Column { name, is_number: false, is_wide: false });
        self
    }

    pub(super) fn number(mut self, name: &'static str) -> Table {
        self.columns.push(Column { name, is_number: true, is_wide: false });
        self
    }

    pub(super) fn wide(mut self, name: &'static str) -> Table {
        self.columns.push(Column { name, is_number: false, is_wide: true });
        self
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }
}

impl Cell {
    pub(super) fn code(text: impl Into<String>) -> Cell {
        Cell::Code(text.into())
    }

    pub(super) fn text(text: impl Into<String>) -> Cell {
        Cell::Text(text.into())
    }

    pub(super) fn number(text: impl Into<String>) -> Cell {
        Cell::Number(text.into())
    }

    /// The text without its form.
    pub(super) fn as_text(&self) -> &str {
        match self {
            Cell::Text(text)
            | Cell::Code(text)
            | Cell::Number(text)
            | Cell::Tag(_, text)
            | Cell::Link { text, .. }
            | Cell::Bar(_, _, text)
            | Cell::Time { text, .. } => text,
            Cell::Button { .. } => "",
        }
    }
}

// Numbers for people.

/// A count with a comma before each three digits.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number per second.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        ..0.05 => "0".to_owned(),
        0.05..10.0 => format!("{per_second:.1}"),
        _ => count(per_second.round() as u64),
    }
}

/// A time in nanoseconds, with three digits or so.
pub(super) fn time_ns(ns: u64) -> String {
    let of = |value: f64, unit: &str| match value {
        ..9.995 => format!("{value:.2} {unit}"),
        9.995..99.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    };
    match ns {
        0 => "0".to_owned(),
        1..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => of(ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => of(ns as f64 / 1e6, "ms"),
        1_000_000_000..60_000_000_000 => of(ns as f64 / 1e9, "s"),
        60_000_000_000..3_600_000_000_000 => {
            format!("{} min {} s", ns / 60_000_000_000, ns / 1_000_000_000 % 60)
        }
        3_600_000_000_000..86_400_000_000_000 => {
            format!("{} h {} min", ns / 3_600_000_000_000, ns / 60_000_000_000 % 60)
        }
        _ => format!("{} d {} h", ns / 86_400_000_000_000, ns / 3_600_000_000_000 % 24),
    }
}

/// A time in microseconds.
pub(super) fn time_us(us: u64) -> String {
    time_ns(us.saturating_mul(1000))
}

/// A number of bytes.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A share of 1.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_units() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 3.25, 1234.4].map(rate), ["0", "3.2", "1,234"]);
        let times = [0, 1, 999, 1_500, 12_340_000, 1_000_000_000, 61_000_000_000, 90_061_000_000_000];
        let texts = ["0", "1 ns", "999 ns", "1.50 µs", "12.3 ms", "1.00 s", "1 min 1 s", "1 d 1 h"];
        assert_eq!(times.map(time_ns), texts);
        assert_eq!([0, 1023, 1024, 3 << 20].map(bytes), ["0 B", "1023 B", "1.0 KiB", "3.0 MiB"]);
        assert_eq!(percent(0.4567), "45.7 %");
    }
}
