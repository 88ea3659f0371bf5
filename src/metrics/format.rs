//! The text formats, and which of them a client asks for.

use super::MetricFamily;
use super::encode::encode;

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricsFormat {
    /// The text format of Prometheus, version 0.0.4. It has no exemplars.
    Prometheus,
    /// OpenMetrics 1.0, with units and exemplars.
    OpenMetrics,
}

impl MetricsFormat {
    /// Returns the format that a client prefers by its header field `Accept` (RFC 9110, section 12.5.1): the acceptable one
    /// with the highest weight, OpenMetrics if both have the same. A client that states none, or accepts neither, gets the
    /// text format of Prometheus, since a scrape without any result helps nothing.
    ///
    /// ```
    /// use coreloop::metrics::MetricsFormat;
    ///
    /// let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    /// assert_eq!(MetricsFormat::negotiate(accept), MetricsFormat::OpenMetrics);
    /// assert_eq!(MetricsFormat::negotiate("*/*"), MetricsFormat::Prometheus);
    /// ```
    pub fn negotiate(accept: &str) -> MetricsFormat {
        let open = weight(accept, "application", "openmetrics-text", &["1.0.0"]);
        let text = weight(accept, "text", "plain", &["0.0.4"]);
        // Only a client that names OpenMetrics gets it: a wildcard says nothing about what it can parse.
        match (open, text) {
            (Some((open, true)), Some((text, _))) if open > 0 && open >= text => MetricsFormat::OpenMetrics,
            (Some((open, true)), None) if open > 0 => MetricsFormat::OpenMetrics,
            _ => MetricsFormat::Prometheus,
        }
    }

    /// Returns the value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            MetricsFormat::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            MetricsFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Writes families as text. They are written as they are: a [`MetricSet`](super::MetricSet) checks them.
    ///
    /// ```
    /// use coreloop::metrics::{MetricFamily, MetricKind, MetricValue, MetricsFormat};
    ///
    /// let family = MetricFamily::new("shop_orders", "", MetricKind::Counter, "Orders so far.")
    ///     .sample([("kind", "gift".to_owned())], MetricValue::Count(3));
    /// let text = MetricsFormat::Prometheus.write(&[family]);
    /// assert!(text.ends_with("# TYPE shop_orders_total counter\nshop_orders_total{kind=\"gift\"} 3\n"));
    /// ```
    pub fn write(self, families: &[MetricFamily]) -> String {
        encode(families, self)
    }
}

/// Returns the weight of a media type in thousandths, and whether a media range names it (not only by a wildcard). The most
/// specific range decides; of several equal ones the highest. A range with another version is none.
fn weight(accept: &str, kind: &str, subtype: &str, versions: &[&str]) -> Option<(u16, bool)> {
    let mut best: Option<(u8, u16)> = None;
    for range in split(accept, b',') {
        let mut parts = split(range, b';').map(str::trim);
        let Some((found_kind, found_subtype)) = parts.next().and_then(|range| range.split_once('/')) else {
            continue;
        };
        let (found_kind, found_subtype) = (found_kind.trim(), found_subtype.trim());
        let precision = if found_kind.eq_ignore_ascii_case(kind) {
            match found_subtype {
                "*" => 1,
                found if found.eq_ignore_ascii_case(subtype) => 2,
                _ => continue,
            }
        } else if found_kind == "*" && found_subtype == "*" {
            0
        } else {
            continue;
        };
        let (mut q, mut has_version) = (1000, false);
        let mut is_other = false;
        for part in parts {
            let Some((name, value)) = part.split_once('=') else { continue };
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("q") {
                q = thousandths(value);
            } else if name.eq_ignore_ascii_case("version") {
                has_version = true;
                is_other = !versions.contains(&value);
            }
        }
        if is_other {
            continue;
        }
        let precision = precision + u8::from(has_version);
        best = match best {
            Some((found, best)) if found > precision => Some((found, best)),
            Some((found, best)) if found == precision => Some((found, best.max(q))),
            _ => Some((precision, q)),
        };
    }
    best.map(|(precision, q)| (q, precision >= 2))
}

/// Splits a list at a separator, except within quotes.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = text.bytes().position(|byte| {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_quoted => is_escaped = true,
                b'"' => is_quoted = !is_quoted,
                byte => return byte == separator && !is_quoted,
            }
            false
        });
        match end {
            Some(end) => {
                rest = Some(&text[end + 1..]);
                Some(&text[..end])
            }
            None => rest.take(),
        }
    })
}

/// Parses a weight (RFC 9110, section 12.4.2): 0 to 1 with at most three digits behind the point. One that is not valid is 0:
/// what it means is not known.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_valid =
        matches!(whole, "0" | "1") && fraction.len() <= 3 && fraction.bytes().all(|d| d.is_ascii_digit());
    if !is_valid {
        return 0;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    let fraction = digits.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    if whole == "1" { 1000 } else { fraction }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_what_the_client_prefers() {
        use MetricsFormat::{OpenMetrics, Prometheus};
        for (accept, format) in [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Prometheus),
            ("text/plain", Prometheus),
            ("text/plain;version=0.0.4", Prometheus),
            ("application/json", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", OpenMetrics),
            ("APPLICATION/OpenMetrics-Text; Version=\"1.0.0\"", OpenMetrics),
            // Prometheus 2, and 3.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
            ("text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.8", Prometheus),
            ("text/plain;q=0.8, application/openmetrics-text;q=0.8", OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Prometheus),
            ("application/openmetrics-text;version=2.0.0, text/plain;q=0.1", Prometheus),
            ("application/openmetrics-text;q=0, text/plain;q=0.1", Prometheus),
            ("application/openmetrics-text;q=0", Prometheus),
            ("application/openmetrics-text;q=nan, */*;q=0.1", Prometheus),
            ("application/openmetrics-text;q=0.1, */*;q=0.9", Prometheus),
            ("application/openmetrics-text;note=\"a,b;q=0\";q=0.9, text/plain;q=0.5", OpenMetrics),
            ("application/*;q=1, text/plain;q=0.1", Prometheus),
            (",,;;q=1,/,a/b;q", Prometheus),
        ] {
            assert_eq!(MetricsFormat::negotiate(accept), format, "{accept}");
        }
    }

    #[test]
    fn weights_have_three_digits() {
        for (text, weight) in [
            ("1", 1000),
            ("1.000", 1000),
            ("0.5", 500),
            ("0.001", 1),
            ("0", 0),
            ("0.0001", 0),
            ("2", 0),
            ("", 0),
        ] {
            assert_eq!(thousandths(text), weight, "{text}");
        }
    }
}
