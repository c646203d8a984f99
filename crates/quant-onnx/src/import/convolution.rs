//! Convolutions and linear layers.

use quant_infer::model::{Conv, Op, Term, Terms, Weight, WeightCodes};

use super::{
    dynamic::Dynamic,
    importer::{Importer, Value},
    node::Reader,
};
use crate::{
    OnnxError,
    tensor::{Constant, Data, Grid},
};

/// The largest integer of a weight.
const MAX_INTEGER: i32 = i16::MAX as i32;

/// Gives a convolution, whose scales are 1, a scale for each output channel.
pub(super) fn set_scales(conv: &mut Conv, scales: &[f32]) {
    let of_output = conv.in_channels / conv.groups * conv.kernel[0] * conv.kernel[1];
    let outputs = conv.out_channels;
    let Weight::Codes(codes) = &mut conv.weight else { return };
    let Some(term) = codes.terms.as_mut().and_then(|terms| terms.0.first_mut()) else { return };
    let one = scales.iter().all(|scale| *scale == scales[0]);
    let levels = codes.levels;
    let groups = if one { 1 } else { outputs };
    // Before, all channels had the integers of the only row.
    let row = term.integers[..levels].to_vec();
    term.scales = scales[..groups].to_vec();
    codes.groups = groups;
    codes.run = if one { of_output * outputs } else { of_output };
    codes.values = term
        .scales
        .iter()
        .flat_map(|scale| row.iter().map(move |i| scale * f32::from(*i)))
        .collect();
    term.integers = row;
}

/// Returns a weight of `outputs` channels as codes, if it has integers and one scale for each
/// channel.
fn codes(grid: &Grid, outputs: usize) -> Option<WeightCodes> {
    let count = grid.integers.len();
    let of_output = count.checked_div(outputs).filter(|of_output| *of_output > 0)?;
    let scales: Vec<f32> = if grid.scales.len() == 1 {
        grid.scales.clone()
    } else {
        let rows = || grid.scales.chunks(of_output);
        if !rows().all(|row| row.iter().all(|scale| *scale == row[0])) {
            return None;
        }
        rows().map(|row| row[0]).collect()
    };
    if scales.iter().any(|scale| !scale.is_finite() || *scale == 0.0) {
        return None;
    }
    let lowest = grid.integers.iter().copied().min()?;
    let highest = grid.integers.iter().copied().max()?;
    if lowest < -MAX_INTEGER || highest > MAX_INTEGER {
        return None;
    }
    let gcd = |mut a: i32, mut b: i32| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let step = grid.integers.iter().fold(0, |step, i| gcd(step, i - lowest)).max(1);
    // A model has at least two levels.
    let levels = ((highest - lowest) / step + 1).max(2) as usize;
    if levels > 256 || lowest + step * (levels as i32 - 1) > MAX_INTEGER {
        return None;
    }
    let integers: Vec<i16> = (0..levels as i32).map(|code| (lowest + step * code) as i16).collect();
    let values = scales
        .iter()
        .flat_map(|scale| integers.iter().map(move |integer| scale * f32::from(*integer)))
        .collect();
    Some(WeightCodes {
        levels,
        codes: grid.integers.iter().map(|i| ((i - lowest) / step) as u8).collect(),
        groups: scales.len(),
        run: if scales.len() == 1 { count } else { of_output },
        values,
        terms: Some(Terms(vec![Term { scales, integers }])),
    })
}

/// Returns the integers of a weight that has only small ones.
fn whole(constant: &Constant) -> Option<Grid> {
    let numbers = constant.floats();
    let small = |number: &f32| number.fract() == 0.0 && number.abs() <= 255.0;
    numbers.iter().all(small).then(|| Grid {
        integers: numbers.iter().map(|number| *number as i32).collect(),
        scales: vec![1.0],
    })
}

/// Returns a weight, as codes where it has integers.
fn weight(constant: &Constant, outputs: usize) -> Weight {
    let found = match &constant.grid {
        Some(grid) => codes(grid, outputs),
        None => whole(constant).and_then(|grid| codes(&grid, outputs)),
    };
    match found {
        Some(codes) => Weight::Codes(codes),
        None => Weight::Float(constant.floats()),
    }
}

/// Returns the name of a layer: that of its weight without its last part, or that of the node.
fn layer_name(node: &Reader<'_>, weight: &str) -> String {
    for end in [".weight.values", ".weight.integers", ".weight"] {
        if let Some(name) = weight.strip_suffix(end).filter(|name| !name.is_empty()) {
            return name.to_owned();
        }
    }
    node.name().to_owned()
}

/// Whether a convolution's only scales are 1: then factors can become its scales.
pub(super) fn has_unit_scales(conv: &Conv) -> bool {
    let one = |scales: &[f32]| scales.iter().all(|scale| *scale == 1.0);
    conv.bias.is_none()
        && matches!(&conv.weight, Weight::Codes(_))
        && conv.integer_terms().is_some_and(|(input, weight)| {
            input.0.len() == 1
                && weight.0.len() == 1
                && one(&input.0[0].scales)
                && one(&weight.0[0].scales)
        })
}

impl Importer {
    /// Returns the tensor that a weight was made from, through quantizers and changes of order.
    fn origin(&self, tensor: &str) -> String {
        let mut name = tensor;
        for _ in 0..16 {
            match self.origins.get(name) {
                Some(before) => name = before,
                None => break,
            }
        }
        name.to_owned()
    }

    fn bias(&self, node: &Reader<'_>, outputs: usize) -> Result<Option<Vec<f32>>, OnnxError> {
        if node.optional(2).is_none() {
            return Ok(None);
        }
        let numbers = self.constant(node, 2)?.floats();
        match numbers.len() {
            1 => Ok(Some(vec![numbers[0]; outputs])),
            count if count == outputs => Ok(Some(numbers)),
            count => Err(node.error(format!("has {count} biases for {outputs} channels"))),
        }
    }

    /// Reads `Conv`, a convolution of two dimensions.
    pub(super) fn convolution(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let tensor = node.input(1)?.to_owned();
        let constant = self.constant(node, 1)?.clone();
        let [outputs, of_group, height, width] = constant.dims[..] else {
            return Err(node.error(format!(
                "has a weight of the shape {:?}; convolutions of two dimensions can be read",
                constant.dims
            )));
        };
        let x = self.dynamic(node, 0)?;
        let channels = self.channels(&x);
        let groups = usize::try_from(node.int("group", 1)).unwrap_or(0);
        let [stride, dilation] = [node.pair("strides", 1)?, node.pair("dilations", 1)?];
        if groups == 0
            || of_group.checked_mul(groups) != Some(channels)
            || outputs % groups != 0
            || x.rank != 4
            || constant.data.len() == 0
        {
            return Err(node.error(format!(
                "has a weight of the shape {:?} and {groups} groups for {channels} channels",
                constant.dims
            )));
        }
        let kernel = [height, width];
        if stride.contains(&0) || dilation.contains(&0) {
            return Err(node.error("has a stride or a dilation of 0"));
        }
        let shape = self.shapes[x.node];
        let [top, left, bottom, right] = x.pad;
        let size = [shape[1] + top + bottom, shape[2] + left + right];
        let reach = |axis: usize| (kernel[axis] - 1).saturating_mul(dilation[axis]) + 1;
        let padding = self.padding(node, size, [reach(0), reach(1)], stride)?;
        // A Pad before this node is taken in if the node itself pads nothing.
        let padding_is_of_pad = padding == [0; 4] && x.pad != [0; 4];
        let own = if padding_is_of_pad { x.pad } else { padding };
        let (constant, padding) = evened(&constant, own, dilation).ok_or_else(|| {
            node.error(format!(
                "pads {own:?}; padding that differs between opposite sides by a multiple of the \
                 dilation can be packed"
            ))
        })?;
        let conv = Conv {
            in_channels: channels,
            out_channels: outputs,
            kernel: [constant.dims[2], constant.dims[3]],
            stride,
            padding,
            dilation,
            groups,
            quantizer: None,
            pads_codes: false,
            weight: weight(&constant, outputs),
            bias: self.bias(node, outputs)?,
        };
        let name = layer_name(node, &self.origin(&tensor));
        self.add(node, &name, conv, padding_is_of_pad)
    }

    /// Returns the padding of a node: above, to the left, below and to the right.
    pub(super) fn padding(
        &self,
        node: &Reader<'_>,
        size: [usize; 2],
        reach: [usize; 2],
        stride: [usize; 2],
    ) -> Result<[usize; 4], OnnxError> {
        match node.text("auto_pad").as_deref().unwrap_or("NOTSET") {
            "NOTSET" | "" => match node.sides("pads")?.as_deref() {
                None => Ok([0; 4]),
                Some([top, left, bottom, right]) => Ok([*top, *left, *bottom, *right]),
                Some(sides) => Err(node.error(format!("pads {sides:?}, and must pad four sides"))),
            },
            "VALID" => Ok([0; 4]),
            kind => {
                let total = |axis: usize| {
                    let steps = size[axis].div_ceil(stride[axis]).saturating_sub(1);
                    (steps * stride[axis] + reach[axis]).saturating_sub(size[axis])
                };
                let [rows, columns] = [total(0), total(1)];
                // An odd one is at the end, unless the node says that it is at the beginning.
                let [few, many] =
                    [[rows / 2, columns / 2], [rows.div_ceil(2), columns.div_ceil(2)]];
                Ok(match kind {
                    "SAME_LOWER" => [many[0], many[1], few[0], few[1]],
                    _ => [few[0], few[1], many[0], many[1]],
                })
            }
        }
    }

    /// Adds a convolution that reads the first input of a node. `pads` says whether its padding is
    /// that of a Pad before the node.
    fn add(
        &mut self,
        node: &Reader<'_>,
        name: &str,
        mut conv: Conv,
        pads: bool,
    ) -> Result<Dynamic, OnnxError> {
        let tensor = node.input(0)?.to_owned();
        let x = self.dynamic(node, 0)?;
        if x.channels_last {
            return Err(node.error("reads channels in the last dimension; transpose them first"));
        }
        let quantized = x.lazy.as_ref().filter(|lazy| {
            // The bytes of an image are numbers like others for a weight of floats.
            !lazy.identity || matches!(conv.weight, Weight::Codes(_))
        });
        let free = x.pad == [0; 4] || pads;
        let source = match quantized {
            Some(lazy) if free && x.squares.is_none() && x.grouped.is_none() => {
                let quantizer = lazy.quantizer(matches!(conv.weight, Weight::Codes(_)));
                let integers = quantizer.terms.is_some();
                if !lazy.rises() && !integers {
                    return Err(node.error(
                        "reads values that fall while the input of their quantizer rises, and are \
                         no multiples of a scale",
                    ));
                }
                conv.quantizer = Some(quantizer);
                conv.pads_codes = pads;
                x.node
            }
            None if x.steps.is_empty()
                && x.squares.is_none()
                && x.grouped.is_none()
                && free
                && x.rank != 5 =>
            {
                x.node
            }
            _ => {
                // The zeros of a Pad become a node, and the convolution pads nothing.
                if pads {
                    conv.padding = [0, 0];
                }
                self.materialise(&tensor)?
            }
        };
        let from = self.shapes[source];
        let mut shape = [conv.out_channels, 0, 0];
        for axis in 0..2 {
            let reach = (conv.kernel[axis] - 1).saturating_mul(conv.dilation[axis]) + 1;
            let padded = from[1 + axis].saturating_add(2 * conv.padding[axis]);
            let Some(room) = padded.checked_sub(reach) else {
                return Err(node.error(format!(
                    "has a kernel of {:?} for an image of {} x {}",
                    conv.kernel, from[1], from[2]
                )));
            };
            shape[1 + axis] = room / conv.stride[axis] + 1;
        }
        let has_quantizer = conv.quantizer.is_some();
        let at = self.push(name, Op::Conv(Box::new(conv)), vec![source], shape);
        if has_quantizer {
            self.quantized.push((at, tensor));
        }
        Ok(Dynamic::of_node(at, x.rank))
    }

    /// `MatMul` and `Gemm` with a constant: a linear layer.
    pub(super) fn linear_layer(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        if let Some(Value::Constant(_)) = self.values.get(node.input(0)?) {
            return Err(
                node.error("multiplies a constant from the left; from the right can be read")
            );
        }
        let tensor = node.input(1)?.to_owned();
        let constant = self.constant(node, 1)?.clone();
        let gemm = node.op() == "Gemm";
        let scaled = node.float("alpha", 1.0) != 1.0 || node.float("beta", 1.0) != 1.0;
        if gemm && (scaled || node.int("transA", 0) != 0) {
            return Err(node.error("has factors or a transposed input, which are not known"));
        }
        let [a, b] = constant.dims[..] else {
            return Err(node.error("has a weight that is no matrix"));
        };
        let by_output = gemm && node.int("transB", 0) != 0;
        let (outputs, features) = if by_output { (a, b) } else { (b, a) };
        let x = self.dynamic(node, 0)?;
        if x.rank != 2 || self.channels(&x) != features || outputs == 0 || features == 0 {
            return Err(node.error(format!(
                "has a weight of the shape {:?} for {} features; flatten the image first",
                constant.dims,
                self.channels(&x)
            )));
        }
        let constant = if by_output { constant } else { turned(&constant, features, outputs) };
        let bias = if gemm { self.bias(node, outputs)? } else { None };
        let conv = Conv {
            in_channels: features,
            out_channels: outputs,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
            quantizer: None,
            pads_codes: false,
            weight: weight(&constant, outputs),
            bias,
        };
        let name = layer_name(node, &self.origin(&tensor));
        self.add(node, &name, conv, false)
    }
}

/// Returns the weight of a convolution with equal padding on opposite sides that computes the same
/// as this one with the padding above, to the left, below and to the right: where one side has more
/// zeros, the other gets as many, and the kernel begins or ends with zeros instead. `None` where
/// the difference is no multiple of the dilation.
fn evened(
    constant: &Constant,
    [top, left, bottom, right]: [usize; 4],
    dilation: [usize; 2],
) -> Option<(Constant, [usize; 2])> {
    let [outputs, inputs, rows, columns] = constant.dims[..] else { return None };
    let along = |before: usize, after: usize, dilation: usize| {
        let more = before.abs_diff(after);
        let steps = more / dilation;
        more.is_multiple_of(dilation).then_some(if after > before {
            [steps, 0]
        } else {
            [0, steps]
        })
    };
    let (of_rows, of_columns) =
        (along(top, bottom, dilation[0])?, along(left, right, dilation[1])?);
    let padding = [top.max(bottom), left.max(right)];
    if of_rows == [0, 0] && of_columns == [0, 0] {
        return Some((constant.clone(), padding));
    }
    let (height, width) =
        (rows + of_rows.iter().sum::<usize>(), columns + of_columns.iter().sum::<usize>());
    let count = outputs.checked_mul(inputs)?.checked_mul(height)?.checked_mul(width)?;
    if count > 1 << 28 {
        return None;
    }
    // Where an element was before, if it was there.
    let place = |at: usize| -> Option<usize> {
        let (plane, row, column) = (at / (height * width), at / width % height, at % width);
        let (row, column) = (row.checked_sub(of_rows[0])?, column.checked_sub(of_columns[0])?);
        (row < rows && column < columns).then_some((plane * rows + row) * columns + column)
    };
    fn spread<T: Copy + Default>(
        numbers: &[T],
        count: usize,
        place: impl Fn(usize) -> Option<usize>,
    ) -> Vec<T> {
        (0..count).map(|at| place(at).map_or_else(T::default, |at| numbers[at])).collect()
    }
    let constant = Constant {
        dims: vec![outputs, inputs, height, width],
        data: match &constant.data {
            Data::Floats(numbers) => Data::Floats(spread(numbers, count, place)),
            Data::Integers(numbers) => Data::Integers(spread(numbers, count, place)),
        },
        grid: constant.grid.as_ref().map(|grid| Grid {
            integers: spread(&grid.integers, count, place),
            scales: if grid.scales.len() == 1 {
                grid.scales.clone()
            } else {
                // Zeros have the scale of their channel.
                let first = |at: usize| at / (height * width) * rows * columns;
                (0..count).map(|at| grid.scales[place(at).unwrap_or_else(|| first(at))]).collect()
            },
        }),
    };
    Some((constant, padding))
}

/// Returns a matrix `[rows, columns]` as `[columns, rows]`.
fn turned(constant: &Constant, rows: usize, columns: usize) -> Constant {
    fn pick<T: Copy>(numbers: &[T], rows: usize, columns: usize) -> Vec<T> {
        let place = |at: usize| at % rows * columns + at / rows;
        (0..rows * columns).map(|at| numbers[place(at)]).collect()
    }
    Constant {
        dims: vec![columns, rows],
        data: match &constant.data {
            Data::Floats(numbers) => Data::Floats(pick(numbers, rows, columns)),
            Data::Integers(numbers) => Data::Integers(pick(numbers, rows, columns)),
        },
        grid: constant.grid.as_ref().map(|grid| Grid {
            integers: pick(&grid.integers, rows, columns),
            scales: if grid.scales.len() == 1 {
                grid.scales.clone()
            } else {
                pick(&grid.scales, rows, columns)
            },
        }),
    }
}
