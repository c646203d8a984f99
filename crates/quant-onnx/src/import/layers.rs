//! Nodes that depend on the image, by operator.

use quant_infer::model::Op;

use super::{
    dynamic::Dynamic,
    importer::{Importer, Value},
    lazy::Step,
    node::Reader,
};
use crate::{OnnxError, proto::QONNX, tensor::Constant};

/// Other names of the domain of QONNX's operators.
const DOMAINS: [&str; 4] = ["", "ai.onnx", QONNX, "onnx.brevitas"];

impl Importer {
    /// Reads a node of the graph, whose operator decides how.
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
        if let Some(found) = self.moment(node)? {
            return Ok(found);
        }
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
            "InstanceNormalization" => self.instance_norm(node),
            "GroupNormalization" => self.group_norm(node),
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
            op => {
                let advice = match op {
                    "ArgMax" | "TopK" => {
                        "; leave it out of the file: the scores before it are read"
                    }
                    "Sigmoid" => {
                        "; behind the scores it can be left out of the file, and between layers \
                         (as in SiLU) it has to become another function, such as ReLU"
                    }
                    op if op.starts_with("QLinear") || op.ends_with("Integer") => {
                        "; quantize the network to QDQ nodes instead, whose operators are read"
                    }
                    _ => "; docs/exchange.md lists those that can",
                };
                Err(node.error(format!("is no operator that can be packed{advice}")))
            }
        }
    }

    /// Adds a node that keeps the shape.
    pub(super) fn simple(&mut self, node: &Reader<'_>, op: Op) -> Result<Dynamic, OnnxError> {
        let x = self.dynamic(node, 0)?;
        let source = self.materialise(node.input(0)?)?;
        let shape = self.shapes[source];
        let at = self.push(node.name(), op, vec![source], shape);
        Ok(Dynamic { channels_last: x.channels_last, ..Dynamic::of_node(at, x.rank) })
    }
}
