//! Command lines of low-bit training, for programs that bring a recipe and data of their own: see
//! [`train`].

pub mod train;
