//! Builds networks. Each structure has a file that turns its configuration into modules and a
//! graph, with the builder that all of them use.

mod builder;
mod init;
mod mobilenet_v1;
mod mobilenet_v1_blocks;
mod mobilenet_v2;
mod nin;
mod resnet;
mod vgg_small;

pub use init::init_seeded;
