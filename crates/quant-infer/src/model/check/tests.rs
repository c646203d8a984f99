use std::{format, string::ToString, vec};

use super::super::{
    Conv, Dynamic, Input, Model, Node, Op, Quantizer, Term, Terms, Weight, WeightCodes,
};

fn conv(integer: i16, inputs: usize) -> Conv {
    let term = |integers| Terms(vec![Term { scales: vec![0.5], integers }]);
    Conv {
        in_channels: inputs,
        out_channels: 1,
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0, 0],
        dilation: [1, 1],
        groups: 1,
        quantizer: Some(Quantizer {
            groups: 1,
            levels: 2,
            thresholds: vec![0.5],
            values: vec![0.0, 1.0],
            terms: Some(term(vec![0, integer])),
            dynamic: Dynamic::None,
        }),
        pads_codes: false,
        weight: Weight::Codes(WeightCodes {
            levels: 2,
            codes: vec![1; inputs],
            groups: 1,
            run: inputs,
            values: vec![-1.0, 1.0],
            terms: Some(term(vec![-1, i16::MAX])),
        }),
        bias: None,
    }
}

fn model(conv: Conv) -> Model {
    let channels = conv.in_channels;
    let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
    Model {
        name: "test".into(),
        producer: "test".into(),
        classes: vec![],
        input: Input {
            size: [1, 1],
            shorter_side: None,
            scale: vec![1.0; channels],
            shift: vec![0.0; channels],
        },
        nodes: vec![node("input", Op::Input, vec![]), node("fc", Op::Conv(conv.into()), vec![0])],
    }
}

/// Returns the message of a model's check.
fn message(model: &Model) -> alloc::string::String {
    model.check().map_or_else(|error| error.to_string(), |()| "valid".into())
}

#[test]
fn sums_may_just_fit_32_bits() {
    // 32767·32767·2 = 2147352578, which is less than 2³¹ - 1 by 131069.
    assert_eq!(message(&model(conv(i16::MAX, 2))), "valid");
    let message = message(&model(conv(i16::MAX, 3)));
    assert!(message.contains("layer 1 (fc) can reach the sum 3221028867"), "{message}");
    assert!(message.contains("fewer bits"), "{message}");
}

#[test]
fn messages_name_the_layer_and_the_problem() {
    type Change = fn(&mut Conv);
    let cases: [(Change, &str); 9] = [
        (|c| c.groups = 3, "has 3 groups, which do not divide 2 and 1 channels"),
        (|c| c.stride = [0, 1], "has the stride 0"),
        (|c| c.kernel = [2, 1], "has 2 codes of weights, and must have 4"),
        (|c| c.bias = Some(vec![f32::NAN]), "has the bias NaN, which must be finite"),
        (|c| c.bias = Some(vec![]), "has 0 numbers in its bias, and must have 1"),
        (|c| c.padding = [1 << 15; 2], "needs more than"),
        (|c| quantizer(c).thresholds = vec![f32::NAN], "not in ascending order"),
        (|c| quantizer(c).levels = 257, "has 257 levels"),
        (|c| quantizer(c).dynamic = Dynamic::Mean, "depends on the image"),
    ];
    for (change, expected) in cases {
        let mut conv = conv(1, 2);
        change(&mut conv);
        let message = message(&model(conv));
        let expected = format!("the model is not valid: layer 1 (fc) {expected}");
        let (start, end) = expected.split_at("the model is not valid: layer 1 (fc) ".len());
        assert!(message.starts_with(start) && message.contains(end), "{message}: {expected}");
    }
}

fn quantizer(conv: &mut Conv) -> &mut Quantizer {
    conv.quantizer.get_or_insert_with(|| unreachable!("the convolution has a quantizer"))
}

#[test]
fn a_size_without_a_result_is_an_error_of_the_image() {
    let mut model = model(conv(1, 2));
    model.nodes.insert(1, Node { name: "pool".into(), op: Op::AveragePool(2), inputs: vec![0] });
    model.nodes[2].inputs = vec![1];
    model.input.size = [2, 2];
    assert_eq!(message(&model), "valid");
    let error = model.shapes([1, 2]).map_or_else(|error| error.to_string(), |_| "valid".into());
    assert_eq!(
        error,
        "the image has 1 x 2 pixels, which layer 1 (pool) cannot take: it has no position, since \
         its input is too small"
    );
}
