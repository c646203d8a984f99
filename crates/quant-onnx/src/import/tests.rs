//! Small files, whose results are computed by hand here.

use quant_infer::{Image, model::Op, reference};

use super::{ImportOptions, Imported, import};
use crate::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_type, data_type,
};
use prost::Message;

fn value(name: &str, sides: &[i64]) -> ValueInfoProto {
    let side = |side: &i64| DimensionProto { dim_value: Some(*side), dim_param: None };
    let shape = TensorShapeProto { dim: sides.iter().map(side).collect() };
    let kind = TensorTypeProto { elem_type: Some(data_type::FLOAT), shape: Some(shape) };
    ValueInfoProto {
        name: Some(name.to_owned()),
        kind: Some(TypeProto { tensor_type: Some(kind) }),
    }
}

fn floats(name: &str, dims: &[i64], numbers: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(data_type::FLOAT),
        raw_data: Some(numbers.iter().flat_map(|number| number.to_le_bytes()).collect()),
        ..TensorProto::default()
    }
}

fn whole(name: &str, numbers: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: vec![numbers.len() as i64],
        data_type: Some(data_type::INT64),
        raw_data: Some(numbers.iter().flat_map(|number| number.to_le_bytes()).collect()),
        ..TensorProto::default()
    }
}

fn ints(name: &str, numbers: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        ints: numbers.to_vec(),
        kind: Some(attribute_type::INTS),
        ..AttributeProto::default()
    }
}

fn int(name: &str, number: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        i: Some(number),
        kind: Some(attribute_type::INT),
        ..AttributeProto::default()
    }
}

fn text(name: &str, text: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        s: Some(text.as_bytes().to_vec()),
        kind: Some(attribute_type::STRING),
        ..AttributeProto::default()
    }
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|input| (*input).to_owned()).collect(),
        output: vec![output.to_owned()],
        name: Some(output.to_owned()),
        op_type: Some(op.to_owned()),
        attribute,
        domain: None,
    }
}

/// Reads a file with an image `[1, channels, side, side]` and the result `out`.
fn read(
    [channels, side]: [i64; 2],
    node: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
) -> Result<Imported, crate::OnnxError> {
    let graph = GraphProto {
        node,
        initializer,
        input: vec![value("image", &[1, channels, side, side])],
        output: vec![value("out", &[])],
        ..GraphProto::default()
    };
    let file = ModelProto { graph: Some(graph), ..ModelProto::default() };
    import(&file.encode_to_vec(), &ImportOptions::default())
}

/// Numbers of an image, which are small multiples of 1/4, so that sums are exact.
fn image(count: usize) -> Vec<f32> {
    (0..count).map(|at| (at * 37 % 11) as f32 / 4.0 - 1.0).collect()
}

fn scores(imported: &Imported, numbers: &[f32], side: usize) -> Vec<f32> {
    let trace = reference::run(&imported.model, &Image::floats(numbers, [side, side])).unwrap();
    trace.scores().to_vec()
}

/// A convolution of one channel with zeros above, to the left, below and to the right.
fn convolved(
    x: &[f32],
    side: usize,
    weight: &[f32],
    kernel: usize,
    [top, left, bottom, right]: [usize; 4],
    stride: usize,
) -> Vec<f32> {
    let along = |before: usize, after: usize| (side + before + after - kernel) / stride + 1;
    let mut y = Vec::new();
    for row in 0..along(top, bottom) {
        for column in 0..along(left, right) {
            let mut sum = 0.0;
            for (at, weight) in weight.iter().enumerate() {
                let (r, c) = (row * stride + at / kernel, column * stride + at % kernel);
                let inside =
                    |at: usize, before: usize| at.checked_sub(before).filter(|at| *at < side);
                if let (Some(r), Some(c)) = (inside(r, top), inside(c, left)) {
                    sum += x[r * side + c] * weight;
                }
            }
            y.push(sum);
        }
    }
    y
}

#[test]
fn padding_may_differ_between_opposite_sides() {
    let weight: Vec<f32> = (0..9).map(|at| at as f32 - 3.5).collect();
    for pads in [[0, 0, 1, 1], [1, 0, 0, 2], [2, 1, 1, 1], [1, 1, 1, 1], [0, 2, 0, 0]] {
        for stride in [1, 2] {
            let side = 6;
            let x = image(side * side);
            let sides = pads.map(|pad| pad as i64);
            let strides = ints("strides", &[stride as i64; 2]);
            let w = || floats("w", &[1, 1, 3, 3], &weight);
            let of_node = read(
                [1, 6],
                vec![
                    node("Conv", &["image", "w"], "c", vec![ints("pads", &sides), strides.clone()]),
                    node("Flatten", &["c"], "out", vec![]),
                ],
                vec![w()],
            );
            let [top, left, bottom, right] = sides;
            let of_pad = read(
                [1, 6],
                vec![
                    node("Pad", &["image", "p"], "padded", vec![]),
                    node("Conv", &["padded", "w"], "c", vec![strides]),
                    node("Flatten", &["c"], "out", vec![]),
                ],
                vec![w(), whole("p", &[0, 0, top, left, 0, 0, bottom, right])],
            );
            let expected = convolved(&x, side, &weight, 3, pads, stride);
            for found in [of_node, of_pad] {
                assert_eq!(scores(&found.unwrap(), &x, side), expected, "{pads:?} {stride}");
            }
        }
    }
}

#[test]
fn same_padding_puts_an_odd_row_at_the_end_or_at_the_beginning() {
    let weight: Vec<f32> = (0..9).map(|at| at as f32 - 3.5).collect();
    let x = image(36);
    for (kind, pads) in [("SAME_UPPER", [0, 0, 1, 1]), ("SAME_LOWER", [1, 1, 0, 0])] {
        let attributes = vec![text("auto_pad", kind), ints("strides", &[2, 2])];
        let found = read(
            [1, 6],
            vec![
                node("Conv", &["image", "w"], "c", attributes),
                node("Flatten", &["c"], "out", vec![]),
            ],
            vec![floats("w", &[1, 1, 3, 3], &weight)],
        );
        let expected = convolved(&x, 6, &weight, 3, pads, 2);
        assert_eq!(scores(&found.unwrap(), &x, 6), expected, "{kind}");
    }
}

#[test]
fn zeros_of_a_kernel_are_codes_of_a_quantized_weight() {
    // A weight of one bit gets a third value, and the codes of the input stay.
    let weight = [1.0, -1.0, -1.0, 1.0];
    let found = read(
        [1, 6],
        vec![
            node("Clip", &["image", "low", "high"], "clipped", vec![]),
            node("Round", &["clipped"], "codes", vec![]),
            node("Conv", &["codes", "w"], "c", vec![ints("pads", &[1, 0, 0, 1])]),
            node("Flatten", &["c"], "out", vec![]),
        ],
        vec![
            floats("w", &[1, 1, 2, 2], &weight),
            floats("low", &[], &[0.0]),
            floats("high", &[], &[3.0]),
        ],
    );
    let found = found.unwrap();
    assert_eq!(found.layers(), (1, 1));
    let x = image(36);
    let codes: Vec<f32> = x.iter().map(|x| x.clamp(0.0, 3.0).round_ties_even()).collect();
    assert_eq!(scores(&found, &x, 6), convolved(&codes, 6, &weight, 2, [1, 0, 0, 1], 1));
}

#[test]
fn a_maximum_may_have_further_rows_at_the_end() {
    let pool = |pads: &[i64]| {
        let attributes =
            vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", pads)];
        read(
            [1, 6],
            vec![
                node("MaxPool", &["image"], "p", attributes),
                node("Flatten", &["p"], "out", vec![]),
            ],
            vec![],
        )
    };
    let x = image(36);
    let found = scores(&pool(&[0, 0, 1, 1]).unwrap(), &x, 6);
    let expected: Vec<f32> = (0..9)
        .map(|at| {
            let inside = (0..9).map(|k| (at / 3 * 2 + k / 3, at % 3 * 2 + k % 3));
            let inside = inside.filter(|(row, column)| *row < 6 && *column < 6);
            inside.map(|(row, column)| x[row * 6 + column]).fold(f32::NEG_INFINITY, f32::max)
        })
        .collect();
    assert_eq!(found, expected);
    let error = pool(&[1, 0, 0, 1]).unwrap_err().to_string();
    assert!(error.contains("p (MaxPool) pads [1, 0, 0, 1]"), "{error}");
}

/// Normalises groups of an image `[channels, positions]`.
fn normalised(x: &[f32], groups: usize) -> Vec<f32> {
    let count = x.len() / groups;
    let of_group = |x: &[f32]| {
        let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / count as f64;
        let squares = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>();
        let deviation = ((squares / count as f64) as f32 + 1e-5).sqrt();
        x.iter().map(|x| (x - mean as f32) / deviation).collect::<Vec<f32>>()
    };
    x.chunks(count).flat_map(of_group).collect()
}

#[test]
fn norms_of_images_become_norms_of_groups() {
    let x = image(4 * 9);
    let scale = [1.0, 2.0, -1.0, 0.5];
    let shift = [0.0, 1.0, 0.5, -2.0];
    let scaled = |numbers: Vec<f32>| -> Vec<f32> {
        let of = |(at, x): (usize, &f32)| x * scale[at / 9] + shift[at / 9];
        numbers.iter().enumerate().map(of).collect()
    };
    let constants = |count: i64, scale: &[f32], shift: &[f32]| {
        vec![floats("scale", &[count], scale), floats("shift", &[count], shift)]
    };
    let inputs = ["image", "scale", "shift"];
    let flat = || node("Flatten", &["n"], "out", vec![]);
    let instance = vec![node("InstanceNormalization", &inputs, "n", vec![]), flat()];
    let found = read([4, 3], instance, constants(4, &scale, &shift)).unwrap();
    assert!(found.model.nodes.iter().any(|node| node.op == Op::GroupNorm(4)));
    assert_eq!(scores(&found, &x, 3), scaled(normalised(&x, 4)));
    let groups = || vec![int("num_groups", 2)];
    let group = vec![node("GroupNormalization", &inputs, "n", groups()), flat()];
    let found = read([4, 3], group, constants(4, &scale, &shift)).unwrap();
    assert_eq!(scores(&found, &x, 3), scaled(normalised(&x, 2)));
    // As PyTorch writes it for older versions of the operators.
    let apart = vec![
        node("Reshape", &["image", "to"], "r", vec![]),
        node("InstanceNormalization", &["r", "one", "zero"], "g", vec![]),
        node("Reshape", &["g", "back"], "b", vec![]),
        node("Mul", &["b", "factor"], "m", vec![]),
        node("Add", &["m", "summand"], "n", vec![]),
        flat(),
    ];
    let constants = vec![
        whole("to", &[0, 2, -1]),
        whole("back", &[0, 4, 3, 3]),
        floats("one", &[2], &[1.0; 2]),
        floats("zero", &[2], &[0.0; 2]),
        floats("factor", &[4, 1, 1], &scale),
        floats("summand", &[4, 1, 1], &shift),
    ];
    let found = read([4, 3], apart, constants).unwrap();
    assert_eq!(scores(&found, &x, 3), scaled(normalised(&x, 2)));
}

#[test]
fn a_norm_of_images_with_another_epsilon_is_refused() {
    let epsilon = AttributeProto {
        name: Some("epsilon".to_owned()),
        f: Some(1e-3),
        kind: Some(attribute_type::FLOAT),
        ..AttributeProto::default()
    };
    let found = read(
        [4, 3],
        vec![
            node("InstanceNormalization", &["image", "scale", "shift"], "n", vec![epsilon]),
            node("Flatten", &["n"], "out", vec![]),
        ],
        vec![floats("scale", &[4], &[1.0; 4]), floats("shift", &[4], &[0.0; 4])],
    );
    let error = found.unwrap_err().to_string();
    assert!(error.contains("n (InstanceNormalization) adds 0.001 to variances"), "{error}");
}
