//! ONNX files become models.

mod arithmetic;
mod constant_shapes;
mod constants;
mod convolution;
mod dynamic;
mod functions;
mod group_norm;
mod importer;
mod layers;
mod lazy;
mod node;
mod pools;
mod quantize_linear;
mod quantizers;
mod shapes;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use prost::Message;
use quant_infer::model::{Input, Model, Node, Op};

pub use self::importer::BatchNorm;
use self::{
    dynamic::Dynamic,
    importer::{Importer, Value},
    lazy::Lazy,
    node::Reader,
};
use crate::{
    OnnxError, Pixels,
    external::take_in,
    proto::{GraphProto, ModelProto, data_type},
    tensor,
};

/// The largest file that is read, in bytes.
const MAX_BYTES: usize = 1 << 30;

/// What a file does not say about its images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportOptions {
    /// The height and width of images, for a file that leaves them open.
    pub size: Option<[usize; 2]>,
    /// The mean of each channel, for a network whose input has floats. A byte p becomes
    /// (p/255 - mean)/std. Empty for means of 0.
    pub mean: Vec<f64>,
    /// The standard deviation of each channel. Empty for deviations of 1.
    pub std: Vec<f64>,
    /// The name of the model. By default it is that of the graph.
    pub name: Option<String>,
    /// The contents of the files beside the ONNX file in which constants are stored, by the names
    /// that [`external_files`](crate::external_files) returns.
    pub external: BTreeMap<String, Vec<u8>>,
}

/// A model that was read from an ONNX file.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The model, which is valid.
    pub model: Model,
    /// Where the model may round otherwise than the file says, and what was left out.
    pub notes: Vec<String>,
    /// The tensors of the file that quantizers of the model compute: each with the index of the
    /// model's node, a convolution whose input it is or a quantizer that stands alone.
    pub quantized: Vec<(usize, String)>,
    /// The batch norms of the file that became multiplications and additions of the model, each
    /// with the index of the model's node.
    pub norms: Vec<(usize, BatchNorm)>,
    /// How the bytes of images become the numbers that the network was trained with, for a file of
    /// this crate whose first layer reads the bytes themselves.
    pub pixels: Option<Pixels>,
}

impl Imported {
    /// The convolutions and linear layers that compute in integers, and all of them.
    pub fn layers(&self) -> (usize, usize) {
        let convs = self.model.nodes.iter().filter_map(|node| match &node.op {
            Op::Conv(conv) => Some(conv.integer_terms().is_some()),
            _ => None,
        });
        convs.fold((0, 0), |(integers, all), integer| (integers + usize::from(integer), all + 1))
    }
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        let (integers, all) = self.layers();
        write!(f, "{integers} of {all} layers multiply integers")
    }
}

/// Reads an ONNX file of a convolutional classifier.
///
/// The quantizers of QONNX (`Quant`, `IntQuant`, `BipolarQuant`, `Trunc`, `MultiThreshold`) and of
/// ONNX (`QuantizeLinear` and `DequantizeLinear`, with a `Clip` between or before them) become
/// quantizers with thresholds, which are found by bisection through the operators' own arithmetic.
/// Weights that went through a quantizer become codes. Where the input of a convolution and its
/// weight are both quantized, the model sums integers, while a float runtime rounds each product
/// and sum: a code that depends on the last bits of such a sum can differ.
///
/// ```
/// use quant_infer::model::Model;
/// use quant_onnx::{Format, ImportOptions, export, import};
/// # use quant_infer::model::{Input, Node, Op};
/// # let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
/// # let model = Model {
/// #     name: "average".into(),
/// #     producer: "example".into(),
/// #     classes: vec!["red".into(), "green".into()],
/// #     input: Input {
/// #         size: [1, 2],
/// #         shorter_side: None,
/// #         scale: vec![0.5; 2],
/// #         shift: vec![0.0; 2],
/// #     },
/// #     nodes: vec![
/// #         node("input", Op::Input, vec![]),
/// #         node("pool", Op::GlobalPool, vec![0]),
/// #     ],
/// # };
///
/// // The bytes of an ONNX file, here of one that this crate writes.
/// let bytes = export(&model, Format::Qonnx)?.bytes;
/// let options = ImportOptions { name: Some("average".into()), ..ImportOptions::default() };
/// let imported = import(&bytes, &options)?;
/// let model: Model = imported.model; // `quant_infer::Network::new` prepares it for running
/// assert_eq!(model.name, "average");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`OnnxError::File`] for damaged files and for those that keep constants in other files,
/// [`OnnxError::Node`] for a node that no layer can compute, and [`OnnxError::Model`] where layers
/// do not fit together or a sum may exceed 32 bits.
pub fn import(bytes: &[u8], options: &ImportOptions) -> Result<Imported, OnnxError> {
    if bytes.len() > MAX_BYTES {
        let problem = format!("has {} bytes, and at most {MAX_BYTES} are read", bytes.len());
        return Err(OnnxError::File(problem));
    }
    if bytes.is_empty() {
        return Err(OnnxError::File("is empty".into()));
    }
    let mut file = ModelProto::decode(bytes).map_err(OnnxError::not_onnx)?;
    if let Some(graph) = &mut file.graph {
        take_in(graph, &options.external)?;
    }
    let Some(graph) = &file.graph else {
        return Err(OnnxError::File("has no graph".into()));
    };
    if !graph.sparse_initializer.is_empty() {
        return Err(OnnxError::File("has sparse constants; write them as dense ones".into()));
    }
    let mut importer = Importer::new(graph, options, &file)?;
    for node in &graph.node {
        let reader = Reader::new(node);
        importer.node(&reader)?;
    }
    importer.finish(graph, options, &file)
}

impl Importer {
    fn new(
        graph: &GraphProto,
        options: &ImportOptions,
        file: &ModelProto,
    ) -> Result<Self, OnnxError> {
        let (mut values, mut kinds) = (BTreeMap::new(), BTreeMap::new());
        for tensor in &graph.initializer {
            let name = tensor.name.clone().unwrap_or_default();
            kinds.insert(name.clone(), tensor.data_type.unwrap_or(0).into());
            values.insert(name, Value::Constant(tensor::read(tensor)?));
        }
        let mut uses: BTreeMap<String, usize> = BTreeMap::new();
        let inputs = graph.node.iter().flat_map(|node| &node.input);
        let outputs = graph.output.iter().filter_map(|output| output.name.as_ref());
        for name in inputs.chain(outputs) {
            *uses.entry(name.clone()).or_default() += 1;
        }
        let is_constant =
            |name: &Option<String>| name.as_ref().is_some_and(|name| values.contains_key(name));
        let inputs: Vec<_> = graph.input.iter().filter(|input| !is_constant(&input.name)).collect();
        let [image] = inputs[..] else {
            let names: Vec<_> = inputs.iter().filter_map(|input| input.name.as_deref()).collect();
            return Err(OnnxError::File(format!(
                "has {} inputs ({}), and must have one, the image",
                names.len(),
                names.join(", ")
            )));
        };
        let name = image.name.clone().unwrap_or_default();
        let of_file = |problem: &str| OnnxError::File(format!("has an input {name} {problem}"));
        let kind = image.kind.as_ref().and_then(|kind| kind.tensor_type.as_ref());
        let kind = kind.ok_or_else(|| of_file("that is no tensor"))?;
        let sides: Vec<Option<usize>> = (kind.shape.iter().flat_map(|shape| &shape.dim))
            .map(|side| side.dim_value.and_then(|side| usize::try_from(side).ok()))
            .map(|side| side.filter(|side| *side > 0))
            .collect();
        let open = "whose size the file leaves open; give the height and the width of images \
                    (`quant pack` has --size for them)";
        // Channels come last where the file moves them to the second dimension first.
        let moved = graph.node.iter().map(Reader::new).any(|node| {
            node.op() == "Transpose"
                && node.optional(0) == Some(&name)
                && node.ints("perm") == Some(&[0, 3, 1, 2])
        });
        let (channels, size, last) = match sides[..] {
            [_, h, w, Some(c)] if moved => (c, [h, w], true),
            [_, Some(c), h, w] => (c, [h, w], false),
            [_, Some(features)] => (features, [Some(1), Some(1)], false),
            _ => {
                return Err(of_file(
                    "that is no image: its shape must be [N, channels, height, width]",
                ));
            }
        };
        let size = match (size, options.size) {
            ([Some(height), Some(width)], None) => [height, width],
            (_, Some(size)) => size,
            _ => return Err(of_file(open)),
        };
        if channels > 1 << 21 || size.iter().any(|side| *side > 1 << 15) {
            return Err(of_file("that is larger than images may be"));
        }
        let bytes = match kind.elem_type {
            Some(data_type::UINT8) => true,
            Some(data_type::FLOAT) => false,
            _ => return Err(of_file("that has neither floats nor bytes")),
        };
        let numbers = |given: &[f64], usual: f64| match given.len() {
            0 => Ok(vec![usual; channels]),
            1 => Ok(vec![given[0]; channels]),
            count if count == channels => Ok(given.to_vec()),
            count => Err(of_file(&format!(
                "of {channels} channels, for which {count} means or deviations are given"
            ))),
        };
        let (mean, std) = (numbers(&options.mean, 0.0)?, numbers(&options.std, 1.0)?);
        let given = !options.mean.is_empty() || !options.std.is_empty();
        if bytes && given {
            return Err(of_file("that has bytes, which the file itself normalises"));
        }
        let shorter_side = metadata(file, "shorter_side").and_then(|side| side.parse().ok());
        let input = if bytes {
            let (scale, shift) = (vec![1.0; channels], vec![0.0; channels]);
            Input { size, shorter_side, scale, shift }
        } else {
            Input { shorter_side, ..Input::normalized(size, &mean, &std) }
        };
        let rank = if sides.len() == 2 { 2 } else { 4 };
        let image = Dynamic {
            rank,
            channels_last: last,
            lazy: bytes.then(Lazy::bytes),
            ..Dynamic::of_node(0, 4)
        };
        values.insert(name, Value::Dynamic(image));
        Ok(Self {
            nodes: vec![Node { name: "image".into(), op: Op::Input, inputs: Vec::new() }],
            shapes: vec![[channels, size[0], size[1]]],
            values,
            uses,
            kinds,
            origins: BTreeMap::new(),
            names: BTreeSet::from(["image".to_owned()]),
            notes: BTreeSet::new(),
            quantized: Vec::new(),
            norms: BTreeMap::new(),
            thresholds: 0,
            input,
        })
    }

    fn finish(
        mut self,
        graph: &GraphProto,
        options: &ImportOptions,
        file: &ModelProto,
    ) -> Result<Imported, OnnxError> {
        let [output] = &graph.output[..] else {
            let problem = format!("has {} outputs, and must have one", graph.output.len());
            return Err(OnnxError::File(problem));
        };
        let name = output.name.clone().unwrap_or_default();
        let at = match self.values.get(&name) {
            Some(Value::Dynamic(_)) => self.materialise(&name)?,
            _ => {
                let problem = format!("has an output {name} that does not depend on the image");
                return Err(OnnxError::File(problem));
            }
        };
        // The last node has the scores.
        if at + 1 != self.nodes.len() {
            let shape = self.shapes[at];
            self.push("scores", Op::Flatten, vec![at], shape);
        }
        let Kept { nodes, quantized, norms } = self.without_unread();
        let classes = metadata(file, "classes")
            .map(|names| names.split('\n').map(str::to_owned).collect())
            .unwrap_or_default();
        let name = match (&options.name, &graph.name) {
            (Some(name), _) | (None, Some(name)) => name.clone(),
            (None, None) => String::new(),
        };
        let maker = [&file.producer_name, &file.producer_version];
        let maker: Vec<&str> = maker.into_iter().flatten().map(String::as_str).collect();
        let producer = format!("{}, by quant-onnx {}", maker.join(" "), env!("CARGO_PKG_VERSION"));
        let model = Model { name, producer, classes, input: self.input, nodes };
        model.check()?;
        let notes = self.notes.into_iter().collect();
        let pixels = pixels(file).filter(|pixels| pixels.scale.len() == model.input.scale.len());
        Ok(Imported { model, notes, quantized, norms, pixels })
    }

    /// Returns the nodes that the last one depends on, and what the first ones do to the image as a
    /// part of the input.
    fn without_unread(&mut self) -> Kept {
        let count = self.nodes.len();
        let mut read = vec![false; count];
        read[count - 1] = true;
        for at in (0..count).rev() {
            if read[at] {
                self.nodes[at].inputs.iter().for_each(|input| read[*input] = true);
            }
        }
        read[0] = true;
        // A network of bytes whose only first step is a factor and a summand.
        let raw = self.input.scale.iter().all(|scale| *scale == 1.0)
            && self.input.shift.iter().all(|shift| *shift == 0.0);
        let readers: Vec<usize> =
            (0..count).filter(|at| read[*at] && self.nodes[*at].inputs.contains(&0)).collect();
        let mut merged = None;
        if let (true, [only]) = (raw, &readers[..]) {
            let channels = self.input.scale.len();
            let found = match &self.nodes[*only].op {
                Op::Affine { scale, shift } => Some((scale.clone(), shift.clone())),
                Op::MulScalar(scale) => Some((vec![*scale; channels], vec![0.0; channels])),
                _ => None,
            };
            if let Some((scale, shift)) = found {
                self.input.scale = scale;
                self.input.shift = shift;
                read[*only] = false;
                merged = Some(*only);
            }
        }
        let mut place = vec![0; count];
        let mut nodes = Vec::new();
        for (at, mut node) in std::mem::take(&mut self.nodes).into_iter().enumerate() {
            if read[at] {
                place[at] = nodes.len();
                node.inputs.iter_mut().for_each(|input| *input = place[*input]);
                nodes.push(node);
            } else if merged == Some(at) {
                place[at] = 0;
            }
        }
        let quantized = std::mem::take(&mut self.quantized);
        let quantized =
            quantized.into_iter().filter(|(at, _)| read[*at]).map(|(at, name)| (place[at], name));
        let norms = std::mem::take(&mut self.norms).into_iter();
        let norms = norms.filter(|(at, _)| read[*at]).map(|(at, norm)| (place[at], norm));
        Kept { nodes, quantized: quantized.collect(), norms: norms.collect() }
    }
}

/// The nodes that the last one depends on, with what is known of them by their index.
struct Kept {
    nodes: Vec<Node>,
    quantized: Vec<(usize, String)>,
    norms: Vec<(usize, BatchNorm)>,
}

/// Returns how the file says that bytes become the numbers of images.
fn pixels(file: &ModelProto) -> Option<Pixels> {
    let numbers = |key: &str| -> Option<Vec<f32>> {
        let numbers = metadata(file, key)?.split_whitespace().map(str::parse::<f32>);
        let numbers: Vec<f32> = numbers.collect::<Result<_, _>>().ok()?;
        numbers.iter().all(|number| number.is_finite()).then_some(numbers)
    };
    let [scale, shift] = Pixels::ENTRIES.map(numbers);
    let (scale, shift) = (scale?, shift?);
    (scale.len() == shift.len()).then_some(Pixels { scale, shift })
}

/// Returns an entry of the file's metadata.
fn metadata<'a>(file: &'a ModelProto, key: &str) -> Option<&'a str> {
    let entry = file.metadata_props.iter().find(|entry| entry.key.as_deref() == Some(key))?;
    entry.value.as_deref()
}

#[cfg(test)]
mod tests;
