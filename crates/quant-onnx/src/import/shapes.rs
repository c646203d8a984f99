//! Changes of shape: what moves numbers, adds zeros, or joins channels.

use quant_infer::model::Op;

use super::{constant_shapes::reshape, dynamic::Dynamic, importer::Importer, node::Reader};
use crate::OnnxError;

impl Importer {
    pub(super) fn flatten(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let [_, height, width] = self.shapes[x.node];
        if x.rank == 2 {
            return Ok(x);
        }
        if x.channels_last && [height, width] != [1, 1] {
            return Err(node.error("flattens channels in the last dimension"));
        }
        if [height, width] == [1, 1] && x.pad == [0; 4] {
            return Ok(Dynamic { rank: 2, channels_last: false, ..x });
        }
        if node.op() == "Squeeze" {
            return Err(node.error("leaves out the height and the width, which are not 1"));
        }
        // Features keep the group of their channel, if each step is the same for all channels.
        let keeps = x.pad == [0; 4]
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

    pub(super) fn reshape(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let mut x = self.dynamic(node, 0)?;
        let to = self.constant(node, 1)?.whole();
        let [channels, height, width] = self.shapes[x.node];
        let from = match (x.squares, x.rank) {
            (Some((side, true)), _) => {
                let shape = [1, channels, side, side, height / side, width / side];
                shape.to_vec()
            }
            (_, 2) => vec![1, channels],
            _ => {
                let [top, left, bottom, right] = x.pad;
                vec![1, channels, height + top + bottom, width + left + right]
            }
        };
        let allow = node.int("allowzero", 0) == 1;
        let dims = reshape(&from, &to, allow).filter(|dims| dims.first() == Some(&1));
        let Some(dims) = dims else {
            return Err(node.error(format!(
                "has the shape {to:?} for {from:?}; the number of images must stay, and be 0, 1 or \
                 -1 there"
            )));
        };
        if let Some(found) = self.regrouped(node, &x, &dims)? {
            return Ok(found);
        }
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
            (None, [groups, rest, h, w])
                if groups * rest == channels && [*h, *w] == [height, width] =>
            {
                Err(node.error(format!(
                    "splits {channels} channels into {groups} groups; their order can be changed \
                     (as in ShuffleNet) by no layer that can be packed"
                )))
            }
            _ => Err(node.error(format!(
                "has the shape {to:?} for {from:?}, which no layer that can be packed has"
            ))),
        }
    }

    pub(super) fn transpose(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
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

    pub(super) fn zeros(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
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
        let sides = [top, left, bottom, right];
        if !sides.iter().all(|side| (0..=1 << 15).contains(side)) || x.rank != 4 || x.channels_last
        {
            return Err(node.error(format!(
                "pads {widths:?}; only rows and columns of images can be padded, not cut"
            )));
        }
        if !x.is_plain() {
            let source = self.materialise(node.input(0)?)?;
            x = Dynamic::of_node(source, 4);
        }
        x.lazy = None;
        x.pad = sides.map(|side| side as usize);
        Ok(x)
    }

    pub(super) fn concatenate(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let names: Vec<String> = node.inputs().to_vec();
        let rank = self.dynamic(node, 0)?.rank;
        let axis = node.int("axis", 1);
        if axis != 1 && axis.saturating_add(rank as i64) != 1 {
            return Err(node.error(format!("joins the dimension {axis}, and must join channels")));
        }
        let x = self.dynamic(node, 0)?;
        let alike = x.squares.is_none()
            && !x.channels_last
            && x.steps.iter().all(|step| step.channels() == 1)
            && x.lazy.as_ref().is_some_and(|lazy| lazy.groups == 1 && !lazy.identity);
        if alike && names.iter().all(|name| *name == names[0]) {
            // The same channels several times have the quantizer that they have once.
            let [channels, height, width] = self.shapes[x.node];
            let shape = [channels.saturating_mul(names.len()), height, width];
            let at = self.push(node.name(), Op::Repeat(names.len()), vec![x.node], shape);
            return Ok(Dynamic { node: at, ..x });
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

    pub(super) fn depth_to_space(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
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
