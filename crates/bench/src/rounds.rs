//! Several measurements of the same thing, and what is said of them.

/// Values of one quantity, one for each round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The middle one; of an even number the mean of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// NaN of none, so that it meets no aim.
    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    /// NaN of none, so that it meets no aim.
    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    /// Below which this share of them lies, interpolated; NaN of none.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
        let at = share * last as f64;
        let (below, above) = (at.floor() as usize, at.ceil() as usize);
        sorted[below] + (sorted[above] - sorted[below]) * (at - below as f64)
    }

    /// Round by round divided by another: what varies from minute to minute cancels out.
    #[must_use]
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(value, by)| value / by).collect())
    }

    /// `1.42 (1.38–1.51)`: median, and from the least to the largest.
    pub(crate) fn shown(&self, digits: usize) -> String {
        match self.0.len() {
            0 => "–".to_owned(),
            1 => format!("{:.digits$}", self.0[0]),
            _ => format!("{:.digits$} ({:.digits$}–{:.digits$})", self.median(), self.min(), self.max()),
        }
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle_and_a_quantile_between_its_neighbours() {
        let samples: Samples = [3.0, 1.0, 2.0].into_iter().collect();
        assert_eq!(samples.shown(1), "2.0 (1.0–3.0)");
        let samples: Samples = (0..=100).map(f64::from).collect();
        assert!((samples.quantile(0.99) - 99.0).abs() < 1e-9);
        let even: Samples = [1.0, 2.0].into_iter().collect();
        assert!((even.median() - 1.5).abs() < 1e-9);
    }

    #[test]
    fn a_ratio_is_of_the_same_round() {
        let one: Samples = [2.0, 8.0].into_iter().collect();
        let other: Samples = [1.0, 4.0].into_iter().collect();
        assert_eq!(one.over(&other).shown(0), "2 (2–2)");
    }
}
