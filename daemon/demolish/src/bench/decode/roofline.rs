//! The roofline as a picture: what is reached, below what memory and arithmetic allow.
//! Method: Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009.

use std::fmt::Write as _;

use super::Machine;
use super::measure::Figures;
use super::numbers::Float;
use super::work::Work;

/// Pixels of the picture and of the part of it that a panel's axes span.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 470.0;
const PANEL_WIDTH: f64 = 380.0;
const PANEL_HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 60.0;

/// What the axes span, as powers of ten: products for each byte of weights, and products per second.
const INTENSITY: (f64, f64) = (0.0, 3.3);
const RATE: (f64, f64) = (9.0, 13.0);

/// Pixels that a label on the left of its point needs.
const ROOM: f64 = 45.0;

/// Colours that stand out on white and on black.
const STYLE: &str = "\
text { font: 12px sans-serif; fill: #24292f; } .title { font-weight: bold; font-size: 14px; } .small { font-size: 10px; }
.axis { stroke: #57606a; fill: none; } .grid { stroke: #8c959f; stroke-opacity: 0.3; }
.roof { stroke: #57606a; stroke-width: 2; fill: none; } .ours-roof { stroke: #0969da; stroke-dasharray: 6 4; }
.ours { fill: #0969da; stroke: #0969da; } .llama { fill: none; stroke: #bc4c00; stroke-width: 2; } .mlx { fill: none; stroke: #8250df; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .axis, .roof { stroke: #9198a1; }
.ours { fill: #58a6ff; stroke: #58a6ff; } .ours-roof { stroke: #58a6ff; } .llama { stroke: #f0883e; } .mlx { stroke: #bc8cff; } }
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Ours,
    Llama,
    MlxLm,
}

struct Point {
    who: Who,
    label: String,
    intensity: f64,
    rate: f64,
}

/// The picture of all shapes, side by side.
pub(super) fn svg(all: &[Figures], machine: Machine) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" \
         aria-label=\"Roofline of decoding\">\n<style>{STYLE}</style>\n"
    );
    for (index, figures) in all.iter().enumerate() {
        #[allow(clippy::cast_precision_loss, reason = "two panels")]
        let left = LEFT + index as f64 * (PANEL_WIDTH + LEFT + 20.0);
        let panel = Panel { left };
        panel.axes(figures.shape.name, &mut svg);
        panel.roofs(machine, &mut svg);
        points(figures).iter().for_each(|point| panel.point(point, &mut svg));
    }
    legend(&mut svg);
    svg.push_str("</svg>\n");
    svg
}

/// What is drawn of a shape: one token, some, many.
fn points(figures: &Figures) -> Vec<Point> {
    let point = |who, label: &str, rows: usize, tokens_per_s: f64| {
        let work = Work::of(&figures.shape, rows, Float::Bf16);
        #[allow(clippy::cast_precision_loss, reason = "some hundreds")]
        let rate = work.products * tokens_per_s / rows as f64;
        Point { who, label: label.to_owned(), intensity: work.intensity(), rate }
    };
    let mut all = vec![
        point(Who::Ours, "decode", 1, figures.decode),
        point(Who::Ours, "512", 512, figures.prefill),
    ];
    for (rows, rate) in &figures.verify {
        all.push(point(Who::Ours, &rows.to_string(), *rows, *rate));
    }
    if let Some(llama) = &figures.llama {
        all.push(point(Who::Llama, "decode", 1, llama.decode.rate));
        all.push(point(Who::Llama, "512", 512, llama.prefill.rate));
        for (rows, rate) in &llama.verify {
            all.push(point(Who::Llama, &rows.to_string(), *rows, *rate));
        }
    }
    all.extend(figures.mlx_lm.map(|rate| point(Who::MlxLm, "decode", 1, rate)));
    all
}

struct Panel {
    left: f64,
}

impl Panel {
    fn x(&self, intensity: f64) -> f64 {
        let share = (intensity.log10() - INTENSITY.0) / (INTENSITY.1 - INTENSITY.0);
        self.left + share.clamp(0.0, 1.0) * PANEL_WIDTH
    }

    fn y(rate: f64) -> f64 {
        let share = (rate.log10() - RATE.0) / (RATE.1 - RATE.0);
        TOP + (1.0 - share.clamp(0.0, 1.0)) * PANEL_HEIGHT
    }

    fn axes(&self, title: &str, svg: &mut String) {
        let (left, bottom) = (self.left, TOP + PANEL_HEIGHT);
        let right = left + PANEL_WIDTH;
        let _ =
            writeln!(svg, "<text class=\"title\" x=\"{left}\" y=\"{}\">{title}</text>", TOP - 14.0);
        let mut power = INTENSITY.0;
        while power <= INTENSITY.1 {
            let x = self.x(10f64.powf(power));
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{:.0}</text>",
                bottom + 18.0,
                10f64.powf(power)
            );
            power += 1.0;
        }
        let mut power = RATE.0;
        while power <= RATE.1 {
            let y = Panel::y(10f64.powf(power));
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">10<tspan dy=\"-5\" class=\"small\">{power:.0}</tspan></text>",
                left - 8.0,
                y + 4.0
            );
            power += 1.0;
        }
        let middle = left + PANEL_WIDTH / 2.0;
        let _ = writeln!(
            svg,
            "<rect class=\"axis\" x=\"{left}\" y=\"{TOP}\" width=\"{PANEL_WIDTH}\" height=\"{PANEL_HEIGHT}\"/>\
             <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">multiply-adds per byte of weights</text>\
             <text transform=\"translate({} {}) rotate(-90)\" text-anchor=\"middle\">multiply-adds per second</text>",
            bottom + 38.0,
            left - 46.0,
            TOP + PANEL_HEIGHT / 2.0
        );
    }

    /// Memory's slope up to the level of the arithmetic. Ours takes three products of eight bits for each.
    fn roofs(&self, machine: Machine, svg: &mut String) {
        let highest = 10f64.powf(RATE.1);
        let peak = machine.products.unwrap_or(highest).min(highest);
        let right = self.left + PANEL_WIDTH;
        let mut roof = |class: &str, peak: f64, from: f64| {
            let corner = self.x(peak / machine.read);
            let _ = writeln!(
                svg,
                "<polyline class=\"roof {class}\" points=\"{:.1},{:.1} {corner:.1},{:.1} {right:.1},{:.1}\"/>",
                self.x(from),
                Panel::y(machine.read * from),
                Panel::y(peak),
                Panel::y(peak)
            );
        };
        roof("", peak, 1.0);
        if let Some(peak) = machine.products {
            roof("ours-roof", peak / 3.0, peak / 3.0 / machine.read);
            for (text, level) in [("8-bit products", peak), ("three for each of ours", peak / 3.0)]
            {
                let _ = writeln!(
                    svg,
                    "<text class=\"small\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                    right - 4.0,
                    Panel::y(level) - 5.0
                );
            }
        }
        let _ = writeln!(
            svg,
            "<text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">slope: {:.0} GB/s of memory</text>",
            self.left + 4.0,
            Panel::y(peak) - 5.0,
            machine.read / 1e9
        );
    }

    fn point(&self, point: &Point, svg: &mut String) {
        let (x, y) = (self.x(point.intensity), Panel::y(point.rate));
        mark(point.who, x, y, svg);
        // Ours are labelled on the left, above; the others' on the right, below.
        let (dx, dy, anchor) = match (point.who, x - self.left < ROOM) {
            (Who::Ours, true) => (-4.0, -9.0, "start"),
            (Who::Ours, false) => (-7.0, -4.0, "end"),
            (_, _) => (8.0, 12.0, "start"),
        };
        let _ = writeln!(
            svg,
            "<text class=\"small\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            x + dx,
            y + dy,
            point.label
        );
    }
}

fn mark(who: Who, x: f64, y: f64, svg: &mut String) {
    let _ = match who {
        Who::Ours => writeln!(svg, "<circle class=\"ours\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"),
        Who::Llama => writeln!(
            svg,
            "<rect class=\"llama\" x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\"/>",
            x - 4.0,
            y - 4.0
        ),
        Who::MlxLm => {
            writeln!(svg, "<path class=\"mlx\" d=\"M{:.1} {:.1}l5 9h-10z\"/>", x, y - 5.0)
        }
    };
}

fn legend(svg: &mut String) {
    let y = HEIGHT - 20.0;
    for (who, name, x) in [
        (Who::Ours, "Demolish", LEFT),
        (Who::Llama, "llama.cpp (Q4_0, its best count of threads)", LEFT + 110.0),
        (Who::MlxLm, "mlx-lm", LEFT + 410.0),
    ] {
        mark(who, x, y - 4.0, svg);
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{y}\">{name}</text>", x + 12.0);
    }
    let _ = writeln!(
        svg,
        "<text class=\"small\" x=\"{}\" y=\"{y}\">numbers: tokens of one sequence in a pass</text>",
        LEFT + 500.0
    );
}
