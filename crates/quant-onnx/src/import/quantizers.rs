//! The operators that quantize activations.

use super::{
    dynamic::Dynamic,
    importer::Importer,
    lazy::{Lazy, Step},
    node::Reader,
};
use crate::OnnxError;

/// The most thresholds of a file that are found by bisection.
pub(super) const MAX_THRESHOLDS: usize = 1 << 21;

/// A way of rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    HalfEven,
    Down,
    Up,
    ToZero,
}

impl Rounding {
    /// Returns that of a node.
    pub(super) fn of(node: &Reader<'_>) -> Result<Self, OnnxError> {
        let usual = if node.op() == "Trunc" { "FLOOR" } else { "ROUND" };
        let text = node.text("rounding_mode").unwrap_or_else(|| usual.to_owned());
        match &*text.to_uppercase() {
            "ROUND" | "HALF_EVEN" => Ok(Self::HalfEven),
            "FLOOR" => Ok(Self::Down),
            "CEIL" => Ok(Self::Up),
            "DOWN" | "ROUND_TO_ZERO" => Ok(Self::ToZero),
            _ => Err(node.error(format!(
                "rounds by {text}; ROUND, FLOOR, CEIL and ROUND_TO_ZERO are known"
            ))),
        }
    }

    pub(super) fn apply(self, x: f32) -> f32 {
        match self {
            Self::HalfEven => x.round_ties_even(),
            Self::Down => x.floor(),
            Self::Up => x.ceil(),
            Self::ToZero => x.trunc(),
        }
    }
}

/// Returns the lowest and the highest integer of a quantizer of so many bits.
pub(super) fn range(node: &Reader<'_>, bits: f32) -> (f32, f32) {
    let (signed, narrow) = (node.int("signed", 1) == 1, node.int("narrow", 0) == 1);
    match (signed, narrow) {
        (true, true) => (1.0 - (bits - 1.0).exp2(), (bits - 1.0).exp2() - 1.0),
        (true, false) => (-(bits - 1.0).exp2(), (bits - 1.0).exp2() - 1.0),
        (false, true) => (0.0, bits.exp2() - 2.0),
        (false, false) => (0.0, bits.exp2() - 1.0),
    }
}

/// Returns the number of a group in a list of one for all groups, or of one for each.
pub(super) fn of(numbers: &[f32], group: usize) -> f32 {
    numbers[if numbers.len() == 1 { 0 } else { group }]
}

impl Importer {
    /// Adds a quantizer of a tensor. `code` rises with its first argument, from 0 to levels - 1,
    /// and `value` says what a code stands for; both take the channel as well. `channels` is the
    /// number of channels, or 1 if all are alike.
    pub(super) fn quantize(
        &mut self,
        node: &Reader<'_>,
        levels: usize,
        channels: usize,
        code: impl Fn(f32, usize) -> f32,
        value: impl Fn(usize, usize) -> f32,
    ) -> Result<Dynamic, OnnxError> {
        let mut x = self.dynamic(node, 0)?;
        if x.channels_last {
            return Err(node.error("quantizes channels in the last dimension"));
        }
        if let Some(lazy) = x.lazy.as_ref().filter(|lazy| !lazy.identity) {
            self.limit(node, channels, lazy)?;
            // A quantizer of values that are few already changes what their codes stand for.
            let lazy = lazy.spread(channels);
            let table = (lazy.table.iter().enumerate())
                .map(|(at, number)| {
                    let channel = at / lazy.levels;
                    value(code(*number, channel) as usize, channel)
                })
                .collect();
            let kept = Lazy::new(lazy.groups, lazy.levels, lazy.thresholds, table);
            return Ok(Dynamic { lazy: Some(kept), ..x });
        }
        let settled = x.steps.iter().all(Step::rises) && x.squares.is_none();
        if !settled {
            if x.rank == 5 {
                return Err(node.error("compares values that are quantized already"));
            }
            let at = self.materialise(node.input(0)?)?;
            x = Dynamic::of_node(at, x.rank);
        }
        let groups = x.steps.iter().map(Step::channels).chain([channels]).max().unwrap_or(1).max(1);
        self.thresholds = self.thresholds.saturating_add(groups.saturating_mul(levels));
        if self.thresholds > MAX_THRESHOLDS {
            return Err(node.error("has too many thresholds, together with those before it"));
        }
        let steps = std::mem::take(&mut x.steps);
        let through = |number: f32, channel: usize| {
            steps.iter().fold(number, |number, step| step.apply(number, channel))
        };
        let code = |number: f32, channel: usize| code(through(number, channel), channel);
        x.lazy = Some(Lazy::find(groups, levels, code, value));
        Ok(x)
    }

    /// Refuses a quantizer that would need too much memory with a group for each channel.
    pub(super) fn limit(
        &self,
        node: &Reader<'_>,
        channels: usize,
        lazy: &Lazy,
    ) -> Result<(), OnnxError> {
        if channels.saturating_mul(lazy.levels) > MAX_THRESHOLDS {
            let levels = lazy.levels;
            return Err(node.error(format!("has {levels} levels for each of {channels} channels")));
        }
        Ok(())
    }

    /// Returns a constant as one number for all channels of the node's first input, or one for
    /// each.
    fn numbers(&self, node: &Reader<'_>, at: usize) -> Result<Vec<f32>, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let constant = self.constant(node, at)?;
        self.by_channel(constant, &x).ok_or_else(|| {
            node.error(format!(
                "has the shape {:?} for its input {at}, and must have one number, or one for each \
                 of {} channels",
                constant.dims,
                self.channels(&x)
            ))
        })
    }

    fn scales(&self, node: &Reader<'_>, at: usize) -> Result<Vec<f32>, OnnxError> {
        let scales = self.numbers(node, at)?;
        match scales.iter().find(|scale| **scale <= 0.0 || !scale.is_finite()) {
            Some(scale) => Err(node.error(format!("has the scale {scale}, which must be above 0"))),
            None => Ok(scales),
        }
    }

    /// Returns the number of levels between two integers.
    fn levels(&self, node: &Reader<'_>, lowest: f32, highest: f32) -> Result<usize, OnnxError> {
        let levels = highest - lowest + 1.0;
        if !(2.0..=256.0).contains(&levels) || levels.fract() != 0.0 || lowest.fract() != 0.0 {
            return Err(node.error(format!(
                "quantizes activations to {levels} levels; from 2 to 256, which are 8 bits, can be \
                 packed"
            )));
        }
        Ok(levels as usize)
    }

    /// Reads `Quant` of activations.
    pub(super) fn quant(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let scales = self.scales(node, 1)?;
        let zeros = self.numbers(node, 2)?;
        let bits = self.constant(node, 3)?.single();
        let bits = bits.ok_or_else(|| node.error("has several numbers of bits"))?;
        let rounding = Rounding::of(node)?;
        let channels = scales.len().max(zeros.len());
        if bits == 1.0 && node.int("signed", 1) == 1 {
            let code = |x: f32, channel| {
                f32::from(u8::from(x / of(&scales, channel) + of(&zeros, channel) >= 0.0))
            };
            let value = |code: usize, channel| {
                (2.0 * code as f32 - 1.0 - of(&zeros, channel)) * of(&scales, channel)
            };
            return self.quantize(node, 2, channels, code, value);
        }
        let (lowest, highest) = range(node, bits);
        let levels = self.levels(node, lowest, highest)?;
        let code = |x: f32, channel| {
            let x = x / of(&scales, channel) + of(&zeros, channel);
            rounding.apply(x.clamp(lowest, highest)) - lowest
        };
        let value = |code: usize, channel| {
            (code as f32 + lowest - of(&zeros, channel)) * of(&scales, channel)
        };
        self.quantize(node, levels, channels, code, value)
    }

    /// Reads `BipolarQuant` of activations.
    pub(super) fn bipolar(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let scales = self.scales(node, 1)?;
        let code = |x: f32, _| f32::from(u8::from(x >= 0.0));
        let value = |code: usize, channel| (2.0 * code as f32 - 1.0) * of(&scales, channel);
        self.quantize(node, 2, scales.len(), code, value)
    }

    /// `Trunc`: rounding to a grid, and then to a coarser one.
    pub(super) fn trunc(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let scales = self.scales(node, 1)?;
        let zeros = self.numbers(node, 2)?;
        let rounding = Rounding::of(node)?;
        let single = |at: usize| -> Result<f32, OnnxError> {
            let number = self.constant(node, at)?.single();
            number.ok_or_else(|| node.error(format!("has several numbers as its input {at}")))
        };
        let input_bits = single(3)?;
        let channels = scales.len().max(zeros.len());
        if node.optional(5).is_none() {
            // The first version of the operator: no range, and the scale stays.
            let output_bits = single(4)?;
            let coarser = (input_bits - output_bits).exp2();
            let levels = self.levels(node, 0.0, output_bits.exp2() - 1.0)?;
            let lowest = if node.int("signed", 0) == 1 { -(levels as f32) / 2.0 } else { 0.0 };
            let code = |x: f32, channel| {
                let x = (x / of(&scales, channel) + of(&zeros, channel)).round_ties_even();
                (rounding.apply(x / coarser) - lowest).clamp(0.0, (levels - 1) as f32)
            };
            let value = |code: usize, channel| {
                (code as f32 + lowest - of(&zeros, channel)) * of(&scales, channel)
            };
            return self.quantize(node, levels, channels, code, value);
        }
        let outputs = self.scales(node, 4)?;
        let (lowest, highest) = range(node, single(5)?);
        let levels = self.levels(node, lowest, highest)?;
        let channels = channels.max(outputs.len());
        let coarser =
            |channel| (of(&outputs, channel) / of(&scales, channel)).log2().round().exp2();
        let code = |x: f32, channel| {
            let x = (x / of(&scales, channel) + of(&zeros, channel)).round_ties_even();
            rounding.apply((x / coarser(channel)).clamp(lowest, highest)) - lowest
        };
        let value = |code: usize, channel| {
            let zero = of(&zeros, channel) / coarser(channel);
            (code as f32 + lowest - zero) * of(&outputs, channel)
        };
        self.quantize(node, levels, channels, code, value)
    }

    /// `MultiThreshold`: the number of thresholds that are at most x.
    pub(super) fn multi_threshold(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let table = self.constant(node, 1)?;
        let [rows, count] = table.dims[..] else {
            return Err(node.error("has thresholds that are no table"));
        };
        let layout = node.text("data_layout").unwrap_or_default();
        if !matches!(&*layout, "" | "NCHW" | "NC") {
            return Err(node.error(format!("has the layout {layout}; NCHW is known")));
        }
        if rows != 1 && rows != self.channels(&x) {
            return Err(node.error(format!("has thresholds for {rows} channels")));
        }
        let (scale, bias) = (node.float("out_scale", 1.0), node.float("out_bias", 0.0));
        self.levels(node, 0.0, count as f32)?;
        let mut thresholds = table.floats();
        if thresholds.iter().any(|threshold| threshold.is_nan()) || scale <= 0.0 {
            return Err(node.error("has a threshold that is no number, or no positive scale"));
        }
        thresholds.chunks_mut(count).for_each(|row| row.sort_by(f32::total_cmp));
        let of_row = |channel: usize| {
            let row = if rows == 1 { 0 } else { channel };
            &thresholds[row * count..][..count]
        };
        if x.is_plain() && x.lazy.is_none() && !x.channels_last {
            // The thresholds are the quantizer's own.
            let values = (0..rows * (count + 1))
                .map(|at| scale * (at % (count + 1)) as f32 + bias)
                .collect();
            let lazy = Lazy::new(rows, count + 1, thresholds, values);
            return Ok(Dynamic { lazy: Some(lazy), ..x });
        }
        let code = |x: f32, channel: usize| {
            of_row(channel).partition_point(|threshold| x >= *threshold) as f32
        };
        let value = |code: usize, _| scale * code as f32 + bias;
        self.quantize(node, count + 1, rows, code, value)
    }

    /// `GreaterOrEqual` than thresholds, one for each channel, or several in a last dimension whose
    /// results are summed afterwards.
    pub(super) fn at_least(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let constant = self.constant(node, 1)?;
        let problem = || node.error("compares with anything but thresholds for each channel");
        let (rows, count) = match (x.rank, &constant.dims[..]) {
            (5, [1, rows, 1, 1, count]) => (*rows, *count),
            (4, _) => (self.by_channel(constant, &x).ok_or_else(problem)?.len(), 1),
            _ => return Err(problem()),
        };
        if rows != 1 && rows != self.channels(&x) || count == 0 {
            return Err(problem());
        }
        self.levels(node, 0.0, count as f32)?;
        let mut thresholds = constant.floats();
        if thresholds.iter().any(|threshold| threshold.is_nan()) {
            return Err(problem());
        }
        thresholds.chunks_mut(count).for_each(|row| row.sort_by(f32::total_cmp));
        let code = |x: f32, channel: usize| {
            let row = if rows == 1 { 0 } else { channel };
            let row = &thresholds[row * count..][..count];
            row.partition_point(|threshold| x >= *threshold) as f32
        };
        let value = |code: usize, _| code as f32;
        let rank = x.rank;
        let found = self.quantize(node, count + 1, rows, code, value)?;
        Ok(Dynamic { rank, ..found })
    }

    /// Reads `Sign`, whose values are -1, 0 and 1.
    pub(super) fn sign(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let code = |x: f32, _| {
            if x > 0.0 {
                2.0
            } else if x < 0.0 {
                0.0
            } else {
                1.0
            }
        };
        self.quantize(node, 3, 1, code, |code, _| code as f32 - 1.0)
    }
}
