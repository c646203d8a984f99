//! Draws the values and gradients of every quantizer into `docs/plots`, and writes the table of
//! methods, roles and options into `docs/quantizers.md`. Both are computed from the quantizers
//! themselves.
//!
//! Run `cargo run --release -p quantizer_plots` in the root of the repository.

use std::{error::Error, fs, path::Path};

use burn::tensor::{Device, Tensor};
use plotters::prelude::*;
use quant_core::{
    Estimator, Levels, Method, Quantizer, QuantizerConfig, Role, Site, TtqOptions, methods_table,
};

/// A curve: its name, and its value at each input.
type Curve = (String, Vec<f32>);

const COLOURS: [RGBColor; 4] =
    [RGBColor(11, 92, 173), RGBColor(214, 93, 14), RGBColor(38, 132, 72), RGBColor(130, 60, 160)];

/// The content of a plot.
struct Plot {
    file: &'static str,
    quantizers: Vec<(&'static str, QuantizerConfig, Parameters)>,
    range: (f32, f32),
}

/// Learned parameters that show the quantizer's behaviour better than the initial ones.
type Parameters = Vec<(&'static str, Vec<f32>)>;

fn config(method: Method, role: Role, levels: usize) -> Result<QuantizerConfig, Box<dyn Error>> {
    Ok(QuantizerConfig::new(method, role, Levels::new(levels)?))
}

fn plots() -> Result<Vec<Plot>, Box<dyn Error>> {
    use Role::{Activation, Weight};
    let with = |estimator, method, role, levels| {
        Ok::<_, Box<dyn Error>>(QuantizerConfig { estimator, ..config(method, role, levels)? })
    };
    let clip = |value| vec![("clip_val", vec![value])];
    let usual = |method, activation: Parameters, weight: Parameters| {
        Ok::<_, Box<dyn Error>>(vec![
            ("activation, 2 bits", config(method, Activation, 4)?, activation),
            (
                "weight, 2 bits",
                QuantizerConfig { normalization: Default::default(), ..config(method, Weight, 4)? },
                weight,
            ),
        ])
    };
    let step = |value| vec![("step_size", vec![value])];
    let signs = [Estimator::Clipped, Estimator::Identity, Estimator::Triangle];
    let signs = signs.into_iter().zip(["clipped", "identity", "triangle"]);
    let signs = signs.map(|(estimator, name)| {
        Ok((name, with(estimator, Method::XNOR, Activation, 2)?, Vec::new()))
    });
    let wide = (-2.0, 2.0);
    Ok(vec![
        Plot { file: "lsq", quantizers: usual(Method::Lsq, clip(1.0), clip(1.0))?, range: wide },
        Plot {
            file: "lsq-step",
            quantizers: usual(Method::LsqStep, step(1.0 / 3.0), step(0.5))?,
            range: wide,
        },
        Plot {
            file: "lsq-plus",
            quantizers: vec![(
                "activation, 2 bits, offset -0.6",
                config(Method::LsqPlus, Activation, 4)?,
                vec![("step_size", vec![0.5]), ("offset", vec![-0.6])],
            )],
            range: wide,
        },
        Plot {
            file: "pact",
            quantizers: vec![(
                "activation, 2 bits",
                config(Method::Pact, Activation, 4)?,
                clip(1.5),
            )],
            range: wide,
        },
        Plot { file: "dorefa", quantizers: usual(Method::Dorefa, vec![], vec![])?, range: wide },
        Plot { file: "apot", quantizers: usual(Method::Apot, clip(1.0), clip(1.0))?, range: wide },
        Plot {
            file: "n2uq",
            quantizers: vec![
                (
                    "activation, 2 bits",
                    config(Method::N2uq, Activation, 4)?,
                    vec![
                        ("start", vec![0.0]),
                        ("intervals", vec![0.3, 0.5, 0.9]),
                        ("scale", vec![0.5]),
                    ],
                ),
                ("weight, 2 bits", config(Method::N2uq, Weight, 4)?, vec![]),
            ],
            range: wide,
        },
        Plot {
            file: "lq-nets",
            quantizers: vec![
                (
                    "activation, 2 bits",
                    config(Method::LQ_NETS, Activation, 4)?,
                    vec![("basis", vec![0.4, 1.0])],
                ),
                (
                    "weight, 2 bits",
                    config(Method::LQ_NETS, Weight, 4)?,
                    vec![("basis", vec![0.3, 0.9])],
                ),
            ],
            range: wide,
        },
        Plot {
            file: "fatnn",
            quantizers: vec![
                (
                    "activation, 4 levels",
                    config(Method::FATNN, Activation, 4)?,
                    vec![("alpha0", vec![2.0]), ("alpha1", vec![1.0]), ("alpha2", vec![0.8])],
                ),
                (
                    "weight, ternary",
                    config(Method::FATNN, Weight, 3)?,
                    vec![("alpha0", vec![0.8]), ("alpha1", vec![1.2])],
                ),
            ],
            range: (-1.5, 3.5),
        },
        Plot {
            file: "ttq",
            quantizers: vec![(
                "weight, threshold 0.3",
                config(Method::Ttq(TtqOptions { ternary_threshold: 0.3 }), Weight, 3)?,
                vec![("positive", vec![1.4]), ("negative", vec![0.7])],
            )],
            range: wide,
        },
        Plot {
            file: "xnor",
            quantizers: signs.collect::<Result<_, Box<dyn Error>>>()?,
            range: wide,
        },
    ])
}

/// Returns inputs over a range. None of them lies on a tick of the axis.
fn inputs((low, high): (f32, f32)) -> Vec<f32> {
    (0..1601).map(|index| low + (high - low) * (index as f32 + 0.37) / 1601.7).collect()
}

/// Returns the value and the gradient of a quantizer at each input.
fn curves(
    config: &QuantizerConfig,
    parameters: &Parameters,
    x: &[f32],
) -> Result<(Vec<f32>, Vec<f32>), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    let site = match config.role {
        Role::Weight => Site::weight("plot", [1, 1, 1, x.len()]),
        _ => Site::activation("plot", 1),
    };
    let mut quantizer: Quantizer = config.init(&site, &device)?;
    for (name, values) in parameters {
        let known = quantizer.set_learned(name, values) || quantizer.set_running(name, values);
        if !known {
            return Err(
                format!("{} has no {name} of {} values", config.method, values.len()).into()
            );
        }
    }
    let input = Tensor::<1>::from_floats(x, &device).reshape([1, 1, 1, x.len()]);
    let input: Tensor<4> = input.require_grad();
    let y = quantizer.forward(input.clone());
    let gradients = y.clone().sum().backward();
    let gradient = input.grad(&gradients).ok_or("no gradient")?;
    let host = |tensor: Tensor<4>| tensor.into_data().iter::<f32>().collect::<Vec<f32>>();
    Ok((host(y), host(gradient)))
}

fn draw(plot: &Plot, folder: &Path) -> Result<(), Box<dyn Error>> {
    let x = inputs(plot.range);
    let (mut values, mut gradients): (Vec<Curve>, Vec<Curve>) = (Vec::new(), Vec::new());
    for (name, config, parameters) in &plot.quantizers {
        let (value, gradient) = curves(config, parameters, &x)?;
        values.push(((*name).to_owned(), value));
        gradients.push(((*name).to_owned(), gradient));
    }
    let path = folder.join(plot.file).with_extension("svg");
    let root = SVGBackend::new(&path, (860, 320)).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(430);
    chart(&left, "y over x", &x, &values, true)?;
    // The legend is left out here, because this chart's upper left corner is not empty.
    chart(&right, "gradient of x", &x, &gradients, false)?;
    root.present()?;
    Ok(())
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    x: &[f32],
    curves: &[Curve],
    named: bool,
) -> Result<(), Box<dyn Error>> {
    let all = || curves.iter().flat_map(|(_, values)| values.iter().copied());
    let (low, high) = (all().fold(0f32, f32::min), all().fold(0f32, f32::max));
    let margin = 0.08 * (high - low).max(1e-3);
    let (first, last) = (x[0], x[x.len() - 1]);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(36)
        .build_cartesian_2d(first..last, (low - margin)..(high + margin))?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(226, 230, 235))
        .label_style(("sans-serif", 11))
        .x_labels(9)
        .y_labels(7)
        .draw()?;
    for ((name, values), colour) in curves.iter().zip(COLOURS) {
        let points = x.iter().copied().zip(values.iter().copied());
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    if !named {
        return Ok(());
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .label_font(("sans-serif", 11))
        .draw()?;
    Ok(())
}

/// Replaces the text between the two marks of the table.
fn write_table(guide: &Path) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(guide)?;
    let (begin, end) = ("<!-- table: begin -->\n", "<!-- table: end -->");
    let (before, rest) = text.split_once(begin).ok_or("the guide has no mark for the table")?;
    let (_, after) = rest.split_once(end).ok_or("the guide has no mark for the table's end")?;
    fs::write(guide, format!("{before}{begin}{}{end}{after}", methods_table()))?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example's output")]
fn main() -> Result<(), Box<dyn Error>> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let folder = docs.join("plots");
    fs::create_dir_all(&folder)?;
    for plot in plots()? {
        draw(&plot, &folder)?;
    }
    write_table(&docs.join("quantizers.md"))?;
    println!("wrote {} and the table of quantizers.md", folder.display());
    Ok(())
}
