//! The straight line through measured points: how quickly something grows.

/// The least-squares line through points that come one by one; none of them is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Trend {
    count: f64,
    mean_x: f64,
    mean_y: f64,
    /// Sums of `(x - mean_x)²` and of `(x - mean_x) * (y - mean_y)`.
    squares: f64,
    products: f64,
}

impl Trend {
    /// Takes in a point.
    pub(crate) fn point(&mut self, x: f64, y: f64) {
        self.count += 1.0;
        let from_mean_x = x - self.mean_x;
        self.mean_x += from_mean_x / self.count;
        self.mean_y += (y - self.mean_y) / self.count;
        self.squares += from_mean_x * (x - self.mean_x);
        self.products += from_mean_x * (y - self.mean_y);
    }

    /// By how much y grows where x grows by one. `None` without two points of different x.
    pub(crate) fn slope(&self) -> Option<f64> {
        (self.squares > 0.0).then(|| self.products / self.squares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slope(points: &[(f64, f64)]) -> Option<f64> {
        let mut trend = Trend::default();
        points.iter().for_each(|(x, y)| trend.point(*x, *y));
        trend.slope()
    }

    #[test]
    fn a_line_is_found_again() {
        let points: Vec<(f64, f64)> = (0..100).map(|x| (f64::from(x), 5e9 - 3.0 * f64::from(x))).collect();
        let slope = slope(&points).expect("many points");
        assert!((slope + 3.0).abs() < 1e-6, "{slope}");
    }

    #[test]
    fn noise_is_evened_out() {
        // By hand: means 1.5 and 2.5; products 3.5, squares 5.
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 2.0), (3.0, 4.0)]), Some(0.8));
    }

    #[test]
    fn one_point_has_no_slope() {
        assert_eq!(slope(&[]), None);
        assert_eq!(slope(&[(1.0, 2.0)]), None);
        assert_eq!(slope(&[(1.0, 2.0), (1.0, 3.0)]), None);
    }
}
