//! `QuantizeLinear`, `DequantizeLinear`, and tables that codes are looked up in.

use super::{
    dynamic::Dynamic,
    importer::Importer,
    lazy::{Lazy, Step},
    node::Reader,
    quantizers::of,
};
use crate::{
    OnnxError,
    tensor::{Constant, Data},
};

impl Importer {
    /// Returns the lowest and the highest integer that `QuantizeLinear` gives.
    pub(super) fn integer_range(&self, node: &Reader<'_>) -> Result<(f32, f32), OnnxError> {
        let kind = match node.int("output_dtype", 0) {
            0 => match node.optional(2) {
                Some(name) => self.kinds.get(name).copied().unwrap_or(0),
                None => crate::proto::data_type::UINT8.into(),
            },
            kind => kind,
        };
        use crate::proto::data_type::{INT2, INT4, INT8, UINT2, UINT4, UINT8};
        match i32::try_from(kind).unwrap_or(0) {
            UINT8 => Ok((0.0, 255.0)),
            INT8 => Ok((-128.0, 127.0)),
            UINT4 => Ok((0.0, 15.0)),
            INT4 => Ok((-8.0, 7.0)),
            UINT2 => Ok((0.0, 3.0)),
            INT2 => Ok((-2.0, 1.0)),
            _ => Err(node.error("quantizes to a type other than integers of 2, 4 or 8 bits")),
        }
    }

    /// Returns the scale and the zero point of `QuantizeLinear` or `DequantizeLinear` for each
    /// element of a constant.
    pub(super) fn scale_and_zero(
        &self,
        node: &Reader<'_>,
        x: &Constant,
    ) -> Result<(Vec<f32>, Vec<f32>), OnnxError> {
        let scale = self.constant(node, 1)?.clone();
        let zero = match node.optional(2) {
            Some(_) => self.constant(node, 2)?.clone(),
            None => Constant { data: Data::Floats(vec![0.0; scale.data.len()]), ..scale.clone() },
        };
        if node.int("block_size", 0) != 0 {
            return Err(node.error("has scales for blocks; scales for channels can be read"));
        }
        let rank = x.dims.len() as i64;
        let axis = node.int("axis", 1);
        let axis = usize::try_from(if axis < 0 { axis.saturating_add(rank) } else { axis });
        let spread = |constant: &Constant| -> Option<Vec<f32>> {
            let numbers = constant.floats();
            if numbers.len() == 1 {
                return Some(vec![numbers[0]; x.data.len()]);
            }
            let axis = *axis.as_ref().ok()?;
            if x.dims.get(axis) != Some(&numbers.len()) {
                return None;
            }
            let after: usize = x.dims[axis + 1..].iter().product();
            Some((0..x.data.len()).map(|at| numbers[at / after % numbers.len()]).collect())
        };
        match (spread(&scale), spread(&zero)) {
            (Some(scales), Some(zeros)) => Ok((scales, zeros)),
            _ => Err(node.error("has scales or zero points that do not fit its input")),
        }
    }

    /// `QuantizeLinear` of activations. What it gives are integers.
    pub(super) fn quantize_linear(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let (scales, zeros) = self.linear(node)?;
        if let Some(scale) = scales.iter().find(|scale| **scale <= 0.0) {
            return Err(node.error(format!("has the scale {scale}, which must be above 0")));
        }
        let (lowest, highest) = self.integer_range(node)?;
        let levels = (highest - lowest + 1.0) as usize;
        let code = |x: f32, channel| {
            let x = (x / of(&scales, channel)).round_ties_even() + of(&zeros, channel);
            x.clamp(lowest, highest) - lowest
        };
        let value = |code: usize, _| code as f32 + lowest;
        self.quantize(node, levels, scales.len().max(zeros.len()), code, value)
    }

    /// The scales and zero points of a `QuantizeLinear` or `DequantizeLinear` of activations.
    fn linear(&self, node: &Reader<'_>) -> Result<(Vec<f32>, Vec<f32>), OnnxError> {
        let x = self.dynamic(node, 0)?;
        let channels = self.channels(&x);
        let of_input = |at: usize| -> Result<Vec<f32>, OnnxError> {
            let numbers = self.constant(node, at)?.floats();
            let axis = node.int("axis", 1);
            let fits = numbers.len() == 1
                || numbers.len() == channels && (axis == 1 || axis + x.rank as i64 == 1);
            fits.then_some(numbers).ok_or_else(|| {
                node.error("has scales or zero points for another dimension than the channels")
            })
        };
        let scales = of_input(1)?;
        let zeros = match node.optional(2) {
            Some(_) => of_input(2)?,
            None => vec![0.0],
        };
        Ok((scales, zeros))
    }

    /// Reads `DequantizeLinear` of activations.
    pub(super) fn dequantize_linear(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let (scales, zeros) = self.linear(node)?;
        let mut x = self.dynamic(node, 0)?;
        let Some(lazy) = &x.lazy else {
            return Err(node.error("reads something that no QuantizeLinear computed"));
        };
        let groups = scales.len().max(zeros.len());
        self.limit(node, groups, lazy)?;
        let lazy = lazy.spread(groups);
        let table = (lazy.table.iter().enumerate())
            .map(|(at, value)| {
                let group = at / lazy.levels;
                (value - of(&zeros, group)) * of(&scales, group)
            })
            .collect();
        let kept = Lazy::new(lazy.groups, lazy.levels, lazy.thresholds, table);
        x.lazy = Some(kept);
        Ok(x)
    }

    /// `Gather` from a table, by the codes of a quantizer.
    pub(super) fn look_up(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let table = self.constant(node, 0)?.clone();
        let x = self.dynamic(node, 1)?;
        let (Some(lazy), [count], 0) = (&x.lazy, &table.dims[..], node.int("axis", 0)) else {
            return Err(node.error("must pick numbers of a list, by the codes of a quantizer"));
        };
        let channels = x.steps.iter().map(Step::channels).max().unwrap_or(1);
        self.limit(node, channels, lazy)?;
        let lazy = lazy.spread(channels);
        let numbers = table.floats();
        let found: Option<Vec<f32>> = (lazy.table.iter().enumerate())
            .map(|(at, index)| {
                let channel = at / lazy.levels;
                let index = x.steps.iter().fold(*index, |x, step| step.apply(x, channel));
                let whole = index >= 0.0 && index < *count as f32 && index.fract() == 0.0;
                whole.then(|| numbers[index as usize])
            })
            .collect();
        let found = found.ok_or_else(|| node.error("picks an element that is not there"))?;
        let lazy = Lazy::new(lazy.groups, lazy.levels, lazy.thresholds, found);
        Ok(Dynamic { lazy: Some(lazy), steps: Vec::new(), ..x })
    }
}
