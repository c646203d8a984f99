//! Maxima and means over positions.

use quant_infer::model::{Op, Pool};

use super::{
    dynamic::Dynamic,
    importer::Importer,
    lazy::{Lazy, Step},
    node::Reader,
};
use crate::OnnxError;

impl Importer {
    pub(super) fn max_pool(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
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
        let commutes = x.pad == [0; 4]
            && x.squares.is_none()
            && x.steps.iter().all(Step::rises)
            && x.lazy.as_ref().is_none_or(Lazy::rises);
        let source = if commutes { x.node } else { self.materialise(node.input(0)?)? };
        let from = self.shapes[source];
        let sides = self.padding(node, [from[1], from[2]], kernel, stride)?;
        let [top, left, bottom, right] = sides;
        // Further rows and columns at the end are as if sizes were rounded up.
        let more = (bottom, right) != (top, left);
        let pool = Pool {
            kernel: kernel[0],
            stride: stride[0],
            padding: top,
            ceil: node.int("ceil_mode", 0) != 0 || more,
        };
        let asked = |size: usize, before: usize, after: usize| {
            (size + before + after).checked_sub(pool.kernel).map(|room| room / pool.stride + 1)
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
        let same =
            [height, width].map(Some) == [asked(from[1], top, bottom), asked(from[2], left, right)];
        if top != left || more && !same {
            return Err(node.error(format!(
                "pads {sides:?}; a maximum can be packed that pads all sides alike, or fewer rows \
                 and columns at the end than a further step takes"
            )));
        }
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

    pub(super) fn average_pool(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let source = self.materialise(node.input(0)?)?;
        let from = self.shapes[source];
        let kernel = node.pair("kernel_shape", 0)?;
        let stride = node.pair("strides", 1)?;
        let padding = self.padding(node, [from[1], from[2]], kernel, stride)?;
        if padding != [0; 4] || x.rank != 4 {
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

    pub(super) fn global_pool(
        &mut self,
        node: &Reader<'_>,
        rank: usize,
    ) -> Result<Dynamic, OnnxError> {
        let source = self.materialise(node.input(0)?)?;
        let shape = [self.shapes[source][0], 1, 1];
        let at = self.push(node.name(), Op::GlobalPool, vec![source], shape);
        Ok(Dynamic::of_node(at, rank))
    }

    pub(super) fn reduce_mean(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
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
}
