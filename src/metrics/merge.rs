//! Merges the families of several sources, and leaves out what would make the whole page unreadable: a single invalid name
//! makes Prometheus reject a scrape.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{MetricFamily, MetricHistogram, MetricKind, MetricSample, MetricSource, MetricValue};
use crate::error_text::panic_text;
use crate::log_events::log_event;

/// The most series that one source may have, each bucket of a histogram counted as one; further ones are left out. It bounds a
/// page whose source makes a label of something unbounded.
pub const SERIES_MAX: usize = 20_000;

/// Why a family or a sample was left out, by the label `reason` of `coreloop_metrics_rejected`.
#[derive(Clone, Copy)]
enum RejectReason {
    /// The name of a family is not valid, or does not end with its unit.
    InvalidName,
    /// Another family has one of its names.
    Clash,
    /// A sample has an invalid, repeated or reserved label, a value that does not fit the family, or the labels of
    /// another one.
    InvalidSample,
    /// The source has more than [`SERIES_MAX`] series.
    TooMany,
    /// The source panicked.
    Panicked,
}

const REASONS: [&str; 5] = ["invalid_name", "clash", "invalid_sample", "too_many", "panicked"];

/// Families of several sources. A family that two sources have with the same kind and unit is one with the samples of both.
///
/// Left out, and counted in the gauge `coreloop_metrics_rejected` by reason: families with an invalid name or one that
/// another kind of family has; samples with invalid labels or values, or with the labels of another sample; what a source has
/// beyond [`SERIES_MAX`]; a source that panics.
///
/// ```
/// use coreloop::metrics::{CounterMetric, MetricSet, MetricsFormat, process_families};
///
/// let orders = CounterMetric::new("shop_orders", "Orders so far.");
/// orders.add(3);
/// let mut set = MetricSet::new();
/// set.add_source(&orders);
/// set.add(process_families());
/// let text = MetricsFormat::OpenMetrics.write(&set.finish());
/// assert!(text.contains("\nshop_orders_total 3\n"));
/// ```
#[derive(Debug, Default)]
pub struct MetricSet {
    families: Vec<MetricFamily>,
    /// The place of each family, and the labels of the samples of those that several sources share.
    places: HashMap<Cow<'static, str>, usize>,
    /// Every name that a family or its samples have.
    names: HashSet<String>,
    rejected: [u64; REASONS.len()],
}

impl MetricSet {
    /// Creates an empty set.
    pub fn new() -> MetricSet {
        MetricSet::default()
    }

    /// Adds the families that a source returns now.
    pub fn add_source(&mut self, source: &dyn MetricSource) {
        match catch_unwind(AssertUnwindSafe(|| source.families())) {
            Ok(families) => self.add(families),
            Err(payload) => {
                self.reject(RejectReason::Panicked);
                let text = panic_text(payload);
                log_event!(Panicked { what: "a source of metrics", text });
            }
        }
    }

    /// Adds the families of one source.
    pub fn add(&mut self, families: impl IntoIterator<Item = MetricFamily>) {
        let mut series = 0;
        for mut family in families {
            if !is_valid_name(&family) {
                self.reject(RejectReason::InvalidName);
                continue;
            }
            let mut samples = std::mem::take(&mut family.samples);
            let (kind, before) = (family.kind, samples.len());
            samples.retain(|sample| is_valid_sample(kind, sample));
            self.reject_many(RejectReason::InvalidSample, before - samples.len());
            let before = samples.len();
            samples.retain(|sample| {
                series += series_of(sample);
                series <= SERIES_MAX
            });
            self.reject_many(RejectReason::TooMany, before - samples.len());
            self.place(family, samples);
        }
    }

    fn place(&mut self, family: MetricFamily, samples: Vec<MetricSample>) {
        let place = match self.places.entry(family.name.clone()) {
            Entry::Occupied(place) => {
                let place = *place.get();
                let found = &self.families[place];
                if (found.kind, found.unit) != (family.kind, family.unit) {
                    return self.reject(RejectReason::Clash);
                }
                place
            }
            Entry::Vacant(vacant) => {
                let names = names_of(&family);
                if names.iter().any(|name| self.names.contains(name)) {
                    return self.reject(RejectReason::Clash);
                }
                self.names.extend(names);
                vacant.insert(self.families.len());
                self.families.push(family);
                self.families.len() - 1
            }
        };
        let family = &mut self.families[place];
        let mut seen: HashSet<Vec<(&str, &str)>> = family.samples.iter().map(sorted_labels).collect();
        let is_new: Vec<bool> = samples.iter().map(|sample| seen.insert(sorted_labels(sample))).collect();
        drop(seen);
        let repeated = is_new.iter().filter(|is_new| !**is_new).count();
        family
            .samples
            .extend(samples.into_iter().zip(is_new).filter_map(|(sample, is_new)| is_new.then_some(sample)));
        self.reject_many(RejectReason::InvalidSample, repeated);
    }

    fn reject(&mut self, reason: RejectReason) {
        self.reject_many(reason, 1);
    }

    fn reject_many(&mut self, reason: RejectReason, count: usize) {
        self.rejected[reason as usize] += count as u64;
    }

    /// Returns the families, in the order in which they were added, and the gauge of what was left out.
    pub fn finish(self) -> Vec<MetricFamily> {
        let mut rejected = MetricFamily::new(
            "coreloop_metrics_rejected",
            "",
            MetricKind::Gauge,
            "Families, samples and sources that this page leaves out, by reason.",
        );
        for (reason, count) in REASONS.into_iter().zip(self.rejected) {
            rejected = rejected.sample([("reason", reason.to_owned())], MetricValue::Count(count));
        }
        let mut families = self.families;
        if !self.names.contains(&*rejected.name) {
            families.push(rejected);
        }
        families
    }
}

/// Returns the names that a family and its samples have in either format (OpenMetrics 1.0, section "MetricFamily").
fn names_of(family: &MetricFamily) -> Vec<String> {
    let suffixes: &[&str] = match family.kind {
        MetricKind::Counter => &["", "_total", "_created"],
        MetricKind::Gauge => &[""],
        MetricKind::Histogram => &["", "_bucket", "_count", "_sum", "_created"],
        MetricKind::Info => &["", "_info"],
    };
    suffixes.iter().map(|suffix| format!("{}{suffix}", family.name)).collect()
}

/// Whether the name follows the grammar and does not end with the suffix that its kind gets, and its unit is a part of it.
fn is_valid_name(family: &MetricFamily) -> bool {
    let MetricFamily { name, unit, .. } = family;
    let suffix = match family.kind {
        MetricKind::Counter => Some("_total"),
        MetricKind::Info => Some("_info"),
        MetricKind::Gauge | MetricKind::Histogram => None,
    };
    let has_unit = unit.is_empty() || name.strip_suffix(unit).is_some_and(|stem| stem.ends_with('_'));
    is_name(name, ":") && !suffix.is_some_and(|suffix| name.ends_with(suffix)) && has_unit
}

/// Whether a name is letters, digits and underscores, and does not begin with a digit.
fn is_name(name: &str, more: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || more.as_bytes().contains(&byte);
    let mut bytes = name.bytes();
    bytes.next().is_some_and(is_letter) && bytes.all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

fn is_valid_sample(kind: MetricKind, sample: &MetricSample) -> bool {
    let labels = &sample.labels;
    // Names with two underscores are reserved; `le` is written with each bucket.
    let is_reserved = |name: &str| name.starts_with("__") || kind == MetricKind::Histogram && name == "le";
    let are_labels_valid = labels.iter().enumerate().all(|(at, (name, _))| {
        is_name(name, "") && !is_reserved(name) && labels[..at].iter().all(|(before, _)| before != name)
    });
    let is_value_valid = match (kind, &sample.value) {
        (MetricKind::Counter, MetricValue::Number(number)) => number.is_finite() && *number >= 0.0,
        (MetricKind::Counter | MetricKind::Gauge, MetricValue::Count(_))
        | (MetricKind::Gauge, MetricValue::Number(_)) => true,
        (MetricKind::Histogram, MetricValue::Histogram(histogram)) => is_valid_histogram(histogram),
        (MetricKind::Info, MetricValue::Count(count)) => *count == 1,
        (MetricKind::Info, MetricValue::Number(number)) => *number == 1.0,
        (MetricKind::Histogram, _) | (_, MetricValue::Histogram(_)) => false,
    };
    are_labels_valid && is_value_valid
}

fn is_valid_histogram(histogram: &MetricHistogram) -> bool {
    let MetricHistogram { bounds, counts, sum, exemplars } = histogram;
    counts.len() == bounds.len() + 1
        && bounds.iter().all(|bound| bound.is_finite())
        && bounds.windows(2).all(|pair| pair[0] < pair[1])
        && !sum.is_nan()
        && exemplars.iter().all(|(bucket, exemplar)| {
            let above = bucket.checked_sub(1).is_none_or(|before| bounds[before] < exemplar.value);
            *bucket <= bounds.len()
                && above
                && bounds.get(*bucket).is_none_or(|bound| exemplar.value <= *bound)
        })
}

fn series_of(sample: &MetricSample) -> usize {
    match &sample.value {
        MetricValue::Number(_) | MetricValue::Count(_) => 1,
        // The count and the sum are two more.
        MetricValue::Histogram(histogram) => histogram.counts.len() + 2,
    }
}

fn sorted_labels(sample: &MetricSample) -> Vec<(&str, &str)> {
    let mut labels: Vec<(&str, &str)> =
        sample.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
    labels.sort_unstable();
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(name: &'static str) -> MetricFamily {
        MetricFamily::new(name, "", MetricKind::Gauge, "A test.")
    }

    /// The families that were accepted, by name, with the number of their samples; and the reasons of the others.
    type Merged = (Vec<(String, usize)>, Vec<(String, u64)>);

    fn finish(families: Vec<Vec<MetricFamily>>) -> Merged {
        let mut set = MetricSet::new();
        families.into_iter().for_each(|families| set.add(families));
        let mut families = set.finish();
        let rejected = families.pop().unwrap();
        assert_eq!(rejected.name, "coreloop_metrics_rejected");
        let rejected = rejected.samples.iter().filter_map(|sample| match sample.value {
            MetricValue::Count(0) => None,
            MetricValue::Count(count) => Some((sample.labels[0].1.to_string(), count)),
            _ => panic!("not a count"),
        });
        let rejected = rejected.collect();
        // A family without samples is written, too: it says that there is such a metric.
        families.retain(|family| !family.samples.is_empty());
        (families.iter().map(|family| (family.name.to_string(), family.samples.len())).collect(), rejected)
    }

    fn label(name: &'static str, value: &str) -> [(&'static str, String); 1] {
        [(name, value.to_owned())]
    }

    #[test]
    fn sources_may_share_a_family() {
        let one = || MetricValue::Count(1);
        let (families, rejected) = finish(vec![
            vec![gauge("a").sample(label("shop", "x"), one())],
            vec![gauge("a").sample(label("shop", "y"), one()).sample(label("shop", "x"), one())],
        ]);
        assert_eq!(families, [("a".to_owned(), 2)]);
        assert_eq!(rejected, [("invalid_sample".to_owned(), 1)]);
    }

    #[test]
    fn a_name_belongs_to_one_kind_of_family() {
        let one = || MetricValue::Count(1);
        let of = |name: &'static str, kind| MetricFamily::new(name, "", kind, "A test.").sample([], one());
        for (first, second) in [
            (of("a", MetricKind::Counter), of("a", MetricKind::Gauge)),
            (of("a", MetricKind::Counter), of("a_total", MetricKind::Gauge)),
            (of("a_total", MetricKind::Gauge), of("a", MetricKind::Counter)),
            (of("a", MetricKind::Info), of("a_info", MetricKind::Gauge)),
            (
                MetricFamily::new("a", "", MetricKind::Histogram, "")
                    .sample([], MetricValue::Histogram(MetricHistogram::new(&[][..], vec![1], 1.0))),
                of("a_count", MetricKind::Gauge),
            ),
        ] {
            let name = first.name.to_string();
            let (families, rejected) = finish(vec![vec![first], vec![second]]);
            assert_eq!(families, [(name, 1)]);
            assert_eq!(rejected, [("clash".to_owned(), 1)]);
        }
    }

    #[test]
    fn names_are_checked() {
        let of = |name: &'static str, unit, kind| {
            vec![MetricFamily::new(name, unit, kind, "").sample([], MetricValue::Count(1))]
        };
        for (name, unit, kind) in [
            ("", "", MetricKind::Gauge),
            ("1a", "", MetricKind::Gauge),
            ("a-b", "", MetricKind::Gauge),
            ("a\nb", "", MetricKind::Gauge),
            ("é", "", MetricKind::Gauge),
            ("a_total", "", MetricKind::Counter),
            ("a_info", "", MetricKind::Info),
            ("a_ms", "seconds", MetricKind::Gauge),
            ("aseconds", "seconds", MetricKind::Gauge),
            ("seconds", "seconds", MetricKind::Gauge),
        ] {
            assert_eq!(
                finish(vec![of(name, unit, kind)]),
                (vec![], vec![("invalid_name".to_owned(), 1)]),
                "{name}"
            );
        }
        for (name, unit, kind) in [
            ("_a:b9", "", MetricKind::Gauge),
            ("a_seconds", "seconds", MetricKind::Counter),
            ("a_total", "", MetricKind::Gauge),
        ] {
            assert_eq!(finish(vec![of(name, unit, kind)]), (vec![(name.to_owned(), 1)], vec![]));
        }
    }

    #[test]
    fn labels_and_values_are_checked() {
        let invalid = |kind, labels: Vec<(&'static str, String)>, value| {
            let family = MetricFamily::new("a", "", kind, "").sample(labels, value);
            assert_eq!(finish(vec![vec![family]]), (vec![], vec![("invalid_sample".to_owned(), 1)]));
        };
        let one = || MetricValue::Count(1);
        for name in ["", "1", "a:b", "a b", "__name__", "é"] {
            invalid(MetricKind::Gauge, vec![(name, "x".to_owned())], one());
        }
        invalid(MetricKind::Gauge, vec![("l", "x".to_owned()), ("l", "y".to_owned())], one());
        for number in [-1.0, f64::NAN, f64::INFINITY] {
            invalid(MetricKind::Counter, vec![], MetricValue::Number(number));
        }
        invalid(MetricKind::Info, vec![], MetricValue::Count(2));
        invalid(MetricKind::Histogram, vec![], one());
        let histogram = |bounds: &[f64], counts: &[u64], sum| {
            MetricValue::Histogram(MetricHistogram::new(bounds.to_vec(), counts.to_vec(), sum))
        };
        invalid(MetricKind::Gauge, vec![], histogram(&[], &[1], 1.0));
        invalid(MetricKind::Histogram, vec![], histogram(&[1.0], &[1], 1.0));
        invalid(MetricKind::Histogram, vec![], histogram(&[1.0, 1.0], &[1, 1, 1], 1.0));
        invalid(MetricKind::Histogram, vec![], histogram(&[f64::NAN], &[1, 1], 1.0));
        invalid(MetricKind::Histogram, vec![], histogram(&[1.0], &[1, 1], f64::NAN));
        invalid(MetricKind::Histogram, vec![("le", "1".to_owned())], histogram(&[1.0], &[1, 1], 1.0));
    }

    #[test]
    fn the_series_of_a_source_are_bounded() {
        let mut family = gauge("a");
        for at in 0..SERIES_MAX + 7 {
            family = family.sample([("n", at.to_string())], MetricValue::Count(1));
        }
        let other = gauge("b").sample([], MetricValue::Count(1));
        let (families, rejected) = finish(vec![vec![family], vec![other]]);
        assert_eq!(families, [("a".to_owned(), SERIES_MAX), ("b".to_owned(), 1)]);
        assert_eq!(rejected, [("too_many".to_owned(), 7)]);
    }

    #[test]
    fn a_source_that_panics_costs_its_own_families_only() {
        struct Panics;
        impl MetricSource for Panics {
            fn families(&self) -> Vec<MetricFamily> {
                std::panic::resume_unwind(Box::new("a test"))
            }
        }
        let mut set = MetricSet::new();
        set.add_source(&Panics);
        set.add([gauge("a").sample([], MetricValue::Count(1))]);
        let families = set.finish();
        assert_eq!(families[0].name, "a");
        assert!(families[1].samples.iter().any(|sample| sample.value == MetricValue::Count(1)));
    }
}
