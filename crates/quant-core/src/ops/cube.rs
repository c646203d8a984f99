//! GPU backends: for now the composed fallback, fused by Burn.

use burn_cubecl::CubeBackend;

use super::QuantOps;

impl QuantOps for CubeBackend {}
