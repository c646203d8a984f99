//! The blocks of MobileNet v1 (Howard et al. 2017, table 1). The benchmarks of `quant-infer`
//! include this file, too.

/// The number of output channels and the stride of each block: a depthwise convolution with this
/// stride, and a pointwise one with these outputs.
pub(crate) const BLOCKS: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];
