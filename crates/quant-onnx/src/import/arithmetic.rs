//! Steps of arithmetic on values that depend on the image, and the nodes that they become.

use quant_infer::model::Op;

use super::{
    convolution::{has_unit_scales, set_scales},
    dynamic::Dynamic,
    importer::{Importer, Value},
    lazy::Step,
    node::Reader,
    quantizers::MAX_THRESHOLDS,
};
use crate::{OnnxError, tensor::Constant};

/// The most groups of channels that a quantizer gets by a step whose numbers differ between
/// channels. A convolution has a sum of its own for each group.
const MOST_GROUPS: usize = 16;

impl Importer {
    /// Returns the value of an input that depends on the image.
    pub(super) fn dynamic(&self, node: &Reader<'_>, at: usize) -> Result<Dynamic, OnnxError> {
        let name = node.input(at)?;
        match self.values.get(name) {
            Some(Value::Dynamic(value)) => Ok(value.clone()),
            Some(Value::Constant(_)) => {
                Err(node.error(format!("reads the constant {name} where it must read the image")))
            }
            None => Err(node.error(format!("reads {name}, which no node before it computes"))),
        }
    }

    /// Returns the channels of a value.
    pub(super) fn channels(&self, value: &Dynamic) -> usize {
        self.shapes[value.node][0]
    }

    /// Adds nodes for everything about a tensor that is no node yet, and returns the last one.
    pub(super) fn materialise(&mut self, tensor: &str) -> Result<usize, OnnxError> {
        let Some(Value::Dynamic(value)) = self.values.get(tensor).cloned() else {
            let problem = format!("has a tensor {tensor} that does not depend on the image");
            return Err(OnnxError::File(problem));
        };
        if value.is_plain() {
            return Ok(value.node);
        }
        let problem = |problem: String| OnnxError::Node {
            node: tensor.to_owned(),
            op: "tensor".to_owned(),
            problem,
        };
        if value.rank == 5 {
            return Err(problem("has a fifth dimension, which only thresholds may have".into()));
        }
        if value.squares.is_some() {
            return Err(problem(
                "is read between the steps by which squares become channels".into(),
            ));
        }
        if value.grouped.is_some() {
            return Err(problem("is read between the steps of a norm of groups".into()));
        }
        let mut node = value.node;
        let mut shape = self.shapes[node];
        if value.pad != [0; 4] {
            let rows = value.pad[0];
            if value.pad != [rows; 4] {
                return Err(problem(format!(
                    "has zeros of the widths {:?} above, left, below and right, which must be \
                     equal, or be read by a convolution, if need be through a quantizer",
                    value.pad
                )));
            }
            let grown = |side: usize| side.saturating_add(2 * rows);
            shape = [shape[0], grown(shape[1]), grown(shape[2])];
            node = self.push(&format!("{tensor}: pad"), Op::Pad(rows), vec![node], shape);
        }
        for step in &value.steps {
            node = self.step(tensor, node, step)?;
        }
        if let Some(lazy) = &value.lazy {
            if !lazy.rises() {
                return Err(problem(
                    "has values that fall while the input of their quantizer rises; only a \
                     convolution of integers can read them"
                        .into(),
                ));
            }
            let quantizer = Op::Quantize(Box::new(lazy.quantizer(false)));
            node = self.push(tensor, quantizer, vec![node], shape);
            self.quantized.push((node, tensor.to_owned()));
        }
        let plain =
            Dynamic { channels_last: value.channels_last, ..Dynamic::of_node(node, value.rank) };
        self.values.insert(tensor.to_owned(), Value::Dynamic(plain));
        Ok(node)
    }

    /// Adds a node for a step of arithmetic.
    fn step(&mut self, tensor: &str, node: usize, step: &Step) -> Result<usize, OnnxError> {
        let shape = self.shapes[node];
        let channels = shape[0];
        let op = match step {
            Step::Add(numbers) if numbers.len() == 1 => Op::AddScalar(numbers[0]),
            Step::Add(numbers) => Op::Affine { scale: vec![1.0; channels], shift: numbers.clone() },
            Step::Mul(numbers) if numbers.len() == 1 => Op::MulScalar(numbers[0]),
            Step::Mul(numbers) => Op::Affine { scale: numbers.clone(), shift: vec![0.0; channels] },
            Step::Div(numbers) => {
                let inverse: Vec<f32> = numbers.iter().map(|number| 1.0 / number).collect();
                if inverse.iter().zip(numbers).any(|(inverse, number)| 1.0 / inverse != *number)
                    || numbers.iter().any(|number| number.to_bits() & 0x7f_ffff != 0)
                {
                    self.notes.insert(format!(
                        "{tensor}: a division became a multiplication by the inverse, whose result \
                         may differ by a unit in the last place"
                    ));
                }
                return self.step(tensor, node, &Step::Mul(inverse));
            }
            Step::Clip(lowest, highest) => match (*lowest, *highest) {
                (0.0, highest) if highest >= f32::MAX => Op::Relu,
                (0.0, 6.0) => Op::Relu6,
                (lowest, highest) => {
                    return Err(OnnxError::Node {
                        node: tensor.to_owned(),
                        op: "Clip".to_owned(),
                        problem: format!(
                            "limits numbers to {lowest} to {highest}; a limit other than 0 and 6 \
                             can only be read if a quantizer follows it"
                        ),
                    });
                }
            },
        };
        Ok(self.push(tensor, op, vec![node], shape))
    }

    /// Returns a constant as one number for all channels of a value, or one for each.
    pub(super) fn by_channel(&self, constant: &Constant, value: &Dynamic) -> Option<Vec<f32>> {
        let numbers = constant.floats();
        if numbers.len() == 1 {
            return Some(numbers);
        }
        let channels = self.channels(value);
        let after = if value.rank == 4 && !value.channels_last { 2 } else { 0 };
        let dims = &constant.dims;
        let axis = dims.len().checked_sub(1 + after)?;
        let one = |(at, side): (usize, &usize)| at == axis || *side == 1;
        let fits = dims[axis] == channels && dims.iter().enumerate().all(one);
        fits.then_some(numbers)
    }

    /// Applies a step of arithmetic to a value. `tensor` is the name that the value has so far.
    pub(super) fn apply(
        &mut self,
        tensor: &str,
        mut value: Dynamic,
        step: Step,
    ) -> Result<Dynamic, OnnxError> {
        if let Some(lazy) = &value.lazy
            && !lazy.identity
            && step.rises()
            && step.channels().saturating_mul(lazy.levels) <= MAX_THRESHOLDS
        {
            let mapped = lazy.map(&step);
            if step.channels() == 1 || mapped.groups <= MOST_GROUPS {
                value.lazy = Some(mapped);
                return Ok(value);
            }
        }
        if let (Some(lazy), Step::Add(numbers)) = (&value.lazy, &step)
            && !lazy.identity
            && numbers.len().saturating_mul(lazy.levels) <= MAX_THRESHOLDS
            && let Some(moved) = lazy.moved(numbers)
        {
            value.lazy = Some(moved);
            return Ok(value);
        }
        if value.lazy.as_ref().is_some_and(|lazy| !lazy.identity) {
            let node = self.materialise(tensor)?;
            value = Dynamic {
                channels_last: value.channels_last,
                ..Dynamic::of_node(node, value.rank)
            };
        }
        value.lazy = None;
        let once = self.read_once(tensor);
        let node = value.node;
        let first = value.steps.is_empty() && value.pad == [0; 4];
        if first
            && once
            && let Some(folded) = self.fold(node, &step)
        {
            return Ok(Dynamic { node: folded, ..value });
        }
        // A factor becomes a node. All other steps wait: a quantizer that follows takes them into
        // its thresholds, which a division and a limit need, because a model has neither.
        if first && matches!(step, Step::Mul(_)) {
            let node = self.step(&format!("{tensor}: factor"), node, &step)?;
            return Ok(Dynamic { node, ..value });
        }
        value.steps.push(step);
        Ok(value)
    }

    /// Makes a step a part of the node before it, which nothing else reads.
    fn fold(&mut self, node: usize, step: &Step) -> Option<usize> {
        let channels = self.shapes[node][0];
        let spread = |numbers: &[f32]| -> Vec<f32> {
            if numbers.len() == 1 { vec![numbers[0]; channels] } else { numbers.to_vec() }
        };
        match (step, &mut self.nodes[node].op) {
            (Step::Mul(numbers), Op::Conv(conv))
                if has_unit_scales(conv) && numbers.iter().all(|x| *x != 0.0) =>
            {
                set_scales(conv, &spread(numbers));
                Some(node)
            }
            (Step::Add(numbers), Op::Conv(conv)) if conv.bias.is_none() => {
                conv.bias = Some(spread(numbers));
                Some(node)
            }
            (Step::Add(numbers), Op::Affine { shift, .. }) if shift.iter().all(|x| *x == 0.0) => {
                *shift = spread(numbers);
                Some(node)
            }
            (Step::Add(numbers), op) => {
                let Op::MulScalar(factor) = *op else { return None };
                *op = Op::Affine { scale: vec![factor; channels], shift: spread(numbers) };
                Some(node)
            }
            _ => None,
        }
    }
}
