//! The operations of a model.

use quant_infer::model::{Conv, Model, Op};

use super::operation::{Geometry, Kind, Operation, used};

/// Where the numbers of an operation are in a model.
#[derive(Debug, Clone, Default)]
pub(super) struct ModelNodes {
    /// The nodes; of a convolution that is a sum of convolutions of planes, all of them.
    pub(super) nodes: Vec<usize>,
    /// The quantizer of a convolution's output.
    pub(super) output: Option<usize>,
    /// Of a norm that only adds a convolution's bias, that convolution.
    pub(super) bias_of: Option<usize>,
    /// Of a linear layer, the node that adds its bias.
    pub(super) bias: Option<usize>,
}

/// The operations of a model in execution order. The last one gives the scores.
#[derive(Debug)]
pub(super) struct ModelOperations {
    pub(super) operations: Vec<Operation<ModelNodes>>,
    /// The quantizers that were left out.
    pub(super) left_out: Vec<String>,
}

/// Takes a model apart. With `leave_out`, quantizers that no convolution reads are left out.
pub(super) fn of_model(
    model: &Model,
    leave_out: bool,
) -> Result<ModelOperations, quant_infer::Error> {
    let shapes = model.shapes(model.input.size)?;
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); model.nodes.len()];
    for (at, node) in model.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|input| readers[*input].push(at));
    }
    let mut operations: Vec<Operation<ModelNodes>> = Vec::new();
    let mut operation_of: Vec<usize> = Vec::with_capacity(model.nodes.len());
    let mut left_out = Vec::new();
    for (at, node) in model.nodes.iter().enumerate() {
        let inputs: Vec<usize> = node.inputs.iter().map(|input| operation_of[*input]).collect();
        let first = inputs.first().copied().unwrap_or(0);
        let kind = match &node.op {
            Op::Flatten if shapes[node.inputs[0]][1..] == [1, 1] => {
                operation_of.push(first);
                continue;
            }
            Op::Quantize(_) => match &mut operations[first] {
                Operation { kind: Kind::Conv(_), source, .. }
                    if source.output.is_none() && readers[node.inputs[0]].len() == 1 =>
                {
                    source.output = Some(at);
                    operation_of.push(first);
                    continue;
                }
                _ if leave_out => {
                    left_out.push(node.name.clone());
                    operation_of.push(first);
                    continue;
                }
                _ => Kind::Quantize,
            },
            Op::Add => {
                if let Some((planes, geometry)) = planes(model, &readers, at) {
                    let source = model.nodes[planes[0]].inputs[0];
                    let parts = ModelNodes { nodes: planes, ..ModelNodes::default() };
                    let kind = Kind::Conv(geometry);
                    operations.push(Operation {
                        kind,
                        inputs: vec![operation_of[source]],
                        source: parts,
                    });
                    operation_of.push(operations.len() - 1);
                    continue;
                }
                Kind::Add
            }
            Op::Concatenate if inputs.iter().all(|input| *input == first) => {
                Kind::Repeat(inputs.len())
            }
            // The bias of a linear layer that is a sum of planes.
            Op::Affine { scale, .. }
                if at + 1 == model.nodes.len()
                    && scale.iter().all(|scale| *scale == 1.0)
                    && shapes[at][1..] == [1, 1]
                    && matches!(operations[first].kind, Kind::Conv(_))
                    && operations[first].source.nodes.len() > 1 =>
            {
                operations[first].source.bias = Some(at);
                operation_of.push(first);
                continue;
            }
            op => kind(op),
        };
        let is_conv = matches!(kind, Kind::Conv(_));
        let parts = ModelNodes { nodes: vec![at], ..ModelNodes::default() };
        let inputs = if matches!(kind, Kind::Repeat(_)) { vec![first] } else { inputs };
        operations.push(Operation { kind, inputs, source: parts });
        let mut last = operations.len() - 1;
        if let (true, Op::Conv(conv)) = (is_conv, &node.op)
            && conv.bias.is_some()
        {
            if shapes[at][1..] == [1, 1] && readers[at].is_empty() {
                // The last layer is linear and has a bias.
                operations[last].source.bias = Some(at);
            } else {
                let parts = ModelNodes { bias_of: Some(at), ..ModelNodes::default() };
                operations.push(Operation { kind: Kind::Norm, inputs: vec![last], source: parts });
                last += 1;
            }
        }
        operation_of.push(last);
    }
    let last = operation_of.last().copied().unwrap_or(0);
    operations.truncate(last + 1);
    Ok(ModelOperations { operations: used(operations), left_out })
}

fn kind(op: &Op) -> Kind {
    match op {
        Op::Input => Kind::Image,
        Op::Conv(conv) => Kind::Conv(Geometry::of(conv)),
        Op::Quantize(_) => Kind::Quantize,
        Op::Affine { .. } => Kind::Norm,
        Op::AddScalar(_) => Kind::AddNumber,
        Op::MulScalar(_) => Kind::MulNumber,
        Op::Relu => Kind::Relu,
        Op::Relu6 => Kind::Relu6,
        Op::LeakyRelu(0.01) => Kind::LeakyRelu,
        Op::LeakyRelu(_) => Kind::PRelu,
        Op::RPRelu { .. } => Kind::RPRelu,
        Op::GroupNorm(groups) => Kind::GroupNorm(*groups),
        Op::AveragePool(side) => Kind::AveragePool(*side),
        Op::MaxPool(pool) => Kind::MaxPool([pool.kernel, pool.stride, pool.padding], pool.ceil),
        Op::GlobalPool => Kind::GlobalPool,
        Op::SpaceToDepth(side) => Kind::SpaceToDepth(*side),
        Op::DepthToSpace(side) => Kind::DepthToSpace(*side),
        Op::Pad(width) => Kind::Pad(*width),
        Op::Repeat(times) => Kind::Repeat(*times),
        Op::Concatenate => Kind::Concatenate,
        Op::Add => Kind::Add,
        Op::Flatten => Kind::Flatten,
    }
}

/// Returns the convolutions whose sum a node is, if they are planes of one convolution: they have
/// the same shape, read the same codes of the same value, and only this sum reads them.
fn planes(model: &Model, readers: &[Vec<usize>], sum: usize) -> Option<(Vec<usize>, Geometry)> {
    // A sum that another sum of planes reads is a part of that.
    let mut planes = Vec::new();
    let mut waiting = vec![sum];
    while let Some(at) = waiting.pop() {
        let node = &model.nodes[at];
        match &node.op {
            Op::Add if at == sum || readers[at].len() == 1 => {
                waiting.extend(node.inputs.iter().rev());
            }
            Op::Conv(conv) if readers[at].len() == 1 && conv.bias.is_none() => planes.push(at),
            _ => return None,
        }
    }
    let conv = |at: &usize| match &model.nodes[*at].op {
        Op::Conv(conv) => conv.integer_terms().map(|_| conv),
        _ => None,
    };
    let first = conv(planes.first()?)?;
    let same = |at: &usize| {
        let Some(other) = conv(at) else { return false };
        let thresholds = |conv: &Conv| conv.quantizer.as_ref().map(|q| q.thresholds.clone());
        Geometry::of(other) == Geometry::of(first)
            && other.pads_codes == first.pads_codes
            && thresholds(other) == thresholds(first)
            && model.nodes[*at].inputs == model.nodes[planes[0]].inputs
    };
    let geometry = Geometry::of(first);
    (planes.len() > 1 && planes.iter().all(same)).then_some((planes, geometry))
}
