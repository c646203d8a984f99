//! Nodes that depend on the image, by operator.

use quant_infer::model::{Op, Pool};

use super::{
    BatchNorm, Importer, Value,
    constants::reshape,
    dynamic::Dynamic,
    lazy::{Lazy, Step},
    node::Reader,
};
use crate::{OnnxError, export::QONNX, proto::data_type, tensor::Constant};

/// Other names of the domain of QONNX's operators.
const DOMAINS: [&str; 4] = ["", "ai.onnx", QONNX, "onnx.brevitas"];

impl Importer {
    /// Reads a node.
    pub(super) fn node(&mut self, node: &Reader<'_>) -> Result<(), OnnxError> {
        let finn = node.domain().starts_with("finn.custom_op");
        if !DOMAINS.contains(&node.domain()) && !finn {
            return Err(node.error(format!(
                "is of the domain {}; the operators of ONNX and of {QONNX} are known",
                node.domain()
            )));
        }
        for name in node.inputs().iter().filter(|name| !name.is_empty()) {
            if !self.values.contains_key(name) {
                return Err(node.error(format!("reads {name}, which no node before it computes")));
            }
        }
        let output = node.output().to_owned();
        if self.values.contains_key(&output) {
            return Err(node.error(format!("computes {output}, which is there already")));
        }
        let value = if node.op() == "Shape" && !self.is_constant(node) {
            let x = self.dynamic(node, 0)?;
            let [channels, height, width] = self.shapes[x.node].map(|side| side as i64);
            let sides =
                if x.rank == 2 { vec![1, channels] } else { vec![1, channels, height, width] };
            Value::Constant(Constant::integers(sides))
        } else if self.is_constant(node) {
            if let Some(tensor) = node.tensor("value") {
                self.kinds.insert(output.clone(), tensor.data_type.unwrap_or(0).into());
            }
            if let Some(name) = node.optional(0) {
                self.origins.insert(output.clone(), name.to_owned());
                if let Some(kind) = self.kinds.get(name).copied() {
                    self.kinds.insert(output.clone(), kind);
                }
            }
            Value::Constant(self.fold_constants(node)?)
        } else {
            Value::Dynamic(self.layer(node)?)
        };
        self.values.insert(output, value);
        Ok(())
    }

    fn layer(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        match node.op() {
            "Conv" => self.convolution(node),
            "MatMul" | "Gemm" => self.linear_layer(node),
            "Quant" | "IntQuant" => self.quant(node),
            "BipolarQuant" => self.bipolar(node),
            "Trunc" => self.trunc(node),
            "MultiThreshold" => self.multi_threshold(node),
            "Sign" => self.sign(node),
            "QuantizeLinear" => self.quantize_linear(node),
            "DequantizeLinear" => self.dequantize_linear(node),
            "Gather" => self.look_up(node),
            "Round" => self.round(node),
            "GreaterOrEqual" => self.at_least(node),
            "Unsqueeze" => {
                let x = self.dynamic(node, 0)?;
                let axes = self.constant(node, 1)?.whole();
                if axes != [4] || x.rank != 4 {
                    return Err(node.error("adds a dimension for anything but thresholds"));
                }
                if x.steps.iter().all(Step::rises) {
                    return Ok(Dynamic { rank: 5, ..x });
                }
                let source = self.materialise(node.input(0)?)?;
                Ok(Dynamic::of_node(source, 5))
            }
            "ReduceSum" => {
                let x = self.dynamic(node, 0)?;
                let axes = self.constant(node, 1)?.whole();
                if axes != [4] || x.rank != 5 || x.lazy.is_none() || node.int("keepdims", 1) != 0 {
                    return Err(node.error("sums anything but comparisons with thresholds"));
                }
                Ok(Dynamic { rank: 4, ..x })
            }
            "Identity" | "Dropout" => self.dynamic(node, 0),
            "Cast" => self.cast(node),
            "Add" | "Sub" | "Mul" | "Div" | "Sum" => self.arithmetic(node),
            "Neg" => {
                let x = self.dynamic(node, 0)?;
                self.apply(node.input(0)?, x, Step::Mul(vec![-1.0]))
            }
            "Clip" => {
                let (lowest, highest) = self.limits(node)?;
                let x = self.dynamic(node, 0)?;
                self.clip(node.input(0)?, x, lowest, highest)
            }
            "HardTanh" => {
                let x = self.dynamic(node, 0)?;
                let limits = (node.float("min_val", -1.0), node.float("max_val", 1.0));
                self.clip(node.input(0)?, x, limits.0, limits.1)
            }
            "Relu" => {
                let x = self.dynamic(node, 0)?;
                self.clip(node.input(0)?, x, 0.0, f32::INFINITY)
            }
            "LeakyRelu" => {
                let slope = node.float("alpha", 0.01);
                self.simple(node, Op::LeakyRelu(slope))
            }
            "PRelu" => self.prelu(node),
            "BatchNormalization" => self.batch_norm(node),
            "MaxPool" => self.max_pool(node),
            "AveragePool" => self.average_pool(node),
            "GlobalAveragePool" => self.global_pool(node, 4),
            "ReduceMean" => self.reduce_mean(node),
            "Flatten" => {
                if node.int("axis", 1) != 1 {
                    return Err(node.error("has an axis other than 1"));
                }
                self.flatten(node)
            }
            "Reshape" => self.reshape(node),
            "Squeeze" => self.flatten(node),
            "Transpose" => self.transpose(node),
            "Pad" => self.zeros(node),
            "Concat" => self.concatenate(node),
            "DepthToSpace" => self.depth_to_space(node),
            "Softmax" | "LogSoftmax" => {
                self.notes.insert(format!(
                    "{}: {} was left out; it does not change which class is the best",
                    node.name(),
                    node.op()
                ));
                self.dynamic(node, 0)
            }
            _ => Err(node
                .error("is no operator that can be packed; docs/exchange.md lists those that can")),
        }
    }

    /// Adds a node that keeps the shape.
    fn simple(&mut self, node: &Reader<'_>, op: Op) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let source = self.materialise(node.input(0)?)?;
        let shape = self.shapes[source];
        let at = self.push(node.name(), op, vec![source], shape);
        Ok(Dynamic { channels_last: x.channels_last, ..Dynamic::of_node(at, x.rank) })
    }

    fn clip(
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
    fn round(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
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

    fn cast(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
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
    fn arithmetic(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
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

    fn sum(&mut self, node: &Reader<'_>, names: &[String]) -> Result<Dynamic, OnnxError> {
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

    fn prelu(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
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

    fn batch_norm(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
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

    fn max_pool(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let kernel = node.pair("kernel_shape", 0)?;
        let stride = node.pair("strides", 1)?;
        if node.pair("dilations", 1)? != [1, 1] || kernel[0] != kernel[1] || stride[0] != stride[1]
        {
            return Err(node.error("is not square, or dilated"));
        }
        if x.rank != 4 || kernel[0] == 0 || stride[0] == 0 {
            return Err(node.error("has no sides"));
        }
        // A maximum of values is the value of the maximum, because values rise.
        let commutes = x.pad == [0, 0]
            && x.squares.is_none()
            && x.steps.iter().all(Step::rises)
            && x.lazy.as_ref().is_none_or(Lazy::rises);
        let source = if commutes { x.node } else { self.materialise(node.input(0)?)? };
        let from = self.shapes[source];
        let padding = self.padding(node, [from[1], from[2]], kernel, stride)?;
        if padding[0] != padding[1] {
            return Err(node.error("pads rows and columns differently"));
        }
        let pool = Pool {
            kernel: kernel[0],
            stride: stride[0],
            padding: padding[0],
            ceil: node.int("ceil_mode", 0) != 0,
        };
        let along = |size: usize| -> Option<usize> {
            let room = (size + 2 * pool.padding).checked_sub(pool.kernel)?;
            let count = if pool.ceil { room.div_ceil(pool.stride) } else { room / pool.stride } + 1;
            let beyond = (count - 1) * pool.stride >= size + pool.padding;
            Some(if pool.ceil && beyond { count - 1 } else { count })
        };
        let (Some(height), Some(width)) = (along(from[1]), along(from[2])) else {
            return Err(node.error(format!("is larger than its input, {} x {}", from[1], from[2])));
        };
        let shape = [from[0], height, width];
        let at = self.push(node.name(), Op::MaxPool(pool), vec![source], shape);
        let mut pooled = Dynamic { channels_last: x.channels_last, ..Dynamic::of_node(at, 4) };
        if commutes {
            pooled.steps = x.steps;
            // The image's bytes are values of the node, and so are their maxima.
            pooled.lazy = x.lazy;
        }
        Ok(pooled)
    }

    fn average_pool(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let source = self.materialise(node.input(0)?)?;
        let from = self.shapes[source];
        let kernel = node.pair("kernel_shape", 0)?;
        let stride = node.pair("strides", 1)?;
        let padding = self.padding(node, [from[1], from[2]], kernel, stride)?;
        if padding != [0, 0] || x.rank != 4 {
            return Err(node.error("pads its input, which an average cannot"));
        }
        if kernel == [from[1], from[2]] {
            return self.global_pool(node, 4);
        }
        let side = kernel[0];
        if side == 0 || kernel[1] != side || stride != kernel || node.int("ceil_mode", 0) != 0 {
            return Err(node.error(format!(
                "averages {kernel:?} with the stride {stride:?}; squares whose side is the stride \
                 can be packed"
            )));
        }
        let shape = [from[0], from[1] / side, from[2] / side];
        let at = self.push(node.name(), Op::AveragePool(side), vec![source], shape);
        Ok(Dynamic::of_node(at, 4))
    }

    fn global_pool(&mut self, node: &Reader<'_>, rank: usize) -> Result<Dynamic, OnnxError> {
        let source = self.materialise(node.input(0)?)?;
        let shape = [self.shapes[source][0], 1, 1];
        let at = self.push(node.name(), Op::GlobalPool, vec![source], shape);
        Ok(Dynamic::of_node(at, rank))
    }

    fn reduce_mean(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let axes = match node.ints("axes") {
            Some(axes) => axes.to_vec(),
            None if node.optional(1).is_some() => self.constant(node, 1)?.whole(),
            None => Vec::new(),
        };
        let x = self.dynamic(node, 0)?;
        let mut axes: Vec<i64> = axes
            .iter()
            .map(|axis| if *axis < 0 { axis.saturating_add(4) } else { *axis })
            .collect();
        axes.sort_unstable();
        if axes != [2, 3] || x.rank != 4 || x.channels_last {
            return Err(node.error("averages other dimensions than the height and the width"));
        }
        self.global_pool(node, if node.int("keepdims", 1) == 1 { 4 } else { 2 })
    }

    fn flatten(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let [_, height, width] = self.shapes[x.node];
        if x.rank == 2 {
            return Ok(x);
        }
        if x.channels_last && [height, width] != [1, 1] {
            return Err(node.error("flattens channels in the last dimension"));
        }
        if [height, width] == [1, 1] && x.pad == [0, 0] {
            return Ok(Dynamic { rank: 2, channels_last: false, ..x });
        }
        if node.op() == "Squeeze" {
            return Err(node.error("leaves out the height and the width, which are not 1"));
        }
        // Features keep the group of their channel, if each step is the same for all channels.
        let keeps = x.pad == [0, 0]
            && x.squares.is_none()
            && x.steps.iter().all(|step| step.channels() == 1);
        let source = if keeps { x.node } else { self.materialise(node.input(0)?)? };
        let features = self.shapes[source].iter().product();
        let at = self.push(node.name(), Op::Flatten, vec![source], [features, 1, 1]);
        let mut flat = Dynamic::of_node(at, 2);
        if keeps {
            flat.steps = x.steps;
            flat.lazy = x.lazy;
        }
        Ok(flat)
    }

    fn reshape(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let mut x = self.dynamic(node, 0)?;
        let to = self.constant(node, 1)?.whole();
        let [channels, height, width] = self.shapes[x.node];
        let from = match (x.squares, x.rank) {
            (Some((side, true)), _) => {
                let shape = [1, channels, side, side, height / side, width / side];
                shape.to_vec()
            }
            (_, 2) => vec![1, channels],
            _ => vec![1, channels, height + 2 * x.pad[0], width + 2 * x.pad[1]],
        };
        let allow = node.int("allowzero", 0) == 1;
        let dims = reshape(&from, &to, allow).filter(|dims| dims.first() == Some(&1));
        let Some(dims) = dims else {
            return Err(node.error(format!(
                "has the shape {to:?} for {from:?}; the number of images must stay, and be 0, 1 or \
                 -1 there"
            )));
        };
        match (x.squares, &dims[1..]) {
            (Some((side, true)), [c, h, w])
                if [*c, *h, *w] == [channels * side * side, height / side, width / side] =>
            {
                let shape = [*c, *h, *w];
                let at = self.push(node.name(), Op::SpaceToDepth(side), vec![x.node], shape);
                Ok(Dynamic::of_node(at, 4))
            }
            (None, [_]) => self.flatten(node),
            (None, dims) if dims == &from[1..] => Ok(x),
            (None, [c, 1, 1]) if x.rank == 2 && *c == channels => {
                x.rank = 4;
                Ok(x)
            }
            (None, [c, 1, 1]) if *c == from[1..].iter().product::<usize>() => {
                let flat = self.flatten(node)?;
                Ok(Dynamic { rank: 4, ..flat })
            }
            (None, [c, h, side, w, again])
                if side == again
                    && *side > 0
                    && *c == channels
                    && x.rank == 4
                    && h * side == from[2]
                    && w * side == from[3] =>
            {
                let source = self.materialise(node.input(0)?)?;
                let squares = Some((*side, false));
                Ok(Dynamic { squares, ..Dynamic::of_node(source, 4) })
            }
            _ => Err(node.error(format!("has the shape {to:?} for {from:?}, which is not known"))),
        }
    }

    fn transpose(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let mut x = self.dynamic(node, 0)?;
        let order = node.sides("perm")?.unwrap_or_default();
        match (&order[..], x.squares) {
            ([0, 1, 3, 5, 2, 4], Some((side, false))) => x.squares = Some((side, true)),
            ([0, 3, 1, 2], None) if x.channels_last => x.channels_last = false,
            ([0, 2, 3, 1], None) if !x.channels_last && x.rank == 4 => x.channels_last = true,
            ([0, 1] | [0, 1, 2, 3], None) => {}
            _ => {
                return Err(node.error(format!(
                    "has the order {order:?}; channels can be moved from the last dimension to the \
                     second and back"
                )));
            }
        }
        Ok(x)
    }

    fn zeros(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let mut x = self.dynamic(node, 0)?;
        if node.text("mode").is_some_and(|mode| mode != "constant") {
            return Err(node.error("pads with something else than zeros"));
        }
        if node.optional(2).is_some() && self.constant(node, 2)?.single() != Some(0.0)
            || node.float("value", 0.0) != 0.0
        {
            return Err(node.error("pads with a number other than 0"));
        }
        let widths = match node.ints("pads") {
            Some(widths) => widths.to_vec(),
            None => self.constant(node, 1)?.whole(),
        };
        let [0, 0, top, left, 0, 0, bottom, right] = widths[..] else {
            return Err(node.error(format!("pads {widths:?}; only rows and columns can be padded")));
        };
        let fits = top == bottom && left == right && (0..=1 << 15).contains(&top);
        if !fits || !(0..=1 << 15).contains(&left) || x.rank != 4 || x.channels_last {
            return Err(node.error(format!(
                "pads {widths:?}; only padding that is equal on opposite sides can be packed"
            )));
        }
        if !x.is_plain() {
            let source = self.materialise(node.input(0)?)?;
            x = Dynamic::of_node(source, 4);
        }
        x.lazy = None;
        x.pad = [top as usize, left as usize];
        Ok(x)
    }

    fn concatenate(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let names: Vec<String> = node.inputs().to_vec();
        let rank = self.dynamic(node, 0)?.rank;
        let axis = node.int("axis", 1);
        if axis != 1 && axis.saturating_add(rank as i64) != 1 {
            return Err(node.error(format!("joins the dimension {axis}, and must join channels")));
        }
        let mut sources = Vec::with_capacity(names.len());
        let mut shape = [0usize; 3];
        for (at, name) in names.iter().enumerate() {
            let x = self.dynamic(node, at)?;
            let source = self.materialise(name)?;
            let [channels, height, width] = self.shapes[source];
            if at > 0 && [height, width] != shape[1..] || x.rank != rank || x.channels_last {
                return Err(node.error("joins values of different shapes"));
            }
            shape = [shape[0].saturating_add(channels), height, width];
            sources.push(source);
        }
        let at = self.push(node.name(), Op::Concatenate, sources, shape);
        Ok(Dynamic::of_node(at, rank))
    }

    fn depth_to_space(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let side = usize::try_from(node.int("blocksize", 0)).unwrap_or(0);
        if node.text("mode").as_deref() != Some("CRD") {
            return Err(node.error("has the mode DCR; CRD can be packed"));
        }
        let source = self.materialise(node.input(0)?)?;
        let [channels, height, width] = self.shapes[source];
        if !(1..=1 << 12).contains(&side) || channels % (side * side) != 0 {
            return Err(node.error(format!("has the block size {side} for {channels} channels")));
        }
        let shape =
            [channels / (side * side), height.saturating_mul(side), width.saturating_mul(side)];
        let at = self.push(node.name(), Op::DepthToSpace(side), vec![source], shape);
        Ok(Dynamic::of_node(at, 4))
    }
}
