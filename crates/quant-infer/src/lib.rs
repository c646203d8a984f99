//! Packed low-bit networks, in integers and without a training framework.

#![no_std]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod error;
mod image;
pub mod model;
#[doc(hidden)]
pub mod reference;

pub use error::Error;
pub use image::Image;
