//! What each layer became, and why.

use std::fmt;

use quant_infer::{
    Error, Network,
    file::File as PackedFile,
    inspect::Overview,
    model::{Conv, Model, Op, Weight},
};

/// How a layer is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// In sums of products of integers.
    Integers {
        /// The number of sums of each output element: of pairs of terms, times the groups of
        /// channels whose scales differ.
        sums: usize,
    },
    /// The operation computes with floats.
    Floats,
}

impl fmt::Display for Became {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Became::Integers { sums: 1 } => f.pad("integers"),
            Became::Integers { sums } => f.pad(&format!("integers x {sums}")),
            Became::Floats => f.pad("floats"),
        }
    }
}

/// A convolution or linear layer that was lowered.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// The layer's name in PyTorch.
    pub name: String,
    /// How it is computed.
    pub became: Became,
    /// Why it is computed in floats.
    pub reason: Option<String>,
    /// Bits of an input element: 32 where it is not quantized.
    pub activation_bits: u32,
    /// Bits of a weight: 32 where it is not quantized.
    pub weight_bits: u32,
    /// Bytes of the packed file that it takes: its weight, the values of its codes, its bias, the
    /// quantizer of its input, and its name.
    pub bytes: u64,
    /// Multiply-accumulates of an image of the network's size, each counted once.
    pub macs: u64,
}

/// Describes the convolutions of a valid model; `reasons` are those for floats, by node.
pub(crate) fn explain(model: &Model, reasons: &[(usize, String)]) -> Result<Vec<Explained>, Error> {
    let shapes = model.shapes(model.input.size)?;
    let bytes = model.to_bytes();
    let file = PackedFile::parse(&bytes)?;
    let mut explained = Vec::new();
    for (index, (node, part)) in model.nodes.iter().zip(file.nodes()).enumerate() {
        let Op::Conv(conv) = &node.op else { continue };
        let reason = reasons.iter().find(|(at, _)| *at == index);
        let [_, height, width] = shapes[index];
        explained.push(Explained {
            name: node.name.clone(),
            became: became(conv),
            reason: reason.map(|(_, reason)| reason.clone()),
            activation_bits: conv.quantizer.as_ref().map_or(32, |q| bits(q.levels)),
            weight_bits: match &conv.weight {
                Weight::Codes(codes) => bits(codes.levels),
                Weight::Float(_) => 32,
            },
            bytes: part.total() as u64,
            macs: (weights(conv) * height * width) as u64,
        });
    }
    Ok(explained)
}

/// Writes one line for each operation that is not a convolution or linear layer.
fn others(model: &Model, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let overview = Overview::of_model(model).map_err(|_| fmt::Error)?;
    let folded = Network::folded_layers(model).map_err(|_| fmt::Error)?;
    writeln!(f, "\n{:<26}  {:<22}  {:>8}  computed in", "operation", "what", "bytes")?;
    for ((node, row), folded) in model.nodes.iter().zip(&overview.rows).zip(&folded) {
        let computed = match (&node.op, folded) {
            (Op::Input | Op::Conv(_), _) => continue,
            (_, Some(conv)) => format!("thresholds of the sums of {}", model.nodes[*conv].name),
            (op, None) if moves(op) => "moves of numbers".to_owned(),
            (_, None) => "floats".to_owned(),
        };
        writeln!(f, "{:<26}  {:<22}  {:>8}  {computed}", row.name, row.operation, row.bytes)?;
    }
    let folded = model
        .nodes
        .iter()
        .zip(&folded)
        .filter(|(node, folded)| matches!(node.op, Op::Conv(_)) && folded.is_some());
    let convs = model.nodes.iter().filter(|node| matches!(node.op, Op::Conv(_))).count();
    let folded = folded.count();
    writeln!(
        f,
        "thresholds of sums give the codes of the next layers after {folded} of {convs} layers\n"
    )
}

/// Whether an operation computes nothing.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::SpaceToDepth(_)
            | Op::DepthToSpace(_)
            | Op::Pad(_)
            | Op::Repeat(_)
            | Op::Concatenate
            | Op::Flatten
    )
}

/// Returns the bits of a code.
fn bits(levels: usize) -> u32 {
    usize::BITS - (levels - 1).leading_zeros()
}

fn weights(conv: &Conv) -> usize {
    conv.out_channels * conv.in_channels / conv.groups * conv.kernel[0] * conv.kernel[1]
}

/// The parts of the file of a packed network, in bytes. Their sum is the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileParts {
    /// Convolutions and linear layers: weights, values of codes, biases, quantizers and names.
    pub layers: u64,
    /// The number of all other operations.
    pub others: u64,
    /// The header, the description of the network and its classes, and the bytes that align
    /// weights.
    pub rest: u64,
}

impl FileParts {
    /// Counts the parts of the file of a model.
    ///
    /// # Errors
    /// If the model is not valid.
    pub fn of(model: &Model) -> Result<Self, Error> {
        let bytes = model.to_bytes();
        let file = PackedFile::parse(&bytes)?;
        let (mut layers, mut others) = (0, 0);
        for (node, part) in model.nodes.iter().zip(file.nodes()) {
            match node.op {
                Op::Conv(_) => layers += part.total() as u64,
                _ => others += part.total() as u64,
            }
        }
        Ok(Self { layers, others, rest: bytes.len() as u64 - layers - others })
    }

    /// Returns the length of the file.
    pub fn file(self) -> u64 {
        self.layers + self.others + self.rest
    }
}

fn became(conv: &Conv) -> Became {
    let of_input = conv.quantizer.as_ref().and_then(|quantizer| quantizer.terms.as_ref());
    match (of_input, &conv.weight) {
        (Some(input), Weight::Codes(codes)) => {
            let weight = codes.terms.as_ref().map_or(0, |terms| terms.0.len());
            let groups =
                groups_of_an_output(conv.in_channels, conv.groups, input.0[0].scales.len());
            Became::Integers { sums: input.0.len() * groups * weight }
        }
        _ => Became::Floats,
    }
}

/// Returns how many of the groups into which `in_channels` channels are divided an output channel
/// reads at most, in a convolution of `conv_groups` groups.
pub(crate) fn groups_of_an_output(in_channels: usize, conv_groups: usize, groups: usize) -> usize {
    let channels = in_channels / conv_groups;
    let group_of = |channel: usize| channel * groups / in_channels;
    let read = |group: usize| group_of((group + 1) * channels - 1) - group_of(group * channels) + 1;
    (0..conv_groups).map(read).max().unwrap_or(1)
}

/// Writes one line for each layer of a model and each other operation, and what its file consists
/// of.
pub(crate) fn table(
    layers: &[Explained],
    model: &Model,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let columns = |f: &mut fmt::Formatter<'_>, cells: [&str; 6]| {
        let [name, became, bits, bytes, macs, reason] = cells;
        let line = format!("{name:<26} {became:<13} {bits:>8} {bytes:>10} {macs:>13}  {reason}");
        writeln!(f, "{}", line.trim_end())
    };
    columns(f, ["layer", "computed in", "bits a/w", "bytes", "MACs", "why in floats"])?;
    for layer in layers {
        let Explained { activation_bits, weight_bits, bytes, macs, .. } = layer;
        let cells = [
            &layer.name,
            &layer.became.to_string(),
            &format!("{activation_bits}/{weight_bits}"),
            &bytes.to_string(),
            &macs.to_string(),
            layer.reason.as_deref().unwrap_or(""),
        ];
        columns(f, cells)?;
    }
    let integers = layers.iter().filter(|layer| layer.became != Became::Floats);
    let in_integers: u64 = integers.map(|layer| layer.macs).sum();
    let macs: u64 = layers.iter().map(|layer| layer.macs).sum();
    let share = 100.0 * in_integers as f64 / macs.max(1) as f64;
    writeln!(f, "{macs} MACs, {share:.1} % of them in integers")?;
    others(model, f)?;
    let parts = FileParts::of(model).map_err(|_| fmt::Error)?;
    let FileParts { layers, others, rest } = parts;
    write!(
        f,
        "the file has {} bytes: {layers} for these layers, {others} for other operations, {rest} \
         for the header, the description and the alignment of weights",
        parts.file()
    )
}
