//! Operations that networks need around quantizers: padding that is not kept for the backward pass,
//! and maps that the host computes.

use std::{fmt, sync::Arc};

use burn::{
    backend::{
        AutodiffBackend, Backend, Dispatch, TensorMetadata,
        autodiff::{
            Autodiff, NodeId,
            checkpoint::{
                base::Checkpointer,
                retro_forward::RetroForward,
                state::BackwardStates,
                strategy::{BalancedCheckpointing, CheckpointStrategy},
            },
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::{Slice, Tensor, TensorData, try_read_sync},
};

use super::autodiff::Source;

/// Operations on tensors with hand-written backward passes. They are composed of tensor operations
/// on every backend.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    Cube: cfg(feature = "cube"),
    Autodiff,
    Fusion: cfg(feature = "cube"),
)]
pub trait TensorOps: Backend {
    /// Returns x, `[batch, channels, height, width]`, with `zeros` zeros on every side. The
    /// autodiff backend computes the result again when the backward pass asks for it.
    #[fusion(
        dtype = x,
        shape = burn::tensor::Shape::from([x[0], x[1], x[2] + 2 * zeros, x[3] + 2 * zeros])
    )]
    fn pad(x: FloatTensor<Self>, zeros: usize) -> FloatTensor<Self> {
        composed_pad::<Self>(x, zeros)
    }

    /// Returns `value`, whose gradient is passed to x through `map`. The autodiff backend overrides
    /// it; all other backends return `value`.
    #[fusion(dtype = value, shape = value)]
    fn mapped_tracked(
        value: FloatTensor<Self>,
        x: FloatTensor<Self>,
        map: GradientMap,
    ) -> FloatTensor<Self> {
        let _only_backward = (x, map);
        value
    }
}

#[cfg(feature = "flex")]
impl TensorOps for burn::backend::Flex {}

#[cfg(feature = "cube")]
impl TensorOps for burn_cubecl::CubeBackend {}

/// Implements [`TensorOps::pad`] by tensor operations.
fn composed_pad<B: Backend>(x: FloatTensor<B>, zeros: usize) -> FloatTensor<B> {
    let [batch, channels, height, width] = x.shape().dims();
    let shape = [batch, channels, height + 2 * zeros, width + 2 * zeros];
    let around = B::float_zeros(shape.into(), &x.device(), x.dtype().into());
    B::float_slice_assign(around, &inside_padding([height, width], zeros), x)
}

/// Returns the slices of a padded tensor that contain the tensor itself.
fn inside_padding([height, width]: [usize; 2], zeros: usize) -> [Slice; 4] {
    let along = |size: usize| Slice::from(zeros..zeros + size);
    [Slice::from(..), Slice::from(..), along(height), along(width)]
}

#[derive(Debug)]
struct PadBackward;

impl<B: Backend + TensorOps> Backward<B, 1> for PadBackward {
    /// The number of zeros on every side.
    type State = usize;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        if let Some(node) = node {
            let [_, _, height, width] = grad.shape().dims();
            let size = [height, width].map(|size| size - 2 * ops.state);
            let inner = B::float_slice(grad, &inside_padding(size, ops.state));
            grads.register::<B>(node.id, inner);
        }
    }
}

#[derive(Debug)]
struct RecomputePadding<B: Backend> {
    x: Source<B>,
    zeros: usize,
}

impl<B: Backend + TensorOps> RetroForward for RecomputePadding<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let x = self.x.value(states);
        states.save(out_node, B::pad(x, self.zeros));
    }
}

#[derive(Debug)]
struct MappedBackward;

impl<B: Backend + TensorOps> Backward<B, 1> for MappedBackward {
    type State = GradientMap;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let Some(node) = node else {
            return;
        };
        let (shape, device, dtype) = (grad.shape(), grad.device(), grad.dtype());
        let read = try_read_sync(B::float_into_data(grad));
        let values =
            read.and_then(Result::ok).expect("gradients can be read where threads can wait");
        let mapped = (ops.state.0)(values.iter::<f32>().collect());
        let mapped = TensorData::new(mapped, shape).convert_dtype(dtype);
        grads.register::<B>(node.id, B::float_from_data(mapped, &device));
    }
}

impl<B: Backend + TensorOps, C: CheckpointStrategy> TensorOps for Autodiff<B, C> {
    fn mapped_tracked(
        value: FloatTensor<Self>,
        x: FloatTensor<Self>,
        map: GradientMap,
    ) -> FloatTensor<Self> {
        let value = value.into_primitive();
        match MappedBackward.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(map, value),
            OpsKind::UnTracked(prepared) => prepared.finish(value),
        }
    }

    fn pad(x: FloatTensor<Self>, zeros: usize) -> FloatTensor<Self> {
        if !x.is_tracked() {
            return Self::from_inner(B::pad(x.into_primitive(), zeros));
        }
        let recompute = RecomputePadding { x: Source::of::<C>(&x), zeros };
        let prepared = PadBackward
            .prepare::<BalancedCheckpointing>([x.node()])
            .memory_bound()
            .retro_forward(recompute)
            .parents([&x]);
        match prepared.stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(zeros, B::pad(x.into_primitive(), zeros)),
            OpsKind::UnTracked(prepared) => prepared.finish(B::pad(x.into_primitive(), zeros)),
        }
    }
}

/// The function that is applied to the values of a gradient in the backward pass.
#[derive(Clone)]
pub struct GradientMap(Arc<dyn Fn(Vec<f32>) -> Vec<f32> + Send + Sync>);

impl fmt::Debug for GradientMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GradientMap")
    }
}

/// Applies `map` to the values of x, and to the values of the gradient in the backward pass. This
/// is right for linear maps that are their own transpose. It serves maps that the device does not
/// compute, such as a sum over processes. `map` has to keep the number of values.
pub fn mapped_on_host<const D: usize>(
    x: Tensor<D>,
    map: impl Fn(Vec<f32>) -> Vec<f32> + Send + Sync + 'static,
) -> Tensor<D> {
    let fixed = x.clone().inner();
    let (shape, device, dtype) = (fixed.shape(), fixed.device(), fixed.dtype());
    let values = map(fixed.into_data().iter::<f32>().collect());
    let value = Tensor::<D>::from_data(TensorData::new(values, shape), &device).cast(dtype);
    if !x.device().is_autodiff() {
        return value;
    }
    Tensor::from_dispatch(<Dispatch as TensorOps>::mapped_tracked(
        Tensor::from_inner(value).into_dispatch(),
        x.into_dispatch(),
        GradientMap(Arc::new(map)),
    ))
}

/// Returns x with `zeros` zeros on every side. The result is not kept for the backward pass but
/// computed again.
pub fn padded(x: Tensor<4>, zeros: usize) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as TensorOps>::pad(x.into_dispatch(), zeros))
}
