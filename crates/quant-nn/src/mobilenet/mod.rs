//! MobileNet v1 (Howard et al. 2017) and v2 (Sandler et al. 2018).

mod v1;
mod v2;

use crate::{
    error::NetworkError,
    network::check_data,
    resnet::{Order, Quantization},
};
pub use v1::{MobileNetV1Config, MobileSkip};
pub use v2::MobileNetV2Config;

/// The default of `width_alpha`: the papers' channels.
fn full() -> f64 {
    1.0
}

/// The default of `order`.
fn cbas() -> Order {
    Order::Cbas
}

/// Whether images are as small as CIFAR's, so that a stride of the network is left out.
fn is_small(input_size: usize) -> bool {
    input_size <= 32
}

fn scaled(channels: usize, alpha: f64) -> usize {
    (channels as f64 * alpha) as usize
}

/// Checks what both configurations have in common.
fn check(
    [classes, input_size]: [usize; 2],
    alpha: f64,
    quantization: &Quantization,
) -> Result<(), NetworkError> {
    check_data(classes, input_size)?;
    let field =
        |field, value: String, accepted| Err(NetworkError::Field { field, value, accepted });
    if !alpha.is_finite() || scaled(16, alpha) == 0 || alpha > 64.0 {
        return field("width_alpha", alpha.to_string(), "1/16 to 64");
    }
    quantization.validate()
}

fn order_error(order: Order, accepted: &'static str) -> NetworkError {
    NetworkError::Field { field: "order", value: order.letters().to_owned(), accepted }
}
