//! Layers that are neither convolutions nor quantizers.

use quant_infer::model::{Op, Pool};

use super::{
    exporter::Exporter,
    graph::{float, int, ints, text},
};
use crate::proto::data_type;

impl Exporter<'_> {
    /// Adds a layer whose first input has the shape `from` and whose result has the shape `to`.
    pub(super) fn plain(
        &mut self,
        name: &str,
        op: &Op,
        inputs: &[&str],
        from: [usize; 3],
        to: [usize; 3],
    ) -> String {
        let x = inputs.first().copied().unwrap_or_default();
        let channels = from[0];
        match op {
            Op::Input => self.image(name),
            Op::Affine { scale, shift } => self.norm(name, x, scale, shift),
            Op::AddScalar(number) => self.scalar("Add", name, x, *number),
            Op::MulScalar(number) => self.scalar("Mul", name, x, *number),
            Op::Relu => self.graph.add("Relu", name, &[x], vec![]),
            Op::Relu6 => {
                let lowest = self.graph.scalar(&format!("{name}.lowest"), 0.0);
                let highest = self.graph.scalar(&format!("{name}.highest"), 6.0);
                self.graph.add("Clip", name, &[x, &lowest, &highest], vec![])
            }
            Op::LeakyRelu(slope) => {
                self.graph.add("LeakyRelu", name, &[x], vec![float("alpha", *slope)])
            }
            Op::RPRelu { before, slope, after } => {
                let step = format!("{name}/steps");
                let list = |numbers: &[f32]| numbers.to_vec();
                let x = self.with_constant("Sub", &step, x, &list(before), channels);
                let slope = self.graph.floats(&format!("{name}.slope"), &[channels, 1, 1], slope);
                let x = self.graph.add("PRelu", &step, &[&x, &slope], vec![]);
                let after = self.graph.floats(&format!("{name}.after"), &[channels, 1, 1], after);
                self.graph.add("Add", name, &[&x, &after], vec![])
            }
            Op::GroupNorm(groups) => self.group_norm(name, x, *groups, from),
            Op::AveragePool(side) => {
                let attributes =
                    vec![ints("kernel_shape", [*side; 2]), ints("strides", [*side; 2])];
                self.graph.add("AveragePool", name, &[x], attributes)
            }
            Op::MaxPool(pool) => self.max_pool(name, x, pool),
            Op::GlobalPool => self.graph.add("GlobalAveragePool", name, &[x], vec![]),
            Op::SpaceToDepth(side) => {
                let [c, h, w] = [from[0], to[1], to[2]];
                let step = format!("{name}/steps");
                let x = self.reshape(&step, x, &[c, h, *side, w, *side]);
                let order = vec![ints("perm", [0, 1, 3, 5, 2, 4])];
                let x = self.graph.add("Transpose", &step, &[&x], order);
                self.reshape(name, &x, &to)
            }
            Op::DepthToSpace(side) => {
                let attributes = vec![int("blocksize", *side as i64), text("mode", "CRD")];
                self.graph.add("DepthToSpace", name, &[x], attributes)
            }
            Op::Pad(width) => self.pad(name, x, [*width; 2]),
            Op::Repeat(times) => {
                self.graph.add("Concat", name, &vec![x; *times], vec![int("axis", 1)])
            }
            Op::Concatenate => self.graph.add("Concat", name, inputs, vec![int("axis", 1)]),
            Op::Add => {
                let mut sum = x.to_owned();
                if inputs.len() == 1 {
                    return self.graph.add("Identity", name, &[x], vec![]);
                }
                for input in &inputs[1..] {
                    sum = self.graph.add("Add", &format!("{name}/sum"), &[&sum, input], vec![]);
                }
                self.graph.rename_last(name)
            }
            Op::Flatten if from[1..] == [1, 1] => x.to_owned(),
            Op::Flatten => self.reshape(name, x, &to),
            // These are written elsewhere.
            Op::Conv(_) | Op::Quantize(_) => x.to_owned(),
        }
    }

    /// Adds the normalisation of the image's bytes.
    fn image(&mut self, name: &str) -> String {
        let input = &self.model.input;
        let channels = input.scale.len();
        let image = self.graph.name("image");
        let to_float = vec![int("to", data_type::FLOAT.into())];
        self.raw_image = self.graph.add("Cast", "image/bytes", &[&image], to_float);
        let bytes = self.raw_image.clone();
        let name = format!("{name}/normalised");
        let scaled = self.with_constant("Mul", &name, &bytes, &input.scale, channels);
        self.with_constant("Add", &name, &scaled, &input.shift, channels)
    }

    /// Adds a batch norm whose mean is 0 and whose variance is 1.
    fn norm(&mut self, name: &str, x: &str, scale: &[f32], shift: &[f32]) -> String {
        let channels = scale.len();
        let zeros = vec![0.0; channels];
        let ones = vec![1.0; channels];
        let mut list = |part: &str, numbers: &[f32]| {
            self.graph.floats(&format!("{name}.{part}"), &[channels], numbers)
        };
        let scale = list("weight", scale);
        let shift = list("bias", shift);
        let mean = list("running_mean", &zeros);
        let variance = list("running_var", &ones);
        let inputs = [x, &scale, &shift, &mean, &variance];
        self.graph.add("BatchNormalization", name, &inputs, vec![float("epsilon", 0.0)])
    }

    fn scalar(&mut self, op: &str, name: &str, x: &str, number: f32) -> String {
        let number = self.graph.scalar(&format!("{name}.value"), number);
        self.graph.add(op, name, &[x, &number], vec![])
    }

    /// Adds a change of shape that keeps the images.
    pub(super) fn reshape(&mut self, name: &str, x: &str, shape: &[usize]) -> String {
        let shape: Vec<i64> =
            [0].into_iter().chain(shape.iter().map(|side| *side as i64)).collect();
        let shape = self.graph.list(&format!("{name}.shape"), &shape);
        self.graph.add("Reshape", name, &[x, &shape], vec![])
    }

    /// Adds zeros above, below, left and right.
    pub(super) fn pad(&mut self, name: &str, x: &str, [rows, columns]: [usize; 2]) -> String {
        let (rows, columns) = (rows as i64, columns as i64);
        let widths = [0, 0, rows, columns, 0, 0, rows, columns];
        let widths = self.graph.list(&format!("{name}.widths"), &widths);
        self.graph.add("Pad", name, &[x, &widths], vec![text("mode", "constant")])
    }

    fn max_pool(&mut self, name: &str, x: &str, pool: &Pool) -> String {
        let attributes = vec![
            ints("kernel_shape", [pool.kernel; 2]),
            ints("strides", [pool.stride; 2]),
            ints("pads", [pool.padding; 4]),
            int("ceil_mode", i64::from(pool.ceil)),
        ];
        self.graph.add("MaxPool", name, &[x], attributes)
    }

    /// Adds a normalisation of groups, whose sums are of 64-bit floats.
    fn group_norm(&mut self, name: &str, x: &str, groups: usize, shape: [usize; 3]) -> String {
        let step = format!("{name}/steps");
        let to_double = vec![int("to", data_type::DOUBLE.into())];
        let to_float = || vec![int("to", data_type::FLOAT.into())];
        let length = shape.iter().product::<usize>() / groups;
        let x = self.reshape(&step, x, &[groups, length]);
        let wide = self.graph.add("Cast", &step, &[&x], to_double);
        let mean = self.mean(&step, &wide, &[2]);
        let difference = self.graph.add("Sub", &step, &[&wide, &mean], vec![]);
        let squares = self.graph.add("Mul", &step, &[&difference, &difference], vec![]);
        let variance = self.mean(&step, &squares, &[2]);
        let mean = self.graph.add("Cast", &step, &[&mean], to_float());
        let variance = self.graph.add("Cast", &step, &[&variance], to_float());
        let variance = self.with_constant("Add", &step, &variance, &[1e-5], 1);
        let deviation = self.graph.add("Sqrt", &step, &[&variance], vec![]);
        let centred = self.graph.add("Sub", &step, &[&x, &mean], vec![]);
        let normal = self.graph.add("Div", &step, &[&centred, &deviation], vec![]);
        self.reshape(name, &normal, &shape)
    }
}
