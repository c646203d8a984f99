//! What the configurations of both MobileNets have in common.

use crate::{
    config::{
        quantization::Quantization,
        range::{check_data, check_field},
        resnet::Order,
    },
    error::NetworkError,
};

/// The default of `width_alpha`: the channels of the papers.
pub(super) fn full() -> f64 {
    1.0
}

/// The default of `order`.
pub(super) fn cbas() -> Order {
    Order::Cbas
}

/// Returns whether images are as small as CIFAR's, so that a stride of the network is left out.
pub(crate) fn is_small(input_size: usize) -> bool {
    input_size <= 32
}

/// Returns a number of channels times the factor `width_alpha`, rounded down.
pub(crate) fn scaled(channels: usize, alpha: f64) -> usize {
    (channels as f64 * alpha) as usize
}

/// Checks the fields that both configurations have.
pub(super) fn validate(
    [classes, input_size]: [usize; 2],
    alpha: f64,
    quantization: &Quantization,
) -> Result<(), NetworkError> {
    check_data(classes, input_size)?;
    let fits = alpha.is_finite() && scaled(16, alpha) > 0 && alpha <= 64.0;
    check_field(fits, "width_alpha", alpha, "1/16 to 64")?;
    quantization.validate()
}
