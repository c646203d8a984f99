//! Normalisations of groups of channels of an image: `InstanceNormalization`,
//! `GroupNormalization`, and both written out as means, differences and squares.

use quant_infer::model::Op;

use super::{
    dynamic::{Dynamic, Grouped, Moment},
    importer::Importer,
    node::Reader,
};
use crate::{OnnxError, proto::data_type};

/// What is added to variances, in models.
const EPSILON: f32 = 1e-5;

impl Importer {
    /// Reads `InstanceNormalization`, which normalises each channel or each group of them.
    pub(super) fn instance_norm(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        match x.grouped {
            Some(Grouped { groups, step: Moment::Values }) => {
                let normed = self.normalised(node, &x, groups)?;
                let value = self.scaled_and_shifted(node, normed.node, groups)?;
                Ok(Dynamic { node: value, ..normed })
            }
            Some(_) => Err(node.error("normalises a step of another norm")),
            None => {
                let source = self.materialise(node.input(0)?)?;
                let groups = self.shapes[source][0];
                self.group_norm_of(node, source, groups, x.rank)
            }
        }
    }

    /// Reads `GroupNormalization`, which normalises each group of channels.
    pub(super) fn group_norm(&mut self, node: &Reader<'_>) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let source = self.materialise(node.input(0)?)?;
        let groups = usize::try_from(node.int("num_groups", 0)).unwrap_or(0);
        self.group_norm_of(node, source, groups, x.rank)
    }

    fn group_norm_of(
        &mut self,
        node: &Reader<'_>,
        source: usize,
        groups: usize,
        rank: usize,
    ) -> Result<Dynamic, OnnxError> {
        let shape = self.shapes[source];
        if groups == 0 || !shape[0].is_multiple_of(groups) || rank != 4 {
            return Err(node.error(format!("has {groups} groups of {} channels", shape[0])));
        }
        self.check_epsilon(node)?;
        let at = self.push(node.name(), Op::GroupNorm(groups), vec![source], shape);
        let at = self.scaled_and_shifted(node, at, groups)?;
        Ok(Dynamic::of_node(at, 4))
    }

    fn check_epsilon(&self, node: &Reader<'_>) -> Result<(), OnnxError> {
        let epsilon = node.float("epsilon", EPSILON);
        if epsilon == EPSILON {
            return Ok(());
        }
        Err(node
            .error(format!("adds {epsilon} to variances; norms of images with 1e-5 can be packed")))
    }

    /// Adds the factors and summands of a norm, one for each channel, or one for each group.
    fn scaled_and_shifted(
        &mut self,
        node: &Reader<'_>,
        at: usize,
        groups: usize,
    ) -> Result<usize, OnnxError> {
        let shape = self.shapes[at];
        let channels = shape[0];
        let numbers = |input: usize| -> Result<Vec<f32>, OnnxError> {
            let numbers = self.constant(node, input)?.floats();
            match numbers.len() {
                count if count == channels => Ok(numbers),
                count if count == groups => {
                    Ok((0..channels).map(|channel| numbers[channel * groups / channels]).collect())
                }
                count => Err(node.error(format!("has {count} numbers for {channels} channels"))),
            }
        };
        let (scale, shift) = (numbers(1)?, numbers(2)?);
        if scale.iter().all(|scale| *scale == 1.0) && shift.iter().all(|shift| *shift == 0.0) {
            return Ok(at);
        }
        let name = format!("{}: scale and shift", node.name());
        Ok(self.push(&name, Op::Affine { scale, shift }, vec![at], shape))
    }

    /// A change of shape that brings the channels of a group together, or sets them apart again.
    pub(super) fn regrouped(
        &mut self,
        node: &Reader<'_>,
        x: &Dynamic,
        dims: &[usize],
    ) -> Result<Option<Dynamic>, OnnxError> {
        if let Some(Grouped { step, .. }) = x.grouped {
            let shape = self.shapes[x.node];
            if step != Moment::Values || *dims != [&[1], &shape[..]].concat() {
                return Err(node.error("changes the shape between the steps of a norm of groups"));
            }
            return Ok(Some(Dynamic::of_node(x.node, 4)));
        }
        let [1, groups, _] = *dims else { return Ok(None) };
        if x.rank != 4
            || x.squares.is_some()
            || groups == 0
            || !self.channels(x).is_multiple_of(groups)
        {
            return Ok(None);
        }
        let source = self.materialise(node.input(0)?)?;
        let grouped = Some(Grouped { groups, step: Moment::Values });
        Ok(Some(Dynamic { rank: 3, grouped, ..Dynamic::of_node(source, 3) }))
    }

    /// Adds the norm of a value whose groups were brought together.
    fn normalised(
        &mut self,
        node: &Reader<'_>,
        x: &Dynamic,
        groups: usize,
    ) -> Result<Dynamic, OnnxError> {
        self.check_epsilon(node)?;
        let shape = self.shapes[x.node];
        let at = self.push(node.name(), Op::GroupNorm(groups), vec![x.node], shape);
        let grouped = Some(Grouped { groups, step: Moment::Values });
        Ok(Dynamic { rank: 3, grouped, ..Dynamic::of_node(at, 3) })
    }

    /// A node of a normalisation that is written out: one that reads a step of it. `None` for a
    /// node that reads none.
    pub(super) fn moment(&mut self, node: &Reader<'_>) -> Result<Option<Dynamic>, OnnxError> {
        let Ok(x) = self.dynamic(node, 0) else { return Ok(None) };
        let Some(Grouped { groups, step }) = x.grouped else { return Ok(None) };
        if matches!(node.op(), "Reshape" | "InstanceNormalization") {
            return Ok(None);
        }
        let second = self.dynamic(node, 1).ok().filter(|other| other.node == x.node);
        let second = second.and_then(|other| other.grouped).map(|other| other.step);
        let next = match (node.op(), step, second) {
            ("Cast", step, _) => {
                let kinds = [data_type::FLOAT, data_type::DOUBLE].map(i64::from);
                kinds.contains(&node.int("to", 0)).then_some(step)
            }
            ("ReduceMean", Moment::Values | Moment::Squares, _) => {
                let axes = match node.ints("axes") {
                    Some(axes) => axes.to_vec(),
                    None => self.constant(node, 1)?.whole(),
                };
                let last = axes == [2] || axes == [-1];
                (last && node.int("keepdims", 1) == 1).then_some(match step {
                    Moment::Values => Moment::Mean,
                    _ => Moment::Variance,
                })
            }
            ("Sub", Moment::Values, Some(Moment::Mean)) => Some(Moment::Centred),
            ("Mul", Moment::Centred, Some(Moment::Centred)) => Some(Moment::Squares),
            ("Pow", Moment::Centred, _) => {
                (self.constant(node, 1)?.single() == Some(2.0)).then_some(Moment::Squares)
            }
            ("Add", Moment::Variance, _) => (self.constant(node, 1)?.single() == Some(EPSILON))
                .then_some(Moment::VarianceAndEpsilon),
            ("Sqrt", Moment::VarianceAndEpsilon, _) => Some(Moment::Deviation),
            ("Div", Moment::Centred, Some(Moment::Deviation)) => {
                return self.normalised(node, &x, groups).map(Some);
            }
            _ => None,
        };
        let Some(step) = next else {
            return Err(node.error(match node.op() {
                "Transpose" => {
                    "makes a sequence of the positions of an image, as in a transformer, which \
                     cannot be packed"
                }
                _ => "computes with groups of channels what is no step of their normalisation",
            }));
        };
        Ok(Some(Dynamic { grouped: Some(Grouped { groups, step }), ..x }))
    }
}
