//! Plots as SVG: axes with units, and curves.
//!
//! Colours and fonts are the page's style sheet's, so that they follow light and dark. The drawing is small (460 by 260)
//! and is scaled to its column, so that its texts can be read on a narrow screen as well.

use std::fmt::Write;

use maud::{Markup, html};

use super::numbers::binary_unit;

/// The drawing's size and the edges of the plot within it, in its own units.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 446.0;
const TOP: f64 = 32.0;
const BOTTOM: f64 = 216.0;
/// Where texts stand, relative to what they belong to.
const TICK_LABEL_GAP: f64 = 7.0;
const BELOW_AXIS: f64 = 18.0;
const UNIT_Y: f64 = 8.0;
const AXIS_LABEL_Y: f64 = 252.0;
/// Texts below the horizontal axis stand at least so far from each other.
const TICK_LABEL_WIDTH: f64 = 58.0;
/// About so many ticks on an axis, and the most.
const TICKS: f64 = 5.0;
const TICKS_MAX: i32 = 10;
/// The most decimals of a tick's number.
const DECIMALS_MAX: f64 = 6.0;

/// What an axis tells: which units it may have, and how its values are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    /// Seconds since the start.
    Time,
    /// Quantiles, from 0 to 1, spread as `log(1 / (1 - q))`: each nine as long as the one before.
    Percentile,
    /// Milliseconds.
    Latency,
    /// Items a second.
    Throughput,
    /// Per cent of one processor.
    Processor,
    /// Bytes.
    Memory,
}

/// A curve.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    /// The style sheet's classes: `c1` or `c2`, and `faint` for what matters less.
    pub(crate) class: &'static str,
    /// In the axes' values, from left to right.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A plot of curves, from 0 upwards.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) curves: Vec<Curve>,
}

impl Plot {
    /// The plot with its title and key; nothing where no curve has two points.
    pub(crate) fn render(&self) -> Markup {
        let curves: Vec<Curve> = self.curves.iter().map(|curve| curve.spread(self.x)).collect();
        if curves.iter().all(|curve| curve.points.len() < 2) {
            return html! {};
        }
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let x = Scale::new(self.x, points().map(|point| point.0), LEFT, RIGHT);
        let y = Scale::new(self.y, points().map(|point| point.1), BOTTOM, TOP);
        html! {
            figure {
                figcaption {
                    strong { (self.title) }
                    @if curves.len() > 1 {
                        @for curve in &curves {
                            " " span class=(format!("key {}", curve.class)) { (curve.name) }
                        }
                    }
                }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.title) {
                    (axes(&x, &y))
                    @for curve in &curves {
                        path class=(format!("curve {}", curve.class)) d=(path(&curve.points, &x, &y)) {}
                    }
                }
            }
        }
    }
}

impl Curve {
    /// With its horizontal values as the axis spreads them.
    fn spread(&self, axis: Axis) -> Self {
        let mut curve = self.clone();
        if axis == Axis::Percentile {
            // The highest value stands at quantile 1, infinitely far to the right: it is drawn where the one before it is.
            let last = curve.points.iter().rev().find(|point| point.0 < 1.0).map_or(0.0, |point| point.0);
            for point in &mut curve.points {
                point.0 = -(1.0 - point.0.min(last)).log10();
            }
        }
        curve
    }
}

/// How values of an axis come to places in the drawing.
struct Scale {
    /// As the axis is labelled.
    label: String,
    /// Value and text of each tick.
    ticks: Vec<(f64, String)>,
    most: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn new(axis: Axis, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let highest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        if axis == Axis::Percentile {
            let most = highest.max(1.0);
            return Self { label: "percentile, %".to_owned(), ticks: percentile_ticks(most), most, from, to };
        }
        let (divisor, label) = axis.unit(highest);
        let highest = if highest > 0.0 { highest / divisor } else { 1.0 };
        let step = tick_step(highest);
        // Time ends with the run; everything else at the next tick, so that no curve touches the upper edge.
        let most = if axis == Axis::Time { highest } else { (highest * 1.02 / step).ceil() * step };
        let decimals = (-step.log10().floor()).clamp(0.0, DECIMALS_MAX) as usize;
        let ticks = (0..=TICKS_MAX)
            .map(|index| f64::from(index) * step)
            .take_while(|value| *value <= most * 1.000_001)
            .map(|value| (value * divisor, format!("{value:.decimals$}")))
            .collect();
        Self { label, ticks, most: most * divisor, from, to }
    }

    /// The ticks whose texts have room beside each other.
    fn readable_ticks(&self) -> impl Iterator<Item = &(f64, String)> {
        let mut end = f64::NEG_INFINITY;
        self.ticks.iter().filter(move |(value, _)| {
            let has_room = self.place(*value) >= end;
            end = if has_room { self.place(*value) + TICK_LABEL_WIDTH } else { end };
            has_room
        })
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (self.to - self.from) * value / self.most
    }
}

impl Axis {
    /// How much of the axis's values its unit is, when they go up to `highest`, and the label that says so.
    fn unit(self, highest: f64) -> (f64, String) {
        let (divisor, label) = match self {
            Self::Time if highest >= 3.0 * 3600.0 => (3600.0, "time, h"),
            Self::Time if highest >= 300.0 => (60.0, "time, min"),
            Self::Time => (1.0, "time, s"),
            Self::Latency if highest >= 2000.0 => (1000.0, "s"),
            Self::Latency if highest < 1.0 => (1e-3, "µs"),
            Self::Latency => (1.0, "ms"),
            Self::Throughput if highest >= 1e6 => (1e6, "million a second"),
            Self::Throughput if highest >= 1e3 => (1e3, "thousand a second"),
            Self::Throughput => (1.0, "a second"),
            Self::Processor => (1.0, "% of one processor"),
            Self::Memory => binary_unit(highest),
            Self::Percentile => (1.0, "percentile, %"),
        };
        (divisor, label.to_owned())
    }
}

/// A step of 1, 2 or 5 times a power of ten.
fn tick_step(highest: f64) -> f64 {
    let rough = highest / TICKS;
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    let step = steps.into_iter().find(|step| step * power >= rough * 0.999_999);
    step.unwrap_or(10.0) * power
}

/// 0, 50, and each further nine.
fn percentile_ticks(most: f64) -> Vec<(f64, String)> {
    // A quantile like 0.999 stands a rounding error away from its third nine.
    let nines = (1..).take_while(|nines| f64::from(*nines) <= most + 1e-6).map(|nines: i32| {
        let decimals = usize::try_from(nines - 2).unwrap_or(0);
        (f64::from(nines), format!("{:.decimals$}", 100.0 - 100.0 * 10_f64.powi(-nines)))
    });
    let below = [(0.0, "0".to_owned()), (2_f64.log10(), "50".to_owned())].into_iter();
    below.chain(nines).collect()
}

fn axes(x: &Scale, y: &Scale) -> Markup {
    let mut grid = String::new();
    for (value, _) in &y.ticks {
        write!(grid, "M{LEFT} {:.1}H{RIGHT}", y.place(*value)).expect(super::INFALLIBLE);
    }
    for (value, _) in &x.ticks {
        write!(grid, "M{:.1} {BOTTOM}v4", x.place(*value)).expect(super::INFALLIBLE);
    }
    html! {
        path class="grid" d=(grid) {}
        @for (value, text) in &y.ticks {
            text x=(LEFT - TICK_LABEL_GAP) y=(format!("{:.1}", y.place(*value))) class="end" { (text) }
        }
        @for (value, text) in x.readable_ticks() {
            text x=(format!("{:.1}", x.place(*value))) y=(BOTTOM + BELOW_AXIS) class="middle" { (text) }
        }
        text x=(0) y=(UNIT_Y) { (y.label) }
        text x=(RIGHT) y=(AXIS_LABEL_Y) class="end" { (x.label) }
    }
}

fn path(points: &[(f64, f64)], x: &Scale, y: &Scale) -> String {
    let mut text = String::new();
    for (index, point) in points.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        write!(text, "{command}{:.1} {:.1}", x.place(point.0), y.place(point.1)).expect(super::INFALLIBLE);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(x: Axis, y: Axis, points: Vec<(f64, f64)>) -> Plot {
        let curve = Curve { name: "a".to_owned(), class: "c1", points };
        Plot { title: "some".to_owned(), x, y, curves: vec![curve] }
    }

    #[test]
    fn axes_are_labelled_in_round_numbers_and_units_that_fit() {
        let svg = plot(Axis::Time, Axis::Throughput, vec![(0.0, 0.0), (600.0, 1_730_000.0)]).render().0;
        for text in [">0.5<", ">1.0<", ">1.5<", ">2.0<", ">million a second<", ">10<", ">time, min<"] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
    }

    #[test]
    fn each_nine_is_as_long_as_the_one_before() {
        let points = vec![(0.0, 1.0), (0.9, 2.0), (0.99, 3.0), (0.999, 4.0), (1.0, 9.0)];
        let svg = plot(Axis::Percentile, Axis::Latency, points).render().0;
        let third = (RIGHT - LEFT) / 3.0;
        for x in [LEFT, LEFT + third, LEFT + 2.0 * third, RIGHT] {
            assert!(svg.contains(&format!("{x:.1} ")), "{x} in {svg}");
        }
        assert!(svg.contains(">99.9<") && svg.contains(">90<"), "{svg}");
        assert!(!svg.contains(">50<"), "it has no room beside 0: {svg}");
    }

    #[test]
    fn a_single_point_is_no_plot() {
        assert_eq!(plot(Axis::Time, Axis::Memory, vec![(1.0, 1.0)]).render().0, "");
    }

    #[test]
    fn nothing_but_zeros_can_be_drawn() {
        let svg = plot(Axis::Time, Axis::Processor, vec![(0.0, 0.0), (1.0, 0.0)]).render().0;
        assert!(svg.contains("<path") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn values_of_a_strange_file_do_no_harm() {
        for strange in [f64::MAX, f64::MIN_POSITIVE, -1.0, 2.0] {
            for axis in [Axis::Time, Axis::Percentile, Axis::Latency, Axis::Memory] {
                let svg = plot(axis, Axis::Latency, vec![(0.0, 0.0), (strange, strange)]).render().0;
                assert!(svg.len() < 100_000, "{strange} on {axis:?}: {} bytes", svg.len());
            }
        }
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([1.0, 4.9, 0.03, 760.0].map(tick_step), [0.2, 1.0, 0.01, 200.0]);
    }
}
