//! What serving needs of a quantizer of activations: its codes and values group by group, and the
//! part that depends on the image.

use burn::tensor::{Device, Tensor, TensorData};

use crate::{
    codes::Codes,
    host,
    image_scale::ImageScale,
    methods::{Parameters, each_method},
    quantizer::Quantizer,
};

impl Quantizer {
    /// Returns the number of channels of the tensor that is quantized.
    pub fn channels(&self) -> usize {
        self.site.shape[self.channel_axis()]
    }

    /// Returns the quantizer without the part that depends on the image, and this part, where there
    /// is one. What is returned quantizes x - shift, or x/f, to values without their factor.
    pub fn without_image_scale(&self) -> (Quantizer, Option<ImageScale>) {
        let mut quantizer = self.clone();
        let scale = each_method!(&mut quantizer.method, method => method.take_image_scale());
        (quantizer, scale)
    }

    /// Returns the codes of `x`, which is `[groups, count]`, row-major. Row g has the numbers of
    /// group g. The result has the same shape. This is for quantizers of activations and outputs
    /// whose codes do not depend on the image.
    ///
    /// # Panics
    /// Panics where the numbers are not equally many for each group.
    pub fn codes_by_group(&self, x: &[f32], device: &Device) -> Vec<u8> {
        let (groups, channels) = (self.groups(), self.channels());
        assert!(x.len().is_multiple_of(groups), "{}: {groups} equal rows", self.name());
        let count = x.len() / groups;
        if count == 0 {
            return Vec::new();
        }
        // The numbers of a group lie on its channels, on as many rows as it takes.
        let of_group = channels / groups;
        let rows = count.div_ceil(of_group);
        let mut laid = Vec::with_capacity(rows * channels);
        for numbers in x.chunks(count) {
            laid.extend_from_slice(numbers);
            laid.resize(laid.len() + rows * of_group - count, 0.0);
        }
        let laid = Tensor::<4>::from_data(TensorData::new(laid, [1, channels, rows, 1]), device);
        let codes = host::codes(self.codes(laid).codes);
        let of_groups = codes.chunks(rows * of_group).take(groups);
        of_groups.flat_map(|codes| &codes[..count]).copied().collect()
    }

    /// Returns the values that the codes stand for, for each group in ascending order of the codes.
    /// This is for quantizers of activations and outputs whose values do not depend on the image.
    pub fn values_by_group(&self, device: &Device) -> Vec<Vec<f32>> {
        let zeros = Tensor::<4>::zeros([1, self.channels(), 1, 1], device);
        let Codes { decoding, .. } = self.codes(zeros);
        let count = decoding.count(self.config().levels);
        decoding.all_values((self.groups(), count), self.channel_axis(), device)
    }
}
