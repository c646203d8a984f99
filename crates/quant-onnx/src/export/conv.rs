//! Convolutions as sums of integers, and in floats.

use quant_infer::model::{Conv, Quantizer, Terms, Weight, WeightCodes};

use super::{
    exporter::{Codes, Exporter},
    graph::{int, ints},
    weights::{dims, integers},
};
use crate::proto::AttributeProto;

/// The attributes of a convolution with this padding.
pub(super) fn attributes(conv: &Conv, [rows, columns]: [usize; 2]) -> Vec<AttributeProto> {
    vec![
        ints("kernel_shape", conv.kernel),
        ints("strides", conv.stride),
        ints("pads", [rows, columns, rows, columns]),
        ints("dilations", conv.dilation),
        int("group", conv.groups as i64),
    ]
}

/// Why a convolution has no integers.
pub(super) fn reason(conv: &Conv) -> String {
    let reason = match (&conv.quantizer, &conv.weight) {
        (None, Weight::Float(_)) => "neither its input nor its weight is quantized",
        (None, _) => "its input is not quantized",
        (_, Weight::Float(_)) => "its weight is not quantized, or to more than 256 values",
        (Some(Quantizer { terms: None, .. }), _) => {
            "the values of its input are no sums of integers times scales"
        }
        _ => "the values of its weight are no sums of integers times scales",
    };
    reason.to_owned()
}

impl Exporter<'_> {
    /// Adds a convolution.
    pub(super) fn conv(&mut self, name: &str, conv: &Conv, x: &str, reads_image: bool) -> String {
        match (conv.integer_terms(), &conv.quantizer, &conv.weight) {
            (Some(terms), Some(quantizer), Weight::Codes(codes)) => {
                self.sums(name, conv, x, quantizer, codes, terms, reads_image);
            }
            _ => {
                if self.in_floats.last().is_none_or(|(layer, _)| layer != name) {
                    self.in_floats.push((name.to_owned(), reason(conv)));
                }
                self.in_floats(name, conv, x);
            }
        }
        self.graph.rename_last(name)
    }

    fn in_floats(&mut self, name: &str, conv: &Conv, x: &str) {
        let mut padding = conv.padding;
        let mut x = x.to_owned();
        if let Some(quantizer) = &conv.quantizer {
            let value_of_zero = |group| quantizer.value_of(group, quantizer.code_of(group, 0.0));
            if conv.pads_codes && (0..quantizer.groups).any(|group| value_of_zero(group) != 0.0) {
                x = self.padded(name, &x, &mut padding);
            }
            x = self.values(name, quantizer, &x, conv.in_channels);
        }
        let weight = self.float_weight(name, conv);
        let bias = conv
            .bias
            .as_ref()
            .map(|bias| self.graph.floats(&format!("{name}.bias"), &[conv.out_channels], bias));
        let inputs: Vec<&str> = [&*x, &weight].into_iter().chain(bias.as_deref()).collect();
        self.graph.add("Conv", name, &inputs, attributes(conv, padding));
    }

    /// Adds zeros around an image, in place of a convolution's padding.
    pub(super) fn padded(&mut self, name: &str, x: &str, padding: &mut [usize; 2]) -> String {
        if *padding == [0, 0] {
            return x.to_owned();
        }
        let widths = std::mem::take(padding);
        self.pad(&format!("{name}/padded"), x, widths)
    }

    /// Whether the codes of a quantizer are the bytes of the image.
    fn codes_are_bytes(&self, quantizer: &Quantizer, channels: usize) -> bool {
        let input = &self.model.input;
        quantizer.levels == 256
            && channels == input.scale.len()
            && (0..channels).all(|channel| {
                let group = quantizer.group_of(channel, channels);
                (0..=255).all(|byte| quantizer.code_of(group, input.number(channel, byte)) == byte)
            })
    }

    /// Adds a convolution that sums products of integers.
    #[expect(clippy::too_many_arguments, reason = "these are the parts of the convolution")]
    fn sums(
        &mut self,
        name: &str,
        conv: &Conv,
        x: &str,
        quantizer: &Quantizer,
        weights: &WeightCodes,
        (of_input, of_weight): (&Terms, &Terms),
        reads_image: bool,
    ) {
        let (channels, levels) = (conv.in_channels, quantizer.levels);
        let mut padding = conv.padding;
        let mut x = x.to_owned();
        let padded_integers = of_input.0.iter().any(|term| {
            (0..quantizer.groups).any(|group| {
                let code = quantizer.code_of(group, 0.0);
                let row = if term.scales.len() == 1 { 0 } else { group };
                term.integers_of(row, levels)[usize::from(code)] != 0
            })
        });
        let pads = conv.pads_codes && padded_integers && padding != [0, 0];
        let codes = if reads_image && !pads && self.codes_are_bytes(quantizer, channels) {
            self.count_quantizer(true);
            let tensor = self.raw_image.clone();
            Codes { tensor, factor: 1.0, offset: 0.0, channels }
        } else {
            if pads {
                x = self.padded(name, &x, &mut padding);
            }
            self.codes(name, quantizer, &x, channels)
        };
        self.record(name, &codes);
        let of_output = weights.codes.len() / conv.out_channels;
        let groups = of_input.0[0].scales.len();
        let group_of = |channel: usize| channel * groups / channels;
        // The channels that an output reads, and the groups that it reads.
        let per_group = channels / conv.groups;
        let first_of = |output: usize| output / (conv.out_channels / conv.groups) * per_group;
        let single = (0..conv.out_channels)
            .all(|output| group_of(first_of(output)) == group_of(first_of(output) + per_group - 1));
        let mut total: Option<String> = None;
        for (t, input_term) in of_input.0.iter().enumerate() {
            let (plane, power) = self.plane(name, &codes, input_term, levels);
            for group in 0..if single { 1 } else { groups } {
                for (u, weight_term) in of_weight.0.iter().enumerate() {
                    let mut numbers = integers(conv, weights, weight_term);
                    if !single {
                        let taps = conv.kernel[0] * conv.kernel[1];
                        for (at, number) in numbers.iter_mut().enumerate() {
                            let channel = first_of(at / of_output) + at % of_output / taps;
                            if group_of(channel) != group {
                                *number = 0;
                            }
                        }
                    }
                    let one = of_input.0.len() * of_weight.0.len() == 1 && single;
                    let part = if one { String::new() } else { format!("/{t}.{group}.{u}") };
                    let weight =
                        self.integer_weight(&format!("{name}.weight{part}"), &dims(conv), &numbers);
                    let sum = self.graph.add(
                        "Conv",
                        &format!("{name}/sum{part}"),
                        &[&plane, &weight],
                        attributes(conv, padding),
                    );
                    let scales: Vec<f32> = (0..conv.out_channels)
                        .map(|output| {
                            let group = if single { group_of(first_of(output)) } else { group };
                            let of_weight =
                                weight_term.scale_of(weights.group_of(output * of_output));
                            input_term.scale_of(group) * of_weight * power
                        })
                        .collect();
                    let scaled = self.with_constant(
                        "Mul",
                        &format!("{name}/scaled{part}"),
                        &sum,
                        &scales,
                        conv.out_channels,
                    );
                    total = Some(match total {
                        None => scaled,
                        Some(total) => {
                            let name = format!("{name}/total");
                            self.graph.add("Add", &name, &[&total, &scaled], vec![])
                        }
                    });
                }
            }
        }
        if let (Some(bias), Some(total)) = (&conv.bias, total) {
            self.with_constant("Add", &format!("{name}/biased"), &total, bias, conv.out_channels);
        }
    }
}
