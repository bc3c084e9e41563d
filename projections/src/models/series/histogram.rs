//! A histogram of durations that can be added up, and the percentiles it tells.
//!
//! Buckets are log-linear, laid out as `HdrHistogram` lays them out (<http://hdrhistogram.org>): exact below 64 ms, and
//! each doubling after that has 32 of equal width. A bucket is at most 1/32 of its least value wide and is told by its
//! middle, so that a percentile is off by 1/64, less than 1.6 %, at most. The largest value is kept as it is. Adding
//! histograms adds their buckets, so a day is exactly the sum of its hours.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many buckets a doubling has, as a power of two.
const BITS: u32 = 5;
/// Values above this count as this: 49 days, in milliseconds.
const LARGEST: u64 = u32::MAX as u64;

/// How often each duration was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Histogram {
    /// The longest.
    max: u64,
    /// How many there are in each bucket that is not empty.
    counts: BTreeMap<u16, u64>,
}

/// What a histogram tells, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiles {
    /// Half took no longer, to 1.6 %; as all but the last.
    pub p50: u64,
    /// Nine of ten took no longer.
    pub p90: u64,
    /// 95 of 100 took no longer.
    pub p95: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
    /// The longest, exactly.
    pub max: u64,
}

impl Histogram {
    /// Counts a duration, in milliseconds.
    pub(super) fn record(&mut self, millis: u64) {
        let value = millis.min(LARGEST);
        self.max = self.max.max(value);
        *self.counts.entry(bucket(value)).or_default() += 1;
    }

    /// Adds what another has counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.max = self.max.max(other.max);
        for (bucket, count) in &other.counts {
            *self.counts.entry(*bucket).or_default() += count;
        }
    }

    /// How many durations were counted.
    pub(super) fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The percentiles; none where nothing was counted.
    pub(super) fn quantiles(&self) -> Option<Quantiles> {
        let total = self.count();
        (total > 0).then(|| Quantiles {
            p50: self.quantile(total, 50),
            p90: self.quantile(total, 90),
            p95: self.quantile(total, 95),
            p99: self.quantile(total, 99),
            max: self.max,
        })
    }

    /// The duration that `percent` of all are not longer than: the one of nearest rank.
    fn quantile(&self, total: u64, percent: u64) -> u64 {
        let rank = (total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let reached = self.counts.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        reached.map_or(self.max, |(bucket, _)| middle(*bucket).min(self.max))
    }

    /// The form it is stored in; none where nothing was counted. The same counts have the same form.
    pub(super) fn stored(&self) -> Option<String> {
        (!self.counts.is_empty()).then(|| serde_json::json!(self).to_string())
    }

    /// Reads it back.
    pub(super) fn read(stored: Option<&str>) -> Result<Self, serde_json::Error> {
        stored.map_or_else(|| Ok(Self::default()), serde_json::from_str)
    }
}

/// The bucket of a value: the values below 2^(BITS + 1) have one each.
fn bucket(value: u64) -> u16 {
    let shift = value.checked_ilog2().unwrap_or_default().saturating_sub(BITS);
    let number = (u64::from(shift) << BITS) + (value >> shift);
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// The middle of a bucket's values.
fn middle(bucket: u16) -> u64 {
    let shift = (bucket >> BITS).saturating_sub(1);
    let least = u64::from(bucket - (shift << BITS)) << shift;
    least + ((1_u64 << shift) - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        for value in values {
            histogram.record(value);
        }
        histogram
    }

    #[test]
    fn no_value_is_told_more_than_a_64th_off() {
        let mut value = 0_u64;
        while value <= LARGEST {
            let told = middle(bucket(value));
            assert!(told.abs_diff(value) * 64 <= value, "{value} is told as {told}");
            assert!(bucket(value) < 896, "{value}");
            assert!(bucket(value + 1) - bucket(value) <= 1, "{value}");
            value += 1 + value / 97;
        }
        assert_eq!(bucket(LARGEST), 895);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let mut seed = 7_u64;
        let values = (0..5_000).map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 40) % 30_000
        });
        let mut values: Vec<u64> = values.collect();
        let told = of(values.iter().copied()).quantiles().unwrap();
        values.sort_unstable();
        for (told, percent) in [(told.p50, 50), (told.p90, 90), (told.p95, 95), (told.p99, 99)] {
            let exact = values[values.len() * percent / 100 - 1];
            assert!(
                told.abs_diff(exact) * 64 <= exact,
                "p{percent}: {told}, not {exact}"
            );
        }
        assert_eq!(told.max, values[values.len() - 1]);
    }

    #[test]
    fn the_sum_of_histograms_is_the_histogram_of_all() {
        let (one, other) = (0..500_u64, [3, 70_000, u64::MAX]);
        let mut sum = of(one.clone().map(|value| value * value));
        sum.add(&of(other));
        assert_eq!(sum, of(one.map(|value| value * value).chain(other)));
        assert_eq!(
            (sum.count(), sum.quantiles().map(|told| told.max)),
            (503, Some(LARGEST))
        );
        let stored = sum.stored();
        assert_eq!(Histogram::read(stored.as_deref()).unwrap(), sum);
    }

    #[test]
    fn nothing_has_no_percentiles_and_few_values_have_their_own() {
        assert_eq!((of([]).quantiles(), of([]).stored()), (None, None));
        let of_one = of([0]).quantiles().unwrap();
        assert_eq!((of_one.p50, of_one.p99, of_one.max), (0, 0, 0));
        let of_two = of([10, 1_000_000]).quantiles().unwrap();
        assert_eq!((of_two.p50, of_two.max), (10, 1_000_000));
        assert!(of_two.p99 <= of_two.max);
    }
}
