//! Plots as SVG: bars with their spread, and lines over time. Small, and readable on white and on
//! black.

use std::fmt::Write as _;

use crate::rounds::Samples;

const WIDTH: f64 = 720.0;
const COLOURS: [&str; 6] = ["#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2"];
const INK: &str = "#888";
const FONT: &str = "font-family=\"sans-serif\" font-size=\"13\"";

/// One bar for each client.
pub(crate) struct Bars<'a> {
    pub(crate) title: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) of: Vec<(&'a str, &'a Samples)>,
}

impl Bars<'_> {
    pub(crate) fn svg(&self) -> String {
        const LEFT: f64 = 170.0;
        const ROW: f64 = 30.0;
        let largest = self.of.iter().map(|(_, samples)| samples.max()).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let scale = (WIDTH - LEFT - 110.0) / largest;
        let mut svg = head(40.0 + ROW * self.of.len() as f64, self.title);
        for (at, (name, samples)) in self.of.iter().enumerate() {
            let (top, middle) = (38.0 + ROW * at as f64, 38.0 + ROW * (at as f64 + 0.35));
            let (median, min, max) = (samples.median() * scale, samples.min() * scale, samples.max() * scale);
            let colour = if name.starts_with("reeltime") { COLOURS[1] } else { COLOURS[0] };
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" {FONT} fill=\"{INK}\">{name}</text>\n\
                 <rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{median:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\n\
                 <path d=\"M{:.1} {middle:.1}H{:.1}\" stroke=\"{INK}\" stroke-width=\"2\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" {FONT} fill=\"{INK}\">{:.2} {}</text>",
                LEFT - 8.0,
                middle + 4.0,
                ROW * 0.7,
                LEFT + min,
                LEFT + max,
                LEFT + max.max(median) + 8.0,
                middle + 4.0,
                samples.median(),
                self.unit
            );
        }
        svg + "</svg>\n"
    }
}

/// A curve of a plot.
pub(crate) struct Curve<'a> {
    pub(crate) name: &'a str,
    pub(crate) points: &'a [(f64, f64)],
}

/// Lines over a common axis, from 0.
pub(crate) struct Lines<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    pub(crate) curves: Vec<Curve<'a>>,
}

impl Lines<'_> {
    pub(crate) fn svg(&self) -> String {
        const LEFT: f64 = 60.0;
        const TOP: f64 = 40.0;
        const HEIGHT: f64 = 220.0;
        let all = || self.curves.iter().flat_map(|curve| curve.points);
        let right = all().map(|point| point.0).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let top = all().map(|point| point.1).fold(0.0, f64::max).max(f64::MIN_POSITIVE) * 1.05;
        let x = |value: f64| LEFT + value / right * (WIDTH - LEFT - 20.0);
        let y = |value: f64| TOP + HEIGHT - value / top * HEIGHT;
        let mut svg = head(TOP + HEIGHT + 60.0, self.title);
        for step in 0..=4 {
            let share = f64::from(step) / 4.0;
            let (at_x, at_y) = (x(share * right), y(share * top));
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at_y:.1}H{:.1}\" stroke=\"{INK}\" stroke-opacity=\"0.3\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" {FONT} fill=\"{INK}\">{}</text>\n\
                 <text x=\"{at_x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" {FONT} fill=\"{INK}\">{}</text>",
                WIDTH - 20.0,
                LEFT - 6.0,
                at_y + 4.0,
                rounded(share * top),
                TOP + HEIGHT + 18.0,
                rounded(share * right),
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" {FONT} fill=\"{INK}\">{}</text>\n\
             <text x=\"{LEFT}\" y=\"34\" {FONT} fill=\"{INK}\">{}</text>",
            WIDTH - 20.0,
            TOP + HEIGHT + 36.0,
            self.x,
            self.y
        );
        for (at, curve) in self.curves.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let points: Vec<_> =
                thinned(curve.points).map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" {FONT} fill=\"{colour}\">{}</text>",
                points.join(" "),
                LEFT + 150.0 * at as f64,
                TOP + HEIGHT + 52.0,
                curve.name
            );
        }
        svg + "</svg>\n"
    }
}

/// No more points than can be seen.
fn thinned(points: &[(f64, f64)]) -> impl Iterator<Item = &(f64, f64)> {
    points.iter().step_by(points.len().div_ceil(400).max(1))
}

fn rounded(value: f64) -> String {
    if value >= 10.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn head(height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\">\n\
         <text x=\"8\" y=\"18\" {FONT} font-weight=\"bold\" fill=\"{INK}\">{title}</text>\n"
    )
}
