//! What is known of each method over all endpoints: its usual latency, and the quantile at which it is hedged.

use super::hedge::HedgeConfig;
use super::quantile::Quantile;

/// The methods that are known apart. Those beyond share one usual latency and are not hedged.
pub(super) const METHODS_MAX: usize = 256;

/// The number of calls that the usual latency looks back on.
const USUAL_CALLS: u32 = 64;

#[derive(Debug)]
struct Method {
    hash: u32,
    calls: u32,
    /// The mean latency of successes, in microseconds.
    usual_us: f32,
    /// Only if hedging is on.
    quantile: Option<Box<Quantile>>,
}

impl Method {
    fn new(hash: u32) -> Method {
        Method { hash, calls: 0, usual_us: 0.0, quantile: None }
    }

    #[inline]
    fn add(&mut self, took_us: f32) {
        self.calls = (self.calls + 1).min(USUAL_CALLS);
        self.usual_us += (took_us - self.usual_us) / self.calls as f32;
    }
}

/// The methods that were called.
#[derive(Debug)]
pub(super) struct Methods {
    /// By ascending hash.
    known: Vec<Method>,
    others: Method,
}

impl Methods {
    pub fn new() -> Methods {
        Methods { known: Vec::new(), others: Method::new(0) }
    }

    #[inline]
    fn entry(&mut self, hash: u32) -> &mut Method {
        match self.known.binary_search_by_key(&hash, |method| method.hash) {
            Ok(index) => &mut self.known[index],
            Err(_) if self.known.len() >= METHODS_MAX => &mut self.others,
            Err(index) => {
                self.known.insert(index, Method::new(hash));
                &mut self.known[index]
            }
        }
    }

    /// Takes note of a success, and returns the usual latency of the method in microseconds before it, 0 if it is not
    /// known.
    #[inline]
    pub fn on_success(&mut self, hash: u32, took_us: f32, hedge: &HedgeConfig) -> f32 {
        let is_tracked = hedge.is_on;
        let method = self.entry(hash);
        let usual_us = method.usual_us;
        method.add(took_us);
        if is_tracked {
            self.add_to_quantile(hash, took_us, hedge);
        }
        usual_us
    }

    /// Returns the usual latency of a method in microseconds, 0 if it is not known.
    #[inline]
    pub fn usual_us(&mut self, hash: u32) -> f32 {
        self.entry(hash).usual_us
    }

    /// Takes note of an attempt that was cancelled after this time. If it took longer than the quantile, it counts as that
    /// long: otherwise hedging would lower the quantile, since its slowest attempts would never end.
    pub fn on_cancelled(&mut self, hash: u32, took_us: f32, hedge: &HedgeConfig) {
        let quantile = self.entry(hash).quantile.as_deref();
        if quantile.is_some_and(|quantile| took_us >= quantile.estimate_us() as f32) {
            self.add_to_quantile(hash, took_us, hedge);
        }
    }

    fn add_to_quantile(&mut self, hash: u32, took_us: f32, hedge: &HedgeConfig) {
        let method = self.entry(hash);
        if method.hash == hash {
            let quantile = method.quantile.get_or_insert_with(|| Box::new(Quantile::new()));
            quantile.add(took_us as u64, hedge.percentile);
        }
    }

    /// Returns the quantile of a method, if it has enough calls.
    pub fn quantile_us(&self, hash: u32, hedge: &HedgeConfig) -> Option<u64> {
        let index = self.known.binary_search_by_key(&hash, |method| method.hash).ok()?;
        let quantile = self.known[index].quantile.as_deref()?;
        (quantile.count() >= hedge.samples_min).then(|| quantile.estimate_us())
    }
}
