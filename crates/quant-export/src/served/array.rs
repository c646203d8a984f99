//! Values on the host.

use burn::tensor::Tensor;
use rayon::prelude::*;

/// The values of a node for several images.
#[derive(Debug, Clone)]
pub(super) struct Array {
    pub(super) images: usize,
    /// Channels, height and width.
    pub(super) shape: [usize; 3],
    /// `[images, channels, height, width]` row-major.
    pub(super) values: Vec<f32>,
}

impl Array {
    pub(super) fn of(tensor: Tensor<4>) -> Self {
        let [images, channels, height, width] = tensor.dims();
        let values = tensor.into_data().convert::<f32>().iter().collect();
        Self { images, shape: [channels, height, width], values }
    }

    /// The elements of an image.
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub(super) fn positions(&self) -> usize {
        self.shape[1] * self.shape[2]
    }

    /// The images, one after another.
    pub(super) fn each(&self) -> impl IndexedParallelIterator<Item = &[f32]> {
        self.values.par_chunks(self.elements().max(1))
    }

    /// f of the channel and the number of each element.
    pub(super) fn map(&self, f: impl Fn(usize, f32) -> f32 + Sync) -> Self {
        let positions = self.positions();
        let image = |image: &[f32]| -> Vec<f32> {
            let planes = image.chunks(positions).enumerate();
            planes
                .flat_map(|(channel, plane)| plane.iter().map(move |x| (channel, *x)))
                .map(|(channel, x)| f(channel, x))
                .collect()
        };
        self.with(self.shape, image)
    }

    /// Another array of this shape, whose images `f` makes of the images of this one.
    pub(super) fn with(
        &self,
        shape: [usize; 3],
        f: impl Fn(&[f32]) -> Vec<f32> + Sync + Send,
    ) -> Self {
        let values: Vec<Vec<f32>> = self.each().map(f).collect();
        Self { images: self.images, shape, values: values.concat() }
    }
}

/// The numbers of an image, by channel, row and column.
#[derive(Clone, Copy)]
pub(super) struct Image<'a> {
    pub(super) values: &'a [f32],
    pub(super) shape: [usize; 3],
}

impl Image<'_> {
    pub(super) fn at(&self, channel: usize, y: usize, x: usize) -> f32 {
        self.values[(channel * self.shape[1] + y) * self.shape[2] + x]
    }
}

/// An image whose number at each place is f of channel, row and column.
pub(super) fn image(
    [channels, height, width]: [usize; 3],
    f: impl Fn(usize, usize, usize) -> f32,
) -> Vec<f32> {
    let mut values = Vec::with_capacity(channels * height * width);
    for channel in 0..channels {
        for y in 0..height {
            values.extend((0..width).map(|x| f(channel, y, x)));
        }
    }
    values
}

/// Adds `edge(channel)` on every side of the planes of an image: this many rows above and below,
/// and this many columns beside.
pub(super) fn padded<T: Copy>(
    image: &[T],
    [channels, height, width]: [usize; 3],
    [rows, columns]: [usize; 2],
    edge: impl Fn(usize) -> T,
) -> Vec<T> {
    let wide = width + 2 * columns;
    let mut values = Vec::with_capacity(channels * (height + 2 * rows) * wide);
    for channel in 0..channels {
        let edge = edge(channel);
        let row = |values: &mut Vec<T>, count: usize| values.resize(values.len() + count, edge);
        row(&mut values, rows * wide);
        for y in 0..height {
            row(&mut values, columns);
            values.extend_from_slice(&image[(channel * height + y) * width..][..width]);
            row(&mut values, columns);
        }
        row(&mut values, rows * wide);
    }
    values
}
