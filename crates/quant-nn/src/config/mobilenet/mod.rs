//! MobileNet v1 (Howard et al. 2017) and v2 (Sandler et al. 2018).

mod common;
mod v1;
mod v2;

pub(crate) use common::{is_small, scaled};
pub use v1::{MobileNetV1Config, MobileSkip};
pub use v2::MobileNetV2Config;
