//! What a packed network consists of, for people to read.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use crate::{
    Error,
    file::File,
    model::{Conv, Dynamic, Model, Node, Op, Weight, WeightCodes},
};

/// A packed network, node by node. As text, it is a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// The name of the network.
    pub name: String,
    /// The program that made it.
    pub producer: String,
    /// The channels, height and width of the images that it was trained with.
    pub input: [usize; 3],
    /// The number of scores.
    pub classes: usize,
    /// The bytes of the file.
    pub bytes: usize,
    /// All nodes in execution order.
    pub rows: Vec<Row>,
}

/// A node of a packed network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The name of the layer.
    pub name: String,
    /// What it computes.
    pub operation: String,
    /// The channels, height and width of its value, for images of the network's own size.
    pub shape: [usize; 3],
    /// How the elements of its weight are stored, for a convolution.
    pub weight: Option<Width>,
    /// How its input is quantized, for a convolution or a quantizer.
    pub activation: Option<Width>,
    /// The bytes of the file that it takes.
    pub bytes: usize,
    /// Products of weights and inputs for one image, each with an addition. Products with elements
    /// beyond the edge count.
    pub multiply_accumulates: u64,
    /// How the products are computed, for a convolution.
    pub arithmetic: Option<Arithmetic>,
}

/// How many values a number can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Any float of 32 bits.
    Float,
    /// This many levels.
    Levels(usize),
}

/// How a convolution's products are computed and added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// In integers.
    Integers,
    /// In floats of 32 bits, for this reason.
    Floats(Reason),
}

/// Why a convolution cannot be computed in integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Neither the input nor the weight is quantized.
    NotQuantized,
    /// The weight is quantized, and the input is not.
    InputNotQuantized,
    /// The input is quantized, and the weight is not.
    WeightNotQuantized,
    /// The quantizer of the input has a part that depends on the image.
    Dynamic(Dynamic),
    /// The values of the input are not integers times scales.
    InputHasNoTerms,
    /// The values of the weight are not integers times scales of output channels.
    WeightHasNoTerms,
    /// The scales of the weight differ within an output channel.
    WeightScalesWithinChannels,
    /// The values of input and weight are not integers times scales that can be multiplied.
    NeitherHasTerms,
}

impl Overview {
    /// The overview of a file.
    ///
    /// # Errors
    /// Those of [`Model::from_bytes`].
    pub fn of_file(bytes: &[u8]) -> Result<Self, Error> {
        let file = File::parse(bytes)?;
        let sizes: Vec<usize> = file.nodes().iter().map(|node| node.total()).collect();
        let model = Model::from_bytes(bytes)?;
        let shapes = model.shapes(model.input.size)?;
        let [height, width] = model.input.size;
        let rows = model.nodes.iter().zip(sizes);
        Ok(Self {
            input: [model.input.scale.len(), height, width],
            classes: shapes.last().map_or(0, |shape| shape[0]),
            bytes: file.length(),
            rows: rows.zip(&shapes).map(|((node, size), &shape)| row(node, shape, size)).collect(),
            name: model.name,
            producer: model.producer,
        })
    }

    /// The overview of the file that [`Model::to_bytes`] makes of a model.
    ///
    /// # Errors
    /// If the model is not valid.
    pub fn of_model(model: &Model) -> Result<Self, Error> {
        model.check()?;
        Self::of_file(&model.to_bytes())
    }

    /// The products of all convolutions that are computed in integers, and of all others.
    pub fn multiply_accumulates(&self) -> [u64; 2] {
        self.rows.iter().fold([0, 0], |[integers, floats], row| match row.arithmetic {
            Some(Arithmetic::Integers) => [integers + row.multiply_accumulates, floats],
            _ => [integers, floats + row.multiply_accumulates],
        })
    }
}

fn row(node: &Node, shape: [usize; 3], bytes: usize) -> Row {
    let mut row = Row {
        name: node.name.clone(),
        operation: operation(&node.op, shape),
        shape,
        weight: None,
        activation: None,
        bytes,
        multiply_accumulates: 0,
        arithmetic: None,
    };
    match &node.op {
        Op::Conv(conv) => {
            row.weight = Some(match &conv.weight {
                Weight::Float(_) => Width::Float,
                Weight::Codes(codes) => Width::Levels(codes.levels),
            });
            let quantizer = conv.quantizer.as_ref();
            let levels = quantizer.map(|quantizer| Width::Levels(quantizer.levels));
            row.activation = Some(levels.unwrap_or(Width::Float));
            row.multiply_accumulates = multiply_accumulates(conv, shape);
            row.arithmetic = Some(arithmetic(conv));
        }
        Op::Quantize(quantizer) => row.activation = Some(Width::Levels(quantizer.levels)),
        _ => {}
    }
    row
}

fn multiply_accumulates(conv: &Conv, shape: [usize; 3]) -> u64 {
    let each = [conv.in_channels / conv.groups, conv.kernel[0], conv.kernel[1]];
    shape.iter().chain(&each).fold(1, |product, &factor| product * factor as u64)
}

fn arithmetic(conv: &Conv) -> Arithmetic {
    let reason = match (&conv.quantizer, &conv.weight) {
        (None, Weight::Float(_)) => Reason::NotQuantized,
        (None, Weight::Codes(_)) => Reason::InputNotQuantized,
        (Some(_), Weight::Float(_)) => Reason::WeightNotQuantized,
        (Some(quantizer), Weight::Codes(weight)) => {
            match (quantizer.dynamic, &quantizer.terms, &weight.terms) {
                (Dynamic::None, Some(_), Some(_)) => return Arithmetic::Integers,
                (Dynamic::None, _, None) if !has_scales_of_channels(conv, weight) => {
                    Reason::WeightScalesWithinChannels
                }
                (Dynamic::None, None, None) => Reason::NeitherHasTerms,
                (Dynamic::None, None, _) => Reason::InputHasNoTerms,
                (Dynamic::None, _, None) => Reason::WeightHasNoTerms,
                (dynamic, ..) => Reason::Dynamic(dynamic),
            }
        }
    };
    Arithmetic::Floats(reason)
}

/// Whether all weights of an output channel have the same values.
fn has_scales_of_channels(conv: &Conv, weight: &WeightCodes) -> bool {
    weight.groups == 1 || weight.run.is_multiple_of(weight.codes.len() / conv.out_channels)
}

fn operation(op: &Op, shape: [usize; 3]) -> String {
    match op {
        Op::Conv(conv) => convolution(conv, shape),
        Op::GroupNorm(groups) => format!("group norm, {groups} groups"),
        Op::AveragePool(side) => format!("average pool {side}x{side}"),
        Op::MaxPool(pool) => {
            format!("max pool {0}x{0}, stride {1}", pool.kernel, pool.stride)
        }
        Op::Repeat(times) => format!("repeat {times} times"),
        Op::Input => "input".into(),
        Op::Quantize(_) => "quantizer".into(),
        Op::Affine { .. } => "scale and shift".into(),
        Op::AddScalar(_) => "add a number".into(),
        Op::MulScalar(_) => "multiply by a number".into(),
        Op::Relu => "ReLU".into(),
        Op::Relu6 => "ReLU6".into(),
        Op::LeakyRelu(_) => "leaky ReLU".into(),
        Op::RPRelu { .. } => "RPReLU".into(),
        Op::GlobalPool => "global average pool".into(),
        Op::SpaceToDepth(_) => "space to depth".into(),
        Op::DepthToSpace(_) => "depth to space".into(),
        Op::Pad(_) => "padding".into(),
        Op::Concatenate => "concatenation".into(),
        Op::Add => "sum".into(),
        Op::Flatten => "flatten".into(),
    }
}

fn convolution(conv: &Conv, [_, height, width]: [usize; 3]) -> String {
    if [conv.kernel, [height, width]] == [[1, 1], [1, 1]] && conv.groups == 1 {
        return "linear".into();
    }
    let mut text = format!("convolution {}x{}", conv.kernel[0], conv.kernel[1]);
    let numbers = [("stride", conv.stride), ("dilation", conv.dilation)];
    for (name, [rows, columns]) in numbers {
        match [rows, columns] {
            [1, 1] => {}
            _ if rows == columns => text += &format!(", {name} {rows}"),
            _ => text += &format!(", {name} {rows}x{columns}"),
        }
    }
    if conv.groups > 1 {
        text += &format!(", {} groups", conv.groups);
    }
    text
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float => write!(f, "32"),
            Self::Levels(levels) if levels.is_power_of_two() => {
                write!(f, "{}", levels.trailing_zeros())
            }
            Self::Levels(3) => write!(f, "ternary"),
            Self::Levels(levels) => write!(f, "{levels} levels"),
        }
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integers => write!(f, "integers"),
            Self::Floats(reason) => write!(f, "floats: {reason}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotQuantized => "neither the input nor the weight is quantized",
            Self::InputNotQuantized => "the input is not quantized",
            Self::WeightNotQuantized => "the weight is not quantized",
            Self::Dynamic(Dynamic::MeanOverChannels) => {
                "the scale of the input depends on the position"
            }
            Self::Dynamic(Dynamic::MeanOverPositions) => {
                "the scale of the input depends on the image and the channel"
            }
            Self::Dynamic(_) => "the scale of the input depends on the image",
            Self::InputHasNoTerms => "the values of the input are not integers times scales",
            Self::WeightHasNoTerms => "the values of the weight are not integers times scales",
            Self::WeightScalesWithinChannels => {
                "the scales of the weight differ within an output channel"
            }
            Self::NeitherHasTerms => {
                "the values of input and weight are not few integers times scales"
            }
        })
    }
}

/// The columns of the table, and which of them are numbers.
const COLUMNS: [(&str, bool); 8] = [
    ("layer", false),
    ("operation", false),
    ("output", false),
    ("weight bits", true),
    ("input bits", true),
    ("bytes", true),
    ("products", true),
    ("computed in", false),
];

/// The text without characters that change a terminal: a file may come from anybody.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn cells(row: &Row) -> [String; 8] {
    let [channels, height, width] = row.shape;
    let text = |width: Option<Width>| width.map_or_else(String::new, |width| width.to_string());
    let products = row.multiply_accumulates;
    [
        printable(&row.name),
        row.operation.clone(),
        format!("{channels} x {height} x {width}"),
        text(row.weight),
        text(row.activation),
        row.bytes.to_string(),
        if products == 0 { String::new() } else { products.to_string() },
        row.arithmetic.map_or_else(String::new, |arithmetic| arithmetic.to_string()),
    ]
}

fn write_line(f: &mut fmt::Formatter<'_>, cells: &[String; 8], widths: [usize; 8]) -> fmt::Result {
    let mut line = String::new();
    for ((cell, width), (_, is_number)) in cells.iter().zip(widths).zip(COLUMNS) {
        line += &if is_number { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
    }
    writeln!(f, "{}", line.trim_end())
}

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [channels, height, width] = self.input;
        write!(f, "{}, ", printable(&self.name))?;
        if !self.producer.is_empty() {
            write!(f, "made by {}, ", printable(&self.producer))?;
        }
        writeln!(f, "{} bytes", self.bytes)?;
        writeln!(f, "{channels} x {height} x {width} pixels, {} scores", self.classes)?;
        let mut lines = Vec::from([COLUMNS.map(|(name, _)| name.to_string())]);
        lines.extend(self.rows.iter().map(cells));
        let longest = |column: usize| {
            lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0)
        };
        let widths = core::array::from_fn(longest);
        lines.iter().try_for_each(|cells| write_line(f, cells, widths))?;
        let [integers, floats] = self.multiply_accumulates();
        write!(f, "{integers} products are computed in integers, and {floats} in floats")
    }
}
