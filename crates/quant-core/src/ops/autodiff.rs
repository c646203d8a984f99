//! The hand-written backward, for every backend and checkpointing strategy.

use burn::{
    backend::{
        Backend, TensorMetadata,
        autodiff::{
            Autodiff,
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        tensor::FloatTensor,
    },
    tensor::{TensorData, try_read_sync},
};

use super::{GradientMap, QuantOps};

#[derive(Debug)]
struct ClipQuantizeBackward;

/// What backward needs: the inputs, and how to differentiate.
#[derive(Debug, Clone)]
struct State<T> {
    x: T,
    clip: T,
    steps: f32,
    signed: bool,
    rescale: bool,
    learned_bound: bool,
    clip_gradient_scale: f32,
}

impl<B: Backend + QuantOps> Backward<B, 2> for ClipQuantizeBackward {
    type State = State<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [node_x, node_clip] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let s = ops.state;
        let (grad_x, grad_clip) = B::clip_quantize_backward(
            s.x,
            s.clip,
            grad,
            s.steps,
            s.signed,
            s.rescale,
            s.learned_bound,
        );
        if let Some(node) = node_x {
            grads.register::<B>(node.id, grad_x);
        }
        if let Some(node) = node_clip {
            let scaled = B::float_mul_scalar(grad_clip, s.clip_gradient_scale.into());
            grads.register::<B>(node.id, scaled);
        }
    }
}

#[derive(Debug)]
struct EstimatedBackward;

impl<B: Backend + QuantOps> Backward<B, 1> for EstimatedBackward {
    /// The slope, and whether gradients are scaled by element.
    type State = (FloatTensor<B>, bool);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (slope, scaled) = ops.state;
        let Some(node) = node else {
            return;
        };
        let slope = match scaled {
            false => slope,
            true => {
                let signed = B::float_mul(B::float_sign(grad.clone()), slope);
                B::float_add_scalar(signed, 1f32.into())
            }
        };
        grads.register::<B>(node.id, B::float_mul(grad, slope));
    }
}

#[derive(Debug)]
struct MappedBackward;

impl<B: Backend + QuantOps> Backward<B, 1> for MappedBackward {
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

impl<B: Backend + QuantOps, C: CheckpointStrategy> QuantOps for Autodiff<B, C> {
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

    fn estimated_tracked(
        value: FloatTensor<Self>,
        x: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        scaled: bool,
    ) -> FloatTensor<Self> {
        let value = value.into_primitive();
        match EstimatedBackward.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((slope.into_primitive(), scaled), value),
            OpsKind::UnTracked(prepared) => prepared.finish(value),
        }
    }

    fn clip_quantize(
        x: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        steps: f32,
        signed: bool,
    ) -> FloatTensor<Self> {
        Self::clip_quantize_tracked(x, clip, steps, signed, false, false, 1.0)
    }

    fn clip_quantize_tracked(
        x: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        steps: f32,
        signed: bool,
        rescale: bool,
        learned_bound: bool,
        clip_gradient_scale: f32,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), clip.node()];
        match ClipQuantizeBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (x, clip) = (x.into_primitive(), clip.into_primitive());
                let out = B::clip_quantize(x.clone(), clip.clone(), steps, signed);
                let state =
                    State { x, clip, steps, signed, rescale, learned_bound, clip_gradient_scale };
                prepared.finish(state, out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::clip_quantize(
                x.into_primitive(),
                clip.into_primitive(),
                steps,
                signed,
            )),
        }
    }
}
