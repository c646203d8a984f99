//! Functions of each number: limits, arithmetic, norms and activation functions.

use quant_infer::model::Op;

use super::{
    BatchNorm,
    dynamic::Dynamic,
    importer::{Importer, Value},
    lazy::{Lazy, Step},
    node::Reader,
};
use crate::{OnnxError, proto::data_type};

impl Importer {
    pub(super) fn clip(
        &mut self,
        tensor: &str,
        x: Dynamic,
        lowest: f32,
        highest: f32,
    ) -> Result<Dynamic, OnnxError> {
        let waits = x.lazy.as_ref().is_some_and(|lazy| !lazy.identity);
        let usual = lowest == 0.0 && (highest >= f32::MAX || highest == 6.0);
        if waits || !usual {
            return self.apply(tensor, x, Step::Clip(lowest, highest));
        }
        let op = if highest == 6.0 { Op::Relu6 } else { Op::Relu };
        let source = self.materialise(tensor)?;
        let shape = self.shapes[source];
        let at = self.push(&format!("{tensor}: relu"), op, vec![source], shape);
        Ok(Dynamic { channels_last: x.channels_last, ..Dynamic::of_node(at, x.rank) })
    }

    /// Returns the limits of a `Clip`.
    pub(super) fn limits(&self, node: &Reader<'_>) -> Result<(f32, f32), OnnxError> {
        let limit = |at: usize, name: &str, usual: f32| -> Result<f32, OnnxError> {
            if node.optional(at).is_none() {
                return Ok(node.float(name, usual));
            }
            let number = self.constant(node, at)?.single();
            number.ok_or_else(|| node.error("has a limit that is no single number"))
        };
        Ok((limit(1, "min", f32::NEG_INFINITY)?, limit(2, "max", f32::INFINITY)?))
    }

    /// `Round` after a limit to integers: a quantizer.
    pub(super) fn round(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        if let Some(lazy) = x.lazy.as_ref().filter(|lazy| !lazy.identity) {
            let lazy = lazy.clone();
            let table = lazy.table.iter().map(|value| value.round_ties_even()).collect();
            let lazy = Lazy::new(lazy.groups, lazy.levels, lazy.thresholds, table);
            return Ok(Dynamic { lazy: Some(lazy), ..x });
        }
        let Some(Step::Clip(lowest, highest)) = x.steps.last().cloned() else {
            return Err(node.error("rounds numbers that no Clip before it limits"));
        };
        let levels = highest - lowest + 1.0;
        if !(2.0..=256.0).contains(&levels) || levels.fract() != 0.0 || lowest.fract() != 0.0 {
            return Err(node.error(format!("rounds numbers from {lowest} to {highest}")));
        }
        let code = |x: f32, _| x.round_ties_even() - lowest;
        self.quantize(node, levels as usize, 1, code, |code, _| code as f32 + lowest)
    }

    pub(super) fn cast(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let to = i32::try_from(node.int("to", 1)).unwrap_or(0);
        let whole = x.lazy.as_ref().is_some_and(|lazy| {
            lazy.table.iter().all(|value| value.fract() == 0.0 && value.abs() < 32768.0)
        });
        let fits = match to {
            data_type::FLOAT => true,
            data_type::INT32 | data_type::INT64 | data_type::DOUBLE => whole,
            data_type::UINT8 => {
                whole
                    && x.lazy.as_ref().is_some_and(|lazy| {
                        lazy.table.iter().all(|value| (0.0..256.0).contains(value))
                    })
            }
            _ => false,
        };
        if fits {
            Ok(x)
        } else {
            Err(node.error("changes the type of numbers, which only the codes of a quantizer keep"))
        }
    }

    /// Additions and multiplications, with constants or of two values.
    pub(super) fn arithmetic(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let names: Vec<String> = node.inputs().to_vec();
        let is_constant = |name: &String| matches!(self.values.get(name), Some(Value::Constant(_)));
        let constants = names.iter().filter(|name| is_constant(name)).count();
        if constants == 0 {
            return match node.op() {
                "Add" | "Sum" => self.sum(node, &names),
                _ => Err(node.error(
                    "combines two values that depend on the image; only their sum can be packed",
                )),
            };
        }
        let [a, b] = &names[..] else {
            return Err(node.error("adds constants and values, one of which can be read"));
        };
        let (at, tensor) = if is_constant(a) { (0, b) } else { (1, a) };
        let constant = self.constant(node, at)?.clone();
        let Some(Value::Dynamic(x)) = self.values.get(tensor).cloned() else {
            return Err(node.error(format!("reads {tensor}, which is not there")));
        };
        let numbers = self.by_channel(&constant, &x).ok_or_else(|| {
            node.error(format!(
                "has a constant of the shape {:?}, and must have one number, or one for each of {} \
                 channels",
                constant.dims,
                self.channels(&x)
            ))
        })?;
        let step = match (node.op(), at) {
            ("Add" | "Sum", _) => Step::Add(numbers),
            ("Sub", 1) => Step::Add(numbers.into_iter().map(|number| -number).collect()),
            ("Sub", _) => {
                let x = self.apply(tensor, x, Step::Mul(vec![-1.0]))?;
                // Nothing else reads what the first step gives.
                let hidden = format!("{}: negated", node.name());
                self.values.insert(hidden.clone(), Value::Dynamic(x.clone()));
                return self.apply(&hidden, x, Step::Add(numbers));
            }
            ("Mul", _) => Step::Mul(numbers),
            ("Div", 1) => Step::Div(numbers),
            _ => return Err(node.error("divides a constant by a value that depends on the image")),
        };
        self.apply(tensor, x, step)
    }

    pub(super) fn sum(
        &mut self,
        node: &Reader<'_>,
        names: &[String],
    ) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let mut sources = Vec::with_capacity(names.len());
        for (at, name) in names.iter().enumerate() {
            let rank = self.dynamic(node, at)?.rank;
            let source = self.materialise(name)?;
            if rank != x.rank
                || self.shapes[source] != self.shapes[*sources.first().unwrap_or(&source)]
            {
                return Err(node.error("adds values of different shapes"));
            }
            sources.push(source);
        }
        let shape = self.shapes[sources[0]];
        let at = self.push(node.name(), Op::Add, sources, shape);
        Ok(Dynamic { channels_last: x.channels_last, ..Dynamic::of_node(at, x.rank) })
    }

    pub(super) fn prelu(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let slopes = self.constant(node, 1)?.clone();
        let channels = self.channels(&x);
        // A list of slopes is one for each channel in networks that PyTorch wrote.
        let numbers = match slopes.dims[..] {
            [count] if count == channels && x.rank == 4 => Some(slopes.floats()),
            _ => self.by_channel(&slopes, &x),
        };
        let numbers =
            numbers.ok_or_else(|| node.error("has slopes that are not one for each channel"))?;
        if numbers.iter().all(|slope| *slope == numbers[0]) {
            return self.simple(node, Op::LeakyRelu(numbers[0]));
        }
        let zeros = || vec![0.0; channels];
        self.simple(node, Op::RPRelu { before: zeros(), slope: numbers, after: zeros() })
    }

    pub(super) fn batch_norm(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let channels = self.channels(&x);
        let mut lists = Vec::new();
        for at in 1..5 {
            let numbers = self.constant(node, at)?.floats();
            if numbers.len() != channels {
                return Err(
                    node.error(format!("has {} numbers for {channels} channels", numbers.len()))
                );
            }
            lists.push(numbers);
        }
        let epsilon = node.float("epsilon", 1e-5);
        // As ONNX Runtime computes it.
        let scale: Vec<f32> =
            (0..channels).map(|c| lists[0][c] / (lists[3][c] + epsilon).sqrt()).collect();
        let shift: Vec<f32> = (0..channels).map(|c| lists[1][c] - lists[2][c] * scale[c]).collect();
        let normed = self.simple(node, Op::Affine { scale, shift })?;
        if let Ok([weight, bias, mean, mut variance]) = <[Vec<f32>; 4]>::try_from(lists) {
            variance.iter_mut().for_each(|variance| *variance += epsilon - 1e-5);
            self.norms.insert(normed.node, BatchNorm { weight, bias, mean, variance });
        }
        Ok(normed)
    }
}
