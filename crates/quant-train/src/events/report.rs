//! The report of a run: a single HTML file that needs no other files.

use std::{collections::HashMap, fmt::Write};

use burn::{module::ParamId, tensor::Tensor};
use quant_core::{Quantizer, Recorded, Role, number::significant, reach::layer_of, record};
use quant_nn::Classifier;

use super::event::Event;
use crate::{measure::evaluate::skipped_note, summary::Summary};

/// The distribution of the values that a quantizer gets, and its levels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Histogram {
    /// The name of the layer and the role of the quantizer.
    pub title: String,
    /// The lowest and the highest value that are drawn.
    pub range: [f32; 2],
    /// The number of values in each bin.
    pub bins: Vec<usize>,
    /// The values of the levels.
    pub levels: Vec<f32>,
}

const BINS: usize = 64;

impl Histogram {
    /// Returns the histogram of the `values` that `quantizer` got. If it has several clipping
    /// values, the levels are those of the first group.
    pub(crate) fn new(layer: &str, role: Role, quantizer: &Quantizer, values: &[f32]) -> Self {
        let kind = match role {
            Role::Activation => "activation",
            Role::Weight => "weight",
            Role::Output => "output",
        };
        let groups = match quantizer.groups() {
            1 => String::new(),
            groups => format!(", levels of group 1 of {groups}"),
        };
        let levels = quantizer.level_values();
        let mut sorted: Vec<f32> = values.iter().copied().filter(|x| x.is_finite()).collect();
        sorted.sort_by(f32::total_cmp);
        let at = |share: f64| {
            sorted.get((share * sorted.len().saturating_sub(1) as f64) as usize).copied()
        };
        // The range omits 0.1 % at each end: outliers would squeeze the other values into one bin.
        let fold = |start: f32, pick: fn(f32, f32) -> f32| levels.iter().copied().fold(start, pick);
        let low = fold(at(0.001).unwrap_or(0.0), f32::min);
        let high = fold(at(0.999).unwrap_or(1.0), f32::max).max(low + f32::EPSILON);
        let mut bins = vec![0; BINS];
        for value in sorted {
            let bin = ((value - low) / (high - low) * BINS as f32) as usize;
            bins[bin.min(BINS - 1)] += 1;
        }
        let title = format!("{layer} {kind}, {} levels{groups}", quantizer.config().levels.count());
        Self { title, range: [low, high], bins, levels }
    }

    fn svg(&self) -> String {
        let (width, height) = (300.0, 110.0);
        let [low, high] = self.range;
        let x = |value: f32| f64::from((value - low) / (high - low)) * width;
        // The height is limited: the many zeros after a rectifier would hide the other values.
        let mut counts = self.bins.clone();
        counts.sort_unstable();
        let top = (counts[BINS - 2].max(1) as f64 * 1.15).min(counts[BINS - 1].max(1) as f64);
        let mut svg = format!(
            "<figure><svg viewBox='0 -4 {width} {}' role='img' aria-label='{}'>",
            height + 20.0,
            escape(&self.title)
        );
        for (bin, count) in self.bins.iter().enumerate() {
            let bar = (*count as f64 / top).min(1.0) * height;
            let left = bin as f64 * width / BINS as f64;
            let _ = write!(
                svg,
                "<rect class='bar' x='{left:.1}' y='{:.1}' width='{:.1}' height='{bar:.1}'/>",
                height - bar,
                width / BINS as f64 - 0.5
            );
        }
        // With more than 16 levels, the lines would cover the picture.
        if self.levels.len() <= 16 {
            for level in &self.levels {
                let x = x(*level);
                let _ = write!(
                    svg,
                    "<line class='level' x1='{x:.1}' x2='{x:.1}' y1='0' y2='{height}'/>"
                );
            }
        }
        let _ = write!(
            svg,
            "<text x='0' y='{y}'>{low:.3}</text><text x='{width}' y='{y}' text-anchor='end'>\
             {high:.3}</text></svg><figcaption>{}</figcaption></figure>",
            escape(&self.title),
            y = height + 13.0
        );
        svg
    }
}

/// Returns histograms of the values that the quantizers of `network` get for `images` in
/// evaluation.
pub(crate) fn histograms<M: Classifier>(network: &M, images: Tensor<4>) -> Vec<Histogram> {
    let recorded = record(
        network,
        |_| true,
        |network| {
            network.forward(images);
        },
    );
    let mut recorded: HashMap<ParamId, Recorded> = recorded
        .into_iter()
        .map(|recorded| (recorded.reached.quantizer.training.id, recorded))
        .collect();
    let quantizers = network.quantizers().into_iter();
    let seen = quantizers.filter_map(|(layer, role, quantizer)| {
        let values = recorded.remove(&quantizer.training.id)?.values();
        Some(Histogram::new(&layer, role, &quantizer, &values))
    });
    seen.collect()
}

/// Returns the report of a run.
pub(crate) fn html(summary: &Summary, log: &[Event], histograms: &[Histogram]) -> String {
    let mut body = String::new();
    let _ = write!(body, "<h1>{}</h1>", escape(&summary.name));
    body += &result_table(summary);
    body += "<h2>Curves</h2><div class='charts'>";
    body += &curves(log);
    body += "</div><h2>Layers</h2>";
    body += &layer_table(summary, log);
    body += &health_table(log);
    body += "<h2>Quantizers</h2><p>What each quantizer of the last network sees on one validation \
             batch, and its levels (vertical lines). The tallest bin may be cut.</p>\
             <div class='histograms'>";
    for histogram in histograms {
        body += &histogram.svg();
    }
    body += "</div>";
    format!(
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' \
         content='width=device-width'><title>{}</title><style>{STYLE}</style></head><body>{body}\
         </body></html>\n",
        escape(&summary.name)
    )
}

const STYLE: &str = "
body{font:15px/1.45 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;
color:#1c2733}h1{margin-bottom:.5rem}h2{margin-top:2.2rem;border-bottom:1px solid #d5dce3}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .8rem;text-align:right;border-bottom:1px solid #e6ebf0}
th:first-child,td:first-child{text-align:left}th{color:#51606f;font-weight:600}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:1rem}
.histograms{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:1rem}
figure{margin:0}figcaption{font-size:13px;color:#51606f}
svg{width:100%;height:auto}svg text{font-size:11px;fill:#51606f}
.axis{stroke:#c3ccd5;stroke-width:1}.grid{stroke:#eef1f4;stroke-width:1}
.bar{fill:#7aa6d8}.level{stroke:#c23b22;stroke-width:1.2}.d0{fill:#2b6cb0}.d1{fill:#dd7a1e}
.s0{stroke:#2b6cb0;fill:none;stroke-width:1.8}.s1{stroke:#dd7a1e;fill:none;stroke-width:1.8}";

fn result_table(summary: &Summary) -> String {
    let mut table = String::from(
        "<table><tr><th>phase</th><th>top-1 %</th><th>top-5 %</th><th>loss</th>\
         <th>best top-1 %</th><th>bytes at 32 bits</th><th>bytes packed</th></tr>",
    );
    for result in &summary.phases {
        let _ = write!(
            table,
            "<tr><td>{}</td><td>{:.2}{}</td><td>{:.2}</td><td>{:.4}</td><td>{:.2} (epoch {})</td>\
             <td>{}</td><td>{}</td></tr>",
            escape(&result.phase),
            result.last.top1,
            skipped_note(&result.last),
            result.last.top5,
            result.last.loss,
            result.best.top1,
            result.best_epoch + 1,
            result.network.size_bytes_float,
            result.network.size_bytes_packed
        );
    }
    table += "</table>";
    if let (Some(packed), Some(served)) = (&summary.packed, &summary.served) {
        let _ = write!(
            table,
            "<p>Packed network (packed.qnet): {} bytes. Top-1 {:.2} % by the engine that serves \
             it, {:.2} % by the same arithmetic in the trainer.</p>",
            packed.bytes, packed.score.top1, served.top1
        );
    }
    table
}

/// Returns the table of the quantizers' health after the last epoch.
fn health_table(log: &[Event]) -> String {
    let last = log.iter().rev().find_map(|event| match event {
        Event::QuantizerHealth { epoch, quantizers, .. } => Some((epoch, quantizers)),
        _ => None,
    });
    let Some((epoch, quantizers)) = last else { return String::new() };
    let mut table = format!(
        "<h2>Health of quantizers after epoch {}</h2><p>Flips: share of the weights whose \
         code changed in the epoch. At the bounds: share of the values with the lowest or highest \
         code.</p><table><tr><th>quantizer</th><th>levels</th><th>unused</th><th>flips %</th>\
         <th>at the bounds %</th><th>scale</th></tr>",
        epoch + 1
    );
    for health in quantizers {
        let percent =
            |share: Option<f64>| share.map_or("–".to_owned(), |x| format!("{:.2}", 100.0 * x));
        let (flips, bounds) = (percent(health.flip_rate), percent(health.at_bounds));
        let scale = health.scale.map_or("–".to_owned(), |scale| significant(scale, 3));
        let _ = write!(
            table,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{flips}</td><td>{bounds}</td>\
             <td>{scale}</td></tr>",
            escape(&health.quantizer),
            health.levels,
            health.unused_levels,
        );
    }
    table + "</table>"
}

/// A line in a chart.
struct Series {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// Returns charts of top-1, loss and learning rate for every phase.
fn curves(log: &[Event]) -> String {
    let mut phases: Vec<&str> = Vec::new();
    for event in log {
        if let Event::EpochFinished { phase, .. } = event
            && !phases.contains(&phase.as_str())
        {
            phases.push(phase);
        }
    }
    let mut charts = String::new();
    for name in phases {
        let mut top1 = [Vec::new(), Vec::new()];
        let mut loss = [Vec::new(), Vec::new()];
        let mut rate = Vec::new();
        for event in log {
            match event {
                Event::EpochFinished { phase, epoch, train_loss, train_top1, val, .. }
                    if phase == name =>
                {
                    let at = *epoch as f64 + 1.0;
                    // A resumed run repeats epochs that were not saved: the later event counts.
                    let values = [*train_top1, val.top1, *train_loss, val.loss];
                    for (points, value) in top1.iter_mut().chain(&mut loss).zip(values) {
                        points.retain(|(x, _)| *x < at);
                        points.push((at, value));
                    }
                }
                Event::Progress { phase, epoch, batch, batches, learning_rate, .. }
                    if phase == name =>
                {
                    let at = *epoch as f64 + *batch as f64 / (*batches).max(1) as f64;
                    rate.retain(|(x, _)| *x < at);
                    rate.push((at, *learning_rate));
                }
                _ => {}
            }
        }
        let pair = |[train, val]: [Vec<(f64, f64)>; 2]| {
            [Series { name: "training", points: train }, Series { name: "validation", points: val }]
        };
        charts += &chart(&format!("{name}: top-1 in percent by epoch"), &pair(top1));
        charts += &chart(&format!("{name}: loss by epoch"), &pair(loss));
        let rate = [Series { name: "learning rate", points: rate }];
        charts += &chart(&format!("{name}: learning rate by epoch"), &rate);
    }
    charts
}

fn chart(title: &str, series: &[Series]) -> String {
    let (width, height, left, bottom) = (440.0, 200.0, 52.0, 22.0);
    let points = || series.iter().flat_map(|series| &series.points);
    let bound = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        })
    };
    let (x_low, x_high) = bound(&mut points().map(|(x, _)| *x));
    let (y_low, y_high) = bound(&mut points().map(|(_, y)| *y));
    if !x_low.is_finite() || !y_low.is_finite() {
        return String::new();
    }
    let (x_span, y_span) = ((x_high - x_low).max(1e-12), (y_high - y_low).max(1e-12));
    let x = |value: f64| left + (value - x_low) / x_span * (width - left - 8.0);
    let y = |value: f64| 8.0 + (y_high - value) / y_span * (height - bottom - 8.0);
    let mut svg = format!(
        "<figure><svg viewBox='0 0 {width} {height}' role='img' aria-label='{}'>",
        escape(title)
    );
    for step in 0..=4 {
        let value = y_low + y_span * f64::from(step) / 4.0;
        let at = y(value);
        let _ = write!(
            svg,
            "<line class='grid' x1='{left}' x2='{}' y1='{at:.1}' y2='{at:.1}'/><text x='{}' \
             y='{:.1}' text-anchor='end'>{}</text>",
            width - 8.0,
            left - 6.0,
            at + 4.0,
            tick(value, y_span)
        );
    }
    for value in [x_low, x_high] {
        let anchor = if value == x_low { "start" } else { "end" };
        let _ = write!(
            svg,
            "<text x='{:.1}' y='{}' text-anchor='{anchor}'>{}</text>",
            x(value),
            height - 6.0,
            tick(value, x_span)
        );
    }
    for (index, series) in series.iter().enumerate() {
        let path: Vec<String> =
            series.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py))).collect();
        let _ = write!(svg, "<polyline class='s{index}' points='{}'/>", path.join(" "));
        if let [(px, py)] = series.points[..] {
            let _ =
                write!(svg, "<circle class='d{index}' cx='{:.1}' cy='{:.1}' r='3'/>", x(px), y(py));
        }
        let _ = write!(
            svg,
            "<text class='d{index}' x='{}' y='{}'>{}</text>",
            left + 70.0 + 100.0 * index as f64,
            height - 6.0,
            series.name
        );
    }
    let _ = write!(svg, "</svg><figcaption>{}</figcaption></figure>", escape(title));
    svg
}

fn tick(value: f64, span: f64) -> String {
    let digits = (1.0 - span.abs().max(1e-9).log10()).ceil().clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

/// Returns the table of the last network's layers, with the calibration of their quantizers.
fn layer_table(summary: &Summary, log: &[Event]) -> String {
    let Some(result) = summary.phases.last() else {
        return String::new();
    };
    let start = log.iter().rev().find_map(|event| match event {
        Event::Calibrated { quantizers, kept, untouched, .. } => {
            Some((quantizers, kept, untouched))
        }
        _ => None,
    });
    let error = |layer: &str, part: &str| {
        let is_it = |name: &str| layer_of(name) == layer && name.ends_with(part);
        let is_among = |names: &[String]| names.iter().any(|name| is_it(name));
        let Some((calibrated, kept, untouched)) = start else { return "–".to_owned() };
        match calibrated.iter().find(|info| is_it(&info.layer)) {
            Some(info) => {
                let errors = [info.error_before, info.error_after];
                errors.map(|error| significant(error, 2)).join(" → ")
            }
            None if is_among(kept) => "kept".into(),
            None if is_among(untouched) => "default".into(),
            None => "–".into(),
        }
    };
    let mut table = String::from(
        "<p>Calibration error: squared quantization error over squared input, before and after; or \
         whether a quantizer kept the parameters that came with the weights, or was left at its \
         defaults.</p>\
         <table><tr><th>layer</th><th>weight</th><th>output</th><th>bits a/w</th><th>parameters\
         </th><th>MACs</th><th>bit operations</th><th>calibration, activation</th><th>weight</th>\
         </tr>",
    );
    for layer in &result.network.layers {
        let shape: Vec<String> = layer.weight_shape.iter().map(usize::to_string).collect();
        let size = layer.output_size;
        let known = |text: String| if size == 0 { "?".to_owned() } else { text };
        let counted = |number: u64| if number == 0 { "?".to_owned() } else { number.to_string() };
        let _ = write!(
            table,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}/{}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&layer.name),
            shape.join("x"),
            known(format!("{size}x{size}")),
            layer.activation_bits.map_or_else(|| "?".to_owned(), |bits| bits.to_string()),
            layer.weight_bits,
            layer.parameters,
            counted(layer.macs),
            counted(layer.bit_operations),
            error(&layer.name, "quant_activation"),
            error(&layer.name, "quant_weight"),
        );
    }
    table + "</table>"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}
